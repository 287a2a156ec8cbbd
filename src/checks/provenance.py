"""Where the images come from: what each label holds, and what else differs between the labels.

A network learns whatever tells the labels apart. Where that is a collection, an age or a view, it need not look at the
disease (L. Maguolo and L. Nanni, Inf Fusion 2021;76:1-7; M. Roberts et al., Nat Mach Intell 2021;3:199-217).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict

import pandas as pd

from cxrlab.checks.base import FAIL, NOT_CHECKED, PASS, WARN, Case, Finding, Section, Table
from cxrlab.checks.columns import ALPHA, CATEGORIES, FEWEST, STRONG, Properties, Test, corrected, pass_of
from cxrlab.checks.counting import as_text, groups, several, short_table, splits
from cxrlab.datamodules import spellings
from cxrlab.datamodules.manifest import NAMES, ages, people
from cxrlab.evaluation.association import ONE_VALUE
from cxrlab.words import listed, p_value, part, plural, tally

CLEAR_LABEL = 0.9  # share of Positive images that must show what is claimed: below it FAIL
UNTRAINED = 0.25  # share of a label's test images with a finding that training never shows: above it FAIL

_LABELS = "Positive / Negative"  # between which a test was
_ORIGIN = ("licence", "location")  # no pixel shows them, but they mark where an image is from: WARN at most
_DONE = (
    "This section compares what stands behind each label, and what else differs between Positive and Negative. A "
    "network can use any such difference instead of the disease."
)
_CLAIM = f"""**What Positive is said to mean.** FAIL: in some split less than {100 * CLEAR_LABEL:.0f} % of the Positive
images with a known finding show it, or the finding of a Negative image names it. WARN: not all Positive images show it.
NOT CHECKED: all do, but more than {100 * (1 - CLEAR_LABEL):.0f} % of the Positive images have no known finding."""
_RULES = f"""**Findings.** FAIL: more than {100 * UNTRAINED:.0f} % of a label's test images show a finding that no
training image of that label shows, in a split that the source gives. It is a WARN in a split that this program drew,
since chance may put a rare finding on one side. A finding under both labels is a WARN.

**Tests.** Every patient counts once per label, with the value that most of the patient's images have, or with the
median age. An image of an unknown patient counts as a patient of its own. Fisher's exact test compares categories of
two values, a chi-squared test those of more (p by Monte Carlo where an expected count is below 5), and the Mann-Whitney
test compares ages. V is Cramér's V corrected for bias: 0 means no association, 1 a complete one.

All p values are corrected together by Holm's method: if nothing differs, the chance of any WARN or FAIL from these
tests is at most {100 * ALPHA:.0f} %. FAIL: the labels differ with V of at least {STRONG:g} (for ages, an AUROC of {
    0.5 - STRONG / 2:g} or less, or of {
    0.5 + STRONG / 2:g} or more), or share no collection. WARN: they differ less. Other
differences are at most a WARN: in licences and locations (no pixel shows them, but they mark the origin), in what is
recorded, in a column that this program does not know by name (it may be the hospital, or another word for the label),
and between test and training. NOT CHECKED: a group has fewer than {FEWEST} patients of known value, or so few that V =
{STRONG:g} would be missed one time in five."""


def check(case: Case) -> Section:
    """Looks at the findings behind each label and at what else goes with the label or with the split."""
    known = Properties(case.manifest, case.seed, case.measured.facts)
    tests = corrected([*known.label_tests(), *known.known_tests(), *known.split_tests()])
    of_labels = {test.what: test for test in tests if (test.between, test.asked) == (_LABELS, "value")}
    licence = as_text(case.manifest.get("licence", pd.Series("", case.manifest.index)))
    findings: dict[str, dict[str, dict[str, int]]] = {name: {} for name in NAMES.values()}
    for split, label, rows in groups(case.manifest):
        counts = several(case.manifest["finding"].iloc[rows]).replace("", "unknown").value_counts()
        findings[NAMES[label]][split] = {str(finding): int(count) for finding, count in counts.items()}
    collections = pd.crosstab(known.values("collection"), case.manifest["label"])
    return Section(
        "Provenance",
        [
            *_claim(case),
            _both_labels(case.manifest),
            _test_only(case.manifest, drawn=case.drawn),
            _collections(case, known, of_labels.get("collection")),
            *_associations(known, of_labels),
            *_recorded(known, of_labels, tests),
            *_people(case.manifest),
            _shifts(tests),
            _licences(licence),
        ],
        [_DONE, *([_CLAIM] if case.claim else []), _RULES],
        [*_tables(case.manifest, licence, tests)],
        facts={
            "claim": case.claim,
            "findings": findings,
            "collections": {
                NAMES[label]: {str(name): int(count) for name, count in collections[label].items() if count}
                for label in sorted(NAMES)
                if label in collections
            },
            "tests": [asdict(test) for test in tests],
        },
    )


def has_claim(manifest: pd.DataFrame, claim: str) -> pd.Series[bool]:
    """Whether each image's finding names what Positive is said to mean, in upper or lower case."""
    return manifest["finding"].str.contains(claim, case=False, regex=False).astype(bool)


