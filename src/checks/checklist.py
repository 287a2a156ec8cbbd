"""The items of published check-lists that an audit of a data set can answer, and who has to answer the others.

The lists, whose questions are told here in other words:
    CLAIM: J. Mongan, L. Moy and C. E. Kahn, Radiol Artif Intell 2020;2:e200029 (its 42 items give the numbers here);
        its update: A. S. Tejani et al., Radiol Artif Intell 2024;6:e240300, which numbers them otherwise.
    REFORMS: S. Kapoor et al., Sci Adv 2024;10:eadk3452 (letters within its eight modules).
    PROBAST: R. F. Wolff et al., Ann Intern Med 2019;170:51-58, as M. Roberts et al., Nat Mach Intell 2021;3:199-217,
        held it against papers on COVID-19 imaging.
"""

from __future__ import annotations

from collections.abc import Sequence

from cxrlab.checks.base import NOT_CHECKED, Case, Section, Table, Verdict
from cxrlab.checks.counting import as_text, splits
from cxrlab.datamodules.manifest import NAMES, people
from cxrlab.words import plural, tally

NOT_ANSWERED = "NOT ANSWERED"
AUTHORS = "the authors of the data set"
STUDY = "the authors of the study"
TRAINING = "a training run and its report"
_PARTICIPANTS = "PROBAST, participants (Roberts)"

# Of each item: the lists that ask it; the question; the section or heading where the answer stands; words in the names
# of the findings that give it, where the data set does not; and who has to answer where nothing does.
_ITEMS = (
    ("CLAIM 7; REFORMS 3a", "Where do the images come from?", "provenance", "", AUTHORS),
    ("CLAIM 8", "Who was included and who was not?", "Flow of cases", "", AUTHORS),
    ("CLAIM 9", "How are images prepared before training?", "", "", TRAINING),
    ("CLAIM 10", "How was this part of the collection chosen?", "Flow of cases", "", AUTHORS),
    ("CLAIM 12", "Are the images free of names and marks?", "files", "burned-in", AUTHORS),
    ("CLAIM 13", "What is missing?", "provenance", "", AUTHORS),
    ("CLAIM 14; REFORMS 3d", "What do the labels mean?", "provenance", "", AUTHORS),
    ("PROBAST, outcome", "Is the label what it is to be?", "provenance", "is |finding", AUTHORS),
    ("CLAIM 15-18", "Who read the films, how, how often agreeing?", "", "", AUTHORS),
    ("CLAIM 19; PROBAST, analysis", "Are there enough patients?", "size", "", STUDY),
    ("CLAIM 20", "How were the images divided?", "split", "", STUDY),
    ("CLAIM 21; REFORMS, leakage", "Are the parts apart, down to the patient?", "split", "splits|validation", STUDY),
    ("REFORMS, leakage", "Are there copies and dependent images?", "split", "film|file in|several images", STUDY),
    (_PARTICIPANTS, "Do the classes come from the same collections?", "provenance", "collection", AUTHORS),
    (_PARTICIPANTS, "Are patients of both classes of like age?", "provenance", "children|age ", AUTHORS),
    ("REFORMS, leakage; PROBAST, predictors", "Can the label be told without the disease?", "lung", "", AUTHORS),
    ("PROBAST, predictors", "Were all images made and stored alike?", "files", "of the classes", AUTHORS),
    ("CLAIM 22-27", "What is the model, how trained, how chosen?", "", "", TRAINING),
    ("CLAIM 28-29, 35-36; REFORMS, metrics", "How well, with which interval?", "", "", TRAINING),
    ("PROBAST, analysis", "Are the scores calibrated?", "", "", TRAINING),
    ("CLAIM 30-31, 37", "How robust, looking where, failing when?", "", "", TRAINING),
    ("CLAIM 32; REFORMS, generalisability", "Does it hold at another hospital?", "", "", STUDY),
    ("CLAIM 33", "Where did every case go?", "Flow of cases", "", AUTHORS),
    ("CLAIM 34; PROBAST, participants", "Who are the patients?", "provenance", "", AUTHORS),
    ("REFORMS 2a", "Which data exactly, so that it can be repeated?", "How to repeat it", "", AUTHORS),
    ("CLAIM 5; PROBAST, participants", "Were patients enrolled forward or looked up?", "", "", AUTHORS),
    ("REFORMS 3b", "From which population, and how drawn?", "", "", AUTHORS),
    ("Licences of single images", "May they be used?", "provenance", "", AUTHORS),
)


