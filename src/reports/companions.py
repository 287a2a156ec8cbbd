"""What other commands found out about a run's model: an audit of its data, its shortcut battery, other evaluations.

They are matched by what they looked at, never by name or date alone: an audit by the bytes, labels and splits of its
images, an evaluation by the checkpoint that it loaded. A file that cannot be read is no evidence, and is passed over.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from cxrlab.datamodules import manifest as mf
from cxrlab.errors import UserError
from cxrlab.reports.record import RunRecord, read_run
from cxrlab.untrusted import MAX_YAML, read_mapping

RUNS = "runs"
"""The folder below which every command writes."""
PROBE = "probe.json"


@dataclass(frozen=True)
class Companion:
    """A JSON file that says something about a run.

    Attributes:
        path: Of the file.
        content: What it holds.
        remark: How it fits the run, where not in every respect.
    """

    path: Path
    content: dict[str, Any]
    remark: str = ""


@dataclass(frozen=True)
class Evaluation:
    """The model of a run, scored on other images.

    Attributes:
        record: Of the evaluation.
        section: Its metrics.
        trained: How many of the evaluated images are files, or of patients, that the model was trained on.
    """

    record: RunRecord
    section: dict[str, Any]
    trained: int

    @property
    def sources(self) -> str:
        """Where the evaluated images come from."""
        return ", ".join(sorted(set(self.record.manifest.get("source", pd.Series(dtype=str))))) or "not recorded"


def runs_root(folder: Path) -> Path | None:
    """The nearest folder called ``runs`` above a run folder; ``None`` where there is none."""
    return next((parent for parent in folder.absolute().parents if parent.name == RUNS), None)


def shown_path(path: Path) -> str:
    """A path from ``runs`` on, so that a page does not change with the folder in which a command is typed."""
    root = runs_root(path)
    return str(path.absolute() if root is None else path.absolute().relative_to(root.parent))


def find_audit(record: RunRecord, audits: Path | None = None) -> Companion | None:
    """The newest audit of the run's images with the run's labels and splits; else one of the same test images.

    Args:
        record: The run. Its validation images may have been drawn from the training images, as an audit never does.
        audits: Below which to look; ``runs/audit`` of the run's own ``runs`` where ``None``.
    """
    root = runs_root(record.folder)
    folder = audits or (root and root / "audit")
    if folder is None or "sha256" not in record.manifest:
        return None
    undrawn = record.manifest.assign(split=record.manifest["split"].replace("val", "train"))
    wanted = {mf.fingerprint(record.manifest), mf.fingerprint(undrawn)}
    same_test = None
    for path in sorted(folder.rglob("audit.json"), key=lambda path: path.stat().st_mtime, reverse=True):
        content = read_mapping(path)
        if content.get("fingerprint") in wanted:
            return Companion(path, content)
        if same_test is None and _test_images(_manifest(path.parent)) == _test_images(record.manifest) != frozenset():
            same_test = Companion(path, content, "of the same test images; its training images are others")
    return same_test


def find_probe(record: RunRecord) -> Companion | None:
    """The shortcut battery of the run's model, which ``probe.py`` leaves in the run folder."""
    path = record.folder / PROBE
    content = read_mapping(path) if path.is_file() else {}
    return Companion(path, content) if content else None


def find_evaluations(record: RunRecord) -> list[Evaluation]:
    """Evaluations of the run's model on images that are not all its own test images, in the order of their folders."""
    root = runs_root(record.folder)
    if root is None:
        return []
    found = []
    for path in sorted((root / "evaluate").rglob("metrics.json")):
        other = _evaluation_of(record, path.parent, root.parent)
        section = other and (other.section("test") or other.section("val"))
        if not other or not section:
            continue
        rows = other.manifest if other.predictions is None else other.predictions
        if not set(rows["sha256"]) <= set(record.rows("test")["sha256"]):
            train = record.rows("train")
            patients = set(train["patient_id"]) - {""}
            seen = rows["sha256"].isin(set(train["sha256"])) | rows["patient_id"].isin(patients)
            found.append(Evaluation(other, section, int(seen.sum())))
    return found


def _evaluation_of(record: RunRecord, folder: Path, typed_in: Path) -> RunRecord | None:
    """The record of an evaluation folder, if it is one of the run's model."""
    config = folder / "config.yaml"
    if not config.is_file() or config.stat().st_size > MAX_YAML:
        return None
    if record.folder.resolve().name.encode() not in config.read_bytes():  # parsing each would take seconds
        return None
    try:
        ckpt_path = read_mapping(config).get("ckpt_path")
        model = (typed_in / Path(str(ckpt_path)).expanduser()).resolve()
        mine = record.folder.resolve()
        return read_run(folder) if mine in (model, *model.parents) else None
    except UserError:
        return None


def _manifest(folder: Path) -> pd.DataFrame:
    try:
        return mf.read(folder / "manifest.csv")
    except UserError:
        return pd.DataFrame(columns=list(mf.COLUMNS))


def _test_images(manifest: pd.DataFrame) -> frozenset[tuple[str, int]]:
    if "sha256" not in manifest:
        return frozenset()
    rows = manifest[manifest["split"] == "test"]
    return frozenset(zip(rows["sha256"], rows["label"], strict=True))
