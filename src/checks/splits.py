"""How the images were split: what stands on both sides, and whether the test images are a fair draw."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import pandas as pd

from cxrlab.checks.base import Case, Finding, Section, Table, Verdict
from cxrlab.checks.counting import LABELS, sizes, splits
from cxrlab.datamodules.manifest import SPLITS, people
from cxrlab.evaluation.association import Association, holm, of_categories, of_numbers
from cxrlab.words import file_name, listed, p_value, part, plural

_Bools: TypeAlias = np.ndarray[Any, np.dtype[np.bool_]]

ALPHA = 0.05
UNLIKELY = 0.001
"""Probability under a random draw of patients below which a split is said to follow the order of the files."""

REPEATS = 0.2
"""Share of a label's images in a split that are further images of a patient, above which it is a WARN."""

_SERIES = 5  # images that share a beginning of the name, at least: a series
_MOST_SERIES = 30  # of a label, the commonest, that are tested
_ROWS = 30  # of a table
_TINY = 1e-300  # a p value that is too small for a number still has a logarithm


def check(case: Case) -> Section:
    """Looks for patients, files and films on both sides of the split, and at how the test images were chosen."""
    findings = [
        _validation(case),
        *_patients(case.manifest),
        *_films(case),
        _repeats(case.manifest),
        *_drawing(case),
    ]
    return Section(
        title="Split",
        findings=findings,
        text=_text(case),
        tables=[_count_table(case.manifest), *_shared_films(case.manifest), *_pair_tables(case)],
        facts=_facts(case),
    )


def _text(case: Case) -> list[str]:
    drawn = "drawn by this program, by patient" if case.drawn else "given by the source"
    paragraphs = [
        (
            f"The split was {drawn}. The same patient, file or film on both sides makes a test result too good, and "
            "one film under both labels has a wrong one: FAIL. A patient with images of both labels may have fallen "
            "ill in between: WARN. Several images of one film in a split count for more than they are: WARN. A film "
            "in several sources will stand on both sides once one source is trained and the other tested on: WARN. "
            "Films are compared by content, so that a copy is found under any name; patients by their ids alone."
        ),
        (
            f"More than {100 * REPEATS:.0f} % of a label's images in a split being further images of a patient: WARN. "
            "Count patients then, not images."
        ),
    ]
    return paragraphs if case.drawn else paragraphs + _text_of_given()


def _text_of_given() -> list[str]:
    return [
        (
            "A given split is held against the order of the files. The file names of each label are sorted, upper and "
            "lower case alike: are the test images the first, the last, or one block? The probability of that is the "
            "number of places for such a block over the number of ways to draw so many; once for images, once for "
            "patients. FAIL where the test images of both labels are such blocks with a probability by patient below "
            f"{UNLIKELY:g}. WARN where those of one label are, or where they only tend to one end (Mann-Whitney by "
            f"patient, p below {UNLIKELY:g}). The order of the list itself is looked at where test and training files "
            "share folders, and is at most a WARN, since someone may have sorted the list by split."
        ),
        (
            f"A series is a beginning that at least {_SERIES} file names of a label share. Whether test and training "
            f"hold it equally often is tested by patient, for the commonest {_MOST_SERIES} of a label (Fisher, Holm "
            f"over all series): WARN below {ALPHA:g}."
        ),
    ]


# What stands on both sides -----------------------------------------------------------------------------------------


def _validation(case: Case) -> Finding:
    name = "validation images apart from test"
    if case.val_is_test:
        evidence = f"the {plural(int((case.manifest['split'] == 'test').sum()), 'test image')} are also the validation "
        return Finding(name, Verdict.FAIL, evidence + "images: whatever is chosen by them fits them", 1.0)
    if "val" in splits(case.manifest):
        count = plural(int((case.manifest["split"] == "val").sum()), "validation image")
        return Finding(name, Verdict.PASS, f"{count}, none of them in the test split")
    return Finding(name, Verdict.PASS, "none are given; a training run draws them from the training patients")


