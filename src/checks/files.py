"""What the files are: formats, sizes and qualities, those that cannot be read, odd images, letters burned in.

A network sees pixels, yet a file leaves marks in them: what was enlarged is soft, what was compressed has blocks, what
was squeezed to a square has another shape. Where one class has its own kind of file, that alone can tell the classes
apart.
"""

from __future__ import annotations

import itertools
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt
import pandas as pd

from cxrlab.checks.base import FAIL, NOT_CHECKED, PASS, WARN, Case, Finding, Section, Table
from cxrlab.checks.columns import pass_of
from cxrlab.checks.counting import Counts, by_label, groups, placed, short_table, spread_sample, uneven_loss
from cxrlab.checks.pictures import numbered_sheet
from cxrlab.datamodules.cache import Entry, Store, version_of
from cxrlab.datamodules.manifest import NAMES, people
from cxrlab.datamodules.pixels import BLANK
from cxrlab.evaluation import burned_in
from cxrlab.evaluation.association import holm
from cxrlab.evaluation.burned_in import text_boxes
from cxrlab.figures import canvas
from cxrlab.reading.image import BETWEEN, ReadImage
from cxrlab.words import file_name, listed, p_value, part, plural, tally

READ = 400
"""Images of each class that are read again, at most, to look for letters and colours."""
ALPHA = 0.05
_FAIL_ALPHA = 0.01
_WARN_SHARE = 0.05  # difference of the shares of patients from which a clear difference is told
_ONLY = (0.9, 0.1)  # one class nearly always, the other nearly never: FAIL
_FEWEST = 5  # patients with a value, below which it is not tested
_SMALL = 224  # pixels of the shorter side: the paper's network enlarges anything smaller
_LONG = 2.0  # longer side to shorter side
_COLOURED = (24, 0.01)  # grey levels between the channels of a coloured pixel; share of such pixels
_COLOUR_SIDE, _CROP = 256, 360  # pixels of the longer side at which colours and letters are kept
_SHOWN_SUSPECTS = 24

_DONE = (
    "This section compares what the files say about themselves between the classes, and looks for odd images and for "
    "letters that were burned into them."
)
_RULES = f"""**Values.** Each value of format, colour mode, bit depth, pixel size and JPEG quality that at least
{_FEWEST} patients have is compared between the classes: patients with at least one such image, by Fisher's exact test,
with all p values corrected together (Holm). FAIL: one class nearly always has the value ({100 * _ONLY[0]:.0f} % of its
patients or more), the other nearly never ({100 * _ONLY[1]:.0f} % or less), and p is below {_FAIL_ALPHA:g}. WARN: p is
below {ALPHA:g} and the shares are {100 * _WARN_SHARE:.0f} percentage points apart. Whether the file as a whole tells
the classes apart is measured with the classifiers that see no lung.

**Odd images.** The shorter side has fewer than {_SMALL} pixels (small); one side is more than {_LONG:g} times the other
(long); nine in ten pixels are within {BLANK} grey levels (nearly blank); more than {100 * _COLOURED[1]:.0f} % of the
pixels of an image that was read again have a colour (coloured).

**Burned-in text.** Up to {READ} images of each class, of different patients first, were read again and searched for
rows of three or more patches that look like letters. They are suspects: no text is read, and words may be missed. In
the two public sets on which the search was tried, letters were seen by eye on 116 of the 119 images that it flagged.
Single side letters (R, L) are not looked for. WARN: the share of patients with suspects differs between the classes
(Fisher's exact test, p below {ALPHA:g})."""


class _Look(NamedTuple):
    """What reading an image again showed: rows of letters, the share of coloured pixels, what is around the letters."""

    boxes: npt.NDArray[np.int64]
    colour: float
    crop: npt.NDArray[np.uint8]


