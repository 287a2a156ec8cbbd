from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from cxrlab.errors import ConfigError
from cxrlab.sweeps import lock

HOLD = """
import sys
from filelock import FileLock
lock = FileLock(sys.argv[1])
with lock:
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_run_belongs_to_one_process_until_it_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "_PATIENCE", 0.1)
    command = [sys.executable, "-c", HOLD, str(tmp_path / ".lock")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        other.stdout.readline()
        assert lock.is_claimed(tmp_path)
        with pytest.raises(ConfigError, match="another process is at this run"), lock.claimed(tmp_path):
            pass
        other.kill()
        other.wait()
    assert not lock.is_claimed(tmp_path)
    with lock.claimed(tmp_path):
        pass
