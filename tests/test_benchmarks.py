"""The benchmarks run, compare like with like, and say what they measured. How long anything took is not asserted."""

from __future__ import annotations

import importlib.util
import json
import math
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from omegaconf import DictConfig
from torch.utils.flop_counter import FlopCounterMode

FOLDER = Path(__file__).resolve().parents[1] / "benchmarks"
SCRIPT = FOLDER / "train_step.py"
AUGMENTATIONS = ("none", "light", "strong")


def load(script: Path) -> ModuleType:
    if str(FOLDER) not in sys.path:
        sys.path.append(str(FOLDER))  # as Python does for a script: they import each other
    spec = importlib.util.spec_from_file_location(f"benchmarks_{script.stem}", script)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def train_step() -> ModuleType:
    return load(SCRIPT)


@pytest.mark.slow
def test_prints_a_table_per_precision_and_writes_the_same_as_json(
    train_step: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "times.json"
    tiny = "--image-size 32 --batch-size 4 --repeats 1 --matmul-size 64 --device cpu"
    train_step.main([*tiny.split(), "--json", str(path)])

    printed = capsys.readouterr().out
    assert f"torch {torch.__version__.partition('+')[0]}" in printed.splitlines()[0]
    found = json.loads(path.read_text(encoding="utf-8"))
    assert found["settings"] == {"batch_size": 4, "image_size": 32, "repeats": 1, "matmul_size": 64}
    assert [result["precision"] for result in found["results"]] == ["32-true", "bf16-mixed"]
    for result in found["results"]:
        assert result["machine"]["precision"] == result["precision"]
        assert result["floor_seconds"] == pytest.approx(result["flops"] / result["flops_per_second"])
        assert list(result["ways"]) == ["plain PyTorch", "cxrlab", "cxrlab through Lightning"]
        for name, way in result["ways"].items():
            assert way["seconds"] == [way["median"]] == [way["min"]]
            assert way["to_plain"] == pytest.approx(way["min"] / result["ways"]["plain PyTorch"]["min"])
            assert way["to_floor"] == pytest.approx(way["min"] / result["floor_seconds"])
            assert way["images_per_second"] == pytest.approx(4 / way["median"])
            assert f"{name:26}{way['median']:10.4f}" in printed
    assert printed.count("arithmetic floor") == 2


def compose_without_dropout(train_step: ModuleType, precision: str, images: Path) -> DictConfig:
    config: DictConfig = train_step.compose_config(4, 32, "cpu", precision, str(images))
    config.model.dropout = [0, 0, 0]
    return config


@pytest.mark.slow
@pytest.mark.parametrize(("precision", "tolerance"), [("32-true", 1e-5), ("bf16-mixed", 2e-2)])
def test_every_way_has_the_same_loss(train_step: ModuleType, tmp_path: Path, precision: str, tolerance: float) -> None:
    ways = train_step.build_ways(compose_without_dropout(train_step, precision, tmp_path))
    losses = {name: way.turn()[1] for name, way in ways.items()}
    plain = losses.pop("plain PyTorch")
    assert len(losses) == 2
    for name, ours in losses.items():
        assert ours[0] == pytest.approx(plain[0], rel=tolerance), name
        assert ours[1] == pytest.approx(plain[1], rel=max(tolerance, 1e-3)), f"{name}, after a step of the optimizer"
        assert math.isfinite(ours[1])


@pytest.mark.slow
def test_a_profile_adds_up(train_step: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    train_step.main(["--profile", "--precision", "32-true", "--image-size", "32", "--batch-size", "4"])
    first, *lines = capsys.readouterr().out.splitlines()
    assert first.startswith("32-true: where cxrlab's step of ")
    shares = [float(line.rsplit(maxsplit=1)[1].rstrip("%")) for line in lines]
    assert sum(shares) == pytest.approx(100, abs=1)
    assert {line[:26].strip() for line in lines} == {*train_step.PARTS, "everything else"}
    assert all(share > 0 for share, line in zip(shares, lines, strict=True) if "convolutions" in line)


@pytest.mark.slow
def test_leaves_the_process_as_it_was(train_step: ModuleType, tmp_path: Path) -> None:
    before = torch.are_deterministic_algorithms_enabled()  # a training in the same process may have asked for them
    for way in train_step.build_ways(compose_without_dropout(train_step, "32-true", tmp_path)).values():
        way.turn()
        assert torch.are_deterministic_algorithms_enabled() == before


def test_floor_counts_what_pytorch_counts(train_step: ModuleType) -> None:
    network = train_step.plain_network(32, (0, 0, 0))
    with FlopCounterMode(display=False) as counter:
        network(torch.rand(4, 3, 32, 32)).sum().backward()
    assert train_step.step_flops(network, 4, 32) == counter.get_total_flops()


@pytest.mark.slow
def test_the_papers_step_costs_10_9_gflop_an_image(train_step: ModuleType) -> None:
    with torch.device("meta"):
        network = train_step.plain_network(224, (0.25, 0.25, 0.5))
    assert sum(weight.numel() for weight in network.parameters()) == 23_981_249
    assert train_step.step_flops(network, 1, 224) == pytest.approx(10.9e9, rel=0.01)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ("--repeats 0", "--repeats: must be at least 1, got 0"),
        ("--image-size 9", "--image-size must be at least 10"),
        ("--precision 16-mixed", "invalid choice: '16-mixed'"),
    ],
)
def test_refuses_what_it_cannot_measure(
    train_step: ModuleType, arguments: str, complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        train_step.main(arguments.split())
    assert complaint in capsys.readouterr().err


def test_help_explains_the_columns(train_step: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        train_step.main(["--help"])
    shown = capsys.readouterr().out
    assert "/ plain: median" in shown
    assert "/ floor: the shortest step" in shown


@pytest.mark.slow
def test_every_stage_of_an_audit_runs_and_finds_what_was_planted(tmp_path: Path) -> None:
    benchmark = load(FOLDER / "audit.py")
    folder = tmp_path / "256px"
    benchmark.draw_images(folder, 100, 256)
    found = {name: benchmark.run_stage(name, folder, 100) for name in benchmark.STAGES}
    assert found["measure"]["found"] == "0 unreadable"
    assert found["find films"]["found"].startswith("2 of 2 copies, 0 other pairs")
    assert "train" in found["split"]["found"]
    assert "PASS" in found["audit"]["found"]
    assert all(stage["seconds"] > 0 and stage["peak_mb"] > 100 for stage in found.values())


def test_growth_is_an_exponent() -> None:
    benchmark = load(FOLDER / "audit.py")
    results = [{"stage": "measure", "n": n, "seconds": 3e-4 * n**1.5} for n in (100, 200, 400)]
    assert benchmark.growth(results) == {"measure": pytest.approx(1.5)}


@pytest.mark.slow
def test_the_input_side_prints_two_tables_and_writes_the_same_as_json(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "times.json"
    tiny = "--images 12 --side 64 --image-size 32 --batch-size 4 --repeats 1"
    load(FOLDER / "input.py").main([*tiny.split(), "--json", str(path)])
    found = json.loads(path.read_text(encoding="utf-8"))
    assert found["images"] == 12
    assert list(found["setups"]) == ["plain loop", "reading", "setup, first run", "setup, second run"]
    assert list(found["passes"]) == ["copying the bytes", *(f"loader, augment={name}" for name in AUGMENTATIONS)]
    printed = capsys.readouterr().out
    for part, images in (("setups", 12), ("passes", 8)):
        reference = next(iter(found[part].values()))
        for name, way in found[part].items():
            assert way["ratio"] == pytest.approx(way["median"] / reference["median"])
            assert way["images_per_second"] == pytest.approx(images / way["median"])
            assert f"{name:26}{way['median']:10.4f}" in printed


def test_the_input_side_needs_a_few_images(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        load(FOLDER / "input.py").main(["--data", str(tmp_path)])
    assert f"--data {tmp_path}: at least 8 images are needed, found 0" in capsys.readouterr().err


@pytest.fixture(scope="module")
def epoch() -> ModuleType:
    return load(FOLDER / "epoch.py")


@pytest.mark.slow
def test_epochs_of_every_way_are_measured_in_processes_of_their_own(
    epoch: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(epoch, "PRECISIONS", ("32-true",))  # each precision has processes of its own
    path = tmp_path / "epochs.json"
    tiny = "--image-size 32 --images 16 8 --epochs 3 --rounds 1 --matmul-size 64"
    epoch.main([*tiny.split(), "--only", "train.py", "plain PyTorch", "--json", str(path)])

    found = json.loads(path.read_text(encoding="utf-8"))
    assert found["data"] == {"name": "synthetic", "train": 16, "test": 8}
    ways = [(way["name"], way["precision"]) for way in found["ways"]]
    assert ways == [(name, "32-true") for name in ("train.py", "plain PyTorch")]
    for way in found["ways"]:
        assert 0 < way["epochs"][0] < way["wall"][0]
        assert way["peak_mb"][0] > 100
        assert way["stolen"][0] >= 0
    of, to = ways
    expected = found["ways"][0]["epochs"][0] / found["ways"][1]["epochs"][0]
    assert epoch.ratio(found, of, to) == pytest.approx(expected)
    assert epoch.ratio(found, of, ("Keras", "32-true")) is None
    printed = capsys.readouterr().out
    assert f"{expected:.3f}" in printed
    assert printed.count("arithmetic floor") == 1


@pytest.mark.slow
def test_a_way_that_fails_says_why(epoch: ModuleType, tmp_path: Path) -> None:
    way = epoch.Way("broken", "32-true", lambda _: [sys.executable, "-c", "raise SystemExit('no good')"], None)
    with pytest.raises(SystemExit, match=r"broken, 32-true: failed\nno good"):
        way.turn(tmp_path)


def test_an_epochs_floor_is_training_and_validation(epoch: ModuleType, train_step: ModuleType) -> None:
    network = train_step.plain_network(224)
    step, forward = train_step.step_flops(network, 1, 224), sum(train_step.forward_flops(network, 1, 224))
    assert epoch.epoch_flops(148, 40) == 148 * step + 40 * forward


@pytest.mark.slow
@pytest.mark.parametrize("way", ["plain", "cxrlab"])
def test_a_loop_written_by_hand_trains(way: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rival = load(FOLDER / "rivals" / "plain_torch.py")
    generator = np.random.default_rng(0)
    labels = np.arange(24) % 2
    images = generator.integers(0, 40, (24, 16, 16, 3)) + 180 * labels[:, None, None, None]
    np.savez(tmp_path / "arrays.npz", images=images.astype(np.uint8), labels=labels, n_train=16)
    deterministic = torch.are_deterministic_algorithms_enabled()
    rival.main([str(tmp_path / "arrays.npz"), "--way", way, "--epochs", "12"])
    torch.use_deterministic_algorithms(deterministic)

    printed = json.loads(capsys.readouterr().out)
    assert len(printed["ends"]) == 13
    assert printed["ends"] == sorted(printed["ends"])
    assert printed["losses"][-1] < 0.8 * printed["losses"][0]


@pytest.fixture(scope="module")
def exporting() -> ModuleType:
    return load(FOLDER / "export.py")


@pytest.mark.slow
def test_exports_are_compared_and_timed_side_by_side(
    exporting: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, threads = tmp_path / "found.json", torch.get_num_threads()
    tiny = "--models logistic paper_cnn_small --image-size 32 --seconds 0.01 --threads 1"
    exporting.main([*tiny.split(), "--json", str(path)])
    assert torch.get_num_threads() == threads
    found = json.loads(path.read_text(encoding="utf-8"))
    assert found["settings"] == {"image_size": 32, "seconds": 0.01, "threads": 1}
    assert [result["model"] for result in found["results"]] == ["logistic", "paper_cnn_small"]
    printed = capsys.readouterr().out
    for result in found["results"]:
        assert result["score"] <= 1e-5 < 0.1 < result["spread"]
        assert result["parameters"] * 4 < result["bytes"]
        assert f"{result['model']:20}{result['parameters']:12,}" in printed
        for batch in ("1", "16"):
            ways = result["latency"][batch]
            assert list(ways) == ["PyTorch float32", "PyTorch bf16", "ONNX Runtime"]
            assert "".join(f"{way['shortest_ms']:8.2f}" for way in ways.values()) in printed
            assert all(0 < way["shortest_ms"] <= way["ms"] for way in ways.values())


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ("--image-size 0", "--image-size: must be at least 1, got 0"),
        ("--threads 0", "--threads: must be at least 1, got 0"),
        ("--seconds -1", "--seconds: must be at least 0"),
        ("--models lung_unet", "invalid choice: 'lung_unet'"),
    ],
)
def test_exports_that_cannot_be_measured(
    exporting: ModuleType, arguments: str, complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        exporting.main(arguments.split())
    assert complaint in capsys.readouterr().err
