"""What assembly decides by itself; what it refuses stands in tests/test_wrong_inputs.py."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cxrlab.callbacks import KeepMemory
from cxrlab.config import compose
from cxrlab.errors import ConfigError
from cxrlab.steps import assembly


def test_the_fastest_precision_is_settled_and_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[Any] = []

    def fastest(network: Any, images: Any, accelerator: str, *, training: bool) -> tuple[str, str]:
        asked.append((type(network).__name__, images, accelerator, training))
        return "bf16-mixed", "bf16-mixed, 1 s against 2 s"

    monkeypatch.setattr(assembly, "fastest", fastest)
    typed = ["model=logistic", "data.image_size=64", "data.batch_size=16", "trainer=cpu", "trainer.precision=auto"]
    config = compose("train", typed, tmp_path)
    parts = assembly.assemble(config)
    assert asked == [("ThumbnailLogistic", (16, 3, 64, 64), "cpu", True)]
    assert config.trainer.precision == parts.trainer.precision == "bf16-mixed"
    assert "precision=auto: bf16-mixed, 1 s against 2 s" in capsys.readouterr().out


def test_nothing_is_measured_of_a_configuration_with_mistakes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(assembly, "fastest", lambda *_, **__: pytest.fail("measured"))
    with pytest.raises(ConfigError, match="2 problems"):
        assembly.assemble(compose("train", ["trainer.precision=auto", "seed=-1"], tmp_path))
    assembly.assemble(compose("train", ["model=logistic"], tmp_path))  # 32-true was chosen


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
