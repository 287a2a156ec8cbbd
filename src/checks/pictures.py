"""What the images look like: samples of every class, near-duplicates side by side, the mean image of each class."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pandas as pd

from cxrlab.checks.base import Case, Picture, Section
from cxrlab.checks.counting import groups, placed, spread_sample
from cxrlab.datamodules.manifest import NAMES, SPLITS, people
from cxrlab.figures import class_means, contact_sheet
from cxrlab.words import plural

SHEET = 24
"""Images on a contact sheet, at most."""
PAIRS = 12
"""Pairs shown side by side, at most."""
_SIDES = ["first", "second"]
_BLOCK = 256  # images that are averaged at a time
_DONE = (
    "Look whether an image of one class could be told from the other without a lung. Nothing is judged here. {} Images "
    "are shown in grey and with their own aspect ratio."
)
_ABOUT = (
    f"Every sheet holds up to {SHEET} images, of as many different patients as there are, and chance decides who is on "
    "it. In the mean of a class every patient counts as one image, and all images are squeezed to a square."
)
_MEANS = (
    "The mean image of each class, and the difference: orange is lighter in Positive, purple in Negative. What differs "
    "outside the lungs is not the disease."
)


def check(case: Case) -> Section:
    """Shows the images of a data set. There is nothing to find, so there are no findings."""
    pictures, persons = [], people(case.manifest)
    facts: dict[str, Any] = {"sheets": {}, "pairs": []}
    if not case.one_class:
        negative, positive = (np.flatnonzero(case.manifest["label"] == label) for label in (0, 1))
        figure = class_means(_mean(case, negative), _mean(case, positive), (len(negative), len(positive)))
        pictures.append(Picture("class_means", _MEANS, figure))
    for split, label, rows in groups(case.manifest):
        if not len(rows):
            continue
        shown = spread_sample(case.manifest, rows, [case.seed, SPLITS.index(split), label], SHEET)
        group, names = f"{split} {NAMES[label]}", [case.file_name(row) for row in shown]
        caption = f"{group}: {len(shown)} of {plural(len(rows), 'image')}, {persons.iloc[shown].nunique()} of "
        caption += plural(persons.iloc[rows].nunique(), "patient")
        name, images = f"sheet_{group.lower().replace(' ', '_')}", [upright(case, row) for row in shown]
        pictures.append(numbered_sheet(name, caption, images, names))
        facts["sheets"][group] = names
    about = "No two images were found to be one radiograph."
    if total := len(case.pairs):
        some = "" if total <= PAIRS else f", {PAIRS} of them"
        about = f"Images that were found to be one radiograph: {plural(total, 'pair')}. They are shown side by side"
        about += f"{some}, those in two splits first, then those with two labels, then the most alike."
    # Across splits first, then across labels, then the nearest ones.
    first, second = (case.manifest.iloc[case.pairs[side]].reset_index(drop=True) for side in _SIDES)
    alike = {f"same {name}": (first[name] == second[name]).to_numpy() for name in ("split", "label")}
    ordered = case.pairs.assign(**alike).sort_values([*alike, "distance"], kind="stable")[:PAIRS]
    for number, (_, pair) in enumerate(ordered.iterrows(), start=1):
        pictures.append(_pair(case, f"pair_{number:02d}", f"Pair {number}", pair))
        facts["pairs"].append([case.file_name(pair[side]) for side in _SIDES])
    return Section("Pictures", (), [_DONE.format(about), _ABOUT], pictures=pictures, facts=facts)


def numbered_sheet(name: str, caption: str, images: Sequence[npt.NDArray[np.uint8]], names: Sequence[str]) -> Picture:
    """A contact sheet whose images are numbered; what the numbers mean stands beside it."""
    marks = [str(number) for number in range(1, len(images) + 1)]
    files = ", ".join(f"{mark}: {each}" for mark, each in zip(marks, names, strict=True))
    return Picture(name, caption, contact_sheet(images, marks, columns=5), files)


def upright(case: Case, row: int) -> npt.NDArray[np.uint8]:
    """The grey copy of an image with its own aspect ratio, the longer side at most 256 pixels."""
    grey = case.measured.grey[row]
    width, height = case.measured.facts[["width", "height"]].iloc[row].astype(int)
    scale = max(grey.shape) / max(width, height)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    return np.asarray(cv2.resize(grey, size, interpolation=cv2.INTER_AREA), np.uint8)


def _mean(case: Case, rows: npt.NDArray[np.intp]) -> npt.NDArray[np.float64]:
    """The mean grey copy of some images, each patient weighing the same."""
    persons = people(case.manifest).iloc[rows]
    weights = 1 / persons.groupby(persons).transform("size").to_numpy(dtype=float)
    total = np.zeros(case.measured.grey.shape[1:])
    for start in range(0, len(rows), _BLOCK):
        block = slice(start, start + _BLOCK)
        total += np.tensordot(weights[block], case.measured.grey[rows[block]].astype(np.float32), axes=1)
    return np.asarray(total / weights.sum())


def _pair(case: Case, name: str, title: str, pair: pd.Series[Any]) -> Picture:
    rows = [int(pair[side]) for side in _SIDES]
    names, where = zip(*(placed(case.manifest, row) for row in rows), strict=True)
    patients = [patient or "unknown" for patient in case.manifest["patient_id"].iloc[rows]]
    files = [
        f"{side}: {file} ({place}, patient {patient})"
        for side, file, place, patient in zip(("left", "right"), names, where, patients, strict=True)
    ]
    alike = f"hashes {pair['distance']} of 256 bits apart, {plural(int(pair['inliers']), 'matching point')}"
    alike += ", mirrored" if pair.get("mirrored", False) else ""
    alike = "the same file" if pair["same_file"] else alike
    figure = contact_sheet([upright(case, row) for row in rows], where, columns=2, tile=240)
    return Picture(name, f"{title}: {alike}", figure, "; ".join(files))
