"""Where the images come from: what each label holds, and what else differs between the labels.

A network learns whatever tells the labels apart. Where that is a collection, an age or a view, it need not look at the
disease (L. Maguolo and L. Nanni, Inf Fusion 2021;76:1-7; M. Roberts et al., Nat Mach Intell 2021;3:199-217).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import pandas as pd

from cxrlab.checks.base import Case, Finding, Section, Table, Verdict
from cxrlab.checks.columns import ALPHA, CATEGORIES, FEWEST, STRONG, Properties, Test, as_text, corrected, pass_of
from cxrlab.checks.counting import LABELS, several, splits
from cxrlab.datamodules import spellings
from cxrlab.datamodules.manifest import ages, people
from cxrlab.evaluation.association import ONE_VALUE
from cxrlab.words import listed, p_value, part, plural, tally

CLEAR_LABEL = 0.9  # share of Positive images that must show what is claimed: below it FAIL
UNTRAINED = 0.25  # share of a label's test images with a finding that training never shows: above it FAIL

_ORIGIN = ("licence", "location")  # no pixel shows them, but they mark where an image is from: WARN at most
_ROWS = 30  # of a table


def check(case: Case) -> Section:
    """Looks at the findings behind each label and at what else goes with the label or with the split."""
    known = Properties(case.manifest, case.seed, case.measured.facts)
    tests = corrected([*known.label_tests(), *known.known_tests(), *known.split_tests()])
    findings = [
        *_claim(case),
        *_both_labels(case.manifest),
        *_test_only(case.manifest, drawn=case.drawn),
        *_associations(case, known, tests),
        *_recorded(known, tests),
        *_people(case.manifest),
        *_shifts(tests),
        *_licences(case.manifest),
    ]
    return Section(
        title="Provenance",
        findings=findings,
        text=_text(case),
        tables=_tables(case, tests),
        facts=_facts(case, known, tests),
    )


def _text(case: Case) -> list[str]:
    paragraphs = [
        (
            "What stands behind each label, and what else differs between Positive and Negative. A network can use any "
            "such difference instead of the disease."
        ),
        (
            f"A finding that no training image of its label shows is FAIL above {100 * UNTRAINED:.0f} % of the label's "
            "test images where the split is the source's own (a draw puts a rare finding on one side by chance), "
            "otherwise WARN; a finding under both labels is WARN."
        ),
        (
            "Tests count every patient once per label, with the value that most of the patient's images have (of an "
            "age the median); an image of an unknown patient is a patient of its own. Categories of two values are "
            "compared by Fisher's exact test, others by chi-squared (p by Monte Carlo where an expected count is below "
            "5), ages by Mann-Whitney. V is Cramér's V corrected for bias: 0 no association, 1 complete."
        ),
        (
            "All p values are corrected together (Holm): where nothing differs, the chance of any WARN or FAIL from "
            f"these tests is at most {100 * ALPHA:.0f} %. A difference between the labels is FAIL from V = {STRONG:g} "
            f"(AUROC {0.5 - STRONG / 2:g} or {0.5 + STRONG / 2:g}), otherwise WARN; labels that share no collection "
            "are always FAIL. A difference in licences or locations (no pixel shows them, they mark the origin), in "
            "what is recorded, in a column that this program does not know by name (another hospital, or another word "
            "for the label), or between test and training is WARN. Fewer than "
            f"{FEWEST} patients of known value in a group, or so few that V = {STRONG:g} would be missed one time in "
            "five: NOT CHECKED."
        ),
    ]
    if case.claim:
        paragraphs.insert(
            1,
            f"Positive is said to mean {case.claim}. A split in which less than {100 * CLEAR_LABEL:.0f} % of the "
            "Positive images with a known finding name it is FAIL, less than all of them WARN; where all of them do, "
            f"but more than {100 * (1 - CLEAR_LABEL):.0f} % of the Positive images have no known finding, it is NOT "
            "CHECKED. A Negative image whose finding names it is FAIL.",
        )
    return paragraphs


# What the labels mean ----------------------------------------------------------------------------------------------


def has_claim(manifest: pd.DataFrame, claim: str) -> pd.Series[bool]:
    """Whether each image's finding names what Positive is said to mean, in upper or lower case."""
    return manifest["finding"].str.contains(claim, case=False, regex=False).astype(bool)


