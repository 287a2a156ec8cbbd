"""A process that decodes files, one after the other, for :mod:`cxrlab.reading.worker`.

Its memory is limited, it writes no file and no core dump, and what decoders print is heard here and nowhere else.
"""

from __future__ import annotations

import hashlib
import os
import signal
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import cv2

from cxrlab.errors import DataError
from cxrlab.reading.image import read_bytes
from cxrlab.reading.picture import damage_heard, decode, decode_levels
from cxrlab.reading.worker import IDLE, MEMORY, Message, receive, send

_GRACE = 10  # seconds after which the child ends by itself if its parent, which should have killed it, is gone
_HEARD = 4096  # bytes of what decoders print


def serve() -> None:
    """Answers until the parent closes the pipe."""
    requests = os.fdopen(os.dup(0), "rb", 0)
    answers = os.fdopen(os.dup(1), "wb", 0)
    with open(os.devnull, "r+b") as nothing:  # noqa: PTH123 - what libraries print must not get between the answers
        os.dup2(nothing.fileno(), 0)
        os.dup2(nothing.fileno(), 1)
    with tempfile.TemporaryFile() as printed:
        os.dup2(printed.fileno(), 2)
    _limit()
    send(answers, {})
    try:
        while True:
            _alarm(2 * IDLE)
            message, data = receive(requests)
            _alarm(message["seconds"] + _GRACE)
            os.ftruncate(2, 0)
            os.lseek(2, 0, os.SEEK_SET)
            send(answers, *answer(message, bytes(data), lambda: os.pread(2, _HEARD, 0)))
    except (EOFError, OSError):  # the parent has ended
        return


def _limit() -> None:
    cv2.setNumThreads(1)
    sys.dont_write_bytecode = True  # of what is imported later: cut off at _HEARD bytes, it would crash the next child
    try:
        import resource  # not on Windows
    except ImportError:
        return
    for what, most in ((resource.RLIMIT_AS, MEMORY), (resource.RLIMIT_CORE, 0), (resource.RLIMIT_FSIZE, _HEARD)):
        with suppress(ValueError, OSError):  # the system's own limit is lower, or it has none of this kind
            resource.setrlimit(what, (most, most))


def _alarm(seconds: float) -> None:
    if hasattr(signal, "setitimer"):
        signal.setitimer(signal.ITIMER_REAL, seconds)


def answer(message: Message, data: bytes, printed: Callable[[], bytes]) -> tuple[Message, bytes | memoryview]:
    """Decodes one file.

    Args:
        message: ``name`` for messages, ``path`` of the file to be read (empty: its bytes are ``data``), ``max_pixels``,
            ``levels``: whether those of grey images are wanted.
        data: The whole file.
        printed: What decoders have printed since this file was begun.

    Returns:
        ``shape``, ``facts``, ``levels`` and ``sha256``, and the pixels; or ``error`` and ``sha256``, which is empty
        where the file could not be read.
    """
    name, sha256 = message["name"], ""
    try:
        if message["path"]:
            data = read_bytes(Path(message["path"]), name)
        sha256 = hashlib.sha256(data).hexdigest()
        levels = None
        if message.get("levels"):
            pixels, facts, levels = decode_levels(name, data, message["max_pixels"])
        else:
            pixels, facts = decode(name, data, message["max_pixels"])
        if damage := damage_heard(printed(), data):
            raise DataError(f"{name}: damaged ({damage}); copy or download it again")
    except DataError as error:
        return {"error": str(error), "sha256": sha256}, b""
    except MemoryError:
        reason = f"takes more than {MEMORY // 2**30} GiB of memory to decode; leave it out, or save it again as PNG"
        return {"error": f"{name}: {reason}", "sha256": sha256}, b""
    known = {"facts": facts._asdict(), "levels": levels and levels._asdict()}
    return {"shape": pixels.shape, "sha256": sha256, **known}, pixels.data.cast("B")