def _claim(case: Case) -> Iterator[Finding]:
    name = f"Positive is {case.claim}" if case.claim else "what Positive means"
    known = case.manifest["finding"] != ""
    if not case.claim or not known.any():
        silent = "The source names no finding." if case.claim else "The source does not say what Positive means."
        yield Finding(name, NOT_CHECKED, silent)
        return
    named = has_claim(case.manifest, case.claim)
    yield _claim_of_positives(case, name, known, named)
    negative = case.manifest["label"] == 0
    name = f"Negative is not {case.claim}"
    count, whole = int((negative & named).sum()), int((negative & known).sum())
    if not whole:
        yield Finding(name, NOT_CHECKED, "No Negative image has a known finding.")
        return
    shown = f": {tally(case.manifest.loc[negative & named, 'finding'])}" if count else ""
    said = f"{part(count, whole)} Negative images with a known finding name {case.claim}{shown}."
    yield Finding(name, FAIL if count else PASS, said, count / whole)


def _claim_of_positives(case: Case, name: str, known: pd.Series[bool], named: pd.Series[bool]) -> Finding:
    positive, who = case.manifest["label"] == 1, people(case.manifest)
    found = []
    for split in reversed(splits(case.manifest)):
        here = positive & (case.manifest["split"] == split)
        if not here.any():
            continue
        hits, whole = here & named, here & known
        others = case.manifest.loc[here & ~named, "finding"]
        said = f"{hits.sum()} of {here.sum()} Positive {split} images show {case.claim} ({who[hits].nunique()} of "
        said += f"{who[here].nunique()} patients)" + (f"; the others: {tally(others)}." if len(others) else ".")
        found.append((float(hits.sum() / whole.sum()) if whole.any() else 2.0, said))  # unknown shares come last
    found.sort(key=lambda each: each[0])
    if not found or found[0][0] > 1:
        return Finding(name, NOT_CHECKED, "No Positive image has a known finding.")
    (lowest, said), *rest = found
    verdict = FAIL if lowest < CLEAR_LABEL else WARN if lowest < 1 else PASS
    if verdict is PASS and (positive & ~known).sum() / positive.sum() > 1 - CLEAR_LABEL:
        verdict = NOT_CHECKED
    said = f"Only {said}" if verdict is FAIL else said
    return Finding(name, verdict, said, 1 - lowest, " ".join(text for _, text in rest))


def _both_labels(manifest: pd.DataFrame) -> Finding:
    name, known = "findings under both labels", manifest[manifest["finding"] != ""]
    if known["label"].nunique() < 2:
        return Finding(name, NOT_CHECKED, "Findings are not known for both labels.")
    single = several(known["finding"])
    labels = known["label"].loc[single.index]  # the index repeats, which crosstab would multiply
    counts = pd.crosstab(single.to_numpy(), labels.to_numpy())
    shared = counts[(counts > 0).all(axis=1)]
    if shared.empty:
        return Finding(name, PASS, f"None of {plural(len(counts), 'different finding')} occurs under both labels.")
    named = [f"{finding} (Positive {row[1]}, Negative {row[0]})" for finding, row in shared.iterrows()]
    concerned = float(shared.to_numpy().sum() / len(known))
    return Finding(name, WARN, f"Some findings occur under both labels: {listed(named)}.", concerned)


def _test_only(manifest: pd.DataFrame, *, drawn: bool) -> Finding:
    name = "findings that only the test shows"
    test, known = manifest["split"] == "test", manifest["finding"] != ""
    if not (test & known).any() or not (~test & known).any():
        return Finding(name, NOT_CHECKED, "Findings are not known for both test and training images.")
    found = []
    for label, title in NAMES.items():
        here = manifest["label"] == label
        tested = several(manifest.loc[here & test, "finding"])
        trained = several(manifest.loc[here & ~test & known, "finding"])
        new = tested[(tested != "") & ~tested.isin(trained)]
        if len(new) and len(trained):
            count, whole = new.index.nunique(), tested.index.nunique()
            said = f"{part(count, whole)} {title} test images show what no {title} training image shows: {tally(new)}."
            found.append((count / whole, said))
    if not found:
        return Finding(name, PASS, "Every finding of a test image also occurs in training, under the same label.")
    (worst, said), *rest = sorted(found, reverse=True)
    chosen = worst > UNTRAINED and not drawn  # a draw puts a rare finding on one side by chance
    return Finding(name, FAIL if chosen else WARN, said, worst, " ".join(text for _, text in rest))


