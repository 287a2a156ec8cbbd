"""``src/export.py``: every format gives PyTorch's scores, holds what is needed, and says what was found."""

from __future__ import annotations

import hashlib
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from omegaconf import DictConfig, open_dict
from tests import programs
from tests.inference.conftest import random_gate
from tests.inference.conftest import saved as checkpoint_in

from cxrlab.config import compose
from cxrlab.datamodules import Preprocessing
from cxrlab.datamodules.pixels import read_all
from cxrlab.errors import CheckpointError, ConfigError, DataError, UserError
from cxrlab.export import export
from cxrlab.inference import load
from cxrlab.inference.onnx_file import OnnxScorer
from cxrlab.models import PaperCNN
from cxrlab.models.gate import Gate
from cxrlab.runs import LoadedModel, load_checkpoint, load_model
from cxrlab.runs.auxiliary import choose_gate
from cxrlab.steps import export as steps
from cxrlab.steps.gate import keep

ROOT = Path(__file__).resolve().parents[1]


def configured(*overrides: str) -> DictConfig:
    config = compose("export", overrides, "unused")
    with open_dict(config):
        del config.output_dir
    return config


def run_export(*overrides: str) -> tuple[dict[str, Any], Path]:
    found, objects = export(configured("latency=false", *overrides), overrides)
    return found, objects["path"]


def saved(path: Path, gate: Gate | None = None, **changes: Any) -> Path:
    return checkpoint_in(path, gate, **{"data": {"synthetic": False}, **changes})


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    return saved(tmp_path / "run" / "checkpoints" / "model.ckpt", random_gate())


@pytest.fixture
def scans(class_folders: Any) -> Path:
    """Seven images on which a network with random weights gives seven scores."""
    root = class_folders({"test/NORMAL": 4, "test/PNEUMONIA": 3})
    assert isinstance(root, Path)
    return root


def pictures(count: int = 5) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)


def scores_of(model: LoadedModel, images: NDArray[np.uint8]) -> NDArray[Any]:
    with torch.inference_mode():
        return model.network(Preprocessing.to_float(torch.from_numpy(images))).squeeze(1).sigmoid().numpy()  # type: ignore[no-any-return]


def test_an_onnx_file_has_pytorchs_scores_and_everything_inside(checkpoint: Path) -> None:
    found, path = run_export(f"ckpt_path={checkpoint}")
    assert path == checkpoint.parents[1] / "export" / "model.onnx"
    model, images, scorer = load_model(checkpoint), pictures(), OnnxScorer(path)
    assert scorer(images) == pytest.approx(scores_of(model, images), abs=1e-6)
    assert (scorer.metadata, scorer.fingerprint) == (model.metadata, model.fingerprint)
    assert model.gate is not None
    assert scorer.gate is not None
    assert scorer.gate.fingerprint == model.gate.fingerprint
    assert found["parity"]["images"] == 16
    assert found["parity"]["what"] == "drawn phantoms"
    assert found["parity"]["score"] <= 1e-6 < found["parity"]["spread"]


def test_the_json_beside_it_says_what_was_found(checkpoint: Path, scans: Path) -> None:
    found, path = run_export(f"ckpt_path={checkpoint}", f"images={scans}", "max_images=6")
    assert json.loads((path.parent / "model.onnx.json").read_text()) == found
    data = path.read_bytes()
    assert found["bytes"] == len(data)
    assert found["sha256"] == hashlib.sha256(data).hexdigest()
    assert found["checkpoint_bytes"] == checkpoint.stat().st_size
    assert found["fingerprint"] == load_model(checkpoint).fingerprint
    assert (found["parity"]["images"], found["parity"]["what"]) == (6, str(scans))
    assert found["parity"]["calls"] == 0
    assert found["notice"] == "Research software, not a medical device."
    assert found["latency"] is None
    assert {path.name for path in path.parent.iterdir()} == {"model.onnx", "model.onnx.json"}


@pytest.mark.slow
def test_what_is_told(checkpoint: Path, scans: Path, capsys: pytest.CaptureFixture[str]) -> None:
    overrides = [f"ckpt_path={checkpoint}", f"images={scans}"]
    found, objects = export(configured(*overrides), overrides)
    told = capsys.readouterr().out
    path = objects["path"]
    assert f"export   {path}  0.0" in told
    assert "images 32 x 32 x 3, threshold 0.5, not calibrated, fingerprint" in told
    assert "parity   7 images" in told
    assert f"cxrlab-predict ckpt_path={path} input=" in told
    assert "Research software, not a medical device." in told
    assert "WARNING" not in told
    for batch in ("1", "16"):
        ways = found["latency"][batch]
        assert list(ways) == ["PyTorch float32", "PyTorch bf16", "ONNX Runtime"]
        assert ways["PyTorch float32"]["ratio"] == 1
        for name, way in ways.items():
            assert way["ms"] > 0
            assert way["turns"] >= 5
            assert name in told


