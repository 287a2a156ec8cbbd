"""The steps of a prediction: check what was asked, look at file after file, say what came of it."""

from __future__ import annotations

import json
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
from omegaconf import DictConfig
from rich.console import Console
from rich.progress import track
from rich.table import Table

from cxrlab.config import Problems, check_names, keys_of
from cxrlab.console import DISCLAIMER, command, say, short, show
from cxrlab.errors import UserError, check_choice, check_range
from cxrlab.evaluation.estimate import Estimate, revived
from cxrlab.figures import overlay
from cxrlab.files import write_atomically, write_csv
from cxrlab.imports import need
from cxrlab.inference import Listed, Prediction, Predictor, load
from cxrlab.inference.inputs import by_ending
from cxrlab.inference.journal import DROPPED, UNREADABLE, Journal
from cxrlab.models.gate import REFUSE, VERDICTS, Gate
from cxrlab.models.saliency import Saliency
from cxrlab.reading.picture import is_dicom
from cxrlab.steps.assembly import check_device
from cxrlab.words import plural

OVERLAYS, OVERLAY = "overlays", "overlay"
"""The folder of overlays, and the column with the name of a file's own."""
DROPPED_TAGS = "dropped_tags.csv"
_HEADER = 256  # bytes that tell a DICOM file from others


@dataclass(frozen=True)
class Plan:
    """What was asked for, checked.

    Attributes:
        saliency: How overlays are made; ``None`` for none.
        console: Where people are told: stdout, or stderr where stdout has a line of JSON per file.
        tags: Keywords of the DICOM tags whose values are asked for.
        deidentify: Whether names of files are left out.
    """

    saliency: Saliency | None
    console: Console
    tags: tuple[str, ...] = ()
    deidentify: bool = False

    @property
    def columns(self) -> list[str]:
        """What rows have beside those of a prediction."""
        return [*([OVERLAY] if self.saliency else []), *self.tags]

    @contextmanager
    def hidden(self, files: Sequence[str]) -> Iterator[None]:
        """Lets no error name a file where names are left out: it says where in the list the file stands.

        Args:
            files: As they were given or listed.
        """
        try:
            yield
        except Exception as error:
            if not self.deidentify:
                raise
            text = str(error)
            for number, file in enumerate(files, 1):
                for name in (file, Path(file).name):
                    text = text.replace(name, f"<file {number} of the list>") if name else text
            raise (type(error) if isinstance(error, UserError) else UserError)(text) from None

    def say(self, text: str) -> None:
        """Prints a line where people are told."""
        say(text, console=self.console)


def check_plan(config: DictConfig) -> Plan:
    """Checks a configuration; no file is touched.

    Args:
        config: As composed from ``conf/predict.yaml``.

    Raises:
        ConfigError: Lists every problem.
    """
    problems = Problems()
    check_names(config, keys_of("predict"), problems)
    with problems.guard("batch_size"):
        check_range("batch_size", config.batch_size, 1, 4096, integer=True)
    for key in ("json", "deidentify"):
        with problems.guard(key):
            check_choice(key, config[key], (True, False))
    tags = tuple(map(str, config.dicom_tags or ()))
    with problems.guard("dicom_tags"):
        if tags:
            need("pydicom", "dicom_tags")
            from cxrlab.reading.dicom import check_keywords

            check_keywords(tags)
        if tags and config.deidentify is True:
            raise ValueError(
                "dicom_tags says what to tell of a patient, and deidentify=true to tell nothing; choose one"
            )
    if config.precision is None:  # the model's own, which is checked when it is known
        with problems.guard("accelerator"):
            check_choice("accelerator", config.accelerator, ("auto", "cpu", "gpu", "mps"))
    else:
        check_device(config, "", problems)
    saliency = problems.build(config, "saliency") if config.saliency else None
    problems.raise_if_any()
    return Plan(saliency, Console(stderr=bool(config.json)), tags, config.deidentify is True)


def load_predictor(config: DictConfig, plan: Plan) -> Predictor:
    """Loads the model, and refuses a saliency that cannot explain it before any file is looked at.

    Raises:
        UserError: The model, the gate or the saliency cannot be used.
    """
    predictor = load(
        config.ckpt_path,
        gate=config.gate,
        lungs=config.lungs,
        trusted=list(config.trusted),
        accelerator=config.accelerator,
        precision=config.precision,
    )
    if plan.saliency is not None:
        size = predictor.preprocessing
        predictor.explain(np.zeros((size.height, size.width, size.channels), np.uint8), plan.saliency)
    return predictor