def _patients(manifest: pd.DataFrame) -> Iterator[Finding]:
    known = manifest[manifest["patient_id"] != ""]
    if known.empty:
        for name in ("patients in several splits", "patients under both labels"):
            yield Finding(name, Verdict.NOT_CHECKED, f"the patients of all {len(manifest)} images are unknown")
        return
    among = f"{known['patient_id'].nunique():,} known patients"
    persons = manifest.assign(person=people(manifest))  # ids that share a film are one person
    yield _across(persons, "person", "split", "patients in several splits", among, Verdict.FAIL)
    yield _across(persons, "person", "label", "patients under both labels", among, Verdict.WARN)
    unknown = len(manifest) - len(known)
    if unknown:
        evidence = f"{part(unknown, len(manifest))} images: a patient of theirs on both sides would not be noticed"
        yield Finding("images of unknown patients", Verdict.NOT_CHECKED, evidence)


def _films(case: Case) -> Iterator[Finding]:
    manifest, images = case.manifest, f"{len(case.manifest):,} images"
    hashed = manifest[manifest["sha256"] != ""]
    yield _across(hashed, "sha256", "split", "the same file in several splits", images, Verdict.FAIL)
    yield _across(manifest, "film", "split", "the same film in several splits", images, Verdict.FAIL)
    yield _across(manifest, "film", "label", "the same film under both labels", images, Verdict.FAIL)
    if manifest["source"].nunique() > 1:
        yield _across(manifest, "film", "source", "the same film in several sources", images, Verdict.WARN)
    yield _inside(case)


def _across(table: pd.DataFrame, key: str, column: str, name: str, among: str, verdict: Verdict) -> Finding:
    """What has several values of a column (splits, labels, sources) although it is one patient, file or film."""
    if column == "label" and table["label"].nunique() < 2:
        return Finding(name, Verdict.NOT_CHECKED, f"all images are {LABELS[int(table['label'].iloc[0])]}")
    several = table.groupby(key)[column].transform("nunique") > 1
    if not several.any():
        return Finding(name, Verdict.PASS, f"none among {among}")
    found = table[several]
    sentences = []
    for value, rows in found.groupby(key, sort=False):
        first = rows.drop_duplicates(column)
        where = [f"{_named(row, column)} ({file_name(row['path'])})" for _, row in first.iterrows()]
        named = f"{value} in " if key == "person" and not str(value).startswith("image:") else ""
        sentences.append(named + " and ".join(where))
        if len(sentences) == 4:
            break
    whole = found[key].nunique()
    what = {"person": "patient", "sha256": "file", "film": "film"}[key]
    test = table["split"] == "test"
    concerned = (several & test).sum() / test.sum() if column == "split" and test.any() else several.mean()
    count = plural(whole, what)
    images = f"{len(found)} images"
    if column == "source":
        images += " (" + ", ".join(f"{source} {n}" for source, n in found["source"].value_counts().items()) + ")"
    return Finding(name, verdict, f"{count}, {images}: " + _more(sentences, whole), float(concerned))


def _named(row: pd.Series[Any], column: str) -> str:
    return LABELS[row["label"]] if column == "label" else str(row[column])


def _more(sentences: list[str], whole: int) -> str:
    more = whole - len(sentences)
    return "; ".join(sentences) + (f"; and {more} more" if more > 0 else "")


def _inside(case: Case) -> Finding:
    """Pairs of images of one film within a split."""
    name, manifest = "the same film twice in a split", case.manifest
    first, second = (manifest.iloc[case.pairs[side].to_numpy(np.int64)] for side in ("first", "second"))
    inside = first["split"].to_numpy() == second["split"].to_numpy()
    if not inside.any():
        return Finding(name, Verdict.PASS, f"no pair among {len(manifest):,} images")
    copies = int(case.pairs["same_file"].to_numpy(bool)[inside].sum())
    counts = pd.Series(first["split"].to_numpy()[inside]).value_counts()
    where = ", ".join(f"{counts[split]} in {split}" for split in SPLITS if split in counts)
    names = [
        f"{file_name(one)} = {file_name(other)}"
        for one, other in zip(first["path"][inside], second["path"][inside], strict=True)
    ]
    kind = f"{plural(int(inside.sum()) - copies, 'near-duplicate pair')}, {plural(copies, 'pair')} of equal files"
    rows = np.union1d(case.pairs["first"].to_numpy()[inside], case.pairs["second"].to_numpy()[inside])
    return Finding(name, Verdict.WARN, f"{kind} ({where}): {listed(names, 4)}", len(rows) / len(manifest))


