"""How the images were split: what stands on both sides, and whether the test images are a fair draw."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from cxrlab.checks.base import FAIL, NOT_CHECKED, PASS, WARN, Case, Finding, Section, Table, Verdict, not_checked
from cxrlab.checks.counting import placed, short_table, sizes
from cxrlab.datamodules.manifest import NAMES, SPLITS, people
from cxrlab.evaluation.association import holm, of_categories, of_numbers
from cxrlab.words import file_name, listed, p_value, part, plural

ALPHA = 0.05
UNLIKELY = 0.001
"""Probability under a random draw of patients below which a split is said to follow the order of the files."""

REPEATS = 0.2
"""Share of a label's images in a split that are further images of a patient, above which it is a WARN."""

_SERIES = 5  # images that share a beginning of the name, at least: a series
_MOST_SERIES = 30  # of a label, the commonest, that are tested
_TINY = 1e-300  # a p value that is too small for a number still has a logarithm
_EXAMPLES = 4  # that are named
_UNKNOWN = "The patients of all {} images are unknown."
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


class _Order(NamedTuple):
    """Where the test images of a label lie among all its images, and how likely that is; p values as log10."""

    label: str
    images: int
    tested: int
    patients: int
    block: str  # first, last, middle, or empty where there are gaps
    log10_p_images: float | None  # of a block only
    log10_p_patients: float
    by_name: bool


def check(case: Case) -> Section:
    """Looks for patients, files and films on both sides of the split, and at how the test images were chosen."""
    manifest, paths = case.manifest, case.manifest["path"]
    orders = [] if case.drawn else _orders(manifest, by_name=True)
    findings = [*_on_both_sides(case), _inside(case), _repeats(manifest), *_drawing(case, orders)]
    columns = ["first", "second", "same_file", "distance", "inliers", "mirrored"]
    pairs = [{str(name): value for name, value in row.items()} for row in case.pairs[columns].to_dict("records")]
    tables, shared = [], _shared_films(manifest)
    if shared.rows:
        tables.append(shared)
    if pairs:
        rows: list[list[object]] = []
        for pair in pairs:
            cells = ["{} ({})".format(*placed(manifest, pair[side])) for side in ("first", "second")]
            kind = "the same file" if pair["same_file"] else "mirrored" if pair["mirrored"] else "near-duplicate"
            rows.append([*cells, kind, pair["distance"], pair["inliers"]])
        header = ["image", "is the film of", "how", "hash distance (of 256)", "matching points"]
        tables.append(short_table("Pairs of images of one film", header, rows))
    drawn = "drawn by this program, by patient" if case.drawn else "given by the source"
    return Section(
        "Split",
        findings,
        [_DONE.format(drawn), _RULES, *([] if case.drawn else [_RULES_OF_GIVEN])],
        tables,
        facts={
            "drawn": case.drawn,
            "val_is_test": case.val_is_test,
            "counts": sizes(manifest),
            "file_order": [order._asdict() for order in orders],
            "shared_films": [*shared.rows],
            "unknown_patients": int((manifest["patient_id"] == "").sum()),
            "pairs": [pair | {side: paths.iloc[pair[side]] for side in ("first", "second")} for pair in pairs],
        },
        answer=_answer(findings),
    )


def _answer(findings: list[Finding]) -> str:
    """Whether a patient, a file or a film is in several splits."""
    asked = {each.check: each for each in findings if each.check.endswith(" in several splits")}
    of = {what: each for what in ("patient", "file", "film") for check, each in asked.items() if what in check}
    said = [each.said for each in of.values() if each.verdict is FAIL]
    sound = [f"no {what}" for what, each in of.items() if each.verdict is PASS]
    if sound and not said:
        said = [f"Nothing is in several splits: {', '.join(sound)}."]
    unknown = [what for what, each in of.items() if each.verdict is NOT_CHECKED]
    return " ".join([*said, *(f"Whether a {what} is in several is not known." for what in unknown)])


def _on_both_sides(case: Case) -> Iterator[Finding]:
    """Whether validation is apart; patients, files and films in several splits, sources, or under both labels."""
    manifest, name = case.manifest, "validation images apart from test"
    given, tested = (int((manifest["split"] == split).sum()) for split in ("val", "test"))
    said = "No validation images are given; a training run draws them from the training patients."
    if given:
        said = f"There are {plural(given, 'validation image')}, none of them in the test split."
    if case.val_is_test:
        also = "are also the validation images, so whatever is chosen with them fits them."
        said = f"The {plural(tested, 'test image')} {also}"
    yield Finding(name, FAIL if case.val_is_test else PASS, said, float(case.val_is_test))
    known = manifest[manifest["patient_id"] != ""]
    unknown = len(manifest) - len(known)
    if known.empty:
        yield from not_checked(_UNKNOWN.format(unknown), "patients in several splits", "patients under both labels")
    else:
        among = f"{known['patient_id'].nunique():,} known patients"
        persons = manifest.assign(person=people(manifest))  # ids that share a film are one person
        yield _across(persons, "person", "split", among, FAIL)
        yield _across(persons, "person", "label", among, WARN)
        if unknown:
            said = f"The patients of {part(unknown, len(manifest))} images are unknown; if they were on both sides, "
            yield Finding("images of unknown patients", NOT_CHECKED, said + "nobody would notice.")
    images = f"{len(manifest):,} images"
    yield _across(manifest[manifest["sha256"] != ""], "sha256", "split", images, FAIL)
    yield _across(manifest, "film", "split", images, FAIL)
    yield _across(manifest, "film", "label", images, FAIL)
    if manifest["source"].nunique() > 1:
        yield _across(manifest, "film", "source", images, WARN)


