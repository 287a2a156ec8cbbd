"""Children that decode files, and what becomes of one that takes too long, crashes or is left alone."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.reading.conftest import film as dicom
from tests.reading.conftest import saved

from cxrlab.datamodules.parallel import for_each
from cxrlab.datamodules.pixels import read_all
from cxrlab.datamodules.preprocessing import Preprocessing
from cxrlab.errors import DataError, UserError
from cxrlab.reading import image as reading
from cxrlab.reading import worker
from cxrlab.reading.image import MAX_BYTES, read_image, read_image_bytes
from cxrlab.reading.worker import Message, Pool

SERVE = worker._BOOT.partition("from cxrlab")[0]
DOINGS = """
import os, signal, time
from cxrlab.reading import child
from cxrlab.reading.child import serve
real = child.decode
def decode(name, data, max_pixels):
    name = os.path.basename(name)
    if name.startswith("slow"): time.sleep(60)
    if name.startswith("busy"):
        while True: pass
    if name.startswith("segv"): os.kill(os.getpid(), signal.SIGSEGV)
    if name.startswith("abort"): os.abort()
    if name.startswith("exit"): os._exit(3)
    if name.startswith("noise"): os.write(2, b"Corrupt JPEG data: made up"); os.write(1, b"noise")
    if name.startswith("memory"): bytearray(2**40)
    if name.startswith("flood"): os.write(2, bytes(2**20))
    return real(name, data, max_pixels)
child.decode = decode
serve()
"""
"""A child whose decoder does what the name of a file says."""


def png() -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (30, 40), np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture
def pool(monkeypatch: pytest.MonkeyPatch) -> Iterator[Pool]:
    monkeypatch.setattr(worker, "_BOOT", SERVE + DOINGS)
    made = Pool()
    monkeypatch.setattr(reading, "POOL", made)
    yield made
    made.give_up()


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("slow", "took longer than 2 s to decode"),
        ("busy", "took longer than 2 s to decode"),
        ("segv", "the decoder crashed on it (SIGSEGV)"),
        ("abort", "the decoder crashed on it (SIGABRT)"),
        ("exit", "the decoder crashed on it (exit status 3)"),
        ("noise", "damaged (Corrupt JPEG data: made up)"),
        ("memory", "takes more than 6 GiB of memory to decode"),
    ],
)
def test_what_goes_wrong_in_a_decoder_costs_one_file(pool: Pool, name: str, reason: str) -> None:
    began = time.monotonic()
    with pytest.raises(DataError) as caught:
        read_image_bytes(name, png(), seconds=2)
    assert str(caught.value).startswith(f"{name}: {reason}")
    assert time.monotonic() - began < 20
    assert read_image_bytes("good", png()).pixels.shape == (30, 40, 3)


def test_what_decoders_print_is_bounded_and_heard_by_nobody(pool: Pool, capfd: pytest.CaptureFixture[str]) -> None:
    assert read_image_bytes("flood", png()).pixels.shape == (30, 40, 3)
    assert capfd.readouterr() == ("", "")


@pytest.mark.slow
def test_bad_files_among_good_ones_cost_their_own_rows(
    pool: Pool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "SECONDS", 3.0)
    names = [f"{kind}{number}.png" for number in range(4) for kind in ("good", "segv", "fine", "exit")]
    names.insert(5, "slow.png")
    for name in names:
        (tmp_path / name).write_bytes(png())
    pixels = read_all([str(tmp_path / name) for name in names], Preprocessing.create(8))
    bad = {row for row, name in enumerate(names) if name[:4] in {"segv", "exit", "slow"}}
    assert set(pixels.problems) == bad
    assert all(bool(image.any()) == (row not in bad) for row, image in enumerate(pixels.images))


def test_a_child_that_is_killed_from_outside_costs_one_file(pool: Pool) -> None:
    read_image_bytes("good", png())
    (child,) = pool._all
    threading.Timer(1, child._process.kill).start()
    with pytest.raises(DataError, match="the decoder crashed on it"):
        read_image_bytes("slow", png())
    assert read_image_bytes("good", png()).pixels.any()


def test_a_child_that_died_while_it_waited_costs_none(pool: Pool) -> None:
    read_image_bytes("good", png())
    (child,) = pool._all
    child._process.kill()
    child._process.wait()
    assert read_image_bytes("good", png()).pixels.any()


def test_a_child_that_waited_long_is_not_used_again(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    read_image_bytes("good", png())
    (first,) = pool._all
    monkeypatch.setattr(worker, "IDLE", 0.0)
    read_image_bytes("good", png())
    assert first not in pool._all
    assert first._process.returncode is not None


def test_who_waits_is_let_go_when_all_is_given_up(pool: Pool) -> None:
    began = time.monotonic()
    threading.Timer(1, pool.give_up).start()
    with pytest.raises(DataError):
        read_image_bytes("slow", png())
    assert time.monotonic() - began < 15


def test_an_interrupted_loop_waits_for_no_file(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cxrlab.datamodules.parallel.POOL", pool)

    def work(name: str) -> None:
        if name == "end":
            time.sleep(1)
            raise KeyboardInterrupt
        read_image_bytes(name, png())

    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        for_each(work, ["end", *["slow"] * 20], "reading")
    assert time.monotonic() - began < 15


def test_threads_get_their_own_answers(pool: Pool) -> None:
    films = [np.full((20 + number, 30, 3), number, np.uint8) for number in range(24)]

    def encoded(film: np.ndarray) -> bytes:
        buffer = io.BytesIO()
        Image.fromarray(film).save(buffer, "PNG")
        return buffer.getvalue()

    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(lambda film: read_image_bytes("x", encoded(film)).pixels, films))
    for film, pixels in zip(films, found, strict=True):
        np.testing.assert_array_equal(film, pixels)
    assert len(pool._all) <= 4


def test_a_forked_process_has_children_of_its_own(pool: Pool) -> None:
    assert read_image_bytes("good", png()).pixels.any()
    (child,) = pool._all
    pid = os.fork()
    if not pid:
        status = 1
        try:
            read_image_bytes("good", png())
            (other,) = pool._all
            status = 0 if other is not child else 2
            pool.give_up()
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert read_image_bytes("good", png()).pixels.any()
    assert child in pool._all


def test_no_child_outlives_its_parent(tmp_path: Path) -> None:
    (tmp_path / "film.png").write_bytes(png())
    script = f"""