def check(case: Case) -> Section:
    """Looks at what the files say about themselves and, in a sample, for letters and colours."""
    looks, unread = _look_again(case)
    properties = _properties(case)
    values, odd = _compared(case, properties), _odd(case, looks)
    suspects = sorted(row for row, look in looks.items() if len(look.boxes))
    findings = [*_unfit(case), *_kinds(case, properties, values)]
    again = "All images were" if len(looks) + unread == len(case.manifest) else f"{plural(len(looks), 'image')} were"
    gone = f", and {plural(unread, 'image')} could not be read a second time" if unread else ""
    pictures = []
    if suspects:
        mixed = np.random.default_rng(case.seed).permutation(np.array(suspects))
        shown = sorted(mixed[:_SHOWN_SUSPECTS].tolist())
        caption = f"Letters in the images: what is around {len(shown)} of {plural(len(suspects), 'suspect')}. A "
        caption += "network can see from them where an image was made."
        names = [f"{case.file_name(row)} ({NAMES[case.manifest['label'].iloc[row]]})" for row in shown]
        pictures = [numbered_sheet("text_suspects", caption, [looks[row].crop for row in shown], names)]
    return Section(
        "Files",
        [*findings, *_scaling(case), _odd_images(case, odd), _letters(case, looks, suspects)],
        [f"{_DONE} {again} read again to find them{gone}.", _RULES],
        [*_tables(case, odd)],
        pictures,
        {
            "unreadable": {file_name(path): reason for path, reason in case.problems.items()},
            "values": [each._asdict() for each in values],
            "odd": [{"file": case.file_name(row), "why": why} for row, why in odd.items()],
            "read_again": len(looks),
            "text_suspects": [case.file_name(row) for row in suspects],
        },
    )


def _unfit(case: Case) -> Iterator[Finding]:
    """Files that cannot be read, and files that are no films by what a gate or their header says."""
    manifest, judged, facts = case.manifest, case.judged, case.measured.facts
    if case.problems:
        images, names = len(manifest) + len(case.problems), [file_name(path) for path in case.problems]
        said = f"{part(len(names), images)} images could not be read and are left out: {listed(names, 3)}."
        yield Finding("unreadable files", WARN, said, len(names) / images)
        if len(case.lost) and pd.concat([manifest["label"], case.lost["label"]]).nunique() == 2:
            p, counts, of_patients = uneven_loss(manifest, case.lost)
            verdict, could = (WARN, "") if p < ALPHA else pass_of(of_patients)
            yield Finding("unreadable files and label", verdict, f"Lost: {counts}.", len(names) / images, could)
    else:
        yield Finding("unreadable files", PASS, f"All {plural(len(manifest), 'image')} could be read.")

    name = "pictures that are no frontal chest films"
    if judged is None:
        said = "No gate (input filter) looked; gate=runs/gate names one, and experiment=gate trains it."
        yield Finding(name, NOT_CHECKED, said)
    else:
        refused = np.flatnonzero(judged["verdict"] == "refuse").tolist()
        doubt = plural(int((judged["verdict"] == "warn").sum()), "further image")
        if refused:
            names = [f"{case.file_name(row)} ({judged['kind'].iloc[row]})" for row in refused]
            said = f"The gate refuses {part(len(names), len(judged))} images ({by_label(manifest['label'][refused])}) "
            yield Finding(
                name, WARN, f"{said}and doubts {doubt}.", len(names) / len(judged), f"Refused: {listed(names)}."
            )
        else:
            yield Finding(name, PASS, f"The gate refuses none of {plural(len(judged), 'image')}, and doubts {doubt}.")

    name, count = "headers of DICOM files", int((facts["format"] == "DICOM").sum())
    doubted = facts["doubts"][facts["doubts"] != ""]
    if len(doubted):
        kinds = tally(doubt for said in doubted for doubt in said.split(BETWEEN))
        said = f"The headers of {part(len(doubted), count)} files ({by_label(manifest['label'][doubted.index])}) speak "
        said += "against a frontal chest film."
        yield Finding(name, WARN, said, len(doubted) / len(facts), f"They say: {kinds}.")
    elif count:
        yield Finding(name, PASS, f"None of {plural(count, 'header')} speaks against a frontal chest film.")


