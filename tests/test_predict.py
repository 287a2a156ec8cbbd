"""python src/predict.py: files in, a table out, killed or not."""

from __future__ import annotations

import hashlib
import json
import signal
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import pydicom
import pytest
import torch
from tests import programs
from tests.training import ONE_STEP, QUICK, without_pages

from cxrlab.config import compose
from cxrlab.errors import CheckpointError, ConfigError, DataError
from cxrlab.inference import COLUMNS
from cxrlab.inference.journal import Journal
from cxrlab.models.gate import KINDS, Gate, Limits
from cxrlab.models.gate_net import GateNet
from cxrlab.predict import predict
from cxrlab.steps.gate import keep
from cxrlab.train import train

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def run(finished_run: Path) -> Path:
    """A finished training on phantoms, which is left as it is."""
    return finished_run


@pytest.fixture(scope="module")
def scored(run: Path) -> pd.DataFrame:
    """Its own test images, with the scores that training wrote."""
    return pd.read_csv(run / "predictions.csv").query("split == 'test'")


def look(folder: Path, *typed: str) -> tuple[dict[str, Any], pd.DataFrame]:
    command = ["accelerator=cpu", *typed]
    summary, _ = predict(compose("predict", command, folder), command)
    return summary, pd.read_csv(folder / "predictions.csv", keep_default_na=False)