import os
from cxrlab.reading.image import read_image
from cxrlab.reading.worker import POOL
read_image({str(tmp_path / "film.png")!r})
print(*[child._process.pid for child in POOL._all], flush=True)
os.kill(os.getpid(), 9)
"""
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert ran.returncode == -signal.SIGKILL
    assert ran.stderr == ""
    until = time.monotonic() + 20
    while Path(f"/proc/{int(ran.stdout)}").exists() and time.monotonic() < until:
        time.sleep(0.1)
    assert not Path(f"/proc/{int(ran.stdout)}").exists()


def test_a_program_that_ends_leaves_no_child_and_no_word(tmp_path: Path) -> None:
    (tmp_path / "film.png").write_bytes(png())
    script = "from cxrlab.reading.image import read_image; print(read_image('film.png').pixels.shape)"
    command = [sys.executable, "-W", "error", "-X", "dev", "-c", script]
    ran = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "(30, 40, 3)\n", "")


def test_a_process_that_cannot_be_started_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(subprocess, "Popen", fail)
    with pytest.raises(UserError, match=r"could not be started \(Resource temporarily unavailable\)"):
        Pool().ask("x", {}, b"", 1)


@pytest.mark.parametrize("boot", ["import nothing_of_this_name", "raise SystemExit", "print('hello, world')"])
def test_a_child_that_cannot_begin_is_named(monkeypatch: pytest.MonkeyPatch, boot: str) -> None:
    monkeypatch.setattr(worker, "_BOOT", boot)
    with pytest.raises(UserError, match="could not be started"):
        Pool().ask("x", {}, b"", 1)


def test_a_module_in_the_folder_where_a_program_is_run_is_not_imported(tmp_path: Path) -> None:
    (tmp_path / "film.png").write_bytes(png())
    for name in ("cv2", "numpy", "json", "PIL"):
        (tmp_path / f"{name}.py").write_text("open('owned', 'w').close()\n", encoding="utf-8")
    script = tmp_path / "elsewhere" / "script.py"
    script.parent.mkdir()
    script.write_text("from cxrlab.reading.image import read_image\nread_image('film.png')\n", encoding="utf-8")
    subprocess.run([sys.executable, str(script)], cwd=tmp_path, check=True)
    assert not (tmp_path / "owned").exists()


def test_the_limits_of_a_child_are_set(pool: Pool) -> None:
    read_image_bytes("good", png())
    (child,) = pool._all
    limits = Path(f"/proc/{child._process.pid}/limits").read_text(encoding="utf-8")
    lines = {line[:26].strip(): line[26:].split()[0] for line in limits.splitlines()}
    assert lines["Max address space"] == str(worker.MEMORY)
    assert lines["Max core file size"] == "0"
    assert int(lines["Max file size"]) <= 4096


def test_a_sparse_file_over_the_limit_is_refused_with_its_size(tmp_path: Path) -> None:
    film = tmp_path / "film.png"
    with film.open("wb") as file:
        file.truncate(30 * 2**30)
    began = time.monotonic()
    with pytest.raises(DataError, match=f"32,212,254,720 bytes, over the limit of {MAX_BYTES:,}"):
        read_image(film)
    assert time.monotonic() - began < 10


def test_a_file_that_is_larger_than_it_says_is_read_to_the_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "MAX_BYTES", 1000)
    (tmp_path / "film.png").write_bytes(bytes(1001))
    with pytest.raises(DataError, match="1,001 bytes, over the limit of 1,000"):
        reading.read_bytes(tmp_path / "film.png")


def test_a_message_that_is_none_is_refused() -> None:
    read, write = os.pipe()
    with os.fdopen(read, "rb", 0) as reader, os.fdopen(write, "wb", 0) as writer:
        writer.write(b"\xff" * 12)
        with pytest.raises(ValueError, match="no message"):
            worker.receive(reader)


def test_messages_arrive_as_they_were_sent() -> None:
    read, write = os.pipe()
    message: Message = {"name": "größer\udcff", "n": 3}
    data = bytes(range(256)) * 4096
    with os.fdopen(read, "rb", 0) as reader, os.fdopen(write, "wb", 0) as writer:
        thread = threading.Thread(target=worker.send, args=(writer, message, data))
        thread.start()
        found, arrived = worker.receive(reader)
        thread.join()
    assert found == message
    assert bytes(arrived) == data


@pytest.mark.slow
def test_a_child_leaves_no_half_written_bytecode_to_the_next(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A child imports what reads DICOM when it needs it, and by then may write small files only."""
    monkeypatch.setenv("PYTHONPYCACHEPREFIX", str(tmp_path))
    monkeypatch.delenv("PYTHONDONTWRITEBYTECODE", raising=False)
    values = np.arange(100, dtype=np.uint16).reshape(10, 10)
    message = {"name": "film", "path": "", "max_pixels": 100, "seconds": 20}
    for _ in range(2):
        pool = Pool()
        answer, _ = pool.ask("film", message, saved(dicom(values)), 20)
        pool.give_up()
        assert answer["facts"]["format"] == "DICOM"