def _properties(case: Case) -> dict[str, pd.Series[Any]]:
    """The properties of every file as text, empty where it has none."""
    facts = case.measured.facts
    width, height, bits, quality = (
        facts[name].astype(int).astype(str) for name in ("width", "height", "bits", "jpeg_quality")
    )
    return {
        "file format": facts["format"].astype(str),
        "colour mode": facts["mode"].astype(str),
        "bit depth": bits + " bit",
        "pixel size": width + "x" + height,
        "JPEG quality": ("quality " + quality).where(facts["jpeg_quality"] > 0, ""),
    }


def _compared(case: Case, properties: dict[str, pd.Series[Any]]) -> list[Counts]:
    """Every value that enough patients have, with corrected p values; none where there is one class only."""
    found = []
    for what, texts in properties.items():
        known = texts.to_numpy() != ""  # a JPEG's quality is compared with that of other JPEGs only
        labels, persons, texts = case.manifest["label"][known], people(case.manifest)[known], texts[known]
        if texts.nunique() < 2 or labels.nunique() < 2:
            continue
        counts = texts.value_counts()
        for value in sorted(counts.index[counts >= _FEWEST]):
            has = (texts == value).to_numpy()
            if persons[has].nunique() >= _FEWEST:
                found.append(Counts.of(what, value, has, labels, persons))
    corrected = holm([value.p for value in found])
    return [value._replace(p=p) for value, p in zip(found, corrected, strict=True)]


def _only(value: Counts) -> bool:
    """Whether one class nearly always has it and the other nearly never."""
    low, high = sorted(value.shares)
    return high >= _ONLY[0] and low <= _ONLY[1]


def _kinds(case: Case, properties: dict[str, pd.Series[Any]], values: Sequence[Counts]) -> Iterator[Finding]:
    """Of every property that some file has, the value that sets the classes furthest apart."""
    for what, texts in properties.items():
        name, shown = f"{what} of the classes", texts[texts != ""]
        different = shown.nunique()
        own = [value for value in values if value.what == what]
        clear = [value for value in own if value.p < ALPHA and value.apart >= _WARN_SHARE]
        if shown.empty:
            continue
        if case.manifest["label"][shown.index].nunique() < 2:
            said = f"The {what} is known for one class only ({plural(len(shown), 'image')})."
            yield Finding(name, NOT_CHECKED, said)
        elif clear:
            worst = max(clear, key=lambda value: (_only(value), value.apart, -sum(value.shares)))
            verdict = FAIL if _only(worst) and worst.p < _FAIL_ALPHA else WARN
            more = len(clear) - 1 if different > 2 else 0  # of two values, one says what the other says
            others = f"; {plural(more, 'other value')} likewise" if more else ""
            yield worst.finding(name, verdict, f" (Holm){others}.")
        elif different == 1:
            those = "" if len(shown) == len(texts) else " of known value"
            value = shown.iloc[0].removeprefix("quality ")
            yield Finding(name, PASS, f"The {what} is {value} for all {plural(len(shown), 'image')}{those}.")
        elif own:
            verdict, could = pass_of(own[0].of_patients)
            said = (
                f"The {what} has {plural(different, 'different value')}, with no clear difference between the classes"
            )
            smallest = p_value(min(value.p for value in own))
            details = f"{len(own)} of them were tested by patient; smallest {smallest} (Holm). {could}"
            yield Finding(name, verdict, f"{said}.", details=details)
        else:
            said = f"The {what} has {plural(different, 'different value')}, none of them shared by {_FEWEST} patients."
            yield Finding(name, PASS, said)