def _claim(case: Case) -> Iterator[Finding]:
    check_name = f"Positive is {case.claim}" if case.claim else "what Positive means"
    known = case.manifest["finding"] != ""
    if not case.claim or not known.any():
        reason = "the source names no finding" if case.claim else "the source does not say what Positive is to mean"
        yield Finding(check_name, Verdict.NOT_CHECKED, reason)
        return
    named = has_claim(case.manifest, case.claim)
    yield _claim_of_positives(case, check_name, known, named)
    negative = case.manifest["label"] == 0
    count, whole = int((negative & named).sum()), int((negative & known).sum())
    if not whole:
        yield Finding(f"Negative is not {case.claim}", Verdict.NOT_CHECKED, "no Negative image has a known finding")
        return
    shown = f": {tally(case.manifest.loc[negative & named, 'finding'])}" if count else ""
    yield Finding(
        f"Negative is not {case.claim}",
        Verdict.FAIL if count else Verdict.PASS,
        f"{part(count, whole)} Negative images of known finding name {case.claim}{shown}",
        count / whole,
    )


def _claim_of_positives(case: Case, check_name: str, known: pd.Series[bool], named: pd.Series[bool]) -> Finding:
    positive = case.manifest["label"] == 1
    who = people(case.manifest)
    sentences, shares = [], []
    for split in reversed(splits(case.manifest)):
        here = positive & (case.manifest["split"] == split)
        whole = here & known
        if not here.any():
            continue
        hits = here & named
        sentence = (
            f"{split}: {int(hits.sum())} of {int(here.sum())} Positive images are {case.claim} "
            f"({who[hits].nunique()} of {who[here].nunique()} patients)"
        )
        others = case.manifest.loc[here & ~named, "finding"]
        sentences.append(sentence + (f", the others: {tally(others)}" if len(others) else ""))
        if whole.any():
            shares.append(float(hits.sum() / whole.sum()))
    evidence = "; ".join(sentences)
    if not shares:
        return Finding(check_name, Verdict.NOT_CHECKED, "no Positive image has a known finding")
    lowest, unknown = min(shares), float((positive & ~known).sum() / positive.sum())
    verdict = Verdict.FAIL if lowest < CLEAR_LABEL else Verdict.WARN if lowest < 1 else Verdict.PASS
    if verdict == Verdict.PASS and unknown > 1 - CLEAR_LABEL:
        verdict = Verdict.NOT_CHECKED
    return Finding(check_name, verdict, evidence, 1 - lowest)


def _both_labels(manifest: pd.DataFrame) -> Iterator[Finding]:
    known = manifest[manifest["finding"] != ""]
    if known.groupby("label")["finding"].size().size < 2:
        yield Finding("findings under both labels", Verdict.NOT_CHECKED, "findings are not known for both labels")
        return
    single = several(known["finding"])
    labels = known["label"].loc[single.index]  # the index repeats, which crosstab would multiply
    counts = pd.crosstab(single.to_numpy(), labels.to_numpy()).reindex(columns=[0, 1], fill_value=0)
    shared = counts[(counts[0] > 0) & (counts[1] > 0)]
    if shared.empty:
        evidence = f"none of {plural(len(counts), 'different finding')} is under both labels"
        yield Finding("findings under both labels", Verdict.PASS, evidence)
        return
    named = [f"{name} (Positive {row[1]}, Negative {row[0]})" for name, row in shared.iterrows()]
    concerned = float(shared.to_numpy().sum() / len(known))
    yield Finding("findings under both labels", Verdict.WARN, listed(named), concerned)


