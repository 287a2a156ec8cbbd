import subprocess
import sys

import pytest

from cxrlab.machine import memory

STEP = """
import resource, sys
from cxrlab.machine import memory
if sys.argv[1] != "default":
    assert memory.keep_freed()
if sys.argv[1] == "return":
    kept = b"x" * (640 * 2**20)
    del kept
    before = int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize()
    assert before > 600 * 2**20
    assert memory.return_freed()
    assert int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize() < before - 600 * 2**20
for step in range(5):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    block = b"x" * (64 * 2**20)
    del block
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="mallopt is glibc's")
def test_a_freed_block_is_not_faulted_in_again() -> None:
    def faults(how: str) -> int:
        done = subprocess.run([sys.executable, "-c", STEP, how], capture_output=True, text=True, check=True)
        return int(done.stdout)

    assert faults("keep") < 100
    assert faults("default") > 10_000  # 64 MiB in pages of 4 KiB
    assert faults("return") > 10_000


def test_elsewhere_nothing_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    assert memory.keep_freed() is False
    assert memory.return_freed() is False


def test_another_c_library_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr("ctypes.CDLL", lambda _name: object())  # musl has no gnu_get_libc_version
    assert memory.keep_freed() is False