def _collections(case: Case, known: Properties, test: Test | None) -> Finding:
    name, manifest = "collections of the labels", case.manifest
    collections = known.values("collection")
    counts = pd.crosstab(collections, manifest["label"])
    if len(counts) == 1:
        one = counts.index[0]
        if case.synthetic:
            return Finding(name, PASS, "One program drew all images.")
        if "collection" in manifest and (manifest["collection"].fillna("") != "").all():
            return Finding(name, PASS, f"All {len(manifest)} images are of one collection, {one}.")
        said = f"The source ({one}) does not say from which collections its images were taken."
        return Finding(name, NOT_CHECKED, said)
    if case.one_class:
        return Finding(name, NOT_CHECKED, "All images have one label.")
    per_label = "; ".join(f"{each}: {tally(collections[manifest['label'] == label])}" for label, each in NAMES.items())
    pure = counts[(counts == 0).any(axis=1)].to_numpy().sum() / len(manifest)
    if pure == 1:
        return Finding(name, FAIL, f"No collection holds images of both labels ({per_label}).", 1.0)
    said = f"{100 * pure:.0f} % of the images are in collections of one label."
    if test is None:
        details = f"Images: {per_label}. There are too few patients for a test."
        return Finding(name, NOT_CHECKED, said, pure, details)
    return _judged(name, test, said, f"Images: {per_label}; {test.numbers()}.")


def _associations(known: Properties, of_labels: Mapping[str, Test]) -> Iterator[Finding]:
    alike = [test for column, test in of_labels.items() if column in known.further and not test.clear]
    for column, test in of_labels.items():
        if column != "collection" and (test.clear or column not in known.further):
            of_age = column == "population"
            name, what = ("children and adults", "age group") if of_age else (f"{column} and label", column)
            said, details = f"No clear difference in {what} was found.", f"{test.detail}; {test.numbers()}."
            if test.clear:
                said, details = f"The labels differ in {what} ({test.detail}).", f"{test.numbers()}."
            yield _judged(name, test, said, details, may_fail=column not in (*_ORIGIN, *known.further))
    if alike:
        weakest = min(alike, key=lambda test: min(test.patients))
        smallest = f"{p_value(min(test.p_holm for test in alike))} (Holm)"
        said = f"No clear difference was found in {listed([test.what for test in alike])}; smallest {smallest}."
        yield _judged("further columns and label", weakest, said, "", weight=0.0)


def _judged(
    name: str, test: Test, said: str, details: str, *, may_fail: bool = True, weight: float | None = None
) -> Finding:
    """A finding about a test; where nothing was found, it says how large a difference would have been found."""
    weight = test.found.strength if weight is None else weight
    if test.clear:
        verdict = FAIL if may_fail and test.found.strength >= STRONG else WARN
        return Finding(name, verdict, said, weight, details)
    if test.found.method == ONE_VALUE:
        return Finding(name, PASS, said, weight, details)
    verdict, could = pass_of(test.patients, test.found.measure)
    return Finding(name, verdict, said, weight, f"{details} {could}".lstrip())


def _recorded(known: Properties, of_labels: Mapping[str, Test], tests: list[Test]) -> Iterator[Finding]:
    """What is known of one label rather than of the other, and what could not be tested at all."""
    uneven = [test for test in tests if test.asked == "known" and test.clear]
    if uneven:
        said = f"Recorded more for one label than for the other: {', '.join(test.what for test in uneven)}."
        details = [f"The {test.what} is known of {test.detail} ({p_value(test.p_holm)}, Holm)." for test in uneven]
        strongest = max(test.found.strength for test in uneven)
        yield Finding("recorded for one label rather than the other", WARN, said, strongest, " ".join(details))
    missing = [column for column in (*CATEGORIES[1:], "age") if column not in of_labels]
    if not missing:
        return
    said, details, silent = f"The labels could not be compared in {', '.join(missing)}.", [], []
    for column in missing:
        there = known.known(column)
        if not there.any():
            silent.append(column)
            continue
        labels = ((name, there & (known.manifest["label"] == label)) for label, name in NAMES.items())
        counts = " and ".join(f"{known.people[here].nunique()} {name}" for name, here in labels)
        details.append(f"The {column} is known for {counts} patients.")
    details += [f"Not known for any image: {', '.join(silent)}."] if silent else []
    yield Finding("properties that cannot be compared", NOT_CHECKED, said, details=" ".join(details))