@pytest.mark.slow
def test_cautions_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = saved(
        tmp_path / "model.ckpt",
        config={"trainer": {"precision": "bf16-mixed"}},
        data={"synthetic": True},
        lungs="a" * 64,
    )
    run_export(f"ckpt_path={path}")
    told = capsys.readouterr().out
    assert "SYNTHETIC: it was trained on drawn phantoms" in told
    assert "it saw lungs only" in told
    assert "the checkpoint is used in bf16, the file in float32" in told
    assert ", no gate" in told


@pytest.mark.slow
def test_an_onnx_file_predicts_what_the_checkpoint_predicts(checkpoint: Path, scans: Path) -> None:
    path = run_export(f"ckpt_path={checkpoint}", "gate=none")[1]
    files = sorted(str(file) for file in scans.rglob("*.png"))
    ours, theirs = (load(each, gate="none", accelerator="cpu").predict(files) for each in (checkpoint, path))
    assert ours["score"].nunique() == 7
    assert theirs["score"].to_numpy() == pytest.approx(ours["score"].to_numpy(), abs=1e-6)
    different = [
        column for column in ours if column not in ("score", "probability") and any(ours[column] != theirs[column])
    ]
    assert different == []


@pytest.mark.slow
def test_the_recipe_of_the_documentation_needs_no_cxrlab(
    checkpoint: Path, scans: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = saved(tmp_path / "model.ckpt", preprocessing=Preprocessing(32, 32).as_dict(), calibration=None)
    run_export(f"ckpt_path={path}", f"output={tmp_path / 'model.onnx'}")
    text = (ROOT / "docs" / "export.md").read_text(encoding="utf-8")
    code = text.split("```python\n")[1].partition("```")[0]
    assert "cxrlab." not in code
    assert len([line for line in code.splitlines() if line]) <= 10
    film = next(scans.rglob("*.png"))
    (tmp_path / "film.png").write_bytes(film.read_bytes())
    monkeypatch.chdir(tmp_path)
    capsys.readouterr()
    exec(compile(code, "docs/export.md", "exec"), {})
    label, score = capsys.readouterr().out.split()
    expected = load(path, gate="none", accelerator="cpu").predict([str(film)]).iloc[0]
    assert label == expected["label"]
    assert float(score) == pytest.approx(expected["score"], abs=1e-6)


@pytest.mark.slow
def test_the_output_may_be_a_file_or_a_folder(checkpoint: Path, tmp_path: Path) -> None:
    assert run_export(f"ckpt_path={checkpoint}", f"output={tmp_path / 'a' / 'b.onnx'}")[1] == tmp_path / "a" / "b.onnx"
    assert run_export(f"ckpt_path={checkpoint}", f"output={tmp_path / 'c'}")[1] == tmp_path / "c" / "model.onnx"
    loose = saved(tmp_path / "loose.ckpt")
    assert run_export(f"ckpt_path={loose}", "opset=18")[1] == tmp_path / "export" / "loose.onnx"
    assert onnx.load(tmp_path / "export" / "loose.onnx").opset_import[0].version == 18


def test_a_gate_is_put_into_a_checkpoint_and_taken_out(checkpoint: Path, tmp_path: Path) -> None:
    bare, other = saved(tmp_path / "bare.ckpt"), random_gate(7)
    keep(tmp_path / "gate.ckpt", other)
    path = run_export(f"ckpt_path={bare}", "format=checkpoint", f"gate={tmp_path / 'gate.ckpt'}")[1]
    assert path == tmp_path / "export" / "bare.ckpt"
    before, after = load_model(bare), load_model(path)
    assert before.gate is None
    assert after.gate is not None
    assert after.gate.fingerprint == other.fingerprint
    assert after.fingerprint == before.fingerprint
    weights = load_checkpoint(bare)["state_dict"]
    assert all(torch.equal(value, weights[key]) for key, value in load_checkpoint(path)["state_dict"].items())

    without = run_export(f"ckpt_path={checkpoint}", "format=checkpoint", "gate=none")[1]
    assert load_model(checkpoint).gate is not None
    assert load_model(without).gate is None


def test_which_gate_travels(checkpoint: Path) -> None:
    own = load_model(checkpoint).gate
    assert choose_gate(None, own) is own
    assert choose_gate("none", own) is None
    with pytest.raises(UserError, match="nowhere"):
        choose_gate("runs/nowhere", own)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["format=onx"], "format must be one of onnx, checkpoint, got 'onx'; did you mean 'onnx'"),
        (["format=torchscript"], "format must be one of onnx, checkpoint, got 'torchscript'"),
        (["opset=17"], r"opset must be a whole number in \[18, 23\], got 17"),
        (["opset=20", "format=checkpoint", "gate=none"], "opset: only format=onnx has one"),
        (["output=model.ckpt"], r"output: a file of format=onnx ends in \.onnx, got model\.ckpt"),
        (["format=checkpoint"], "gate: all that format=checkpoint changes: gate=runs/gate puts one in"),
        (["max_images=0"], r"max_images must be a whole number in \[1, "),
        (["latency=3"], "latency must be one of True, False, got 3"),
        (["+imges=x"], "imges: unknown key; did you mean 'images'"),
    ],
)
def test_mistakes_are_told_before_anything_is_read(overrides: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        run_export("ckpt_path=nowhere", *overrides)


def test_the_checkpoint_itself_is_never_overwritten(checkpoint: Path) -> None:
    before = checkpoint.read_bytes()
    with pytest.raises(ConfigError, match="is the checkpoint itself"):
        run_export(f"ckpt_path={checkpoint}", "format=checkpoint", "gate=none", f"output={checkpoint}")
    assert checkpoint.read_bytes() == before


def test_a_place_that_cannot_be_written(checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ConfigError, match=r"output: .*model\.onnx cannot be written \(.*\); output=… names another"):
        run_export(f"ckpt_path={checkpoint}", f"output={tmp_path / 'file' / 'model.onnx'}")


def test_images_that_cannot_be_read(checkpoint: Path, scans: Path) -> None:
    (scans / "broken.png").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"images: 1 of 8 cannot be read, the first: .*broken\.png"):
        run_export(f"ckpt_path={checkpoint}", f"images={scans}")
    with pytest.raises(DataError, match="nowhere"):
        run_export(f"ckpt_path={checkpoint}", "images=nowhere")


