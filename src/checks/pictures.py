"""What the images look like: samples of every class, near-duplicates side by side, the mean image of each class."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pandas as pd

from cxrlab.checks.base import Case, Picture, Section
from cxrlab.checks.counting import LABELS, groups, placed, spread_sample
from cxrlab.datamodules import manifest as mf
from cxrlab.datamodules.manifest import people
from cxrlab.figures import class_means, contact_sheet
from cxrlab.words import file_name, plural

SHEET = 24
"""Images on a contact sheet, at most."""
PAIRS = 12
"""Pairs shown side by side, at most."""
_SIDES = ("first", "second")
_BLOCK = 256  # images that are averaged at a time
_DONE = (
    "Look whether an image of one class could be told from the other without a lung. Nothing is judged here. {} Images "
    "are shown in grey and with their own aspect ratio."
)
_ABOUT = (
    f"Every sheet holds up to {SHEET} images, of as many different patients as there are, and chance decides who is on "
    "it. In the mean of a class every patient counts as one image, and all images are squeezed to a square."
)


def check(case: Case) -> Section:
    """Shows the images of a data set. There is nothing to find, so there are no findings."""
    pictures = [_mean_images(case)] if case.manifest["label"].nunique() == 2 else []
    facts: dict[str, Any] = {"sheets": {}}
    for split, label, rows in groups(case.manifest):
        if len(rows):
            group, place = f"{split} {LABELS[label]}", [case.seed, mf.SPLITS.index(split), label]
            shown = spread_sample(case.manifest, rows, place, SHEET)
            pictures.append(_sheet(case, rows, shown, group))
            facts["sheets"][group] = _names(case, shown)
    pairs = _ordered(case)
    facts["pairs"] = [_names(case, rows) for rows in pairs[list(_SIDES)].to_numpy().tolist()]
    pictures += [_pair(case, number, pair) for number, (_, pair) in enumerate(pairs.iterrows(), start=1)]
    return Section("Pictures", (), [_DONE.format(_about_pairs(case)), _ABOUT], pictures=pictures, facts=facts)


def numbered_sheet(
    name: str, caption: str, images: Sequence[npt.NDArray[np.uint8]], names: Sequence[str], columns: int = 5
) -> Picture:
    """A contact sheet whose images are numbered; what the numbers mean stands beside it."""
    marks = [str(number) for number in range(1, len(images) + 1)]
    files = ", ".join(f"{mark}: {each}" for mark, each in zip(marks, names, strict=True))
    return Picture(name, caption, contact_sheet(images, marks, columns=columns), files)


def upright(case: Case, row: int) -> npt.NDArray[np.uint8]:
    """The grey copy of an image with its own aspect ratio, the longer side at most 256 pixels."""
    grey = case.measured.grey[row]
    facts = case.measured.facts
    width, height = int(facts["width"].iloc[row]), int(facts["height"].iloc[row])
    scale = max(grey.shape) / max(width, height)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    return np.asarray(cv2.resize(grey, size, interpolation=cv2.INTER_AREA), np.uint8)


def _sheet(case: Case, rows: npt.NDArray[np.intp], shown: Sequence[int], group: str) -> Picture:
    persons = people(case.manifest)
    caption = f"{group}: {len(shown)} of {plural(len(rows), 'image')}, {persons.iloc[list(shown)].nunique()} of "
    caption += plural(persons.iloc[rows].nunique(), "patient")
    name, images = f"sheet_{group.lower().replace(' ', '_')}", [upright(case, row) for row in shown]
    return numbered_sheet(name, caption, images, _names(case, shown))


def _mean_images(case: Case) -> Picture:
    labels = case.manifest["label"].to_numpy()
    rows = [np.flatnonzero(labels == label) for label in (0, 1)]
    caption = (
        "The mean image of each class, and the difference: orange is lighter in Positive, purple in Negative. What "
        "differs outside the lungs is not the disease."
    )
    figure = class_means(_mean(case, rows[0]), _mean(case, rows[1]), (len(rows[0]), len(rows[1])))
    return Picture("class_means", caption, figure)


def _mean(case: Case, rows: npt.NDArray[np.intp]) -> npt.NDArray[np.float64]:
    """The mean grey copy of some images, each patient weighing the same."""
    persons = people(case.manifest).iloc[rows]
    weights = 1 / persons.groupby(persons).transform("size").to_numpy(dtype=float)
    total = np.zeros(case.measured.grey.shape[1:])
    for start in range(0, len(rows), _BLOCK):
        block = slice(start, start + _BLOCK)
        total += np.tensordot(weights[block], case.measured.grey[rows[block]].astype(np.float32), axes=1)
    return np.asarray(total / weights.sum())


def _ordered(case: Case) -> pd.DataFrame:
    """The pairs to show: across splits first, then across labels, then the nearest ones."""
    first, second = (case.manifest.iloc[case.pairs[side].to_numpy()].reset_index(drop=True) for side in _SIDES)
    alike = {f"same {name}": (first[name] == second[name]).to_numpy() for name in ("split", "label")}
    return case.pairs.assign(**alike).sort_values([*alike, "distance"], kind="stable")[:PAIRS]


def _pair(case: Case, number: int, pair: pd.Series[Any]) -> Picture:
    rows = [int(pair[side]) for side in _SIDES]
    names, where = zip(*(placed(case.manifest, row) for row in rows), strict=True)
    patients = [case.manifest["patient_id"].iloc[row] or "unknown" for row in rows]
    said = [
        f"{side}: {name} ({place}, patient {patient})"
        for side, name, place, patient in zip(("left", "right"), names, where, patients, strict=True)
    ]
    alike = f"hashes {pair['distance']} of 256 bits apart, {plural(int(pair['inliers']), 'matching point')}"
    alike += ", mirrored" if pair.get("mirrored", False) else ""
    alike = "the same file" if pair["same_file"] else alike
    figure = contact_sheet([upright(case, row) for row in rows], where, columns=2, tile=240)
    return Picture(f"pair_{number:02d}", f"Pair {number}: {alike}", figure, "; ".join(said))


def _about_pairs(case: Case) -> str:
    if case.pairs.empty:
        return "No two images were found to be one radiograph."
    total = len(case.pairs)
    shown = "" if total <= PAIRS else f", {PAIRS} of them"
    return (
        f"Images that were found to be one radiograph: {plural(total, 'pair')}. They are shown side by side{shown}, "
        "those in two splits first, then those with two labels, then the most alike."
    )


def _names(case: Case, rows: Sequence[int]) -> list[str]:
    return [file_name(case.manifest["path"].iloc[row]) for row in rows]
