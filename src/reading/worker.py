"""Processes that decode files: work in them can be given up, and a decoder that crashes costs one file.

A decoder written in C cannot be interrupted from Python, and one that is fed a hostile file may crash or ask for all
memory. So files are decoded in child processes with limits of their own (:mod:`cxrlab.reading.child`). A child handles
one file at a time and is used again; it is killed when it takes too long. Nothing that it sends is unpickled.
"""

from __future__ import annotations

import atexit
import json
import os
import signal
import struct
import subprocess
import sys
import threading
import time
from contextlib import suppress
from typing import Any, BinaryIO

import numpy as np

from cxrlab.errors import DataError, UserError

MEMORY = 6 * 2**30
"""Bytes that a child may ask for: twice what the largest image of 16-bit colours takes (not limited on Windows)."""
IDLE = 30.0
"""Seconds after which an unused child is not used again; it ends by itself at twice this."""
_BOOT = "import json, sys; sys.path = json.loads(sys.argv[1]); from cxrlab.reading.child import serve; serve()"
_ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}  # as many children as cores are at work already
_HEAD = struct.Struct("<IQ")  # lengths of a message in JSON and of the bytes after it
_LONGEST = 2**20  # bytes of a message; longer ones are no answer

Message = dict[str, Any]


class Pool:
    """Children that are started as they are needed: one for each thread that asks at the same time."""

    def __init__(self) -> None:
        self._start_again()
        atexit.register(self.give_up)
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._forget)

    def ask(self, name: str, message: Message, data: bytes, seconds: float) -> tuple[Message, memoryview]:
        """Has a child answer.

        Args:
            name: Of the file, for messages.
            message: What :mod:`cxrlab.reading.child` understands.
            data: Bytes that go with it.
            seconds: The child is killed after so many.

        Returns:
            The child's answer, and the bytes that go with it.

        Raises:
            DataError: The child took too long, or crashed.
            UserError: No child can be started.
        """
        begun = self._given_up
        child = self._take()
        try:
            if begun != self._given_up:  # while the child was started
                raise EOFError
            answer, in_time = child.ask(message, data, seconds)
        except (OSError, EOFError, ValueError):  # of a pipe that has ended, or of an answer that is none
            self._end(child)
            raise DataError(f"{name}: {child.why(seconds)}; leave it out, or save it again as PNG") from None
        except BaseException:  # Ctrl-C, say: what the child sends later must not answer the next question
            self._end(child)
            raise
        if in_time:
            child.used = time.monotonic()
            with self._lock:
                self._idle.append(child)
        else:
            self._end(child)
        return answer

    def give_up(self) -> None:
        """Kills all children: whoever waits for one gets a DataError at once. Later questions start new ones."""
        with self._lock:
            self._given_up += 1
            children = list(self._all)
        for child in children:
            self._end(child)

    def _take(self) -> _Child:
        with self._lock:
            child = self._idle.pop() if self._idle else None
        if child is not None:
            if child.is_fresh():
                return child
            self._end(child)
            return self._take()
        child = _Child()
        with self._lock:
            self._all.add(child)
        return child

    def _end(self, child: _Child) -> None:
        with self._lock:
            self._all.discard(child)
            if child in self._idle:
                self._idle.remove(child)
        child.end()

    def _start_again(self) -> None:
        self._lock = threading.Lock()
        self._given_up = 0
        self._idle: list[_Child] = []
        self._all: set[_Child] = set()

    def _forget(self) -> None:
        """In a forked process: the children are those of the process that was forked, and so are the pipes to them."""
        for child in self._all:
            child.forget()
        self._start_again()