def _people(manifest: pd.DataFrame) -> Iterator[Finding]:
    """Patients and ages that cannot be."""
    if "sex" in manifest:
        known = manifest.assign(sex=as_text(manifest["sex"])).query("sex != '' and patient_id != ''")
        both = known.groupby("patient_id")["sex"].nunique() > 1
        names = [str(name) for name in both.index[both]]
        said = f"None of {plural(len(both), 'patient')} is listed with two sexes."
        if names:
            said = f"{part(len(names), len(both))} patients are listed with two sexes: {listed(names)}."
        if len(both):
            yield Finding("patients of two sexes", WARN if names else PASS, said, len(names) / len(both))
    if "age" in manifest:
        years, wrong = ages(manifest), spellings.no_ages(manifest["age"])
        given = int(years.notna().sum()) + len(wrong)
        said = f"All {plural(given, 'age')} are possible, from {years.min():g} to {years.max():g} years."
        if len(wrong):
            said = f"{part(len(wrong), given)} ages are impossible for a person: {tally(wrong)}."
        if given:
            yield Finding("impossible ages", WARN if len(wrong) else PASS, said, len(wrong) / given)


def _shifts(tests: list[Test]) -> Finding:
    name = "test and training alike"
    between = [test for test in tests if test.between != _LABELS]
    if not between:
        said = f"No property with several values is known for {FEWEST} patients of test and of training."
        return Finding(name, NOT_CHECKED, said)
    shifted = sorted((test for test in between if test.clear), key=lambda test: -test.found.strength)
    if not shifted:
        smallest = f"{p_value(min(test.p_holm for test in between))} (Holm)"
        said = f"{plural(len(between), 'test')} within the labels found no clear difference; smallest {smallest}."
        return Finding(name, PASS, said)
    said = f"Test and training images of one label differ in {listed([*dict.fromkeys(test.what for test in shifted)])}."
    details = " ".join(f"{test.what}, {test.detail}; {test.numbers()}." for test in shifted)
    return Finding(name, WARN, said, shifted[0].found.strength, details)


def _licences(licences: pd.Series[str]) -> Finding:
    unknown = int((licences == "").sum())
    if unknown == len(licences):
        return Finding("licences", NOT_CHECKED, "The source records no licence of single images.")
    details = f"Licences: {tally(licences)}."
    if no_derivatives := int(licences.str.contains(r"\bND\b", case=False, regex=True).sum()):
        details += f" {plural(no_derivatives, 'image')} may not be changed and passed on (ND, no derivatives)."
    said = f"The licence of {part(unknown, len(licences))} images is unknown."
    return Finding("licences", WARN if unknown else PASS, said, unknown / len(licences), details)


def _tables(manifest: pd.DataFrame, licence: pd.Series[str], tests: list[Test]) -> Iterator[Table]:
    table = manifest[["label", "split"]].assign(who=people(manifest)).join(several(manifest["finding"]))
    present, grouped = splits(manifest), table.groupby(["label", "finding"])
    images = table.groupby(["label", "finding", "split"]).size().unstack(fill_value=0).reindex(columns=present)
    order = grouped.size().reset_index(name="n").sort_values(["label", "n"], ascending=False, kind="stable")
    patients, rows = grouped["who"].nunique(), []
    for label, finding in zip(order["label"], order["finding"], strict=True):
        counts = images.loc[(label, finding)].tolist()
        rows.append([NAMES[label], finding or "unknown", *counts, sum(counts), int(patients[label, finding])])
    caption = "Findings behind the labels (an image may show several): images of each split, and patients"
    yield short_table(caption, ["label", "finding", *present, "all", "patients"], rows)
    if (licence != "").any():
        counts = pd.crosstab(licence, manifest["label"]).reindex(columns=[1, 0], fill_value=0).assign(all=0)
        counts["all"] = counts.sum(axis=1)
        counts = counts.sort_values("all", ascending=False, kind="stable")
        rows = [[name or "unknown", *row.tolist()] for name, row in counts.iterrows()]
        yield short_table("Licences as recorded, images", ["licence", "Positive", "Negative", "all"], rows)
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
    if rows:
        header = ["property", "between", "patients", "effect", "p", "p (Holm)", "test"]
        yield short_table(f"All {len(rows)} tests of association", header, rows)
