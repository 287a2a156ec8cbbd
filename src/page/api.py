"""What the page's script and other programs ask: ``POST /api/examine`` takes the bytes of a file and answers with JSON.

::

    curl --data-binary @film.dcm -H 'X-File-Name: film.dcm' http://127.0.0.1:7860/api/examine

The body is the file as it is, at most ``max_upload_mb``; there is no form, no path and no address in it. The optional
header is what the file is called, percent-encoded UTF-8, and is only shown. ``?card=true`` adds the HTML of the page
and of a report. Status 200: the file was looked at, also where it was refused; 413: too large; 503: too many wait;
403: asked under another name or by another site; 408: too slow; 411: the length was not announced. An error is
``{"error": "a sentence"}``.
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
import traceback
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime
from importlib import resources
from urllib.parse import parse_qs, unquote

from cxrlab.errors import check_range
from cxrlab.page.case import answer, card, report, style
from cxrlab.page.desk import Desk
from cxrlab.page.guard import CLOSE, Receive, Scope, Send, reply
from cxrlab.page.limits import Limits, is_this_machine
from cxrlab.page.worth import Worth
from cxrlab.reading.worker import POOL

FILE_NAME = b"x-file-name"
_DECODING = 4  # files at a time; each may take as much memory as the largest image
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
        max_waiting: Files that may be examined or wait for it at a time, 1 to 1000; further ones are sent away. One
            address may have half of them, but for this machine's own: all its programs, and a proxy, are one address.
        limits: What a client may do.

    Raises:
        ValueError: A limit is out of its range.
    """

    def __init__(
        self,
        desk: Desk,
        known: Sequence[Worth],
        *,
        max_upload_mb: float = 64,
        max_waiting: int = 16,
        limits: Limits | None = None,
    ) -> None:
        check_range("max_upload_mb", max_upload_mb, 0, 1000, low_open=True)
        check_range("max_waiting", max_waiting, 1, 1000, integer=True)
        self._desk = desk
        self._known = tuple(known)
        self._max_bytes = int(max_upload_mb * 1e6)
        self._max_waiting = max_waiting
        self._limits = limits or Limits()
        self._uploads: dict[asyncio.Timeout, int] = {}  # bytes that have arrived of each, the oldest first
        self._line: list[tuple[str, Future[tuple[int, bytes]]]] = []  # address, and work that may be done by now
        # Models take one file at a time. More threads decode, so that a file that takes long holds up few others.
        self._pool = ThreadPoolExecutor(max(_DECODING, len(desk.predictors)), "examine")
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
            await reply(send, 200, {"in_line": len(self._waiting()), "limit": self._max_waiting})
        elif path in self._texts and method == "GET":
            await reply(send, 200, *self._texts[path])
        else:
            await reply(
                send, 404, {"error": f"{method} {path[:80]}: there is nothing here; POST /api/examine takes a file"}
            )

    def close(self) -> None:
        """Gives up what waits and what is decoded; a network that is at work ends by itself."""
        self._pool.shutdown(wait=False, cancel_futures=True)
        POOL.give_up()

    def _waiting(self) -> list[tuple[str, Future[tuple[int, bytes]]]]:
        self._line = [each for each in self._line if not each[1].done()]
        return self._line

    def _full(self, address: str) -> str:
        """Why no more files of an address are taken now; empty where they are."""
        waiting = self._waiting()
        if len(waiting) >= self._max_waiting:
            return f"{len(waiting)} files wait already; send it again in a few seconds"
        own = sum(each == address for each, _ in waiting)
        if own >= max(1, self._max_waiting // 2) and not is_this_machine(address):
            return f"{own} files of {address} wait already, half of what may wait; send it again in a few seconds"
        return ""

    async def _examine(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = dict(scope["headers"])
        address = str((scope.get("client") or ("",))[0])
        closely = parse_qs(scope["query_string"].decode("latin-1")).get("card") == ["true"]
        try:
            full = self._full(address)  # before the upload, so that it need not be sent twice
            data = None if full else await self._read(headers, receive)
            full = full or self._full(address)  # an upload holds no place: only a file that is there does
            if full:
                error = {"error": full, "in_line": len(self._waiting())}
                await reply(send, 503, error, headers=[(b"retry-after", b"2")])
            elif data is not None:
                work = self._pool.submit(self._work, _file_name(headers), data, closely)
                self._line.append((address, work))
                del data  # a visitor who waits has the only copy
                await self._answer(work, receive, send)
        except TooLargeError:
            sentence = f"larger than {self._max_bytes / 1e6:g} MB, the limit of this page (max_upload_mb)"
            # Nobody reads what else is sent, so the connection is of no further use.
            await reply(send, 413, {"error": f"The file is {sentence}."}, headers=CLOSE)
        except TimeoutError:
            error = {"error": f"The upload stood still, or took more than {self._limits.upload:g} s; send it again."}
            await reply(send, 408, error, headers=CLOSE)

    async def _answer(self, work: Future[tuple[int, bytes]], receive: Receive, send: Send) -> None:
        """Waits for the answer; where the visitor leaves before it is begun, his place is free."""
        answered, left = asyncio.wrap_future(work), asyncio.ensure_future(receive())
        try:
            await asyncio.wait((answered, left), return_when=asyncio.FIRST_COMPLETED)
            if work.done():
                await reply(send, *await answered)
        finally:
            work.cancel()
            left.cancel()

    async def _read(self, headers: dict[bytes, bytes], receive: Receive) -> bytes | None:
        """The body; ``None`` where the client has gone."""
        announced = headers.get(b"content-length", b"")
        if announced.isdigit() and (len(announced) > _LONGEST_LENGTH or int(announced) > self._max_bytes):
            raise TooLargeError
        parts: list[bytes] = []
        async with asyncio.timeout(self._limits.upload) as clock:
            self._uploads[clock] = 0
            try:
                while True:
                    message = await asyncio.wait_for(receive(), self._limits.pause)
                    if message["type"] == "http.disconnect":
                        return None
                    parts.append(message.get("body", b""))
                    self._uploads[clock] += len(parts[-1])
                    if self._uploads[clock] > self._max_bytes:
                        raise TooLargeError
                    if not message.get("more_body"):
                        return b"".join(parts)
                    self._make_room()
            finally:
                del self._uploads[clock]

    def _make_room(self) -> None:
        """Gives up the oldest upload, which most have overtaken, where all together take too much memory."""
        under_way = [each for each in self._uploads if not each.expired()]
        if sum(self._uploads[each] for each in under_way) > self._max_bytes * self._max_waiting:
            under_way[0].reschedule(0)

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