def _repeats(manifest: pd.DataFrame) -> Finding:
    """How many images are further images of a patient who is there already."""
    name, known = "several images of a patient", manifest[manifest["patient_id"] != ""]
    if known.empty:
        return Finding(name, Verdict.NOT_CHECKED, f"the patients of all {len(manifest)} images are unknown")
    groups = known.groupby(["split", "label"])["patient_id"]
    share = 1 - groups.nunique() / groups.size()
    sizes = known["patient_id"].value_counts()
    further = len(known) - len(sizes)
    largest = f"most of one patient: {sizes.iloc[0]} ({sizes.index[0]})"
    highest = float(share.max())
    split, label = share.index[int(share.to_numpy().argmax())]
    evidence = (
        f"{part(further, len(known))} images are further images of {len(sizes):,} patients; {largest}; highest share "
        f"{100 * highest:.0f} % in {split}, {LABELS[label]}"
    )
    return Finding(name, Verdict.WARN if highest > REPEATS else Verdict.PASS, evidence, highest)


# How the test images were chosen -----------------------------------------------------------------------------------


def _drawing(case: Case) -> Iterator[Finding]:
    names = ("the split and the order of file names", "the split and series of files")
    test = case.manifest["split"] == "test"
    if case.drawn:
        evidence = "drawn by this program, by patient and film"
        yield Finding("how the split was made", Verdict.PASS, evidence)
        return
    if not test.any() or test.all():
        for name in names:
            yield Finding(name, Verdict.NOT_CHECKED, "the source gives no split with test and training images")
        return
    if _say_their_split(case.manifest):
        for name in names:
            yield Finding(name, Verdict.NOT_CHECKED, "the file names were given after the split: they name it")
    else:
        yield _order(case.manifest, names[0], by_name=True)
        yield _series_shift(case, names[1])
    if _share_folders(case.manifest):
        yield _order(case.manifest, "the split and the order of the list", by_name=False)


def _say_their_split(manifest: pd.DataFrame) -> bool:
    """Whether (nearly) every name holds the name of its split, as in ``test_0001.png``."""
    said = [
        any(word.startswith(split) for word in re.split(r"[^a-z]+", file_name(path).lower()))
        for path, split in zip(manifest["path"], manifest["split"], strict=True)
    ]
    return bool(np.mean(said) > 0.9)


def _share_folders(manifest: pd.DataFrame) -> bool:
    folders = manifest["path"].str.replace(r"[^/\\]*$", "", regex=True)
    test = manifest["split"] == "test"
    return bool(folders[test].isin(folders[~test]).all())


def _order(manifest: pd.DataFrame, name: str, by_name: bool) -> Finding:
    """Whether the test images of each label lie together in the order of names (or of the list)."""
    orders = _orders(manifest, by_name)
    test = int((manifest["split"] == "test").sum())
    concerned = sum(order.tested for order in orders if order.unlikely)
    evidence = "; ".join(order.evidence() for order in orders) or "no label is on both sides of the split"
    # An order is a reason for doubt rather than a fault of every test image: hence half the share.
    return Finding(name, _order_verdict(orders, by_name), evidence, concerned / test / 2)


@dataclass(frozen=True)
class _Order:
    """Where the test images of a label lie among all its images, and how likely that is; p values as log10."""

    label: str
    images: int
    tested: int
    patients: int
    block: str  # first, last, middle, or empty where there are gaps
    log10_p_images: float | None  # of a block only
    log10_p_patients: float
    by_name: bool

    @property
    def unlikely(self) -> bool:
        return self.log10_p_patients < math.log10(UNLIKELY)

    def evidence(self) -> str:
        if not self.block:
            return f"{self.label}: no block, {p_value(10**self.log10_p_patients)}, n = {self.patients} patients"
        where = {"first": "the first", "last": "the last", "middle": "one block of"}[self.block]
        return (
            f"{self.label}: the test images are {where} {self.tested} of {self.images} in "
            f"{'alphabetical order' if self.by_name else 'the order of the list'}; by chance "
            f"10^{self.log10_p_images:.1f}, drawn by patient 10^{self.log10_p_patients:.1f}"
        )


