"""How the images were split: what stands on both sides, and whether the test images are a fair draw."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, TypeAlias

import numpy as np
import pandas as pd

from cxrlab.checks.base import Case, Finding, Section, Table, Verdict, not_checked
from cxrlab.checks.counting import LABELS, placed, short_table, sizes
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
_TINY = 1e-300  # a p value that is too small for a number still has a logarithm
_DONE = "This section looks for patients, files and films on both sides of the split, which was {}."
_RULES = f"""FAIL: the same patient, file or film is in several splits, which makes a test result too good; or one film
is under both labels, one of which must be wrong. WARN: a patient has images of both labels (which may be true, if the
patient fell ill in between); several images of one film are in one split, and count for more than they are; a film is
in several sources, so that it would be on both sides if a model were trained on the one and tested on the other. Films
are compared by content, so that a copy is found under any name. Patients are compared by their ids alone.

WARN: more than {100 * REPEATS:.0f} % of a label's images in a split are further images of a patient. Then patients
should be counted, and not images."""
_RULES_OF_GIVEN = f"""**The order of the files.** The file names of each label are sorted, upper and lower case alike.
Are the test images the first, the last, or one block? The probability of that is the number of places for such a block,
divided by the number of ways to draw so many; it is given by image and by patient. FAIL: the test images of both labels
are such blocks, each with a probability by patient below {UNLIKELY:g}. WARN: those of one label are, or they tend to
one end (Mann-Whitney test by patient, p below {UNLIKELY:g}). If test and training files share folders, the order of the
list is looked at as well; it is at most a WARN, since someone may have sorted the list by split.

