from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from cxrlab.machine import precision
from cxrlab.machine.precision import Figures

IMAGES = (4, 1, 8, 8)


def network() -> nn.Module:
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Dropout(), nn.Linear(72, 1))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CXRLAB_CACHE", str(tmp_path))
    monkeypatch.setattr(precision, "_multiplies_bf16", lambda device: True)
    return tmp_path / "precision"


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> dict[bool, list[float]]:
    """Seconds of coming steps, in float32 (False) and in bf16 (True); the last of each is repeated."""
    seconds: dict[bool, list[float]] = {False: [0.02], True: [0.01]}

    def step(network: nn.Module, batch: Any, device: str, bf16: bool, training: bool) -> float:
        left = seconds[bf16]
        return left.pop(0) if len(left) > 1 else left[0]

    monkeypatch.setattr(precision, "_step", step)
    return seconds


@pytest.mark.parametrize(
    ("float32", "bf16", "choice"),
    [(2.0, 1.0, "bf16-mixed"), (1.0, 0.89, "bf16-mixed"), (1.0, 0.95, "32-true"), (1.97, 2.76, "32-true")],
)
def test_bf16_is_taken_where_it_saves_a_tenth(float32: float, bf16: float, choice: str) -> None:
    assert Figures(float32, bf16, 8).choice == choice


def test_both_figures_are_said(folder: Path, clock: dict[bool, list[float]]) -> None:
    assert precision.fastest(network(), IMAGES, "cpu") == (
        "bf16-mixed",
        "bf16-mixed, 0.01 s a step of 4 images against 0.02 s in 32-true, measured now",
    )
    clock[True] = [0.03]
    assert precision.fastest(network(), (5, *IMAGES[1:]), "cpu") == (
        "32-true",
        "32-true, 0.02 s a step of 5 images against 0.03 s in bf16-mixed, measured now",
    )


def test_one_step_that_is_disturbed_decides_nothing(clock: dict[bool, list[float]]) -> None:
    clock[True] = [0.01, 0.01, 9.0, 0.01]
    clock[False] = [0.02, 0.02, 0.02, 0.02, 7.0]
    assert precision.measure(network(), IMAGES, "cpu").choice == "bf16-mixed"


def test_a_step_that_lasts_is_measured_on_fewer_images(clock: dict[bool, list[float]]) -> None:
    clock[False] = [0.2]
    assert precision.measure(network(), (32, *IMAGES[1:]), "cpu").images == 8
    clock[False] = [0.1]
    assert precision.measure(network(), (32, *IMAGES[1:]), "cpu").images == 32


def test_it_is_measured_once(folder: Path, clock: dict[bool, list[float]]) -> None:
    first = precision.fastest(network(), IMAGES, "cpu")
    clock[True] = [5.0]
    again = precision.fastest(network(), IMAGES, "cpu")
    assert again == ("bf16-mixed", first[1].replace("measured now", "measured before on this machine"))
    others = [
        precision.fastest(network(), IMAGES, "cpu", training=False),
        precision.fastest(network(), (4, 1, 9, 9), "cpu"),
        precision.fastest(nn.Sequential(network(), nn.ReLU()), IMAGES, "cpu"),
    ]
    assert [choice for choice, _ in others] == ["32-true"] * 3


@pytest.mark.parametrize(
    "content",
    [
        "",
        "no JSON",
        "[" * 900,
        "[1, 2]",
        '{"float32": 1.0, "bf16": 0.1}',
        '{"float32": NaN, "bf16": 0.1, "images": 4}',
        '{"float32": 1e999, "bf16": 0.1, "images": 4}',
        '{"float32": "1.0", "bf16": 0.1, "images": 4}',
        '{"float32": -1.0, "bf16": -2.0, "images": 4}',
        '{"float32": 1.0, "bf16": 0.1, "images": true}',
        '{"float32": 1.0, "bf16": 0.1, "images": "\\u001b[31m"}',
        '{"float32": 1.0, "bf16": 0.1, "images": 4, "more": 1}',
        '{"float32": 1.0, "bf16": 0.1, "images": 4}' + " " * 10_000,
    ],
)
def test_figures_that_are_damaged_are_measured_again(
    content: str, folder: Path, clock: dict[bool, list[float]]
) -> None:
    precision.fastest(network(), IMAGES, "cpu")
    (file,) = folder.glob("*.json")
    file.write_text(content, encoding="utf-8")
    clock[True] = [1.0]
    choice, why = precision.fastest(network(), IMAGES, "cpu")
    assert choice == "32-true"
    assert why.endswith("measured now")
    assert json.loads(file.read_text(encoding="utf-8")) == {"float32": 0.02, "bf16": 1.0, "images": 4}


def test_a_folder_that_cannot_be_written_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clock: dict[bool, list[float]]
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("CXRLAB_CACHE", str(tmp_path / "file"))
    monkeypatch.setattr(precision, "_multiplies_bf16", lambda device: True)
    assert precision.fastest(network(), IMAGES, "cpu")[1].endswith("measured now, and not kept (Not a directory)")


@pytest.mark.parametrize("training", [True, False])
def test_nothing_is_changed_by_measuring(training: bool) -> None:
    model = network().eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    torch.manual_seed(3)
    state = torch.get_rng_state()
    found = precision.measure(model, IMAGES, "cpu", training=training)
    assert found.float32 > 0
    assert found.bf16 > 0
    assert found.images == 4
    assert torch.equal(torch.get_rng_state(), state)
    assert not model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_a_network_that_bf16_cannot_run_trains_in_float32(folder: Path) -> None:
    class Picky(nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            if torch.is_autocast_enabled("cpu"):
                raise RuntimeError("'op' not implemented for 'BFloat16'\nlong")
            return images.sum()

    choice, why = precision.fastest(Picky(), IMAGES, "cpu", training=False)
    assert choice == "32-true"
    assert why.endswith("could not be measured ('op' not implemented for 'BFloat16')")


@pytest.mark.parametrize(("accelerator", "device"), [("gpu", "GPU"), ("cpu", "processor")])
def test_what_has_no_bf16_instructions_is_not_measured(
    accelerator: str, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: False)
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: False)
    why = f"32-true, since this {device} has no bf16 instructions"
    assert precision.fastest(network(), IMAGES, accelerator) == ("32-true", why)


def test_apples_gpu_stays_with_float32() -> None:
    assert precision.fastest(network(), IMAGES, "mps")[0] == "32-true"


def test_instructions_that_are_forbidden_are_another_machine(
    folder: Path, clock: dict[bool, list[float]], monkeypatch: pytest.MonkeyPatch
) -> None:
    for isa in ("AVX2", "AVX2", "AVX512_CORE"):
        monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", isa)
        precision.fastest(network(), IMAGES, "cpu")
    assert len(list(folder.glob("*.json"))) == 2