def _across(table: pd.DataFrame, key: str, column: str, among: str, verdict: Verdict) -> Finding:
    """What has several values of a column (splits, labels, sources) although it is one patient, file or film."""
    what = {"person": "patient", "sha256": "file", "film": "film"}[key]
    where = "under both labels" if column == "label" else f"in several {column}s"
    name = f"patients {where}" if key == "person" else f"the same {what} {where}"
    if column == "label" and table["label"].nunique() < 2:
        return Finding(name, NOT_CHECKED, f"All images are {NAMES[table['label'].iloc[0]]}.")
    several = table.groupby(key)[column].transform("nunique") > 1
    if not several.any():
        return Finding(name, PASS, f"Among {among}, no {what} is {where}.")
    found, examples = table[several], []
    for value, rows in itertools.islice(found.groupby(key, sort=False), _EXAMPLES):
        sides = rows.drop_duplicates(column)
        named = sides["label"].map(NAMES) if column == "label" else sides[column]
        said = " and ".join(f"{side} ({file_name(path)})" for side, path in zip(named, sides["path"], strict=True))
        is_id = key == "person" and not str(value).startswith("image:")
        examples.append(f"{value} in {said}" if is_id else said)
    whole, test = found[key].nunique(), table["split"] == "test"
    concerned = (several & test).sum() / test.sum() if column == "split" and test.any() else several.mean()
    images = f"{len(found)} images"
    if column == "source":
        images += " (" + ", ".join(f"{source} {n}" for source, n in found["source"].value_counts().items()) + ")"
    said = f"{plural(whole, what)} with {images} {'is' if whole == 1 else 'are'} {where}."
    return Finding(name, verdict, said, float(concerned), f"Found: {_more(examples, whole)}.")


def _more(examples: list[str], whole: int) -> str:
    more = whole - len(examples)
    return "; ".join(examples) + (f"; and {more} more" if more > 0 else "")


def _inside(case: Case) -> Finding:
    """Pairs of images of one film within a split."""
    name, manifest = "the same film twice in a split", case.manifest
    splits = [manifest["split"].to_numpy()[case.pairs[side]] for side in ("first", "second")]
    pairs = case.pairs[splits[0] == splits[1]]
    if pairs.empty:
        return Finding(name, PASS, f"Among {len(manifest):,} images, no two of one split are of one film.")
    counts = manifest["split"].iloc[pairs["first"]].value_counts()
    where = ", ".join(f"{counts[split]} in {split}" for split in SPLITS if split in counts)
    names = [f"{case.file_name(one)} = {case.file_name(other)}" for one, other in pairs[["first", "second"]].to_numpy()]
    copies = int(pairs["same_file"].sum())
    kind = f"{plural(len(pairs) - copies, 'near-duplicate pair')} and {plural(copies, 'pair')} of equal files"
    concerned = np.unique(pairs[["first", "second"]]).size / len(manifest)
    said, details = f"Within one split there are {kind} ({where}).", f"They are {listed(names, _EXAMPLES)}."
    return Finding(name, WARN, said, concerned, details)


def _repeats(manifest: pd.DataFrame) -> Finding:
    """How many images are further images of a patient who is there already."""
    name, known = "several images of a patient", manifest[manifest["patient_id"] != ""]
    if known.empty:
        return Finding(name, NOT_CHECKED, _UNKNOWN.format(len(manifest)))
    groups = known.groupby(["split", "label"])["patient_id"]
    share = 1 - groups.nunique() / groups.size()
    counts = known["patient_id"].value_counts()
    highest, (split, label) = float(share.max()), share.index[int(share.to_numpy().argmax())]
    said = f"{part(len(known) - len(counts), len(known))} images are further images of {len(counts):,} patients."
    details = f"One patient has {counts.iloc[0]} images ({counts.index[0]}); the share is highest in {split}, "
    details += f"{NAMES[label]}: {100 * highest:.0f} %."
    return Finding(name, WARN if highest > REPEATS else PASS, said, highest, details)


def _shared_films(manifest: pd.DataFrame) -> Table:
    """Every film that several sources have, with all its images: what to leave out of which."""
    several = manifest[manifest.groupby("film")["source"].transform("nunique") > 1]
    sources, rows = sorted(several["source"].unique()), []
    for _, images in several.groupby("film", sort=False):
        named = [f"{file_name(row['path'])} ({row['split']}, {NAMES[row['label']]})" for _, row in images.iterrows()]
        cells = pd.Series(named).groupby(images["source"].to_numpy()).agg("; ".join)
        rows.append([cells.get(source) for source in sources])
    return Table(f"Films in several sources: all {len(rows)}", sources, rows)