def _orders(manifest: pd.DataFrame, by_name: bool) -> list[_Order]:
    orders = []
    for label, title in LABELS.items():
        rows = manifest[manifest["label"] == label]
        if by_name:
            rows = rows.loc[rows["path"].map(file_name).str.lower().sort_values(kind="stable").index]
        test = rows["split"] == "test"
        if not test.any() or test.all():
            continue
        images = test.to_numpy(bool)
        units = test.groupby(people(rows), sort=False).any().to_numpy(bool)  # in the order of their first images
        block = _block(images)
        by_image = _log_probability(images, block) if block else None
        by_patient = _log_probability(units, block) if block else _log_drift(units)
        orders.append(_Order(title, images.size, int(images.sum()), units.size, block, by_image, by_patient, by_name))
    return orders


def _log_drift(units: _Bools) -> float:
    """Decimal logarithm of the chance that tested patients tend so much to either end (Mann-Whitney)."""
    if units.all():  # every patient is on both sides
        return 0.0
    return math.log10(max(of_numbers(units, np.arange(units.size)).p, _TINY))


def _order_verdict(orders: list[_Order], by_name: bool) -> Verdict:
    if not orders:
        return Verdict.NOT_CHECKED
    if all(order.block and order.unlikely for order in orders):
        return Verdict.FAIL if by_name else Verdict.WARN
    return Verdict.WARN if any(order.unlikely for order in orders) else Verdict.PASS


def _block(test: _Bools) -> str:
    """``first``, ``last`` or ``middle`` where the test images follow each other without a gap, else empty."""
    places = np.flatnonzero(test)
    if places[-1] - places[0] + 1 != places.size:
        return ""
    return "first" if places[0] == 0 else "last" if places[-1] == test.size - 1 else "middle"


def _log_probability(test: _Bools, block: str) -> float:
    """Decimal logarithm of the chance that so many drawn are the first or the last (or any block, if in the middle)."""
    n, k = test.size, int(test.sum())
    ways = (math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)) / math.log(10)
    return min(0.0, math.log10(n - k + 1 if block == "middle" else 2) - ways)


def series(paths: pd.Series[str]) -> pd.Series[str]:
    """The beginning that each file name shares with others, empty where it shares none.

    It is the name up to the first separator; if fewer than five share that, its digits at the end are dropped:
    ``NORMAL2-IM-0007.jpeg`` is of the series ``NORMAL2`` (if there are several), ``person12_virus.jpeg`` of ``person``.
    """
    names = paths.map(file_name).str.replace(r"\.[^.]*$", "", regex=True)
    token = names.str.extract(r"^([^-_. ()]*)", expand=False).fillna("")
    few = token.map(token.value_counts()) < _SERIES
    token = token.mask(few, token.str.replace(r"\d+$", "", regex=True))
    return token.where(token.map(token.value_counts()) >= _SERIES, "")


def _series_shift(case: Case, name: str) -> Finding:
    found = list(_series_tests(case))
    if not found:
        return Finding(name, Verdict.PASS, "no label has several series of file names")
    corrected = holm([tested.p for tested, _ in found])
    shifted = [
        (tested.strength, f"{counts}, V = {tested.effect:.2f}, {p_value(p)} (Holm)")
        for (tested, counts), p in zip(found, corrected, strict=True)
        if p < ALPHA
    ]
    if not shifted:
        return Finding(name, Verdict.PASS, f"{len(found)} series of names, smallest {p_value(min(corrected))} (Holm)")
    shifted.sort(reverse=True)
    return Finding(name, Verdict.WARN, _more([text for _, text in shifted[:4]], len(shifted)), shifted[0][0])


