"""When validation figures are drawn: callbacks/figures.py."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from cxrlab.callbacks import TensorBoardFigures, figures


@pytest.mark.parametrize(("every", "epochs"), [(0, [3]), (1, [1, 2, 3]), (2, [2, 3]), (3, [3])])
def test_every_n_epochs_and_at_the_end(every: int, epochs: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[int] = []
    now = [0]
    trainer: Any = SimpleNamespace(current_epoch=0, loggers=[])
    monkeypatch.setattr(figures, "_add_validation_figures", lambda *_: drawn.append(now[0]))
    callback = TensorBoardFigures(every)
    for epoch in (1, 2, 3):
        now[0] = epoch
        callback.on_train_epoch_end(trainer, None)  # type: ignore[arg-type]
        trainer.current_epoch = epoch
    callback.on_train_end(trainer, None)  # type: ignore[arg-type]
    assert drawn == epochs


def test_every_n_epochs_is_checked() -> None:
    with pytest.raises(ValueError, match="every_n_epochs must be"):
        TensorBoardFigures(-1)
