from __future__ import annotations

import io
import random
from types import SimpleNamespace

import numpy as np
import torch

from cxrlab.callbacks import RandomState


def draw() -> tuple[float, float, float, float]:
    generator = np.random  # the global state is what is saved; libraries draw from it
    return random.random(), random.gauss(0, 1), float(generator.standard_normal()), float(torch.rand(1))


def test_states_survive_a_checkpoint_that_holds_plain_values_only() -> None:
    draw()  # leaves half a pair of Gaussians behind, which is part of the state
    file = io.BytesIO()
    torch.save(RandomState().state_dict(), file)
    expected = [draw() for _ in range(3)]
    file.seek(0)
    restored = RandomState()
    restored.load_state_dict(torch.load(file, weights_only=True))
    assert draw() != expected[0]  # nothing is restored before training starts
    restored.on_train_start(None, None)  # type: ignore[arg-type]
    assert [draw() for _ in range(3)] == expected


def test_a_fresh_run_is_left_alone() -> None:
    torch.manual_seed(1)
    expected = torch.rand(1)
    torch.manual_seed(1)
    RandomState().on_train_start(None, None)  # type: ignore[arg-type]
    assert torch.equal(torch.rand(1), expected)


def drawn(rank: int, epoch: int, seed: int = 0) -> float:
    torch.manual_seed(1)
    trainer = SimpleNamespace(global_rank=rank, current_epoch=epoch)
    RandomState(seed).on_train_epoch_start(trainer, None)  # type: ignore[arg-type]
    return float(torch.rand(1))


def test_every_process_has_numbers_of_its_own_and_the_first_keeps_its_own() -> None:
    torch.manual_seed(1)
    untouched = float(torch.rand(1))
    assert drawn(0, 0) == drawn(0, 1) == untouched
    assert len({drawn(rank, epoch, seed) for rank in (0, 1, 2) for epoch in (0, 1) for seed in (0, 1)}) == 9
    assert drawn(1, 1) == drawn(1, 1)
