from __future__ import annotations

import errno
import subprocess
import sys
from pathlib import Path
from typing import Any

import filelock
import pytest

from cxrlab import locks
from cxrlab.errors import ConfigError

HOLD = """
import sys
from cxrlab.locks import claimed
with claimed(sys.argv[1]):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_run_belongs_to_one_process_until_it_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "_PATIENCE", 0.1)
    command = [sys.executable, "-c", HOLD, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        other.stdout.readline()
        assert locks.is_claimed(tmp_path)
        whose = rf"process {other.pid} on .+, since \d{{4}}-\d\d-\d\d \d\d:\d\d, is at this run; wait until"
        with pytest.raises(ConfigError, match=whose), locks.claimed(tmp_path):
            pass
        other.kill()
        other.wait()
    assert not locks.is_claimed(tmp_path)
    with locks.claimed(tmp_path):
        pass
    assert [path.name for path in tmp_path.iterdir()] == [".lock"]


def test_who_claims_a_folder_removes_what_a_killed_process_left_and_nothing_else(tmp_path: Path) -> None:
    left = (".metrics.csv.a1b2c3d4.part", "figures/.a.png.a1b2c3d4.part", "checkpoints/.last.ckpt.a1b2c3d4.part")
    kept = ("a.part", ".cohen.zip.part", "figures/a.png", "deep/er/.a.png.a1b2c3d4.part", "checkpoints/last.ckpt")
    for name in (*left, *kept):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    with locks.claimed(tmp_path):
        pass
    found = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()}
    assert found == {*kept, ".lock"}


@pytest.mark.parametrize("error", [OSError(errno.ENOLCK, "No locks available"), NotImplementedError("no flock")])
def test_a_file_system_without_locks_is_refused(
    error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(filelock.FileLock, "acquire", refuse)
    says = r"has no locks.*hydra\.run\.dir=… chooses one on another disk"
    with pytest.raises(ConfigError, match=says), locks.claimed(tmp_path):
        pass


def test_a_claim_of_whoever_is_unknown_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "_PATIENCE", 0.1)
    with filelock.FileLock(tmp_path / ".lock"):
        (tmp_path / ".lock.holder").write_bytes(b"\x1b[2J\n" + b"x" * 10_000)
        with pytest.raises(ConfigError) as caught, locks.claimed(tmp_path):
            pass
    assert len(str(caught.value)) < 500
    assert str(caught.value).isprintable()
