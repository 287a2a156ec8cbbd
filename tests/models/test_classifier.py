from __future__ import annotations

import shutil
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from sklearn.metrics import average_precision_score, roc_auc_score
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from cxrlab.models import ClassifierModule, PaperCNN
from cxrlab.models.classifier import MONITORS

SIZE = 24


class Images(Dataset[dict[str, Any]]):
    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(0)
        self.images = torch.rand(SIZE, 3, 12, 12, generator=generator)
        self.labels = torch.tensor([0.0, 1.0] * (SIZE // 2))
        self.images[:, :, :4, :4] *= self.labels[:, None, None, None]  # something to learn: a dark corner

    def __len__(self) -> int:
        return SIZE

    def __getitem__(self, row: int) -> dict[str, Any]:
        return {"image": self.images[row], "label": self.labels[row], "row": row}


def trainer(**arguments: Any) -> pl.Trainer:
    quiet: dict[str, Any] = {
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }
    return pl.Trainer(accelerator="cpu", devices=1, **quiet, **arguments)


def tiny_network() -> nn.Module:
    """What a compiler has little to do for."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * 12 * 12, 4), nn.Tanh(), nn.Linear(4, 1))


def run(fit: pl.Trainer, module: ClassifierModule) -> None:
    fit.fit(module, DataLoader(Images(), batch_size=8), DataLoader(Images(), batch_size=8))


def network() -> nn.Module:
    torch.manual_seed(0)
    return PaperCNN(image_size=12, filters=[2, 3, 4], dense_units=8, dropout=[0, 0, 0])


def test_metrics_are_those_of_other_implementations() -> None:
    module = ClassifierModule(network())
    fit = trainer()
    logged = fit.test(module, DataLoader(Images(), batch_size=7), verbose=False)[0]
    data = Images()
    with torch.no_grad():
        scores = module.network.eval()(data.images).sigmoid().squeeze(1).numpy()
    labels = data.labels.numpy()
    called = scores > 0.5
    assert logged["test/accuracy"] == pytest.approx(np.mean(called == labels))
    assert logged["test/sensitivity"] == pytest.approx(np.mean(called[labels == 1]))
    assert logged["test/specificity"] == pytest.approx(np.mean(~called[labels == 0]))
    assert logged["test/auroc"] == pytest.approx(roc_auc_score(labels, scores), abs=1e-6)
    assert logged["test/ap"] == pytest.approx(average_precision_score(labels, scores), abs=1e-6)


def test_it_learns() -> None:
    module = ClassifierModule(network(), partial(torch.optim.Adam, lr=0.02))
    fit = trainer(max_epochs=60)
    run(fit, module)
    assert fit.callback_metrics["train/accuracy"] == 1.0


def test_what_can_be_monitored_is_what_is_logged() -> None:
    fit = trainer(max_epochs=1)
    module = ClassifierModule(network(), partial(torch.optim.SGD, lr=0.1))
    run(fit, module)
    assert set(fit.callback_metrics) == set(MONITORS)


def test_the_scheduler_steps_once_an_epoch_and_its_state_is_in_the_checkpoint() -> None:
    halve = partial(torch.optim.lr_scheduler.StepLR, step_size=1, gamma=0.5)
    module = ClassifierModule(network(), partial(torch.optim.SGD, lr=0.8), halve)
    fit = trainer(max_epochs=3)
    run(fit, module)
    assert fit.optimizers[0].param_groups[0]["lr"] == pytest.approx(0.1)
    checkpoint: dict[str, Any] = {}
    module.on_save_checkpoint(checkpoint)
    again = ClassifierModule(network(), partial(torch.optim.SGD, lr=0.8), halve)
    again.on_load_checkpoint(checkpoint)
    again.configure_optimizers()
    saved: dict[str, Any] = {}
    again.on_save_checkpoint(saved)
    assert saved["cxrlab_scheduler"] == checkpoint["cxrlab_scheduler"]


def test_a_plateau_scheduler_watches_the_monitor() -> None:
    plateau = partial(torch.optim.lr_scheduler.ReduceLROnPlateau, patience=0, factor=0.5)
    module = ClassifierModule(network(), partial(torch.optim.SGD, lr=1e-6), plateau, monitor="train/loss")
    fit = trainer(max_epochs=3)
    run(fit, module)
    assert fit.optimizers[0].param_groups[0]["lr"] < 1e-6


def gradients(module: ClassifierModule) -> Tensor:
    return torch.cat([parameter.grad.flatten() for parameter in module.parameters() if parameter.grad is not None])


def test_parts_of_a_batch_with_their_shares_have_the_batchs_gradient() -> None:
    module, data = ClassifierModule(network()), Images()
    rows = torch.arange(SIZE)
    batch = {"image": data.images, "label": data.labels, "row": rows}
    module.training_step(batch, 0).backward()  # type: ignore[no-untyped-call]
    expected = gradients(module)
    module.zero_grad()
    module.passes["train"].begin()
    for part, share in ((rows[:7], 7), (rows[7:], 17), (rows[:1], 0)):  # three processes, one without an image
        step = {**{key: value[part] for key, value in batch.items()}, "share": 3 * share / SIZE}
        (module.training_step(step, 0) / 3).backward()  # type: ignore[no-untyped-call]
    torch.testing.assert_close(gradients(module), expected)
    assert len(module.passes["train"]) == SIZE


@pytest.mark.parametrize(
    ("backend", "made"), [("eager", network), pytest.param("inductor", tiny_network, marks=pytest.mark.slow)]
)
def test_compiled_steps_are_the_plain_ones_and_leave_the_keys(backend: str, made: Callable[[], nn.Module]) -> None:
    if backend == "inductor" and not any(map(shutil.which, ("g++", "clang++"))):
        pytest.skip("NOT CHECKED: no C++ compiler here")
    plain, compiled = (ClassifierModule(made(), partial(torch.optim.SGD, lr=0.1)) for _ in range(2))
    # In this process, and without trying what the processor can do: each takes longer than what is compiled.
    alone = {"options": {"compile_threads": 1, "cpp.simdlen": 1}} if backend == "inductor" else {}
    compiled.compile(backend=backend, **alone)
    for module in (plain, compiled):
        run(trainer(max_epochs=1), module)
    assert compiled.state_dict().keys() == plain.state_dict().keys()
    for name, tensor in plain.state_dict().items():
        torch.testing.assert_close(compiled.state_dict()[name], tensor, rtol=0, atol=1e-5)