def _scaling(case: Case) -> Iterator[Finding]:
    """Whether 16-bit files that declare no depth were scaled alike; nothing where there are none."""
    guessed = case.measured.facts["guessed"].to_numpy(bool)
    bits, labels = case.measured.facts["bits"][guessed], case.manifest["label"][guessed]
    depths = sorted(bits.unique())
    if not depths:
        return
    alike = len(depths) == 1
    counts = [f"{int((bits == depth).sum())} as {depth} bits ({by_label(labels[bits == depth])})" for depth in depths]
    said = f"16-bit files that declare no depth were scaled by their largest values: {'; '.join(counts)}."
    fix = "" if alike else "Declare it (PNG: sBIT, TIFF: MaxSampleValue), or save all as 8-bit PNG in one way."
    yield Finding("scaling of 16-bit files", PASS if alike else WARN, said, details=fix)


def _look_again(case: Case) -> tuple[dict[int, _Look], int]:
    """Reads up to 400 images of each class again, of different patients first; also says how many could not be."""
    labels = case.manifest["label"].to_numpy()
    each = (spread_sample(case.manifest, np.flatnonzero(labels == label), [case.seed, label], READ) for label in NAMES)
    rows = sorted(itertools.chain(*each))
    store = Store(case.cache, "measurements/letters", version_of((burned_in, canvas, sys.modules[__name__])))
    paths, blank = case.manifest["path"].iloc[rows].tolist(), Entry("", np.zeros(0, np.uint8), {})
    _, entries, problems = store.recall(paths, _looked_at, blank, "looking for letters")
    looks = {}
    for place, (row, entry) in enumerate(zip(rows, entries, strict=True)):
        if place not in problems:
            boxes = np.array(entry.facts["boxes"], np.int64).reshape(-1, 4)
            looks[row] = _Look(boxes, entry.facts["colour"], entry.data.reshape(entry.facts["shape"]))
    return looks, len(problems)


def _looked_at(image: ReadImage) -> tuple[npt.NDArray[np.uint8], dict[str, Any]]:
    """What :class:`_Look` holds: the crop as a copy (a view would keep the whole image in memory), and the rest."""
    grey = np.asarray(cv2.cvtColor(image.pixels, cv2.COLOR_RGB2GRAY), np.uint8)
    small = canvas.resized(image.pixels, _COLOUR_SIDE, enlarge=False).astype(int)
    colour = float(np.mean(np.ptp(small, axis=2) > _COLOURED[0]))
    boxes, crop = text_boxes(grey), grey[:1, :1]
    if len(boxes):  # the surroundings of the letters, small enough to keep, so that a person can read them
        x, y, width, height = boxes[0].tolist()
        half = max(width, 4 * height) * 3 // 4
        middle_x, middle_y = x + width // 2, y + height // 2
        cut = grey[max(0, middle_y - half) : middle_y + half, max(0, middle_x - half) : middle_x + half]
        crop = canvas.resized(cut, _CROP, enlarge=False)
    return crop.flatten(), {"boxes": boxes.tolist(), "colour": colour, "shape": crop.shape}


def _odd(case: Case, looks: dict[int, _Look]) -> dict[int, str]:
    """Why images are odd, by row."""
    sides = case.measured.facts[["width", "height"]].to_numpy(dtype=float)
    shorter, longer = sides.min(axis=1), sides.max(axis=1)
    # Of the grey copy 4,096 pixels tell as well as all.
    spread = [np.ptp(np.percentile(grey[::4, ::4], (5, 95))) for grey in case.measured.grey]
    kinds = {
        "small": np.flatnonzero(shorter < _SMALL).tolist(),
        "long": np.flatnonzero(longer > _LONG * shorter).tolist(),
        "nearly blank": np.flatnonzero(np.array(spread) < BLANK).tolist(),
        "coloured": [row for row, look in looks.items() if look.colour > _COLOURED[1]],
    }
    reasons: dict[int, list[str]] = {}
    for kind, rows in kinds.items():
        for row in rows:
            reasons.setdefault(row, []).append(kind)
    return {row: ", ".join(reasons[row]) for row in sorted(reasons)}