def check(case: Case, sections: Sequence[Section]) -> Section:
    """Answers what can be answered from the data set and from what the other checks found.

    Args:
        case: The data set under audit.
        sections: What the other checks found; the answers name them by title.
    """
    answers, order, rows = _answers(case), [*Verdict], []
    for source, question, place, words, who in _ITEMS:
        there = [section for section in sections if place and place in section.title.lower()]
        if question not in answers:  # the verdicts on it, the most serious first
            found = [each for section in there for each in section.findings if each.verdict is not NOT_CHECKED]
            found = [each for each in found if any(word in each.check.lower() for word in words.split("|"))]
            found.sort(key=lambda each: (order.index(each.verdict), -each.weight))
            answers[question] = "; ".join(f"{each.check}: {each.verdict}" for each in found)
        # Where the check of that section was not run, the manifest is what was read.
        where = there[0].title if there else "manifest" if place.islower() else place
        answer = answers[question]
        rows.append((source, question, answer or f"{NOT_ANSWERED}: {who}", where if answer else ""))
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


def _answers(case: Case) -> dict[str, str]:
    """What the data set itself answers, by question; empty where it could but does not."""
    manifest, steps = case.manifest, case.flow.steps
    labels, persons = manifest["label"], people(manifest)
    images = plural(len(manifest), "image")
    blank = {name: as_text(values).isin(["", "nan"]) for name, values in manifest.items()}
    known = {name for name, where in blank.items() if not where.all()}

    collections = as_text(manifest.get("collection", manifest["source"]))
    collections = collections.where(collections != "", manifest["source"])
    of_label = ((name, collections[labels == label]) for label, name in NAMES.items())
    removed = [step for step in steps if step.removed]
    flow = f"{images} of {plural(persons.nunique(), 'patient')} were kept, and {sum(step.removed for step in removed)} "
    flow += f"removed in {plural(len(removed), 'step')}"
    left_out = ", ".join(f"{step.step} ({step.removed})" for step in removed)
    selection = f"removed: {left_out}" if removed else "no image was removed"
    wanted = [name for name in ("patient_id", "finding", "view", "age", "sex") if name in blank]
    missing = f"unknown, of {images}: {', '.join(f'{name} {blank[name].sum()}' for name in wanted)}"
    absent = [name for name in ("age", "sex") if name not in blank]
    missing += f"; not recorded at all: {', '.join(absent)}" if absent else ""
    meaning = f"Positive is to mean {case.claim}; " if case.claim else "what Positive is to mean is not said; "
    meaning += f"{(~blank['finding']).sum()} of {images} with a finding"
    parts = []
    for split in splits(manifest):
        here = manifest["split"] == split
        positive = (here & (labels == 1)).sum()
        parts.append(f"{split} {here.sum()} ({positive} Positive, {persons[here].nunique()} patients)")
    how = "drawn by this program, by patient" if case.drawn else "as the source gives it"
    traits = [name for name in ("age", "sex", "view", "device", "location") if name in known]
    fingerprint = f"fingerprint over the bytes of {plural(len(manifest), 'file')}, labels and splits"
    return {
        "Where do the images come from?": "; ".join(
            f"{name}: {tally(there)}" for name, there in of_label if len(there)
        ),
        "Who was included and who was not?": flow if steps else "",
        "How was this part of the collection chosen?": selection if steps else "",
        "What is missing?": f"{missing}; unreadable: {len(case.problems)}",
        "What do the labels mean?": meaning if "finding" in known else "",
        "How were the images divided?": f"{'; '.join(parts)}; {how}",
        "Where did every case go?": flow if steps else "",
        "Who are the patients?": f"{', '.join(traits)} by label, as far as recorded" if {"age", "sex"} & known else "",
        "Which data exactly, so that it can be repeated?": "" if blank["sha256"].any() else fingerprint,
        "May they be used?": tally(as_text(manifest["licence"])) if "licence" in known else "",
    }