def _test_only(manifest: pd.DataFrame, *, drawn: bool) -> Iterator[Finding]:
    check_name = "findings that only the test shows"
    test = manifest["split"] == "test"
    known = manifest["finding"] != ""
    if not (test & known).any() or not (~test & known).any():
        yield Finding(check_name, Verdict.NOT_CHECKED, "findings are not known for both test and training images")
        return
    worst, sentences = 0.0, []
    for label, name in LABELS.items():
        here = manifest["label"] == label
        tested = several(manifest.loc[here & test, "finding"])
        trained = several(manifest.loc[here & ~test & known, "finding"])
        new = tested[(tested != "") & ~tested.isin(trained)]
        if len(new) and len(trained):
            count, whole = new.index.nunique(), tested.index.nunique()
            sentences.append(f"{name}: {tally(new)}; together {part(count, whole)} test images")
            worst = max(worst, count / whole)
    if not sentences:
        yield Finding(check_name, Verdict.PASS, "every finding of a test image is in training under the same label")
        return
    chosen = worst > UNTRAINED and not drawn  # a draw puts a rare finding on one side by chance
    yield Finding(check_name, Verdict.FAIL if chosen else Verdict.WARN, ". ".join(sentences), worst)


# What goes with the label or the split -----------------------------------------------------------------------------


def _of_labels(tests: list[Test], asked: str) -> dict[str, Test]:
    return {test.what: test for test in tests if test.between == "Positive / Negative" and test.asked == asked}


def _associations(case: Case, known: Properties, tests: list[Test]) -> Iterator[Finding]:
    yield _collections(case, known, _of_labels(tests, "value").get("collection"))
    alike = []
    for column, test in _of_labels(tests, "value").items():
        if column in known.further and not test.clear:
            alike.append(test)
        elif column != "collection":
            name = "children and adults" if column == "population" else f"{column} and label"
            may_fail = column not in (*_ORIGIN, *known.further)
            yield Finding(name, *_judged(test, f"{test.detail}; {test.numbers()}", may_fail), test.found.strength)
    if alike:
        weakest = min(alike, key=lambda test: min(test.patients))
        evidence = f"{listed([test.what for test in alike])}: smallest {p_value(min(t.p_holm for t in alike))} (Holm)"
        yield Finding("further columns and label", *_judged(weakest, evidence, may_fail=False))


def _judged(test: Test, evidence: str, may_fail: bool = True) -> tuple[Verdict, str]:
    """A verdict with its evidence; where nothing was found, with what could have been."""
    if test.clear:
        return Verdict.FAIL if may_fail and test.found.strength >= STRONG else Verdict.WARN, evidence
    if test.found.method == ONE_VALUE:
        return Verdict.PASS, evidence
    return pass_of(test.patients, evidence, test.found.measure)


def _people(manifest: pd.DataFrame) -> Iterator[Finding]:
    """Patients and ages that cannot be."""
    if "sex" in manifest:
        known = manifest.assign(sex=as_text(manifest["sex"])).query("sex != '' and patient_id != ''")
        both = known.groupby("patient_id")["sex"].nunique() > 1
        names = [str(name) for name in both.index[both]]
        if names:
            evidence = f"{part(len(names), len(both))} patients are listed with two sexes: {listed(names)}"
            yield Finding("patients of two sexes", Verdict.WARN, evidence, len(names) / len(both))
        elif len(both):
            yield Finding("patients of two sexes", Verdict.PASS, f"none of {plural(len(both), 'patient')}")
    if "age" in manifest:
        years, wrong = ages(manifest), spellings.no_ages(manifest["age"])
        given = int(years.notna().sum()) + len(wrong)
        if len(wrong):
            evidence = f"{part(len(wrong), given)} ages are none that a person can have: {tally(wrong)}"
            yield Finding("impossible ages", Verdict.WARN, evidence, len(wrong) / given)
        elif given:
            evidence = f"{plural(given, 'age')} from {years.min():g} to {years.max():g} years"
            yield Finding("impossible ages", Verdict.PASS, evidence)