class _Child:
    """One process, and the pipes to it."""

    def __init__(self) -> None:
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-c", _BOOT, json.dumps(sys.path)],
                bufsize=0,  # a forked process must have nothing to flush
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,  # what decoders print is heard by the child
                start_new_session=True,  # Ctrl-C in the terminal is for the parent only
                env=os.environ | _ONE_THREAD,
            )
            for pipe in (self._stdin, self._stdout):
                with suppress(ImportError, AttributeError, OSError):  # Linux only
                    import fcntl

                    fcntl.fcntl(pipe.fileno(), fcntl.F_SETPIPE_SZ, 2**20)
            receive(self._stdout)  # that it is ready
        except (OSError, EOFError, ValueError) as error:
            if hasattr(self, "_process"):
                self.end()
            reason = getattr(error, "strerror", None) or "it ended at once"
            raise UserError(
                f"a process that decodes images could not be started ({reason}); free memory, allow more processes "
                "(`ulimit -u`), and see what `python -c 'import cxrlab.reading.child'` says"
            ) from None
        self.used = time.monotonic()
        self._late = threading.Event()

    @property
    def _stdin(self) -> BinaryIO:
        assert self._process.stdin is not None
        return self._process.stdin  # type: ignore[return-value]

    @property
    def _stdout(self) -> BinaryIO:
        assert self._process.stdout is not None
        return self._process.stdout  # type: ignore[return-value]

    def ask(self, message: Message, data: bytes, seconds: float) -> tuple[tuple[Message, memoryview], bool]:
        """The answer, and whether it came in time; where it did not, the child is dead."""
        timer = threading.Timer(seconds, self._expire)
        timer.daemon = True
        timer.start()
        try:
            send(self._stdin, message, data)
            answer = receive(self._stdout)
        finally:
            timer.cancel()
            timer.join()  # it may just have begun to kill
        return answer, not self._late.is_set()

    def _expire(self) -> None:
        self._late.set()
        self._process.kill()

    def is_fresh(self) -> bool:
        """Whether it is alive, and not about to end by itself."""
        return self._process.poll() is None and time.monotonic() - self.used < IDLE

    def why(self, seconds: float) -> str:
        """Why an ended child gave no answer."""
        code = self._process.returncode
        if self._late.is_set() or (hasattr(signal, "SIGALRM") and code == -signal.SIGALRM):
            return f"took longer than {seconds:.0f} s to decode"
        with suppress(ValueError):
            return f"the decoder crashed on it ({signal.Signals(-code).name})"
        return f"the decoder crashed on it (exit status {code})"

    def end(self) -> None:
        self._process.kill()
        self._process.wait()
        self._close()

    def forget(self) -> None:
        self._process.returncode = 0  # it is not ours to wait for
        self._close()

    def _close(self) -> None:
        for pipe in (self._stdin, self._stdout):
            with suppress(OSError):
                pipe.close()


def send(pipe: BinaryIO, message: Message, data: bytes | memoryview = b"") -> None:
    """Writes a message, and bytes that go with it, to an unbuffered pipe.

    Raises:
        OSError: Nobody reads it.
    """
    text = json.dumps(message).encode()
    for part in (_HEAD.pack(len(text), len(data)) + text, data):
        rest = memoryview(part)
        while rest:
            rest = rest[pipe.write(rest) :]


def receive(pipe: BinaryIO, most: int = 2**30) -> tuple[Message, memoryview]:
    """Reads what :func:`send` wrote.

    Raises:
        EOFError: The pipe ended.
        ValueError: It is no message, or has more than ``most`` bytes.
    """
    length, size = _HEAD.unpack(_read(pipe, _HEAD.size))
    if length > _LONGEST or size > most:
        raise ValueError("no message")
    return json.loads(bytes(_read(pipe, length))), _read(pipe, size)


def _read(pipe: BinaryIO, size: int) -> memoryview:
    data = rest = np.empty(size, np.uint8).data  # a bytearray would be filled with zeros first
    while rest:
        count = pipe.readinto(rest)  # type: ignore[attr-defined]
        if not count:
            raise EOFError
        rest = rest[count:]
    return data


POOL = Pool()
"""The children of this process."""
