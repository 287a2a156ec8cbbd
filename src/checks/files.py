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

from cxrlab.checks.base import Case, Finding, Picture, Section, Table, Verdict, not_checked
from cxrlab.checks.columns import pass_of
from cxrlab.checks.counting import (
    LABELS,
    Counts,
    by_label,
    counted,
    groups,
    placed,
    short_table,
    spread_sample,
    uneven_loss,
)
from cxrlab.checks.pictures import numbered_sheet
from cxrlab.datamodules.cache import Entry, Store, version_of
from cxrlab.datamodules.manifest import people
from cxrlab.datamodules.pixels import BLANK
from cxrlab.evaluation import burned_in
from cxrlab.evaluation.association import holm
from cxrlab.evaluation.burned_in import text_boxes
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
_SHOW_PROGRESS_FROM = 64  # images, as when a data set is read

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


class _Value(NamedTuple):
    """How often the classes have one value."""

    what: str
    value: str
    counts: Counts  # whose p is corrected once all values are known

    @property
    def apart(self) -> float:
        negative, positive = self.counts.shares
        return round(abs(positive - negative), 9)  # a value and its opposite are equally far apart

    @property
    def only(self) -> bool:
        """Whether one class nearly always has it and the other nearly never."""
        low, high = sorted(self.counts.shares)
        return high >= _ONLY[0] and low <= _ONLY[1]

    def finding(self, check: str, verdict: Verdict, details: str = "") -> Finding:
        """Says how often either class has the value."""
        tested = f"Fisher's exact test by patient: {p_value(self.counts.p)}"
        return Finding(check, verdict, f"{self.value}: found in {self.counts}.", self.apart, f"{tested}{details}")


class _Look(NamedTuple):
    """What reading an image again showed: rows of letters, and the share of its pixels that has a colour."""

    boxes: npt.NDArray[np.int64]
    colour: float
    crop: npt.NDArray[np.uint8]


def check(case: Case) -> Section:
    """Looks at what the files say about themselves and, in a sample, for letters and colours."""
    looks, unread = _look_again(case)
    values, odd = _compared(case), _odd(case, looks)
    suspects = sorted(row for row, look in looks.items() if len(look.boxes))
    findings = [*_unreadable(case), _not_films(case), *_headers(case), *_kinds(case, values), *_scaling(case)]
    findings += [_odd_images(case, odd), _letters(case, looks, suspects)]
    again = "All images were" if len(looks) + unread == len(case.manifest) else f"{plural(len(looks), 'image')} were"
    gone = f", and {plural(unread, 'image')} could not be read a second time" if unread else ""
    facts = {
        "unreadable": {file_name(path): reason for path, reason in case.problems.items()},
        "values": [{"what": each.what, "value": each.value, **each.counts._asdict()} for each in values],
        "odd": [{"file": _name(case, row), "why": why} for row, why in odd.items()],
        "read_again": len(looks),
        "text_suspects": [_name(case, row) for row in suspects],
    }
    return Section(
        "Files",
        findings,
        text=[f"{_DONE} {again} read again to find them{gone}.", _RULES],
        tables=[*_tables(case, odd)],
        pictures=[_suspect_sheet(case, looks, suspects)] if suspects else [],
        facts=facts,
    )


def _tables(case: Case, odd: dict[int, str]) -> Iterator[Table]:
    """The overview, and lists of the files that something is wrong with."""
    facts = case.measured.facts
    yield _overview(case)
    doubts = {row: facts["doubts"].iloc[row] for row in np.flatnonzero(facts["doubts"] != "").tolist()}
    rows: list[tuple[object, ...]] = [(_name(case, row), why) for row, why in doubts.items()]
    if rows:
        yield short_table(f"{plural(len(rows), 'DICOM file')} with doubts", ("file", "why"), rows)
    rows = [(file_name(path), reason.removeprefix(f"{path}: ")) for path, reason in case.problems.items()]
    if rows:
        yield short_table(f"{plural(len(rows), 'file')} left out", ("file", "why"), rows)
    if case.judged is not None:
        doubted = case.judged[case.judged["verdict"] != "accept"].sort_values(["verdict", "kind"], kind="stable")
        rows = [(_name(case, row), *said) for row, *said in doubted[["verdict", "kind"]].itertuples()]
        if rows:
            yield short_table("What the gate doubts", ("file", "verdict", "looks like"), rows)
    rows = [
        (*placed(case.manifest, row), f"{facts['width'].iloc[row]}x{facts['height'].iloc[row]}", why)
        for row, why in odd.items()
    ]
    if rows:
        yield short_table(plural(len(rows), "odd image"), ("file", "group", "size", "why"), rows)