def _collections(case: Case, properties: Properties, test: Test | None) -> Finding:
    name, manifest = "collections of the labels", case.manifest
    collections = properties.values("collection")
    counts = pd.crosstab(collections, manifest["label"]).reindex(columns=[0, 1], fill_value=0)
    if len(counts) == 1:
        if case.synthetic:
            return Finding(name, Verdict.PASS, "one program drew all images")
        if "collection" in manifest.columns and (manifest["collection"].fillna("") != "").all():
            return Finding(name, Verdict.PASS, f"all {len(manifest)} images are of one collection, {counts.index[0]}")
        return Finding(
            name,
            Verdict.NOT_CHECKED,
            f"the source ({counts.index[0]}) does not say from which collections its images were put together",
        )
    if manifest["label"].nunique() < 2:
        return Finding(name, Verdict.NOT_CHECKED, "all images have one label")
    per_label = "; ".join(f"{LABELS[label]}: {tally(collections[manifest['label'] == label])}" for label in (1, 0))
    pure = counts[(counts[0] == 0) | (counts[1] == 0)].to_numpy().sum() / len(manifest)
    if pure == 1:
        return Finding(name, Verdict.FAIL, f"no collection holds both labels. {per_label} images", 1.0)
    evidence = f"{per_label} images; {100 * pure:.0f} % of the images are in collections of one label"
    if test is None:
        return Finding(name, Verdict.NOT_CHECKED, f"{evidence}; too few patients for a test", pure)
    return Finding(name, *_judged(test, f"{evidence}; {test.numbers()}"), test.found.strength)


def _recorded(known: Properties, tests: list[Test]) -> Iterator[Finding]:
    """What is known of one label rather than of the other, and what could not be tested at all."""
    uneven = [test for test in _of_labels(tests, "known").values() if test.clear]
    if uneven:
        told = [f"{test.what} of {test.detail} ({p_value(test.p_holm)}, Holm)" for test in uneven]
        evidence = "known is the " + ", the ".join(told)
        strongest = max(test.found.strength for test in uneven)
        yield Finding("recorded for one label rather than the other", Verdict.WARN, evidence, strongest)
    tested = _of_labels(tests, "value")
    missing = [f"{column} ({_why_not(known, column)})" for column in (*CATEGORIES[1:], "age") if column not in tested]
    if missing:
        yield Finding("properties that cannot be compared", Verdict.NOT_CHECKED, ", ".join(missing))


def _why_not(properties: Properties, column: str) -> str:
    known = properties.known(column)
    if not known.any():
        return "not known for any image"
    counts = [properties.people[known & (properties.manifest["label"] == label)].nunique() for label in (1, 0)]
    return f"known for {counts[0]} Positive and {counts[1]} Negative patients"


def _shifts(tests: list[Test]) -> Iterator[Finding]:
    between = [test for test in tests if test.between != "Positive / Negative"]
    name = "test and training alike"
    if not between:
        reason = f"no property with several values is known for {FEWEST} patients of test and of training"
        yield Finding(name, Verdict.NOT_CHECKED, reason)
        return
    shifted = sorted((test for test in between if test.clear), key=lambda test: -test.found.strength)
    if not shifted:
        smallest = min(test.p_holm for test in between)
        yield Finding(
            name, Verdict.PASS, f"{plural(len(between), 'test')} within the labels, smallest {p_value(smallest)} (Holm)"
        )
        return
    evidence = ". ".join(f"{test.what}, {test.detail}; {test.numbers()}" for test in shifted)
    yield Finding(name, Verdict.WARN, evidence, shifted[0].found.strength)


def _licences(manifest: pd.DataFrame) -> Iterator[Finding]:
    licences = manifest["licence"].fillna("").astype(str) if "licence" in manifest.columns else None
    if licences is None or (licences == "").all():
        yield Finding("licences", Verdict.NOT_CHECKED, "the source records no licence of single images")
        return
    unknown = int((licences == "").sum())
    no_derivatives = int(licences.str.contains(r"\bND\b", case=False, regex=True).sum())
    evidence = f"unknown for {part(unknown, len(licences))} images: {tally(licences)}"
    if no_derivatives:
        evidence += f"; {plural(no_derivatives, 'image')} under a licence without derivatives (ND)"
    yield Finding("licences", Verdict.WARN if unknown else Verdict.PASS, evidence, unknown / len(licences))