def _odd_images(case: Case, odd: dict[int, str]) -> Finding:
    if not odd:
        return Finding("odd images", PASS, f"None of {plural(len(case.manifest), 'image')} is odd.")
    labels = by_label(case.manifest["label"].iloc[[*odd]])
    kinds = Counter(reason for why in odd.values() for reason in why.split(", "))
    said = f"{part(len(odd), len(case.manifest))} images are odd ({labels}): "
    said += ", ".join(f"{count} {kind}" for kind, count in kinds.most_common()) + "."
    return Finding("odd images", WARN, said, len(odd) / len(case.manifest))


def _letters(case: Case, looks: dict[int, _Look], suspects: Sequence[int]) -> Finding:
    name = "burned-in text (suspects)"
    if not looks:
        return Finding(name, NOT_CHECKED, "No image could be read again.")
    seen = case.manifest.iloc[sorted(looks)]
    has = seen.index.isin(suspects)
    if seen["label"].nunique() < 2:
        said = f"{part(int(has.sum()), len(seen))} images show rows of letters, but there is one class only."
        return Finding(name, NOT_CHECKED, said)
    if not has.any():
        return Finding(name, PASS, f"There are none in {plural(len(seen), 'image')} that were read again.")
    found = Counts.of("letters", "Rows of letters", has, seen["label"], people(seen))
    verdict, could = (WARN, "") if found.p < ALPHA else pass_of(found.of_patients)
    return found.finding(name, verdict, f". {could}".rstrip())


def _tables(case: Case, odd: dict[int, str]) -> Iterator[Table]:
    """The overview, and lists of the files that something is wrong with."""
    facts = case.measured.facts
    there = {f"{split} {NAMES[label]}": rows for split, label, rows in groups(case.manifest) if len(rows)}
    columns = [_described(facts.iloc[rows]) for rows in there.values()]
    caption = "The files of every split and class; numbers are the median and, in brackets, the range"
    overview = [(what, *(column[what] for column in columns)) for what in columns[0]]
    yield Table(caption, ("Property", *there), overview)

    doubts = [(case.file_name(row), why) for row, why in enumerate(facts["doubts"]) if why]
    if doubts:
        yield short_table(f"{plural(len(doubts), 'DICOM file')} with doubts", ("file", "why"), doubts)
    if case.problems:
        gone = [(file_name(path), reason.removeprefix(f"{path}: ")) for path, reason in case.problems.items()]
        yield short_table(f"{plural(len(gone), 'file')} left out", ("file", "why"), gone)
    if case.judged is not None and (case.judged["verdict"] != "accept").any():
        judged = case.judged[case.judged["verdict"] != "accept"].sort_values(["verdict", "kind"], kind="stable")
        named = [(case.file_name(row), *said) for row, *said in judged[["verdict", "kind"]].itertuples()]
        yield short_table("What the gate doubts", ("file", "verdict", "looks like"), named)
    if odd:
        rows = [
            (*placed(case.manifest, row), f"{facts['width'].iloc[row]}x{facts['height'].iloc[row]}", why)
            for row, why in odd.items()
        ]
        yield short_table(plural(len(rows), "odd image"), ("file", "group", "size", "why"), rows)


def _described(facts: pd.DataFrame) -> dict[str, str]:
    (width, height), count = Counter(zip(facts["width"], facts["height"], strict=True)).most_common(1)[0]
    quality = facts["jpeg_quality"][facts["jpeg_quality"] > 0]
    return {
        "images": str(len(facts)),
        "format": tally(facts["format"]),
        "colour mode": tally(facts["mode"]),
        "bits per channel": tally(facts["bits"]),
        "width, pixels": _spread(facts["width"]),
        "height, pixels": _spread(facts["height"]),
        "width / height": _spread(facts["width"] / facts["height"], 2),
        "commonest size": f"{width}x{height} ({count})",
        "kilobytes": _spread(facts["bytes"] / 1000),
        "JPEG quality": _spread(quality) if len(quality) else "no JPEG",
    }


def _spread(values: pd.Series[Any], digits: int = 0) -> str:
    low, middle, high = (f"{value:,.{digits}f}" for value in (values.min(), values.median(), values.max()))
    return middle if low == high else f"{middle} ({low} to {high})"
