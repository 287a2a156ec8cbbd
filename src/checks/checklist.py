"""The items of published check-lists that an audit of a data set can answer, and who has to answer the others.

The lists, whose questions are told here in other words:
    CLAIM: J. Mongan, L. Moy and C. E. Kahn, Radiol Artif Intell 2020;2:e200029 (its 42 items give the numbers here);
        its update: A. S. Tejani et al., Radiol Artif Intell 2024;6:e240300, which numbers them otherwise.
    REFORMS: S. Kapoor et al., Sci Adv 2024;10:eadk3452 (letters within its eight modules).
    PROBAST: R. F. Wolff et al., Ann Intern Med 2019;170:51-58, as M. Roberts et al., Nat Mach Intell 2021;3:199-217,
        held it against papers on COVID-19 imaging.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from cxrlab.checks.base import NOT_CHECKED, Case, Section, Table, Verdict
from cxrlab.checks.counting import as_text, splits
from cxrlab.datamodules.manifest import NAMES, people
from cxrlab.words import plural, tally

NOT_ANSWERED = "NOT ANSWERED"
AUTHORS = "the authors of the data set"
STUDY = "the authors of the study"
TRAINING = "a training run and its report"


def check(case: Case, sections: Sequence[Section]) -> Section:
    """Answers what can be answered from the data set and from what the other checks found.

    Args:
        case: The data set under audit.
        sections: What the other checks found; the answers name them by title.
    """
    rows: list[tuple[str, str, str, str]] = []
    for source, question, place, answer, who in _ITEMS:
        text = _verdicts(sections, place, answer) if isinstance(answer, str) else answer(case) if answer else ""
        there = "manifest" if place.islower() else place  # where the check of that section was not run
        where = next((section.title for section in sections if place in section.title.lower()), there)
        rows.append((source, question, text or f"{NOT_ANSWERED}: {who}", where if text else ""))
    answered = sum(bool(row[3]) for row in rows)
    text = (
        "This section answers what the check-lists CLAIM, REFORMS and PROBAST ask, as far as a data set can. "
        f"{answered} of {plural(len(rows), 'item')} are answered, in full or in part. {NOT_ANSWERED} stands where "
        "nothing that was read says it, with who would have to. An answer says what is so, not that it is good: read "
        "the verdict beside it. CLAIM is numbered as in 2020; the update of 2024 has other numbers."
    )
    header = ("Item", "Question", "Answer", "Where")
    items = [dict(zip(map(str.lower, header), row, strict=True)) for row in rows]
    table = Table("Items, and where the answers stand", header, rows)
    return Section("Check-list", (), text=[text], tables=[table], facts={"answered": answered, "items": items})


def _verdicts(sections: Sequence[Section], place: str, words: str) -> str:
    """The verdicts of one section whose names hold one of the words, which bars separate; all where there is none."""
    found = [
        finding
        for section in sections
        if place in section.title.lower()
        for finding in section.findings
        if finding.verdict is not NOT_CHECKED and any(word in finding.check.lower() for word in words.split("|"))
    ]
    order = [*Verdict]
    found.sort(key=lambda finding: (order.index(finding.verdict), -finding.weight))
    return "; ".join(f"{finding.check}: {finding.verdict}" for finding in found)


# Answers from the data set; empty where it has none -----------------------------------------------------------------


def _sources(case: Case) -> str:
    names = case.manifest["source"]
    if "collection" in case.manifest:
        collections = as_text(case.manifest["collection"])
        names = collections.where(collections != "", names)
    of_label = ((name, names[case.manifest["label"] == label]) for label, name in NAMES.items())
    return "; ".join(f"{name}: {tally(there)}" for name, there in of_label if len(there))


def _flow(case: Case) -> str:
    removed = [step.removed for step in case.flow.steps if step.removed]
    kept = f"{plural(len(case.manifest), 'image')} of {plural(people(case.manifest).nunique(), 'patient')} were kept"
    return f"{kept}, and {sum(removed)} removed in {plural(len(removed), 'step')}" if case.flow.steps else ""


def _selection(case: Case) -> str:
    steps = [f"{step.step} ({step.removed})" for step in case.flow.steps if step.removed]
    none = "no image was removed" if case.flow.steps else ""
    return f"removed: {', '.join(steps)}" if steps else none


def _known(case: Case, column: str) -> int:
    """How many images have a value in a column that may be missing."""
    return int((~as_text(case.manifest[column]).isin(["", "nan"])).sum()) if column in case.manifest else 0


def _missing(case: Case) -> str:
    images, there = len(case.manifest), case.manifest.columns
    wanted = [name for name in ("patient_id", "finding", "view", "age", "sex") if name in there]
    absent = [name for name in ("age", "sex") if name not in there]
    said = f"unknown, of {plural(images, 'image')}: "
    said += ", ".join(f"{name} {images - _known(case, name)}" for name in wanted)
    said += f"; not recorded at all: {', '.join(absent)}" if absent else ""
    return f"{said}; unreadable: {len(case.problems)}"


def _reference(case: Case) -> str:
    known = _known(case, "finding")
    means = f"Positive is to mean {case.claim}; " if case.claim else "what Positive is to mean is not said; "
    return f"{means}{known} of {plural(len(case.manifest), 'image')} with a finding" if known else ""


def _partition(case: Case) -> str:
    persons, sizes = people(case.manifest), []
    for split in splits(case.manifest):
        here = case.manifest["split"] == split
        positive = int((here & (case.manifest["label"] == 1)).sum())
        sizes.append(f"{split} {int(here.sum())} ({positive} Positive, {persons[here].nunique()} patients)")
    how = "drawn by this program, by patient" if case.drawn else "as the source gives it"
    return f"{'; '.join(sizes)}; {how}"


def _demographics(case: Case) -> str:
    known = [name for name in ("age", "sex", "view", "device", "location") if _known(case, name)]
    return f"{', '.join(known)} by label, as far as recorded" if {"age", "sex"} & {*known} else ""


def _licences(case: Case) -> str:
    return tally(as_text(case.manifest["licence"])) if _known(case, "licence") else ""


def _fingerprint(case: Case) -> str:
    hashed = _known(case, "sha256") == len(case.manifest)
    return f"fingerprint over the bytes of {plural(len(case.manifest), 'file')}, labels and splits" if hashed else ""


_FROM, _SPLIT = "provenance", "split"  # found in the titles of sections
_FLOW, _REPEAT = "Flow of cases", "How to repeat it"  # headings of the page beside those of the sections

# Of each item: the lists that ask it; the question; where the answer stands; the answer, or words in the names of the
# findings that give it, or None; and who has to answer where that gives nothing.
_ITEMS: tuple[tuple[str, str, str, Callable[[Case], str] | str | None, str], ...] = (
    ("CLAIM 7; REFORMS 3a", "Where do the images come from?", _FROM, _sources, AUTHORS),
    ("CLAIM 8", "Who was included and who was not?", _FLOW, _flow, AUTHORS),
    ("CLAIM 9", "How are images prepared before training?", "", None, TRAINING),
    ("CLAIM 10", "How was this part of the collection chosen?", _FLOW, _selection, AUTHORS),
    ("CLAIM 12", "Are the images free of names and marks?", "files", "burned-in", AUTHORS),
    ("CLAIM 13", "What is missing?", _FROM, _missing, AUTHORS),
    ("CLAIM 14; REFORMS 3d", "What do the labels mean?", _FROM, _reference, AUTHORS),
    ("PROBAST, outcome", "Is the label what it is to be?", _FROM, "is |finding", AUTHORS),
    ("CLAIM 15-18", "Who read the films, how, how often agreeing?", "", None, AUTHORS),
    ("CLAIM 19; PROBAST, analysis", "Are there enough patients?", "size", "", STUDY),
    ("CLAIM 20", "How were the images divided?", _SPLIT, _partition, STUDY),
    ("CLAIM 21; REFORMS, leakage", "Are the parts apart, down to the patient?", _SPLIT, "splits|validation", STUDY),
    ("REFORMS, leakage", "Are there copies and dependent images?", _SPLIT, "film|file in|several images", STUDY),
    (
        "PROBAST, participants (Roberts)",
        "Do the classes come from the same collections?",
        _FROM,
        "collection",
        AUTHORS,
    ),
    ("PROBAST, participants (Roberts)", "Are patients of both classes of like age?", _FROM, "children|age ", AUTHORS),
    ("REFORMS, leakage; PROBAST, predictors", "Can the label be told without the disease?", "lung", "", AUTHORS),
    ("PROBAST, predictors", "Were all images made and stored alike?", "files", "of the classes", AUTHORS),
    ("CLAIM 22-27", "What is the model, how trained, how chosen?", "", None, TRAINING),
    ("CLAIM 28-29, 35-36; REFORMS, metrics", "How well, with which interval?", "", None, TRAINING),
    ("PROBAST, analysis", "Are the scores calibrated?", "", None, TRAINING),
    ("CLAIM 30-31, 37", "How robust, looking where, failing when?", "", None, TRAINING),
    ("CLAIM 32; REFORMS, generalisability", "Does it hold at another hospital?", "", None, STUDY),
    ("CLAIM 33", "Where did every case go?", _FLOW, _flow, AUTHORS),
    ("CLAIM 34; PROBAST, participants", "Who are the patients?", _FROM, _demographics, AUTHORS),
    ("REFORMS 2a", "Which data exactly, so that it can be repeated?", _REPEAT, _fingerprint, AUTHORS),
    ("CLAIM 5; PROBAST, participants", "Were patients enrolled forward or looked up?", "", None, AUTHORS),
    ("REFORMS 3b", "From which population, and how drawn?", "", None, AUTHORS),
    ("Licences of single images", "May they be used?", _FROM, _licences, AUTHORS),
)
