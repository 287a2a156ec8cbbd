"""What the page's script and other programs ask: ``POST /api/examine`` takes the bytes of a file and answers with JSON.

::

    curl --data-binary @film.dcm -H 'X-File-Name: film.dcm' http://127.0.0.1:7860/api/examine

The body is the file as it is, at most ``max_upload_mb``; there is no form, no path and no address in it. The optional
header is what the file is called, percent-encoded UTF-8, and is only shown. ``?card=true`` adds the HTML of the page
and of a report. Status 200: the file was looked at, also where it was refused; 413: too large; 503: too many wait;
403: asked under another name or by another site. An error is ``{"error": "a sentence"}``.
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
import traceback
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from importlib import resources
from urllib.parse import parse_qs, unquote

from cxrlab.errors import check_range
from cxrlab.page.case import answer, card, report, style
from cxrlab.page.desk import Desk
from cxrlab.page.guard import Receive, Scope, Send, reply
from cxrlab.page.worth import Worth

FILE_NAME = b"x-file-name"
_PAUSE = 30.0  # seconds that a client may send nothing while it uploads
_LONGEST_HEADER = 4096
_LONGEST_LENGTH = 19  # digits: more than any file has, and few enough for Python to read
_ICON = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32"><rect width="32" height="32" rx="6" fill="#1f4e79"/>'
    '<path d="M14 7v9c-3 0-7 3-7 9h5c3 0 3-2 3-4V7Zm4 0v9c3 0 7 3 7 9h-5c-3 0-3-2-3-4V7Z" fill="#fff"/></svg>'
)
_log = logging.getLogger("cxrlab")


class TooLargeError(Exception):
    """More bytes came than a file may have."""


class Api:
    """Answers what is asked below ``/api/`` and ``/page/`` (ASGI).

    Args:
        desk: Examines files.
        known: What its models are worth, in their order.
        max_upload_mb: Largest file, in MB of a million bytes, in (0, 1000].
        max_waiting: Files that may be examined or wait for it at a time, 1 to 1000; further ones are sent away.

    Raises:
        ValueError: A limit is out of its range.
    """

    def __init__(self, desk: Desk, known: Sequence[Worth], *, max_upload_mb: float = 64, max_waiting: int = 16) -> None:
        check_range("max_upload_mb", max_upload_mb, 0, 1000, low_open=True)
        check_range("max_waiting", max_waiting, 1, 1000, integer=True)
        self._desk = desk
        self._known = tuple(known)
        self._max_bytes = int(max_upload_mb * 1e6)
        self._max_waiting = max_waiting
        self._in_line = 0
        # One thread per model keeps every model busy, and no more files are decoded at a time than are looked at.
        self._pool = ThreadPoolExecutor(len(desk.predictors), "examine")
        script = resources.files("cxrlab.page").joinpath("script.js").read_text(encoding="utf-8")
        self._texts = {
            "/page/script.js": (script, "text/javascript"),
            "/page/style.css": (style(), "text/css"),
            "/favicon.ico": (_ICON, "image/svg+xml"),
        } | {f"/page/card/{number}": (each.card, "text/html") for number, each in enumerate(known) if each.card}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request."""
        path, method = scope["path"], scope["method"]
        if path == "/api/examine" and method == "POST":
            await self._examine(scope, receive, send)
        elif path == "/api/state" and method == "GET":
            await reply(send, 200, {"in_line": self._in_line, "limit": self._max_waiting})
        elif path in self._texts and method == "GET":
            await reply(send, 200, *self._texts[path])
        else:
            await reply(
                send, 404, {"error": f"{method} {path[:80]}: there is nothing here; POST /api/examine takes a file"}
            )

    def close(self) -> None:
        """Ends the threads; what waits is not examined any more."""
        self._pool.shutdown(cancel_futures=True)

    async def _examine(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = dict(scope["headers"])
        closely = parse_qs(scope["query_string"].decode("latin-1")).get("card") == ["true"]
        if self._in_line >= self._max_waiting:
            sentence = f"{self._in_line} files wait already; send it again in a few seconds"
            await reply(send, 503, {"error": sentence, "in_line": self._in_line}, headers=[(b"retry-after", b"2")])
            return
        self._in_line += 1
        try:
            data = await self._read(headers, receive)
            if data is None:
                return
            work = asyncio.get_running_loop().run_in_executor(
                self._pool, self._work, _file_name(headers), data, closely
            )
            del data  # a visitor who waits has the only copy
            await reply(send, *await work)
        except TooLargeError:
            sentence = f"larger than {self._max_bytes / 1e6:g} MB, the limit of this page (max_upload_mb)"
            # Nobody reads what else is sent, so the connection is of no further use.
            await reply(send, 413, {"error": f"The file is {sentence}."}, headers=[(b"connection", b"close")])
        except TimeoutError:
            await reply(
                send, 408, {"error": "The upload stood still; send it again."}, headers=[(b"connection", b"close")]
            )
        finally:
            self._in_line -= 1

    async def _read(self, headers: dict[bytes, bytes], receive: Receive) -> bytes | None:
        """The body; ``None`` where the client has gone."""
        announced = headers.get(b"content-length", b"")
        if announced.isdigit() and (len(announced) > _LONGEST_LENGTH or int(announced) > self._max_bytes):
            raise TooLargeError
        parts, size = [], 0
        while True:
            message = await asyncio.wait_for(receive(), _PAUSE)
            if message["type"] == "http.disconnect":
                return None
            parts.append(message.get("body", b""))
            size += len(parts[-1])
            if size > self._max_bytes:
                raise TooLargeError
            if not message.get("more_body"):
                return b"".join(parts)

    def _work(self, name: str, data: bytes, closely: bool) -> tuple[int, bytes]:
        """Examines a file and puts it into words; the answer as status and JSON."""
        try:
            case = self._desk.examine(name, data, closely=closely)
            said = answer(case, self._known)
            if closely:
                now = datetime.now(UTC).astimezone()
                said |= {"card": card(case, self._known), "report": report(case, self._known, now)}
            return 200, json.dumps(said, allow_nan=False).encode()
        except Exception as error:  # noqa: BLE001 - no file may end the page; where it failed is told below
            # Where, and not what: the message may hold what stands in the file, a patient's name among it.
            where = "".join(traceback.format_tb(error.__traceback__))
            _log.error("a file could not be examined, %s at\n%s", type(error).__name__, where)
            sentence = "The program failed on this file; where it did is told in its terminal."
            return 500, json.dumps({"error": sentence}).encode()


def _file_name(headers: dict[bytes, bytes]) -> str:
    text = headers.get(FILE_NAME, b"")[:_LONGEST_HEADER].decode("latin-1")
    return unquote(re.sub(r"%[0-9a-fA-F]?$", "", text), errors="replace")