# Files that cannot be read, and files that are no films -------------------------------------------------------------


def _unreadable(case: Case) -> Iterator[Finding]:
    images = len(case.manifest) + len(case.problems)
    if not case.problems:
        yield Finding("unreadable files", Verdict.PASS, f"All {plural(images, 'image')} could be read.")
        return
    names = [file_name(path) for path in case.problems]
    said = f"{part(len(names), images)} images could not be read and are left out: {listed(names, 3)}."
    yield Finding("unreadable files", Verdict.WARN, said, len(names) / images)
    if len(case.lost) and pd.concat([case.manifest["label"], case.lost["label"]]).nunique() == 2:
        p, counts, of_patients = uneven_loss(case.manifest, case.lost)
        verdict, could = (Verdict.WARN, "") if p < ALPHA else pass_of(of_patients)
        yield Finding("unreadable files and label", verdict, f"Lost: {counts}.", len(names) / images, could)


def _not_films(case: Case) -> Finding:
    """Pictures that a gate takes for something else than a frontal chest film."""
    name, judged = "pictures that are no frontal chest films", case.judged
    if judged is None:
        said = "No gate (input filter) looked; gate=runs/gate names one, and experiment=gate trains it."
        return not_checked(said, name)[0]
    refused = (judged["verdict"] == "refuse").to_numpy()
    doubt = plural(int((judged["verdict"] == "warn").sum()), "further image")
    if not refused.any():
        said = f"The gate refuses none of {plural(len(judged), 'image')}, and doubts {doubt}."
        return Finding(name, Verdict.PASS, said)
    names = [f"{_name(case, row)} ({judged['kind'].iloc[row]})" for row in np.flatnonzero(refused).tolist()]
    said = f"The gate refuses {part(len(names), len(judged))} images ({by_label(case.manifest['label'][refused])}) and "
    said += f"doubts {doubt}."
    return Finding(name, Verdict.WARN, said, float(refused.mean()), f"Refused: {listed(names)}.")


def _headers(case: Case) -> Iterator[Finding]:
    """Whether the header of a DICOM file speaks against a frontal chest film; nothing where there is no such file."""
    facts = case.measured.facts
    count, name = int((facts["format"] == "DICOM").sum()), "headers of DICOM files"
    doubted = (facts["doubts"] != "").to_numpy()
    if doubted.any():
        kinds = tally(doubt for said in facts["doubts"][doubted] for doubt in said.split(BETWEEN))
        said = f"The headers of {part(int(doubted.sum()), count)} files ({by_label(case.manifest['label'][doubted])}) "
        said += "speak against a frontal chest film."
        yield Finding(name, Verdict.WARN, said, float(doubted.mean()), f"They say: {kinds}.")
    elif count:
        said = f"None of {plural(count, 'header')} speaks against a frontal chest film."
        yield Finding(name, Verdict.PASS, said)


# What only one class has --------------------------------------------------------------------------------------------


def _properties(case: Case) -> dict[str, pd.Series[Any]]:
    """The properties of every file, as text."""
    facts = case.measured.facts
    sizes = facts["width"].astype(int).astype(str) + "x" + facts["height"].astype(int).astype(str)
    quality = facts["jpeg_quality"].astype(int)
    return {
        "file format": facts["format"].astype(str),
        "colour mode": facts["mode"].astype(str),
        "bit depth": facts["bits"].astype(int).astype(str) + " bit",
        "pixel size": sizes,
        "JPEG quality": ("quality " + quality.astype(str)).where(quality > 0, ""),
    }


def _compared(case: Case) -> list[_Value]:
    """Every value that enough patients have, with corrected p values; none where there is one class only."""
    if case.manifest["label"].nunique() < 2:
        return []
    found = [value for what, texts in _properties(case).items() for value in _values(case, what, texts)]
    corrected = holm([value.counts.p for value in found])
    return [value._replace(counts=value.counts._replace(p=p)) for value, p in zip(found, corrected, strict=True)]