@pytest.mark.parametrize("off", [2e-4, np.nan])
@pytest.mark.parametrize("chosen", ["format=onnx", "format=checkpoint"])
def test_a_file_with_other_scores_never_reaches_its_place(
    chosen: str, off: float, checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = [f"ckpt_path={checkpoint}", chosen, "gate=none"]
    path = run_export(*command)[1]
    before = path.read_bytes()
    read = steps.read_back

    def read_other(*arguments: Any) -> Any:
        scorer = read(*arguments)
        run = scorer.run
        monkeypatch.setattr(scorer, "run", lambda images: tuple(each + np.float32(off) for each in run(images)))
        return scorer

    monkeypatch.setattr(steps, "read_back", read_other)
    with pytest.raises(
        CheckpointError, match=r"not written: on 16 images \(drawn phantoms\) its scores differ .* 0\.0001 is"
    ):
        run_export(*command)
    assert path.read_bytes() == before
    assert sorted(each.name for each in path.parent.iterdir()) == [path.name, f"{path.name}.json"]


def test_programs_of_pytorch_are_refused_with_what_to_use(tmp_path: Path) -> None:
    """TorchScript and torch.export, which older versions wrote, by what such archives hold."""
    for name in ("constants.pkl", "archive_format"):
        path = tmp_path / "model.pt"
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr(f"model/{name}", b"x")
        for use in (load, load_model):
            with pytest.raises(
                CheckpointError, match=r"model\.pt: refused: a program of TorchScript or torch\.export,"
            ):
                use(path)


@pytest.mark.slow
def test_the_command_line(checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    arguments = [f"ckpt_path={checkpoint}", f"output={tmp_path / 'm.onnx'}", "latency=false"]
    status, _, errors = programs.run("export", *arguments)
    assert (status, errors) == (0, "")
    assert (tmp_path / "m.onnx").is_file()
    status, _, errors = programs.run("export", "ckpt_path=nowhere")
    assert status == 1
    assert errors.startswith("error: nowhere: no such checkpoint")
    assert not (tmp_path / "outputs").exists()


@pytest.mark.slow
def test_the_papers_test_images_have_the_same_scores(paper_root: Path, tmp_path: Path) -> None:
    """Forty films, the paper's own network at 96 pixels, trained for a moment so that its scores mean something."""
    files = sorted(str(path) for path in (paper_root / "test").rglob("*") if path.is_file())
    assert len(files) == 40
    torch.manual_seed(0)
    network = PaperCNN(96)
    images = read_all(files, Preprocessing(96, 96)).images
    batch = Preprocessing.to_float(torch.from_numpy(np.stack([images[row] for row in range(40)])))
    labels = torch.tensor([float("PNEUMONIA" in file.upper()) for file in files])
    assert labels.sum() == 20
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
    for _ in range(6):
        optimizer.zero_grad()
        torch.nn.functional.binary_cross_entropy_with_logits(network(batch)[:, 0], labels).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    path = saved(tmp_path / "model.ckpt", model={"_target_": "cxrlab.models.PaperCNN", "image_size": 96})
    trained = torch.load(path, weights_only=True)
    trained["state_dict"] = {f"network.{key}": value for key, value in network.state_dict().items()}
    trained["cxrlab"]["preprocessing"] = {"height": 96, "width": 96, "channels": 3}
    torch.save(trained, path)
    parity = run_export(f"ckpt_path={path}", f"images={paper_root / 'test'}")[0]["parity"]
    assert (parity["images"], parity["calls"]) == (40, 0)
    assert parity["score"] <= 1e-4
    assert parity["spread"] > 0.1