def begin(plan: Plan, predictor: Predictor, listed: Listed) -> None:
    """Says what is used, and what has to be known before the first score."""
    words = predictor.model.scorer.words
    plan.say(f"{DISCLAIMER} A score is no diagnosis.")
    for warning in predictor.warnings():
        plan.say(f"WARNING  {warning}")
    plan.say(f"model    {predictor.name}, fingerprint {predictor.fingerprint[:12]}")
    plan.say(f"         {', '.join(map(str, words.values()))}; {_decision(predictor)}")
    plan.say(f"gate     {_gate_words(predictor.gate)}")
    left_out = f" (left out by their names: {by_ending(listed.left_out)})" if listed.left_out else ""
    plan.say(f"input    {plural(len(listed.paths), 'file')}{left_out}")


def _gate_words(gate: Gate | None) -> str:
    """What judges the images, and how often it was wrong on people whom it had not seen."""
    if gate is None:
        return "off"
    if not gate.fingerprint:
        return "rules only: size, blankness, colour"
    found = revived(gate.held_out)
    rates = [
        f"{each:.1%} of {what}"
        for key, what in (("false_refusal", "frontal films refused"), ("false_acceptance", "other pictures accepted"))
        if isinstance(each := found.get(key), Estimate)
    ]
    measured = f", on people held out {', '.join(rates)}" if rates else ""
    return f"fingerprint {gate.fingerprint[:12]}{measured}"


def _decision(predictor: Predictor) -> str:
    decided = predictor.decided
    score = "calibrated probability" if decided.calibrated else "score, which is no probability,"
    return f"Positive from a {score} of {decided.threshold:.3g} on ({decided.rule})"


def look_at_files(
    plan: Plan, predictor: Predictor, listed: Listed, config: DictConfig
) -> tuple[pd.DataFrame, dict[str, Any], Journal]:
    """Looks at every file that was not looked at before, and writes as it goes.

    Returns:
        The table, the summary and the journal.
    """
    folder = Path(config.output_dir)
    journal = Journal(folder, _settings(plan, predictor), plan.columns, nameless=plan.deidentify)
    began = time.monotonic()
    looked_at = 0
    with journal:
        todo = [path for path in listed.paths if not journal.done(path)]
        try:
            for prediction, prepared in _tracked(plan, predictor, todo, config.batch_size):
                more, left = _more(plan, predictor, folder, prediction, prepared)
                row = journal.add(prediction, more, left)
                looked_at += 1
                if config.json:
                    print(json.dumps(row), file=sys.stdout, flush=True)
        finally:  # Ctrl-C and a full disk, too, leave a table of what there is
            table = journal.write_table(listed.paths)
    dropped = Counter(tag for row in journal.known(listed.paths) for tag in row.get(DROPPED, ()))
    if plan.deidentify:
        _write_dropped(folder / DROPPED_TAGS, dropped)
    seconds = time.monotonic() - began
    return table, _summary(table, looked_at, seconds) | {"dropped": dict(dropped)}, journal


def _more(
    plan: Plan, predictor: Predictor, folder: Path, prediction: Prediction, prepared: Any
) -> tuple[dict[str, str], list[str]]:
    """The further columns of a file, and the DICOM tags that it has and nothing is told of."""
    more: dict[str, str] = {}
    left: list[str] = []
    if plan.saliency is not None:
        more[OVERLAY] = _overlay(plan.saliency, predictor, folder, prediction, prepared)
    if plan.tags or plan.deidentify:
        tags, left = tags_of(Path(prediction.file), plan.tags) if prediction.kind != UNREADABLE else ({}, [])
        more |= dict.fromkeys(plan.tags, "") | tags
    return more, left