def _values(case: Case, what: str, texts: pd.Series[Any]) -> Iterator[_Value]:
    known = texts.to_numpy() != ""  # a JPEG's quality is compared with that of other JPEGs only
    labels, persons, texts = case.manifest["label"].to_numpy()[known], people(case.manifest)[known], texts[known]
    if texts.nunique() < 2 or len(set(labels)) < 2:
        return
    counts = texts.value_counts()
    for value in sorted(counts.index[counts >= _FEWEST]):
        has = texts.to_numpy() == value
        if persons[has].nunique() >= _FEWEST:
            yield _Value(what, value, counted(has, labels, persons))


def _kinds(case: Case, values: Sequence[_Value]) -> Iterator[Finding]:
    """One finding per property: its value that sets the classes furthest apart."""
    for what, texts in _properties(case).items():
        name, shown = f"{what} of the classes", texts[texts != ""]
        if shown.empty:
            continue
        if case.manifest["label"][shown.index].nunique() < 2:
            yield from not_checked(f"The {what} is known for one class only ({plural(len(shown), 'image')}).", name)
            continue
        own = [value for value in values if value.what == what]
        clear = [value for value in own if value.counts.p < ALPHA and value.apart >= _WARN_SHARE]
        different = plural(shown.nunique(), "different value")
        if clear:
            worst = max(clear, key=lambda value: (value.only, value.apart, -sum(value.counts.shares)))
            verdict = Verdict.FAIL if worst.only and worst.counts.p < _FAIL_ALPHA else Verdict.WARN
            more = len(clear) - 1 if shown.nunique() > 2 else 0  # of two values, one says what the other says
            others = f"; {plural(more, 'other value')} likewise" if more else ""
            yield worst.finding(name, verdict, f" (Holm){others}.")
        elif shown.nunique() == 1:
            those = "" if len(shown) == len(texts) else " of known value"
            value = shown.iloc[0].removeprefix("quality ")
            said = f"The {what} is {value} for all {plural(len(shown), 'image')}{those}."
            yield Finding(name, Verdict.PASS, said)
        elif own:
            smallest = p_value(min(value.counts.p for value in own))
            verdict, could = pass_of(own[0].counts.of_patients)
            said = f"The {what} has {different}, with no clear difference between the classes."
            details = f"{len(own)} of them were tested by patient; smallest {smallest} (Holm). {could}"
            yield Finding(name, verdict, said, details=details)
        else:
            yield Finding(name, Verdict.PASS, f"The {what} has {different}, none of them shared by {_FEWEST} patients.")


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
    yield Finding("scaling of 16-bit files", Verdict.PASS if alike else Verdict.WARN, said, details=fix)


# Odd images, letters, colours ---------------------------------------------------------------------------------------


def _look_again(case: Case) -> tuple[dict[int, _Look], int]:
    """Reads up to 400 images of each class again, of different patients first; also says how many could not be."""
    labels = case.manifest["label"].to_numpy()
    each = (spread_sample(case.manifest, np.flatnonzero(labels == label), [case.seed, label], READ) for label in LABELS)
    rows = sorted(itertools.chain(*each))
    store = Store(case.cache, "measurements/letters", version_of((burned_in, sys.modules[__name__])))
    paths, blank = case.manifest["path"].iloc[rows].tolist(), Entry("", np.zeros(0, np.uint8), {})
    _, entries, problems = store.recall(paths, _looked_at, blank, "looking for letters")
    looks = {}
    for place, (row, entry) in enumerate(zip(rows, entries, strict=True)):
        if place not in problems:
            boxes = np.array(entry.facts["boxes"], np.int64).reshape(-1, 4)
            looks[row] = _Look(boxes, entry.facts["colour"], entry.data.reshape(entry.facts["shape"]))
    return looks, len(problems)


def _looked_at(image: ReadImage) -> tuple[npt.NDArray[np.uint8], dict[str, Any]]:
    """What :class:`_Look` holds: the crop's bytes, and the rest."""
    grey = np.asarray(cv2.cvtColor(image.pixels, cv2.COLOR_RGB2GRAY), np.uint8)
    small = _at_most(image.pixels, _COLOUR_SIDE)
    colour = float(np.mean(np.ptp(small.astype(int), axis=2) > _COLOURED[0]))
    boxes = text_boxes(grey)
    crop = _crop(grey, boxes[0]) if len(boxes) else grey[:1, :1]
    return crop.ravel(), {"boxes": boxes.tolist(), "colour": colour, "shape": crop.shape}


