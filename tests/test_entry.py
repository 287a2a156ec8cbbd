from __future__ import annotations

import errno
import os
import re
from pathlib import Path
from types import SimpleNamespace

import pytest
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from tests import programs

from cxrlab import entry
from cxrlab.entry import INTERRUPTED, errors_as_sentences
from cxrlab.errors import DataError

ROOT = Path(__file__).resolve().parents[1]
AGAIN = "type the same again"


@pytest.fixture(autouse=True)
def single_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(HydraConfig, "get", lambda: SimpleNamespace(mode=RunMode.RUN))


def test_a_users_mistake_is_a_sentence_and_exit_status_1(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught, errors_as_sentences(AGAIN):
        raise DataError("films: no such folder")
    assert caught.value.code == 1
    assert capsys.readouterr().err == "error: films: no such folder\n"


def test_a_full_disk_is_a_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit), errors_as_sentences(AGAIN):
        raise OSError(errno.ENOSPC, "No space left on device", "run/metrics.csv")
    expected = "error: run/metrics.csv: No space left on device; make room, then type the same again\n"
    assert capsys.readouterr().err == expected


@pytest.mark.parametrize("number", [errno.EACCES, errno.EPERM, errno.EROFS])
def test_a_folder_that_may_not_be_written_is_a_sentence(number: int, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit), errors_as_sentences(AGAIN):
        raise OSError(number, os.strerror(number), "run/audit.md")
    told = capsys.readouterr().err
    assert (
        told
        == f"error: run/audit.md: {os.strerror(number)}; hydra.run.dir=… chooses another folder for what is written\n"
    )


@pytest.mark.parametrize("bug", [OSError(errno.EBADF, "Bad file descriptor"), KeyError("x"), ValueError("x")])
def test_a_bug_passes_through(bug: Exception) -> None:
    with pytest.raises(type(bug)) as caught, errors_as_sentences(AGAIN):
        raise bug
    assert caught.value is bug


def test_ctrl_c_ends_as_shells_expect(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught, errors_as_sentences(AGAIN):
        raise KeyboardInterrupt
    assert caught.value.code == INTERRUPTED
    expected = "interrupted; nothing that was finished is lost; to go on, type the same again"
    assert capsys.readouterr().err.strip() == expected


@pytest.mark.parametrize(
    ("typed", "read"),
    [
        ("a=1 -m b=1,2", "a=1 b=1,2 -m"),
        ("-m a=1 --config-dir mine b=2", "a=1 b=2 -m --config-dir mine"),
        ("a=1 --cfg job b=2 -p data c=3", "a=1 b=2 c=3 --cfg job -p data"),
        ("--info all a=1", "a=1 --info all"),
        ("--info a=1", "a=1 --info"),
        ("~logger +x=1 --config-dir=mine a=1", "~logger +x=1 a=1 --config-dir=mine"),
        ("--help", "--help"),
        ("a=1 -cd", "a=1 -cd"),
        ("", ""),
    ],
)
def test_options_may_stand_anywhere(typed: str, read: str) -> None:
    assert entry._overrides_first(typed.split()) == read.split()


def test_a_file_of_a_name_that_is_taken_is_told_so(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model/resnet18.yaml").write_text("_target_: cxrlab.models.ThumbnailLogistic\n")
    status, _, errors = programs.run("train", "--config-dir", str(tmp_path), "model=resnet18")
    assert status == 1
    assert "model/resnet18.yaml: an option of cxrlab has this name already; give your file another one" in errors


def test_a_file_says_where_data_and_cache_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXRLAB_DATA", "set already")
    for name in ("CXRLAB_CACHE", "CXRLAB_OTHER", "LD_PRELOAD"):
        monkeypatch.setenv(name, "")  # so that it is restored
        monkeypatch.delenv(name)
    (tmp_path / ".env").write_text(
        "# ours\nCXRLAB_DATA=other\nexport CXRLAB_CACHE='~/kept'  # a comment\nCXRLAB_OTHER=x\nLD_PRELOAD=/evil.so\n"
    )
    entry._read_env(tmp_path / ".env")
    assert os.environ["CXRLAB_DATA"] == "set already"
    assert os.environ["CXRLAB_CACHE"] == str(Path("~/kept").expanduser())
    assert "CXRLAB_OTHER" not in os.environ
    assert "LD_PRELOAD" not in os.environ
    entry._read_env(tmp_path / "absent")


def test_the_example_of_the_file_names_every_variable_of_conf() -> None:
    named = set(re.findall(r"oc\.env:(\w+)", (ROOT / "conf/paths/default.yaml").read_text(encoding="utf-8")))
    assert set(re.findall(r"^(\w+)=", (ROOT / ".env.example").read_text(encoding="utf-8"), re.MULTILINE)) == named