def _drawing(case: Case, orders: list[_Order]) -> Iterator[Finding]:
    names = ("the split and the order of file names", "the split and series of files")
    test, paths = case.manifest["split"] == "test", case.manifest["path"]
    if case.drawn:
        yield Finding("how the split was made", PASS, "This program drew the split, by patient and film.")
        return
    if not test.any() or test.all():
        yield from not_checked("The source gives no split with test and training images.", *names)
        return
    # Whether (nearly) every name holds the name of its split, as in test_0001.png.
    says = [
        any(word.startswith(split) for word in re.split(r"[^a-z]+", file_name(path).lower()))
        for path, split in zip(paths, case.manifest["split"], strict=True)
    ]
    if np.mean(says) > 0.9:
        yield from not_checked("The file names were given after the split, for they hold its name.", *names)
    else:
        yield _order(case.manifest, orders, names[0])
        yield _series_shift(case, names[1])
    folders = paths.str.replace(r"[^/\\]*$", "", regex=True)
    if folders[test].isin(folders[~test]).all():
        yield _order(case.manifest, _orders(case.manifest, by_name=False), "the split and the order of the list")


def _order(manifest: pd.DataFrame, orders: list[_Order], name: str) -> Finding:
    """Whether the test images of each label lie together in the order of names (or of the list)."""
    if not orders:
        return Finding(name, NOT_CHECKED, "No label is on both sides of the split.")
    blocks = {"first": "the first", "last": "the last", "middle": "one block of"}
    places, chances = [], []
    for order in orders:
        if order.block:
            places.append(f"{blocks[order.block]} {order.tested} of {order.images} ({order.label})")
            by_image, by_patient = f"10^{order.log10_p_images:.1f}", f"10^{order.log10_p_patients:.1f}"
            chance = f"by chance, the probability is {by_image} (images drawn) or {by_patient} (patients drawn)"
        else:
            places.append(f"no block ({order.label})")
            chance = f"{p_value(10**order.log10_p_patients)}, n = {order.patients} patients"
        chances.append(f"{order.label}: {chance}.")
    unlikely = [order for order in orders if order.log10_p_patients < math.log10(UNLIKELY)]
    verdict = WARN if unlikely else PASS
    if len(unlikely) == len(orders) and all(order.block and order.by_name for order in orders):
        verdict = FAIL
    said = f"In {'alphabetical order' if orders[0].by_name else 'the order of the list'}, the test images are "
    # An order is a reason for doubt rather than a fault of every test image: hence half the share.
    concerned = sum(order.tested for order in unlikely) / int((manifest["split"] == "test").sum()) / 2
    return Finding(name, verdict, f"{said}{' and '.join(places)}.", concerned, " ".join(chances))


def _orders(manifest: pd.DataFrame, *, by_name: bool) -> list[_Order]:
    """Of each label that is on both sides of the split."""
    orders = []
    for label, title in NAMES.items():
        rows = manifest[manifest["label"] == label]
        if by_name:
            rows = rows.loc[rows["path"].map(file_name).str.lower().sort_values(kind="stable").index]
        test = rows["split"] == "test"
        if not test.any() or test.all():
            continue
        images = test.to_numpy(bool)
        units = test.groupby(people(rows), sort=False).any().to_numpy(bool)  # in the order of their first images
        places = np.flatnonzero(images)
        block, by_image = "", None
        if places[-1] - places[0] + 1 == places.size:  # no gap
            block = "first" if places[0] == 0 else "last" if places[-1] == images.size - 1 else "middle"
            by_image, by_patient = _log_probability(images, block), _log_probability(units, block)
        elif units.all():  # every patient is on both sides
            by_patient = 0.0
        else:  # whether tested patients tend to either end (Mann-Whitney)
            by_patient = math.log10(max(of_numbers(units, np.arange(units.size)).p, _TINY))
        orders.append(_Order(title, images.size, places.size, units.size, block, by_image, by_patient, by_name))
    return orders


def _log_probability(test: npt.NDArray[np.bool_], block: str) -> float:
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
    """Of each label's commonest series, whether patients of the test have it as often as those of training."""
    found = []
    for label, title in NAMES.items():
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
            found.append((of_categories(table["test"].to_numpy(bool), belongs.astype(str), case.seed), counts))
    if not found:
        return Finding(name, PASS, "No label has several series of file names.")
    corrected = holm([tested.p for tested, _ in found])
    shifted = [
        (tested.strength, counts, f"V = {tested.effect:.2f}, {p_value(p)} (Holm)")
        for (tested, counts), p in zip(found, corrected, strict=True)
        if p < ALPHA
    ]
    if not shifted:
        said = f"{len(found)} series of names show no clear difference; smallest {p_value(min(corrected))} (Holm)."
        return Finding(name, PASS, said)
    (strength, counts, numbers), *others = sorted(shifted, reverse=True)
    rest = [f"{each} ({which})" for _, each, which in others[:3]]
    details = f"{numbers}. {_more(rest, len(others))}{'.' if rest else ''}".rstrip()
    return Finding(name, WARN, f"{counts}.", strength, details)