**Series.** A series is a beginning that at least {_SERIES} file names of a label share. Fisher's exact test, by
patient, compares how often test and training have it, for the commonest {_MOST_SERIES} series of a label; Holm's method
corrects over all series. WARN: p below {ALPHA:g}."""


def check(case: Case) -> Section:
    """Looks for patients, files and films on both sides of the split, and at how the test images were chosen."""
    findings = [
        _validation(case),
        *_patients(case.manifest),
        *_films(case),
        _repeats(case.manifest),
        *_drawing(case),
    ]
    drawn = "drawn by this program, by patient" if case.drawn else "given by the source"
    return Section(
        title="Split",
        findings=findings,
        text=[_DONE.format(drawn), _RULES, *([] if case.drawn else [_RULES_OF_GIVEN])],
        tables=[*_shared_films(case.manifest), *_pair_tables(case)],
        facts=_facts(case),
        answer=_answer(findings),
    )


def _answer(findings: list[Finding]) -> str:
    """Whether a patient, a file or a film is in several splits."""
    asked = {each.check: each for each in findings if each.check.endswith(" in several splits")}
    of = {what: each for what in ("patient", "file", "film") for check, each in asked.items() if what in check}
    said = [each.said for each in of.values() if each.verdict is Verdict.FAIL]
    sound = [f"no {what}" for what, each in of.items() if each.verdict is Verdict.PASS]
    if sound and not said:
        said = [f"Nothing is in several splits: {', '.join(sound)}."]
    unknown = [what for what, each in of.items() if each.verdict is Verdict.NOT_CHECKED]
    return " ".join([*said, *(f"Whether a {what} is in several is not known." for what in unknown)])


# What stands on both sides -----------------------------------------------------------------------------------------


def _validation(case: Case) -> Finding:
    name = "validation images apart from test"
    counts = case.manifest["split"].value_counts()
    if case.val_is_test:
        said = f"The {plural(int(counts.get('test', 0)), 'test image')} are also the validation images, so whatever is "
        return Finding(name, Verdict.FAIL, said + "chosen with them fits them.", 1.0)
    said = "No validation images are given; a training run draws them from the training patients."
    if "val" in counts:
        said = f"There are {plural(int(counts['val']), 'validation image')}, none of them in the test split."
    return Finding(name, Verdict.PASS, said)


def _patients(manifest: pd.DataFrame) -> Iterator[Finding]:
    known = manifest[manifest["patient_id"] != ""]
    names = ("patients in several splits", "patients under both labels")
    if known.empty:
        yield from not_checked(_unknown(manifest), *names)
        return
    among = f"{known['patient_id'].nunique():,} known patients"
    persons = manifest.assign(person=people(manifest))  # ids that share a film are one person
    yield _across(persons, "person", "split", names[0], among, Verdict.FAIL)
    yield _across(persons, "person", "label", names[1], among, Verdict.WARN)
    unknown = len(manifest) - len(known)
    if unknown:
        said = f"The patients of {part(unknown, len(manifest))} images are unknown; if they were on both sides, "
        yield from not_checked(said + "nobody would notice.", "images of unknown patients")


def _unknown(manifest: pd.DataFrame) -> str:
    return f"The patients of all {len(manifest)} images are unknown."


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
        return not_checked(f"All images are {LABELS[int(table['label'].iloc[0])]}.", name)[0]
    what = {"person": "patient", "sha256": "file", "film": "film"}[key]
    where = "under both labels" if column == "label" else f"in several {column}s"
    several = table.groupby(key)[column].transform("nunique") > 1
    if not several.any():
        return Finding(name, Verdict.PASS, f"Among {among}, no {what} is {where}.")
    found = table[several]
    examples = []
    for value, rows in found.groupby(key, sort=False):
        sides = [
            f"{_named(row, column)} ({file_name(row['path'])})" for _, row in rows.drop_duplicates(column).iterrows()
        ]
        named = f"{value} in " if key == "person" and not str(value).startswith("image:") else ""
        examples.append(named + " and ".join(sides))
        if len(examples) == 4:
            break
    whole, test = found[key].nunique(), table["split"] == "test"
    concerned = (several & test).sum() / test.sum() if column == "split" and test.any() else several.mean()
    images = f"{len(found)} images"
    if column == "source":
        images += " (" + ", ".join(f"{source} {n}" for source, n in found["source"].value_counts().items()) + ")"
    said = f"{plural(whole, what)} with {images} {'is' if whole == 1 else 'are'} {where}."
    return Finding(name, verdict, said, float(concerned), f"Found: {_more(examples, whole)}.")


def _named(row: pd.Series[Any], column: str) -> str:
    return LABELS[row["label"]] if column == "label" else str(row[column])


def _more(examples: list[str], whole: int) -> str:
    more = whole - len(examples)
    return "; ".join(examples) + (f"; and {more} more" if more > 0 else "")


def _inside(case: Case) -> Finding:
    """Pairs of images of one film within a split."""
    name, manifest = "the same film twice in a split", case.manifest
    first, second = (manifest.iloc[case.pairs[side].to_numpy(np.int64)] for side in ("first", "second"))
    inside = first["split"].to_numpy() == second["split"].to_numpy()
    if not inside.any():
        return Finding(name, Verdict.PASS, f"Among {len(manifest):,} images, no two of one split are of one film.")
    copies = int(case.pairs["same_file"].to_numpy(bool)[inside].sum())
    counts = pd.Series(first["split"].to_numpy()[inside]).value_counts()
    where = ", ".join(f"{counts[split]} in {split}" for split in SPLITS if split in counts)
    names = [
        f"{file_name(one)} = {file_name(other)}"
        for one, other in zip(first["path"][inside], second["path"][inside], strict=True)
    ]
    kind = f"{plural(int(inside.sum()) - copies, 'near-duplicate pair')} and {plural(copies, 'pair')} of equal files"
    rows = np.union1d(case.pairs["first"].to_numpy()[inside], case.pairs["second"].to_numpy()[inside])
    said, details = f"Within one split there are {kind} ({where}).", f"They are {listed(names, 4)}."
    return Finding(name, Verdict.WARN, said, len(rows) / len(manifest), details)


def _repeats(manifest: pd.DataFrame) -> Finding:
    """How many images are further images of a patient who is there already."""
    name, known = "several images of a patient", manifest[manifest["patient_id"] != ""]
    if known.empty:
        return not_checked(_unknown(manifest), name)[0]
    groups = known.groupby(["split", "label"])["patient_id"]
    share = 1 - groups.nunique() / groups.size()
    counts = known["patient_id"].value_counts()
    highest = float(share.max())
    split, label = share.index[int(share.to_numpy().argmax())]
    said = f"{part(len(known) - len(counts), len(known))} images are further images of {len(counts):,} patients."
    details = f"One patient has {counts.iloc[0]} images ({counts.index[0]}); the share is highest in {split}, "
    details += f"{LABELS[label]}: {100 * highest:.0f} %."
    return Finding(name, Verdict.WARN if highest > REPEATS else Verdict.PASS, said, highest, details)


# How the test images were chosen -----------------------------------------------------------------------------------


def _drawing(case: Case) -> Iterator[Finding]:
    names = ("the split and the order of file names", "the split and series of files")
    test = case.manifest["split"] == "test"
    if case.drawn:
        yield Finding("how the split was made", Verdict.PASS, "This program drew the split, by patient and film.")
        return
    if not test.any() or test.all():
        yield from not_checked("The source gives no split with test and training images.", *names)
        return
    if _say_their_split(case.manifest):
        yield from not_checked("The file names were given after the split, for they hold its name.", *names)
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
    if not orders:
        return not_checked("No label is on both sides of the split.", name)[0]
    unlikely = [order for order in orders if order.unlikely]
    verdict = Verdict.WARN if unlikely else Verdict.PASS
    if by_name and len(unlikely) == len(orders) and all(order.block for order in orders):
        verdict = Verdict.FAIL
    order = "alphabetical order" if by_name else "the order of the list"
    said = f"In {order}, the test images are {' and '.join(each.place() for each in orders)}."
    # An order is a reason for doubt rather than a fault of every test image: hence half the share.
    concerned = sum(each.tested for each in unlikely) / int((manifest["split"] == "test").sum()) / 2
    return Finding(name, verdict, said, concerned, " ".join(each.chance() for each in orders))


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

    def place(self) -> str:
        """Where they are: ``the last 20 of 94 (Positive)``."""
        if not self.block:
            return f"no block ({self.label})"
        where = {"first": "the first", "last": "the last", "middle": "one block of"}[self.block]
        return f"{where} {self.tested} of {self.images} ({self.label})"

    def chance(self) -> str:
        """How likely that is, in a sentence."""
        if not self.block:
            return f"{self.label}: {p_value(10**self.log10_p_patients)}, n = {self.patients} patients."
        by_image, by_patient = f"10^{self.log10_p_images:.1f}", f"10^{self.log10_p_patients:.1f}"
        return (
            f"{self.label}: by chance, the probability is {by_image} (images drawn) or {by_patient} (patients drawn)."
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
        return Finding(name, Verdict.PASS, "No label has several series of file names.")
    corrected = holm([tested.p for tested, _ in found])
    shifted = [
        (tested.strength, counts, f"V = {tested.effect:.2f}, {p_value(p)} (Holm)")
        for (tested, counts), p in zip(found, corrected, strict=True)
        if p < ALPHA
    ]
    if not shifted:
        said = f"{len(found)} series of names show no clear difference; smallest {p_value(min(corrected))} (Holm)."
        return Finding(name, Verdict.PASS, said)
    shifted.sort(reverse=True)
    rest = [f"{counts} ({numbers})" for _, counts, numbers in shifted[1:4]]
    details = f"{shifted[0][2]}. {_more(rest, len(shifted) - 1)}{'.' if rest else ''}".rstrip()
    return Finding(name, Verdict.WARN, f"{shifted[0][1]}.", shifted[0][0], details)


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
                f"{part(int((here & test).sum()), int(test.sum()))} {title} test images have names that begin with "
                f"{one}; of the training images it is {part(int((here & ~test).sum()), int((~test).sum()))}"
            )
            yield of_categories(table["test"].to_numpy(bool), belongs.astype(str), case.seed), counts


# Tables and facts --------------------------------------------------------------------------------------------------


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
    for pair in _pairs(case):
        cells = ["{} ({})".format(*placed(case.manifest, pair[side])) for side in ("first", "second")]
        kind = "the same file" if pair["same_file"] else "mirrored" if pair["mirrored"] else "near-duplicate"
        rows.append([*cells, kind, pair["distance"], pair["inliers"]])
    header = ["image", "is the film of", "how", "hash distance (of 256)", "matching points"]
    return [short_table("Pairs of images of one film", header, rows)]


def _pairs(case: Case) -> list[dict[str, Any]]:
    """Every pair of images of one film, as plain values."""
    columns = ["first", "second", "same_file", "distance", "inliers", "mirrored"]
    return [{str(name): value for name, value in row.items()} for row in case.pairs[columns].to_dict("records")]


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
            {**pair, "first": paths.iloc[pair["first"]], "second": paths.iloc[pair["second"]]} for pair in _pairs(case)
        ],
    }
