"""The gate's network: its shape, its size, and what it does not take."""

from __future__ import annotations

import functools
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader

from cxrlab.models import GateModule, GateNet


@pytest.mark.parametrize("side", [32, 64, 96])
def test_one_logit_for_each_kind(side: int) -> None:
    network = GateNet().eval()
    assert sum(each.numel() for each in network.parameters()) == 218_426
    assert network(torch.zeros(2, 1, side, side)).shape == (2, 10)


@pytest.mark.parametrize(
    "arguments",
    [{"channels": [8]}, {"channels": "16"}, {"channels": [8, 513]}, {"kinds": 1}, {"dropout": 1.0}, {"kinds": True}],
)
def test_what_is_out_of_range(arguments: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(arguments))):
        GateNet(**arguments)


def test_it_learns_what_is_up(tmp_path: Any) -> None:
    """Bright above or bright below: the same grey levels, turned."""
    torch.manual_seed(0)
    kinds = torch.arange(64) % 2
    images = torch.randn(64, 1, 32, 32) * 0.3
    images[kinds == 0, :, :16] += 1
    images[kinds == 1, :, 16:] += 1
    rows = [{"image": image, "kind": kind} for image, kind in zip(images, kinds, strict=True)]
    module = GateModule(GateNet(2, [4, 8]), functools.partial(torch.optim.Adam, lr=0.02))
    quiet: dict[str, Any] = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    trainer = pl.Trainer(max_epochs=6, accelerator="cpu", enable_model_summary=False, **quiet)
    trainer.fit(module, DataLoader(rows, 16))  # type: ignore[arg-type]
    assert trainer.callback_metrics["train/accuracy"] > 0.9
    assert (module.network.eval()(images).argmax(1) == kinds).float().mean() > 0.95
