from __future__ import annotations

import pytest
from omegaconf import OmegaConf

from cxrlab.config.hints import meant

CONFIG = OmegaConf.create(
    {
        "seed": 0,
        "optimizer": {"_target_": "torch.optim.Adam", "lr": 0.1, "eps": 0.0},
        "data": {"batch_size": 2, "source": {"root": "x"}, "transforms": [{"p": 1.0}]},
        "trainer": {"max_epochs": 2},
        "other": {"batch_size": 1},
        "hydra": {"verbose": False},
    }
)


@pytest.mark.parametrize(
    ("typed", "hint"),
    [
        ("lr", "'optimizer.lr'"),  # the same name somewhere
        ("model.lr", "'optimizer.lr'"),
        ("sed", "'seed'"),  # a similar name beside it
        ("optimizer.lrr", "'optimizer.lr'"),
        ("epochs", "'trainer.max_epochs'"),  # a similar name elsewhere
        ("batch_size", "'data.batch_size' or 'other.batch_size'"),
    ],
)
def test_the_key_that_was_meant_is_named(typed: str, hint: str) -> None:
    assert meant(typed, CONFIG) == f"; did you mean {hint}?"


@pytest.mark.parametrize("typed", ["quite_another", "verbose", "seed", "data.0"])
def test_nothing_is_guessed_from_afar(typed: str) -> None:
    assert meant(typed, CONFIG) == ""
