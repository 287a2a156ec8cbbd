"""What assembly decides by itself; what it refuses stands in tests/test_wrong_inputs.py."""

from __future__ import annotations

from pathlib import Path

import pytest
from omegaconf import OmegaConf

from cxrlab.callbacks import KeepMemory
from cxrlab.config import compose
from cxrlab.errors import ConfigError
from cxrlab.steps import assembly


def test_the_fastest_precision_is_settled_and_said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[str] = []

    def fastest(device: str) -> tuple[str, str]:
        asked.append(device)
        return "bf16-mixed", "it is made for it"

    monkeypatch.setattr(assembly, "fastest", fastest)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: False)
    for accelerator in ("cpu", "auto"):
        node = OmegaConf.create({"accelerator": accelerator, "precision": "auto"})
        assembly.settle_precision(node)
        assert node.precision == "bf16-mixed"
    assert asked == ["cpu", "cpu"]
    assert "precision=auto: bf16-mixed, since it is made for it" in capsys.readouterr().out


def test_a_precision_that_was_chosen_stays(capsys: pytest.CaptureFixture[str]) -> None:
    node = OmegaConf.create({"accelerator": "cpu", "precision": "32-true"})
    assembly.settle_precision(node)
    assert node.precision == "32-true"
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("wanted", [True, False])
def test_freed_memory_is_kept_unless_it_is_switched_off(wanted: bool, tmp_path: Path) -> None:
    parts = assembly.assemble(compose("train", ["model=logistic", f"keep_memory={wanted}", "trainer=cpu"], tmp_path))
    assert any(isinstance(callback, KeepMemory) for callback in parts.trainer.callbacks) == wanted  # type: ignore[attr-defined]


def test_a_fused_optimizer_cannot_clip_scaled_gradients(tmp_path: Path) -> None:
    overrides = ["trainer.precision=16-mixed", "trainer.gradient_clip_val=1.0"]
    with pytest.raises(ConfigError, match=r"optimizer\.fused: true scales .* optimizer\.fused=false"):
        assembly.assemble(compose("train", overrides, tmp_path))
    with pytest.raises(ConfigError) as refused:
        assembly.assemble(compose("train", [*overrides, "optimizer.fused=false", "trainer=gpu", "seed=-1"], tmp_path))
    assert "optimizer.fused" not in str(refused.value)