def _crop(grey: npt.NDArray[np.uint8], box: npt.NDArray[np.int64]) -> npt.NDArray[np.uint8]:
    """The surroundings of a row of letters, small enough to keep, so that a person can read it."""
    x, y, width, height = (int(value) for value in box)
    half = max(width, 4 * height) * 3 // 4
    middle_x, middle_y = x + width // 2, y + height // 2
    cut = grey[max(0, middle_y - half) : middle_y + half, max(0, middle_x - half) : middle_x + half]
    return _at_most(cut, _CROP)


def _at_most(image: npt.NDArray[np.uint8], side: int) -> npt.NDArray[np.uint8]:
    """A copy whose longer side has at most so many pixels; a view would keep the whole image in memory."""
    scale = min(1.0, side / max(image.shape[:2]))
    size = max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale))
    return np.array(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)


def _odd(case: Case, looks: dict[int, _Look]) -> dict[int, str]:
    """Why images are odd, by row."""
    facts = case.measured.facts
    shorter = facts[["width", "height"]].min(axis=1).to_numpy(dtype=float)
    longer = facts[["width", "height"]].max(axis=1).to_numpy(dtype=float)
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
        return Finding("odd images", Verdict.PASS, f"None of {plural(len(case.manifest), 'image')} is odd.")
    labels = by_label(case.manifest["label"].iloc[[*odd]])
    kinds = Counter(reason for why in odd.values() for reason in why.split(", "))
    said = f"{part(len(odd), len(case.manifest))} images are odd ({labels}): "
    said += ", ".join(f"{count} {kind}" for kind, count in kinds.most_common()) + "."
    return Finding("odd images", Verdict.WARN, said, len(odd) / len(case.manifest))


def _letters(case: Case, looks: dict[int, _Look], suspects: Sequence[int]) -> Finding:
    name = "burned-in text (suspects)"
    if not looks:
        return not_checked("No image could be read again.", name)[0]
    seen = case.manifest.iloc[sorted(looks)]
    has = seen.index.isin(suspects)
    if seen["label"].nunique() < 2:
        said = f"{part(int(has.sum()), len(seen))} images show rows of letters, but there is one class only."
        return not_checked(said, name)[0]
    if not has.any():
        return Finding(name, Verdict.PASS, f"There are none in {plural(len(seen), 'image')} that were read again.")
    found = _Value("letters", "Rows of letters", counted(has, seen["label"].to_numpy(), people(seen)))
    verdict, could = (Verdict.WARN, "") if found.counts.p < ALPHA else pass_of(found.counts.of_patients)
    return found.finding(name, verdict, f". {could}".rstrip())


def _suspect_sheet(case: Case, looks: dict[int, _Look], suspects: Sequence[int]) -> Picture:
    mixed = np.random.default_rng(case.seed).permutation(np.array(suspects))
    shown = sorted(int(row) for row in mixed[:_SHOWN_SUSPECTS])
    caption = f"Letters in the images: what is around {len(shown)} of {plural(len(suspects), 'suspect')}. A network "
    caption += "can see from them where an image was made."
    names = [f"{_name(case, row)} ({LABELS[case.manifest['label'].iloc[row]]})" for row in shown]
    return numbered_sheet("text_suspects", caption, [looks[row].crop for row in shown], names)


# The overview -------------------------------------------------------------------------------------------------------


def _overview(case: Case) -> Table:
    there = {f"{split} {LABELS[label]}": rows for split, label, rows in groups(case.manifest) if len(rows)}
    columns = [_described(case.measured.facts.iloc[rows]) for rows in there.values()]
    rows_of_table = [(what, *(column[what] for column in columns)) for what in columns[0]]
    caption = "The files of every split and class; numbers are the median and, in brackets, the range"
    return Table(caption, ("Property", *there), rows_of_table)


def _described(facts: pd.DataFrame) -> dict[str, str]:
    sizes = Counter(zip(facts["width"], facts["height"], strict=True))
    (width, height), count = sizes.most_common(1)[0]
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


def _name(case: Case, row: int) -> str:
    return file_name(case.manifest["path"].iloc[row])
