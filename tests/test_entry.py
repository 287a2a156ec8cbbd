from __future__ import annotations

import errno
from types import SimpleNamespace

import pytest
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode

from cxrlab.entry import INTERRUPTED, errors_as_sentences
from cxrlab.errors import DataError


@pytest.fixture(autouse=True)
def single_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(HydraConfig, "get", lambda: SimpleNamespace(mode=RunMode.RUN))


def test_a_users_mistake_is_a_sentence_and_exit_status_1(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught, errors_as_sentences():
        raise DataError("films: no such folder")
    assert caught.value.code == 1
    assert capsys.readouterr().err == "error: films: no such folder\n"


def test_a_full_disk_is_a_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit), errors_as_sentences():
        raise OSError(errno.ENOSPC, "No space left on device", "run/metrics.csv")
    expected = (
        "error: run/metrics.csv: No space left on device; make room, then go on with ckpt_path=<the run folder>\n"
    )
    assert capsys.readouterr().err == expected


@pytest.mark.parametrize("bug", [OSError(errno.EBADF, "Bad file descriptor"), KeyError("x"), ValueError("x")])
def test_a_bug_passes_through(bug: Exception) -> None:
    with pytest.raises(type(bug)) as caught, errors_as_sentences():
        raise bug
    assert caught.value is bug


def test_ctrl_c_ends_as_shells_expect() -> None:
    with pytest.raises(SystemExit) as caught, errors_as_sentences():
        raise KeyboardInterrupt
    assert caught.value.code == INTERRUPTED