def tags_of(path: Path, keywords: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """Reads the header of a file that may be DICOM, see :func:`cxrlab.reading.dicom.read_tags`.

    Args:
        path: Any file; pydicom is imported only for DICOM.
        keywords: Of the tags whose values are wanted.

    Returns:
        As ``read_tags``; both are empty where the file is no DICOM file, or cannot be read.
    """
    try:
        with path.open("rb") as file:
            head = file.read(_HEADER)
    except (OSError, ValueError):
        return {}, []
    if not is_dicom(head):
        return {}, []
    from cxrlab.reading.dicom import read_tags  # here: it imports pydicom, which is optional

    return read_tags(path, keywords)


def _write_dropped(path: Path, dropped: Mapping[str, int]) -> None:
    lines = sorted(dropped.items(), key=lambda each: (-each[1], each[0]))
    write_csv(path, pd.DataFrame(lines, columns=["tag", "files"]))


def _tracked(plan: Plan, predictor: Predictor, paths: list[str], batch_size: int) -> Iterator[tuple[Prediction, Any]]:
    return iter(
        track(
            predictor.look(paths, batch_size),
            "looking at images",
            len(paths),
            console=plan.console,
            transient=True,
            disable=not plan.console.is_terminal or not paths,
        )
    )


def _settings(plan: Plan, predictor: Predictor) -> dict[str, Any]:
    """What decides the rows of a folder."""
    saliency = plan.saliency
    return {
        "model": predictor.fingerprint,
        "gate": "off" if predictor.gate is None else predictor.gate.fingerprint or "rules",
        "precision": predictor.model.scorer.words["precision"],
        "saliency": None if saliency is None else {"method": saliency.name, **vars(saliency)},
        "dicom_tags": list(plan.tags),
        "deidentified": plan.deidentify,
        "synthetic": predictor.synthetic,
        "notice": f"{DISCLAIMER} A score is no diagnosis.",
    }


def _overlay(saliency: Saliency, predictor: Predictor, folder: Path, prediction: Prediction, prepared: Any) -> str:
    """Writes a picture of the image with its map on it; its name comes from the bytes, never from the file's name."""
    if prepared is None:
        return ""
    name = f"{OVERLAYS}/{prediction.sha256[:32]}.png"
    heat = predictor.explain(prepared, saliency)
    picture = np.hstack([overlay(prepared, np.zeros_like(heat)), overlay(prepared, heat)])
    done, encoded = cv2.imencode(".png", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
    assert done
    write_atomically(folder / name, lambda file: file.write(encoded.tobytes()))
    return name


def _summary(table: pd.DataFrame, looked_at: int, seconds: float) -> dict[str, Any]:
    refused = table[table["verdict"] == REFUSE]
    return {
        "files": len(table),
        "verdicts": dict(Counter(table["verdict"])),
        "kinds": dict(Counter(refused["kind"]).most_common()),
        "labels": dict(Counter(label for label in table["label"] if label)),
        "looked_at": looked_at,
        "seconds": seconds,
    }


def end(plan: Plan, predictor: Predictor, summary: dict[str, Any], journal: Journal) -> None:
    """Says what came of it and where it is."""
    mark = "SYNTHETIC: " if predictor.synthetic else ""
    table = Table(title=f"{mark}{plural(summary['files'], 'file')}", title_justify="left")
    table.add_column("")
    table.add_column("files", justify="right")
    for verdict in (*VERDICTS, "off"):
        if verdict in summary["verdicts"]:
            table.add_row(verdict, str(summary["verdicts"][verdict]))
            for kind, number in summary["kinds"].items() if verdict == REFUSE else ():
                table.add_row(f"  {kind}", str(number))
    for label, number in sorted(summary["labels"].items()):
        table.add_row(f"called {label}", str(number))
    show(table, plan.console)
    if summary["looked_at"] < summary["files"]:
        before = summary["files"] - summary["looked_at"]
        plan.say(f"{plural(before, 'file')} had been looked at before and not changed since")
    if summary["looked_at"]:
        each = 1000 * summary["seconds"] / summary["looked_at"]
        plan.say(f"time     {summary['seconds']:.1f} s, {each:.0f} ms per file")
    plan.say(f"table    {short(journal.table)}")
    if plan.deidentify:
        tags = plural(len(summary["dropped"]), "kind") + " of DICOM tags"
        plan.say(f"dropped  names of files, and {tags}: {short(journal.folder / DROPPED_TAGS)}")
    if plan.saliency is not None:
        plan.say(f"overlays {short(journal.folder / OVERLAYS)}: where evidence for Positive was found, not disease")
        how = command("probe", "saliency=…", ckpt_path=short(predictor.model.path))
        plan.say(f"         whether such maps show what was learned is NOT CHECKED here; {how} does")
