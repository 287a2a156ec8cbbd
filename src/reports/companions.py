"""What other commands found out about a run's model: an audit of its data, its shortcut battery, other evaluations.

They are matched by what they looked at, never by name or date alone: an audit by the bytes, labels and splits of its
images, an evaluation by the checkpoint that it loaded. A file that cannot be read is no evidence, and is passed over.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from cxrlab.datamodules import manifest as mf
from cxrlab.errors import UserError
from cxrlab.reports.record import RunRecord, read_run
from cxrlab.untrusted import MAX_YAML, read_mapping

RUNS = "runs"  # the folder below which every command writes
PROBE = "probe.json"


class Companion(NamedTuple):
    """A JSON file that says something about a run, and how it fits the run where not in every respect."""

    path: Path
    content: dict[str, Any]
    remark: str = ""


class Evaluation(NamedTuple):
    """The model of a run, scored on other images: with its metrics, and where the images come from.

    ``trained`` of them are files, or of patients, that the model was trained on.
    """

    record: RunRecord
    section: dict[str, Any]
    trained: int
    sources: str


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
    tested = _test_images(record.manifest)
    same_test = None
    for path in sorted(folder.rglob("audit.json"), key=lambda path: path.stat().st_mtime, reverse=True):
        content = read_mapping(path)
        if content.get("fingerprint") in wanted:
            return Companion(path, content)
        if same_test is None and tested:
            try:
                audited = _test_images(mf.read(path.parent / "manifest.csv"))
            except UserError:
                continue
            if audited == tested:
                same_test = Companion(path, content, "of the same test images; its training images are others")
    return same_test


def _test_images(manifest: pd.DataFrame) -> set[tuple[str, int]]:
    rows = manifest[manifest["split"] == "test"]
    return set(zip(rows["sha256"], rows["label"], strict=True)) if "sha256" in rows else set()


def find_probe(record: RunRecord) -> Companion | None:
    """The shortcut battery of the run's model, which ``probe.py`` leaves in the run folder."""
    path = record.folder / PROBE
    content = read_mapping(path) if path.is_file() else {}
    return Companion(path, content) if content else None


def find_evaluations(record: RunRecord) -> list[Evaluation]:
    """Evaluations of the run's model on images that are not all its own test images, in the order of their folders."""
    root = runs_root(record.folder)
    if root is None or "sha256" not in record.manifest:
        return []
    train, tested = record.rows("train"), set(record.rows("test")["sha256"])
    patients = set(train["patient_id"]) - {""}
    found = []
    for path in sorted((root / "evaluate").rglob("metrics.json")):
        other = _evaluation_of(record.folder.resolve(), path.parent, root.parent)
        section = other and (other.section("test") or other.section("val"))
        if not other or not section:
            continue
        rows = other.manifest if other.predictions is None else other.predictions
        if "sha256" in rows and not set(rows["sha256"]) <= tested:
            seen = rows["sha256"].isin(set(train["sha256"])) | rows["patient_id"].isin(patients)
            sources = ", ".join(sorted(set(other.manifest.get("source", ())))) or "not recorded"
            found.append(Evaluation(other, section, int(seen.sum()), sources))
    return found


def _evaluation_of(mine: Path, folder: Path, typed_in: Path) -> RunRecord | None:
    """The record of an evaluation folder, if it is one of the model of a run folder."""
    config = folder / "config.yaml"
    # The name is looked for first: parsing every file would take seconds.
    if not config.is_file() or config.stat().st_size > MAX_YAML or mine.name.encode() not in config.read_bytes():
        return None
    try:
        model = (typed_in / Path(str(read_mapping(config).get("ckpt_path"))).expanduser()).resolve()
        return read_run(folder) if mine in (model, *model.parents) else None
    except UserError:
        return None