def _series_tests(case: Case) -> Iterator[tuple[Association, str]]:
    """Of each label's commonest series, whether patients of the test have it as often as those of training."""
    for label, title in LABELS.items():
        rows = case.manifest[case.manifest["label"] == label]
        test = rows["split"] == "test"
        if not test.any() or test.all():
            continue
        begins = series(rows["path"])
        table = pd.DataFrame({"who": people(rows), "test": test, "series": begins}).drop_duplicates()
        for one in begins[begins != ""].value_counts().index[:_MOST_SERIES]:
            belongs = (table["series"] == one).to_numpy(bool)
            if belongs.all():
                continue
            here = begins == one
            counts = (
                f"{title}: {one}… is {part(int((here & test).sum()), int(test.sum()))} test images and "
                f"{part(int((here & ~test).sum()), int((~test).sum()))} of training"
            )
            yield of_categories(table["test"].to_numpy(bool), belongs.astype(str), case.seed), counts


# Tables and facts --------------------------------------------------------------------------------------------------


def _count_table(manifest: pd.DataFrame) -> Table:
    unknown = int((manifest["patient_id"] == "").sum())
    caption = "Images, patients and films"
    if unknown:
        caption += f" ({plural(unknown, 'image')} of unknown patients, each counted as a patient)"
    keys = ("split", "label", "images", "patients", "films", "most_of_one_patient")
    rows = [[count[key] for key in keys] for count in sizes(manifest)]
    return Table(caption, [key.replace("_", " ") for key in keys], rows)


def _shared_films(manifest: pd.DataFrame) -> list[Table]:
    """Every film that several sources have, with all its images: what to leave out of which."""
    several = manifest[manifest.groupby("film")["source"].transform("nunique") > 1]
    if several.empty:
        return []
    sources = sorted(several["source"].unique())
    rows = []
    for _, images in several.groupby("film", sort=False):
        named = [f"{file_name(row['path'])} ({row['split']}, {LABELS[row['label']]})" for _, row in images.iterrows()]
        cells = pd.Series(named).groupby(images["source"].to_numpy()).agg("; ".join)
        rows.append([cells.get(source) for source in sources])
    return [Table(f"Films in several sources: all {len(rows)}", sources, rows)]


def _pair_tables(case: Case) -> list[Table]:
    if case.pairs.empty:
        return []
    rows: list[list[object]] = []
    for pair in _pairs(case)[:_ROWS]:
        sides = [case.manifest.iloc[side] for side in (pair.first, pair.second)]
        cells = [f"{file_name(side['path'])} ({side['split']}, {LABELS[side['label']]})" for side in sides]
        kind = "the same file" if pair.same_file else "mirrored" if pair.mirrored else "near-duplicate"
        rows.append([*cells, kind, pair.distance, pair.inliers])
    shown = f", the first {_ROWS} of {len(case.pairs)}" if len(case.pairs) > _ROWS else ""
    header = ["image", "is the film of", "how", "hash distance (of 256)", "matching points"]
    return [Table(f"Pairs of images of one film{shown}", header, rows)]


class _Pair(NamedTuple):
    """A row of a case's pairs, as plain values."""

    first: int
    second: int
    same_file: bool
    distance: int
    inliers: int
    mirrored: bool


def _pairs(case: Case) -> list[_Pair]:
    columns = (case.pairs[name].tolist() for name in _Pair._fields)
    return [
        _Pair(int(first), int(second), bool(same_file), int(distance), int(inliers), bool(mirrored))
        for first, second, same_file, distance, inliers, mirrored in zip(*columns, strict=True)
    ]


def _facts(case: Case) -> dict[str, Any]:
    paths = case.manifest["path"]
    return {
        "drawn": case.drawn,
        "val_is_test": case.val_is_test,
        "counts": sizes(case.manifest),
        "file_order": [] if case.drawn else [asdict(order) for order in _orders(case.manifest, by_name=True)],
        "shared_films": [row for table in _shared_films(case.manifest) for row in table.rows],
        "unknown_patients": int((case.manifest["patient_id"] == "").sum()),
        "pairs": [
            {**pair._asdict(), "first": paths.iloc[pair.first], "second": paths.iloc[pair.second]}
            for pair in _pairs(case)
        ],
    }
