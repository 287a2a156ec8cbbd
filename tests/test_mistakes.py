"""Typical mistakes, as typed: the answer names the key, and no folder is left."""

from __future__ import annotations

import importlib
import logging
import sys
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import pytest


@pytest.fixture(autouse=True)
def _own_logging() -> Iterator[None]:
    """Hydra closes all handlers when it configures logging, and leaves its own."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    with mock.patch.object(logging, "_handlerList", []):
        yield
        for handler in root.handlers:
            if handler not in handlers:
                handler.close()
        root.handlers[:] = handlers
        root.setLevel(level)


MISTAKES = [
    # a key that is not there
    ("train lr=0.01", "lr", "did you mean 'optimizer.lr'?"),
    ("train +lr=0.01", "lr", "did you mean 'optimizer.lr'?"),
    ("train optimizer.learning=0.1", "optimizer.learning", "no such key"),
    ("train epochs=3", "epochs", "did you mean 'trainer.max_epochs'?"),
    ("train learning_rate=0.1", "learning_rate", "did you mean 'optimizer.lr'?"),
    ("train sed=3", "sed", "did you mean 'seed'?"),
    ("train model.dropuot=[0,0,0]", "model.dropuot", "did you mean 'model.dropout'?"),
    ("train optimizer.amsgrad=true", "optimizer.amsgrad", "+optimizer.amsgrad=true adds it"),
    ("train optimizer.momentum=0.9", "optimizer.momentum", "torch.optim.Adam has no such argument"),
    ("train trainer.fast_dev_run=true", "trainer.fast_dev_run", "debug=quick"),
    ("train modle=resnet18", "modle", "did you mean 'model'?"),
    # an option that is not there
    ("train model=paper_cn", "model=paper_cn", "did you mean 'paper_cnn'?"),
    ("audit data=papper", "data=papper", "did you mean 'paper'?"),
    # not of the form key=value
    ("train --seed=1", "--seed=1", "seed=…"),
    ("train seed", "seed", "key=value"),
    ("train model.dropout=[0,", "model.dropout=[0,", "key=value"),
    # a value that cannot be
    ("train seed=one", "seed", "whole number"),
    ("train data.val=15", "data.val", "(0, 1)"),
    ("train trainer.max_epochs=0", "trainer.max_epochs", "whole number"),
    ("train monitor=val/acuracy", "monitor", "did you mean 'val/accuracy'?"),
    ("train -m seed=one,two", "seed", "whole number"),
    # something that is not there
    ("train ckpt_path=runs/nothing", "ckpt_path=runs/nothing", "no such file or folder"),
    ("train data=folder data.source.root=nothing data.source.labels={a:0,b:1}", "data.source.root", "no such folder"),
    ("train data=manifest", "data.source.path", "must be set"),
    ("evaluate ckpt_path=runs/nothing", "runs/nothing", "no such checkpoint"),
    ("probe ckpt_path=runs/nothing", "runs/nothing", "no"),
    ("predict input=scans", "ckpt_path", "must be set"),
    ("predict ckpt_path=runs/nothing input=scans", "scans", "no such file or folder"),
    ("audit data=folder data.source.root=nothing data.source.labels={a:0,b:1}", "data.source.root", "no such folder"),
    ("audit seed=-1", "seed", "whole number"),
    ("compare runs=runs/nothing", "runs/nothing", "no"),
    ("compare split=tset runs=x", "split", "did you mean 'test'?"),
    ("matrix train=[papper]", "papper", "did you mean 'paper'?"),
    ("report run=runs/nothing", "run=runs/nothing", "no run folder"),
    ("sweep sweep=runs/nothing", "runs/nothing", "no"),
    ("export ckpt_path=runs/nothing", "runs/nothing", "no such checkpoint"),
    ("cache clear=everything", "clear", "pixels"),
    ("download data=papper", "data=papper", "did you mean 'paper'?"),
]


@pytest.mark.parametrize(("typed", "key", "hint"), MISTAKES, ids=[typed for typed, _, _ in MISTAKES])
def test_a_mistake_is_named_and_leaves_nothing(
    typed: str,
    key: str,
    hint: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    program, *arguments = typed.split()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CXRLAB_CACHE", str(tmp_path.parent / "cache"))
    monkeypatch.setattr(sys, "argv", [f"cxrlab-{program}", *arguments])
    with pytest.raises(SystemExit) as caught:
        importlib.import_module(f"cxrlab.{program}").main()
    assert caught.value.code == 1
    told = capsys.readouterr().err
    assert key in told
    assert hint in told
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_was_there_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from cxrlab.train import main

    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").mkdir()
    monkeypatch.setattr(sys, "argv", ["cxrlab-train", "seed=one", "hydra.run.dir=mine"])
    with pytest.raises(SystemExit):
        main()
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]