# Tables and facts --------------------------------------------------------------------------------------------------


def _tables(case: Case, tests: list[Test]) -> list[Table]:
    tables = [_finding_table(case)]
    if "licence" in case.manifest.columns and (case.manifest["licence"].fillna("") != "").any():
        tables.append(_licence_table(case.manifest))
    if any(test.found.method != ONE_VALUE for test in tests):
        tables.append(_test_table(tests))
    return tables


def _finding_table(case: Case) -> Table:
    manifest = case.manifest
    table = manifest[["label", "split"]].assign(who=people(manifest)).join(several(manifest["finding"]))
    present = splits(manifest)
    grouped = table.groupby(["label", "finding"])
    images = table.groupby(["label", "finding", "split"]).size().unstack(fill_value=0).reindex(columns=present)
    order = grouped.size().reset_index(name="n").sort_values(["label", "n"], ascending=False, kind="stable")
    patients = grouped["who"].nunique()
    rows: list[list[object]] = []
    for label, finding in zip(order["label"], order["finding"], strict=True):
        counts = [int(images.loc[(label, finding), split]) for split in present]
        rows.append([LABELS[label], finding or "unknown", *counts, sum(counts), int(patients[(label, finding)])])
    return _short(
        Table(
            "Findings behind the labels (an image may show several): images of each split, and patients",
            ["label", "finding", *present, "all", "patients"],
            rows,
        )
    )


def _licence_table(manifest: pd.DataFrame) -> Table:
    licence = manifest["licence"].fillna("").astype(str)
    counts = pd.crosstab(licence, manifest["label"]).reindex(columns=[1, 0], fill_value=0)
    ordered = counts.loc[counts.sum(axis=1).sort_values(ascending=False, kind="stable").index]
    rows = [[name or "unknown", int(row[1]), int(row[0]), int(row.sum())] for name, row in ordered.iterrows()]
    return _short(Table("Licences as recorded, images", ["licence", "Positive", "Negative", "all"], rows))


def _test_table(tests: list[Test]) -> Table:
    rows = [
        [
            test.what if test.asked == "value" else f"{test.what} known",
            test.between,
            test.found.n,
            f"{test.found.measure} {test.found.effect:.2f}",
            p_value(test.found.p),
            p_value(test.p_holm),
            test.found.method,
        ]
        for test in sorted(tests, key=lambda test: (test.p_holm, -test.found.strength))
        if test.found.method != ONE_VALUE
    ]
    header = ["property", "between", "patients", "effect", "p", "p (Holm)", "test"]
    return _short(Table(f"All {len(rows)} tests of association", header, rows))


def _short(table: Table) -> Table:
    if len(table.rows) <= _ROWS:
        return table
    caption = f"{table.caption} (the first {_ROWS} of {len(table.rows)} rows)"
    return Table(caption, table.header, table.rows[:_ROWS])


def _facts(case: Case, known: Properties, tests: list[Test]) -> dict[str, Any]:
    manifest = case.manifest
    findings: dict[str, dict[str, dict[str, int]]] = {}
    for label, name in LABELS.items():
        for split in splits(manifest):
            here = manifest[(manifest["label"] == label) & (manifest["split"] == split)]
            counts = several(here["finding"]).replace("", "unknown").value_counts()
            findings.setdefault(name, {})[split] = {str(finding): int(count) for finding, count in counts.items()}
    collections = pd.crosstab(known.values("collection"), manifest["label"])
    return {
        "claim": case.claim,
        "findings": findings,
        "collections": {
            LABELS[int(label)]: {str(name): int(count) for name, count in collections[label].items() if count}
            for label in collections.columns
        },
        "tests": [asdict(test) for test in tests],
    }