def test_the_scores_are_those_that_training_wrote(run: Path, scored: pd.DataFrame, tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_text(scored[["path"]].to_csv(index=False))
    summary, table = look(tmp_path / "out", f"ckpt_path={run}", f"input={tmp_path}/list.csv")
    assert list(table.columns) == list(COLUMNS)
    assert list(table["file"]) == list(scored["path"])
    assert list(table["sha256"]) == list(scored["sha256"])
    assert np.allclose(table["score"].astype(float), scored["score"], atol=1e-6)
    assert summary["files"] == summary["looked_at"] == len(scored)
    assert summary["verdicts"] == {"warn": len(scored)}


def test_people_are_told_what_it_is_worth_before_the_first_score(
    run: Path, scored: pd.DataFrame, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    look(tmp_path / "out", f"ckpt_path={run}", f"input={scored['path'].iloc[0]}")
    printed = capsys.readouterr().out
    for said in ("not a medical device", "SYNTHETIC", "no gate", "Positive from a score", "1 file", "predictions.csv"):
        assert said in printed, said


def test_the_same_command_again_looks_at_what_is_new_only(run: Path, scored: pd.DataFrame, tmp_path: Path) -> None:
    folder = tmp_path / "scans"
    folder.mkdir()
    for number, path in enumerate(scored["path"].iloc[:4]):
        (folder / f"{number}.png").write_bytes(Path(path).read_bytes())
    typed = (f"ckpt_path={run}", f"input={folder}")
    first, table = look(tmp_path / "out", *typed)
    assert first["looked_at"] == 4
    assert look(tmp_path / "out", *typed)[0]["looked_at"] == 0
    (folder / "4.png").write_bytes(Path(scored["path"].iloc[5]).read_bytes())
    (folder / "0.png").write_bytes(Path(scored["path"].iloc[6]).read_bytes())
    summary, again = look(tmp_path / "out", *typed)
    assert (summary["looked_at"], summary["files"]) == (2, 5)
    assert list(again["score"].iloc[1:4]) == list(table["score"].iloc[1:4])
    assert again["score"].iloc[0] != table["score"].iloc[0]


@pytest.mark.slow
def test_another_models_folder_is_left_alone(run: Path, scored: pd.DataFrame, tmp_path: Path) -> None:
    typed = (f"ckpt_path={run}", f"input={scored['path'].iloc[0]}")
    look(tmp_path / "out", *typed)
    with pytest.raises(ConfigError, match=r"another gate; hydra\.run\.dir"):
        look(tmp_path / "out", *typed, "gate=none")


@pytest.mark.slow
def test_a_training_lets_its_gate_travel_with_the_weights(scored: pd.DataFrame, tmp_path: Path) -> None:
    torch.manual_seed(0)
    gate = Gate(GateNet(len(KINDS), [4, 4]), 64, Limits(0, 0), {"n": 1})
    keep(tmp_path / "gate.ckpt", gate)
    typed = [*QUICK, *ONE_STEP, f"gate={tmp_path}/gate.ckpt"]
    with without_pages():
        train(compose("train", typed, tmp_path / "run"), typed)
    _, table = look(tmp_path / "out", f"ckpt_path={tmp_path}/run", f"input={scored['path'].iloc[0]}")
    assert list(table["gate"]) == [gate.fingerprint]
    assert list(table["verdict"]) == ["accept"]


@pytest.mark.slow
def test_overlays_are_pictures_named_after_bytes(run: Path, scored: pd.DataFrame, tmp_path: Path) -> None:
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"nothing")
    typed = (f"ckpt_path={run}", f"input=[{scored['path'].iloc[0]},{bad}]", "saliency=gradcam")
    _, table = look(tmp_path / "out", *typed)
    assert list(table["overlay"] == "") == [False, True]
    picture = cv2.imread(str(tmp_path / "out" / table["overlay"].iloc[0]))
    assert picture is not None
    height, width = picture.shape[:2]
    assert width == 2 * height
    assert table["sha256"].iloc[0].startswith(Path(table["overlay"].iloc[0]).stem)


@pytest.mark.slow
def test_lines_of_json_for_programs_and_words_for_people(run: Path, scored: pd.DataFrame, tmp_path: Path) -> None:
    files = list(scored["path"].iloc[:3])
    typed = (f"ckpt_path={run}", f"input=[{','.join(files)}]", "json=true", f"hydra.run.dir={tmp_path}/out")
    status, printed, said = programs.run("predict", *typed, "accelerator=cpu")
    assert status == 0, said
    lines = [json.loads(line) for line in printed.splitlines()]
    assert [line["file"] for line in lines] == files
    assert all(0 <= line["score"] <= 1 for line in lines)
    assert "not a medical device" in said


@pytest.mark.slow
def test_a_killed_run_goes_on_where_it_stopped(run: Path, scored: pd.DataFrame, tmp_path: Path) -> None:
    folder = tmp_path / "scans"
    folder.mkdir()
    films = [film for path in scored["path"].iloc[:4] if (film := cv2.imread(path)) is not None]
    for number in range(60):
        cv2.imwrite(str(folder / f"{number:04d}.png"), cv2.resize(films[number % 4], (300 + number, 300)))
    typed = [f"ckpt_path={run}", f"input={folder}", "accelerator=cpu"]
    command = [*typed, f"hydra.run.dir={tmp_path}/out", "batch_size=4"]
    status, said = programs.ended(signal.SIGKILL, "predict", "cxrlab.inference.journal.Journal.add", 26, *command)
    assert status == -signal.SIGKILL, said
    before = (tmp_path / "out" / "predictions.jsonl").read_bytes().count(b"\n")
    assert 20 <= before < 60
    status, printed, said = programs.run("predict", *command)
    assert status == 0, said
    assert f"{before} files had been looked at before" in printed
    table = pd.read_csv(tmp_path / "out" / "predictions.csv")
    assert list(table["file"]) == sorted(map(str, folder.iterdir()))
    whole, _ = predict(compose("predict", typed, tmp_path / "whole"), typed)
    assert whole["looked_at"] == 60
    fresh = pd.read_csv(tmp_path / "whole" / "predictions.csv")
    assert np.allclose(fresh["score"], table["score"], atol=1e-6)


@pytest.mark.parametrize(
    ("typed", "kind", "says"),
    [
        (["input=nowhere"], DataError, "nowhere: no such file or folder"),
        (["input=.", "batch_size=0"], ConfigError, r"batch_size must be a whole number in \[1, 4096\]"),
        (["input=.", "accelerator=tpu"], ConfigError, "accelerator must be one of"),
        (["input=.", "precision=8"], ConfigError, "precision must be one of"),
        (["input=.", "json=perhaps"], ConfigError, "json must be one of"),
        (["input=.", "saliency=gradcam", "saliency.layer=nope"], ConfigError, "'nope' is no layer"),
        (["input=.", "ckpt_path=nowhere"], CheckpointError, "nowhere: no such checkpoint"),
        (["input=.", "gate=nowhere"], CheckpointError, "nowhere"),
    ],
)
def test_mistakes_end_in_sentences_and_write_nothing(
    typed: list[str], kind: type[Exception], says: str, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "film.png").write_bytes(b"x")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(kind, match=says):
        look(tmp_path / "out", f"ckpt_path={run}", *typed)
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_the_folder_is_named_after_the_command(
    run: Path, scored: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    command = [f"ckpt_path={run}", f"input={scored['path'].iloc[0]}"]
    assert programs.run("predict", *command)[0] == 0
    assert programs.run("predict", *command[::-1], "batch_size=2")[0] == 0
    assert len(list((tmp_path / "runs" / "predict").iterdir())) == 1


@pytest.fixture
def film_of_somebody(tmp_path: Path) -> Path:
    """A DICOM file with a name in it and in its own name."""
    source = pydicom.data.get_testdata_file("CT_small.dcm", read=True)
    assert isinstance(source, pydicom.Dataset)
    source.PatientName, source.PatientID = "Doe^Jane", "MRN\x1b[31m 4711"
    source.StudyDescription, source.PatientWeight = "=HYPERLINK(evil)", "-1.5"
    path = tmp_path / "Doe_Jane.dcm"
    source.save_as(path)
    return path


def test_dicom_tags_are_columns_where_they_are_asked_for(run: Path, film_of_somebody: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"x")
    typed = (
        f"ckpt_path={run}",
        f"input=[{film_of_somebody},{bad}]",
        "dicom_tags=[PatientID,StudyDate,StudyDescription,PatientWeight]",
    )
    _, table = look(tmp_path / "out", *typed)
    assert list(table["PatientID"]) == [r"MRN\x1b[31m 4711", ""]
    assert table["StudyDate"].iloc[0] == "20040119"
    assert table["StudyDescription"].iloc[0] == "'=HYPERLINK(evil)"  # a spreadsheet would have run it
    assert float(table["PatientWeight"].iloc[0]) == -1.5
    written = (tmp_path / "out" / "predictions.csv").read_text()
    assert "Doe^Jane" not in written


def test_deidentify_leaves_no_name_and_says_what_it_dropped(
    run: Path, film_of_somebody: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, table = look(tmp_path / "out", f"ckpt_path={run}", f"input={film_of_somebody}", "deidentify=true", "json=true")
    assert list(table["file"]) == list(table["sha256"])
    dropped = pd.read_csv(tmp_path / "out" / "dropped_tags.csv")
    assert {"PatientName", "PatientID", "StudyDate", "private"} <= set(dropped["tag"])
    assert "PixelData" not in set(dropped["tag"])
    printed = "".join(capsys.readouterr())
    assert "dropped  names of files, and" in printed
    for path in (tmp_path / "out").rglob("*"):
        assert path.is_dir() or not any(name in path.read_bytes() for name in (b"Doe", b"4711", b"Jane")), path
    assert "Doe" not in printed


def test_deidentify_leaves_no_name_in_the_table_of_what_was_interrupted(
    run: Path, film_of_somebody: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Journal.add

    def interrupted(*arguments: Any) -> None:
        real(*arguments)
        raise KeyboardInterrupt

    monkeypatch.setattr(Journal, "add", interrupted)
    with pytest.raises(KeyboardInterrupt):
        look(tmp_path / "out", f"ckpt_path={run}", f"input={film_of_somebody}", "deidentify=true")
    written = (tmp_path / "out" / "predictions.csv").read_text()
    assert hashlib.sha256(film_of_somebody.read_bytes()).hexdigest() in written
    assert "Doe" not in written


@pytest.mark.parametrize(
    ("typed", "says"),
    [
        (["dicom_tags=[PatientIDs]"], r"got 'PatientIDs'; did you mean 'PatientID"),
        (["dicom_tags=[PixelData]"], "must be keywords of DICOM tags"),
        (["dicom_tags=[PatientID]", "deidentify=true"], "choose one"),
    ],
)
def test_wrong_tags(typed: list[str], says: str, run: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=says):
        look(tmp_path / "out", f"ckpt_path={run}", "input=.", *typed)
