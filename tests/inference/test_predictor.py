"""A trained model in use: every file is a row, with a score or a reason."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import cxrlab
from cxrlab.errors import CheckpointError, ConfigError
from cxrlab.inference import COLUMNS, Predictor, load
from cxrlab.models import LungUnet
from cxrlab.models.gate import Gate, Judgement, Limits
from cxrlab.models.saliency import GradCam
from cxrlab.models.segmenter import Segmenter
from cxrlab.runs import load_model
from cxrlab.steps.gate import keep

MakeModel = Callable[..., Path]
Encode = Callable[..., bytes]
Films = list[NDArray[np.uint8]]


class Choosy(Gate):
    """Refuses what is brighter than a limit; a real gate is trained elsewhere."""

    def __init__(self, limit: float) -> None:
        super().__init__()
        self.limit = limit

    def __call__(self, images: Any) -> list[Judgement]:
        return [
            Judgement("refuse", "photograph", "too bright; darken it") if image.mean() > self.limit else
            Judgement("accept", "frontal", "", 0.99)
            for image in images
        ]  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path, films: Films, png: Encode, dicom: Encode) -> Path:
    """Good films, and everything that a folder of a hospital holds besides."""
    made = tmp_path / "scans"
    made.mkdir()
    for number, pixels in enumerate(films):
        (made / f"film_{number}.png").write_bytes(png(pixels))
    (made / "film_0.dcm").write_bytes(dicom(films[0]))
    (made / "empty.png").write_bytes(b"")
    (made / "notes.png").write_text("no picture")
    (made / "cut.png").write_bytes(png(films[1])[:500])
    return made


def files(folder: Path) -> list[str]:
    return [str(path) for path in sorted(folder.iterdir())]


def test_every_file_is_a_row_in_order_and_a_bad_one_says_why(make_model: MakeModel, folder: Path) -> None:
    table = cxrlab.load(make_model()).predict(files(folder))
    assert list(table.columns) == list(COLUMNS)
    assert list(table["file"]) == files(folder)
    rows = table.assign(name=[Path(file).name for file in table["file"]]).set_index("name")
    for name, says in (("empty.png", "empty (0 bytes)"), ("notes.png", "not an image by its content"), ("cut.png", "cut off")):  # fmt: skip  # noqa: E501
        assert (rows.loc[name, "verdict"], rows.loc[name, "kind"]) == ("refuse", "unreadable")
        assert says in str(rows.loc[name, "reason"])
        assert np.isnan(float(rows.loc[name, "score"]))  # type: ignore[arg-type]
        assert rows.loc[name, "label"] == ""
    assert rows.loc["film_0.dcm":"film_5.png", "score"].between(0, 1).all()
    assert set(rows.loc["film_0.dcm":"film_5.png", "label"]) <= {"Negative", "Positive"}


def test_scores_are_the_networks_own_on_its_own_preprocessing(
    make_model: MakeModel, folder: Path, films: Films
) -> None:
    path = make_model()
    model, predictor = load_model(path), load(path)
    found = predictor.predict([folder / "film_2.png"])
    prepared = predictor.preprocessing.apply(np.repeat(films[2][..., None], 3, 2))
    expected = model.network(predictor.preprocessing.to_float(torch.from_numpy(prepared[None]))).sigmoid().item()
    assert found["score"].item() == pytest.approx(expected, abs=1e-6)
    assert found["model"].item() == model.fingerprint
    assert found["probability"].item() == found["score"].item()


def test_a_png_and_a_dicom_made_of_it_get_the_same_score(make_model: MakeModel, folder: Path) -> None:
    table = load(make_model()).predict([folder / "film_0.png", folder / "film_0.dcm"])
    assert table["score"].nunique() == 1
    assert table["sha256"].nunique() == 2


def test_arrays_get_the_scores_of_their_files(make_model: MakeModel, folder: Path, films: Films) -> None:
    predictor = load(make_model())
    rgb = np.stack([np.repeat(film[..., None], 3, 2) for film in films[:3]])
    paths = [folder / f"film_{number}.png" for number in range(3)]
    expected = predictor.predict(paths)
    for given in (films[:3], rgb, list(rgb), [paths[0], rgb[1], films[2]]):
        found = predictor.predict(given)
        assert list(found["score"]) == list(expected["score"])
        assert found["file"][1] == "array 1"
    assert predictor.predict(films[1])["score"].item() == expected["score"][1]
    assert predictor.predict(rgb[1])["sha256"].item() != predictor.predict(rgb[2])["sha256"].item()


def test_an_array_is_judged_as_a_file_is(make_model: MakeModel) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (90, 90, 3), np.uint8)
    found = load(make_model()).predict([noise, np.zeros((9, 9), np.uint8)])
    assert list(found["verdict"]) == ["refuse", "refuse"]
    assert found["score"].isna().all()


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (np.zeros((90, 90)), "float64 of shape"),
        (np.zeros((90, 90, 4), np.uint8), r"\(90, 90, 4\)"),
        (np.zeros((3, 90, 90), np.uint8), r"\(3, 90, 90\)"),
        (np.zeros(90, np.uint8), r"\(90,\)"),
        (np.zeros((0, 90), np.uint8), r"\(0, 90\)"),
        ([None], "NoneType"),
        ([torch.zeros(9, 9)], "Tensor"),
    ],
)
def test_what_is_no_image_in_memory_is_refused_before_anything_is_scored(
    make_model: MakeModel, given: Any, says: str
) -> None:
    with pytest.raises(ValueError, match=says):
        load(make_model()).predict(given)


@pytest.mark.parametrize("batch_size", [1, 3, 100])
def test_the_size_of_batches_changes_no_row(batch_size: int, make_model: MakeModel, folder: Path) -> None:
    predictor = load(make_model())
    table, usual = predictor.predict(files(folder), batch_size), predictor.predict(files(folder))
    assert list(table["file"]) == list(usual["file"])
    assert np.allclose(table["score"], usual["score"], atol=1e-6, equal_nan=True)


def test_what_is_refused_gets_no_score(make_model: MakeModel, tmp_path: Path, films: Films, png: Encode) -> None:
    predictor = Predictor(load(make_model()).model, Choosy(200))
    (tmp_path / "bright.png").write_bytes(png(np.full((100, 100), 250, np.uint8)))
    (tmp_path / "film.png").write_bytes(png(films[0]))
    (bright, unseen), (film, seen) = predictor.look([str(tmp_path / "bright.png"), str(tmp_path / "film.png")])
    assert unseen is None
    assert seen is not None
    assert (bright.verdict, bright.kind, bright.reason) == ("refuse", "photograph", "too bright; darken it")
    assert bright.score is bright.probability is None
    assert bright.label == ""
    assert film.verdict == "accept"
    assert film.score is not None


def test_calibration_and_threshold_of_the_checkpoint_are_used(make_model: MakeModel, folder: Path) -> None:
    raw = load(make_model()).predict(files(folder))["score"]
    calibration = {"kind": "temperature", "temperature": 2.0}
    path = make_model("other.ckpt", calibration=calibration, threshold=float(np.nanmedian(raw)))
    table = load(path).predict(files(folder)).dropna()
    expected = 1 / (1 + np.exp(-np.log(table["score"] / (1 - table["score"])) / 2))
    assert np.allclose(table["probability"], expected)
    assert list(table["label"] == "Positive") == list(table["probability"] >= table["threshold"])


def test_the_fingerprint_changes_with_all_that_decides_a_row(make_model: MakeModel) -> None:
    plain = load_model(make_model()).fingerprint
    assert load_model(make_model("same.ckpt")).fingerprint == plain
    assert load_model(make_model("threshold.ckpt", threshold=0.4)).fingerprint != plain
    border = {"height": 32, "width": 32, "channels": 3, "border": 0.1}
    assert load_model(make_model("border.ckpt", preprocessing=border)).fingerprint != plain
    changed = torch.load(make_model("weights.ckpt"), weights_only=True)
    next(iter(changed["state_dict"].values()))[0] += 1e-3
    torch.save(changed, make_model().with_name("changed.ckpt"))
    assert load_model(make_model().with_name("changed.ckpt")).fingerprint != plain


def test_a_model_that_saw_lungs_only_needs_the_lungs_it_was_trained_with(
    make_model: MakeModel, tmp_path: Path, films: Films
) -> None:
    masked = {"config": {"trainer": {"precision": "32-true"}, "data": {"mask": "lungs"}}}
    torch.manual_seed(1)
    segment = Segmenter(LungUnet([4, 8]), 32, tmp_path / "lungs.ckpt")
    model = load(make_model("whole.ckpt")).model
    path = make_model("masked.ckpt", lungs=segment.fingerprint, **masked)
    with pytest.raises(CheckpointError, match=r"lungs=nowhere"):
        load(path, lungs="nowhere")
    theirs = load_model(path)
    predictor = Predictor(type(model)("m", theirs.metadata, "f", model.scorer, theirs.network, path), None, segment)
    rgb = np.repeat(films[0][..., None], 3, 2)
    prepared, whole = predictor.prepare(rgb), predictor.preprocessing.apply(rgb)
    mask = segment(whole[None])[0]
    assert not prepared[~mask].any()
    assert np.array_equal(prepared[mask], whole[mask])
    with pytest.raises(CheckpointError, match="there is none"):
        Predictor(predictor.model, None)
    with pytest.raises(CheckpointError, match="this one has"):
        Predictor(predictor.model, None, Segmenter(LungUnet([4, 8]), 32, tmp_path / "other.ckpt"))


def test_a_network_of_an_experiment_is_refused(make_model: MakeModel) -> None:
    path = make_model(config={"trainer": {"precision": "32-true"}, "data": {"alter": "centre_black_60"}})
    with pytest.raises(CheckpointError, match=r"model\.ckpt: it was trained on altered images .*centre_black_60"):
        load(path)


def test_what_has_to_be_known_before_the_first_score(make_model: MakeModel) -> None:
    assert any("SYNTHETIC" in each for each in load(make_model()).warnings())
    assert any("no gate" in each for each in load(make_model()).warnings())
    assert any("gate is off" in each for each in load(make_model(), gate="none").warnings())
    real = load(make_model(data={"fingerprint": "0" * 64, "synthetic": False}))
    assert not any("SYNTHETIC" in each for each in real.warnings())


def test_a_gate_that_is_off_judges_nothing(make_model: MakeModel, folder: Path) -> None:
    row = next(load(make_model(), gate="none").look([str(folder / "film_0.png")]))[0]
    assert (row.verdict, row.kind, row.reason, row.gate) == ("off", "", "", "")
    assert row.score is not None


CT, HAND = {"Modality": "CT"}, {"Modality": "DX", "BodyPartExamined": "HAND", "ViewPosition": "LL"}


@pytest.mark.parametrize(
    ("gate", "attributes", "verdict", "kind"),
    [
        (Choosy(255), CT, "refuse", "no_radiograph"),
        (Choosy(255), HAND, "warn", "frontal"),
        (Choosy(255), {"BodyPartExamined": "CHEST", "ViewPosition": "PA", "Modality": "CR"}, "accept", "frontal"),
        (Choosy(0), HAND, "refuse", "photograph"),
        (Gate(), HAND, "warn", "unknown"),
        (Gate(), CT, "refuse", "no_radiograph"),
        (None, CT, "off", ""),
    ],
)
def test_what_a_header_says_is_part_of_the_reason(
    make_model: MakeModel,
    films: Films,
    dicom: Encode,
    gate: Gate | None,
    attributes: dict[str, str],
    verdict: str,
    kind: str,
) -> None:
    predictor = load(make_model(), gate="none")
    predictor.gate = gate
    said = predictor.examine("film.dcm", dicom(films[0], **attributes)).prediction
    assert (said.verdict, said.kind) == (verdict, kind)
    assert (said.score is None) == (verdict == "refuse")
    wanted = {"CT": "its header says: Modality CT (no radiograph)", "DX": "its header says: BodyPartExamined HAND; Vie"}
    assert said.reason.startswith(wanted.get(attributes["Modality"], ""))
    assert (said.reason == "") == (verdict == "accept")
    assert ("too bright" in said.reason) == (kind == "photograph")


def test_bytes_are_looked_at_and_the_name_is_never_opened(make_model: MakeModel, films: Films, png: Encode) -> None:
    name = "../../etc/pass\x00wd\n\u202e.png"
    found = load(make_model()).examine(name, png(films[0]))
    assert found.prediction.file == name
    assert found.prediction.score is not None
    assert found.rgb is not None
    assert found.rgb.shape == (160, 160, 3)
    assert found.facts is not None
    assert found.facts.format == "PNG"
    limited = load(make_model()).examine(name, png(films[0]), max_pixels=1000)
    assert limited.rgb is limited.prepared is None
    assert "over the limit of 1,000" in limited.prediction.reason
    assert len(limited.prediction.sha256) == 64


def test_a_map_of_evidence(make_model: MakeModel, films: Films) -> None:
    predictor = load(make_model())
    prepared = predictor.prepare(np.repeat(films[0][..., None], 3, 2))
    heat = predictor.explain(prepared, GradCam())
    assert heat.shape == (32, 32)
    assert (heat >= 0).all()
    with pytest.raises(ConfigError, match="no layer of the network"):
        predictor.explain(prepared, GradCam(layer="nothing"))


def test_a_gate_travels_with_the_weights_and_another_can_be_named(
    make_model: MakeModel, lenient_gate: Gate, folder: Path, tmp_path: Path
) -> None:
    path = make_model("gated.ckpt", gate=lenient_gate)
    row = next(load(path).look([str(folder / "film_0.png")]))[0]
    assert (row.verdict, row.kind, row.gate) == ("accept", "frontal", lenient_gate.fingerprint)
    assert load_model(path).fingerprint == load_model(make_model()).fingerprint  # what it says of an image is the same
    strict = Gate(lenient_gate.network, 64, Limits(1, 1))
    keep(tmp_path / "gate.ckpt", strict)
    refused = next(load(path, gate=str(tmp_path / "gate.ckpt")).look([str(folder / "film_0.png")]))[0]
    assert (refused.verdict, refused.score, refused.gate) == ("refuse", None, strict.fingerprint)
    assert next(load(path, gate="none").look([str(folder / "film_0.png")]))[0].verdict == "off"


def test_a_gate_from_a_stranger_is_looked_through(make_model: MakeModel, lenient_gate: Gate) -> None:
    path = make_model(gate=lenient_gate)
    checkpoint = torch.load(path, weights_only=True)
    checkpoint["gate"]["image_size"] = 10**9
    torch.save(checkpoint, path)
    with pytest.raises(CheckpointError, match=r"model\.ckpt: refused: its gate: .*image_size"):
        load(path)


def test_a_gate_that_is_not_there(make_model: MakeModel) -> None:
    with pytest.raises(CheckpointError, match=r"gate=nowhere: no such file or folder; .*experiment=gate"):
        load(make_model(), gate="nowhere")


def test_an_automatic_precision_is_measured_forward_only_and_told_beside_json(
    make_model: MakeModel, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[Any] = []

    def fastest(network: Any, images: Any, accelerator: str, *, training: bool) -> tuple[str, str]:
        asked.append((images, accelerator, training))
        return "bf16-mixed", "bf16-mixed, 1 s against 2 s"

    monkeypatch.setattr("cxrlab.inference.predictor.fastest", fastest)
    predictor = load(make_model(), accelerator="cpu", precision="auto")
    assert asked == [((64, 3, 32, 32), "cpu", False)]
    assert predictor.model.scorer.words["precision"] == "bf16-mixed"
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err == "precision=auto: bf16-mixed, 1 s against 2 s\n"
