"""The page as a program, and its addresses.

Two of them take the bytes of a file:

* ``POST /api/examine`` answers with JSON: what the models say of it. ``?card=true`` adds the HTML of the page and of a
  report. Status 200: the file was examined, or was refused with a reason.
* ``POST /api/film`` answers with its pixels as PNG, all of them and without loss, see :mod:`cxrlab.page.desk`. Status
  422: the file has no image.

::

    curl --data-binary @film.dcm -H 'X-File-Name: film.dcm' http://127.0.0.1:7860/api/examine

The body is the file as it is, at most ``max_upload_mb``; there is no form, no path and no address in it. The optional
header is the file's name, percent-encoded UTF-8, and is only shown. Other status: 403: asked under another name or by
another site; 408: too slow; 411: the length was not announced; 413: too large; 503: too many wait. An error is
``{"error": "a sentence"}``.
"""

from __future__ import annotations

import asyncio
import functools
import json
import logging
import re
import socket
import traceback
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any, TypeAlias
from urllib.parse import unquote

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from cxrlab.errors import check_range
from cxrlab.page.desk import Desk
from cxrlab.page.documents import answer, asset, card_and_report, render
from cxrlab.page.guard import CLOSE, DOCUMENT_POLICY, Guard, Json, is_this_machine
from cxrlab.page.server import Limits, Server
from cxrlab.page.worth import worth
from cxrlab.reading.image import UnreadableError
from cxrlab.reading.worker import POOL

_Work: TypeAlias = Callable[[str, bytes], Response]  # of a file's name and bytes
_DECODING = 4  # files at a time; each may take as much memory as the largest image
_LONGEST_HEADER = 4096
_LONGEST_LENGTH = 19  # digits: more than any file has, and few enough for Python to read
_PIECE = 2**18  # bytes of a film that are sent at a time
_FILES = {
    "/favicon.ico": ("icon.svg", "image/svg+xml"),
    "/page/script.js": ("script.js", "text/javascript"),
    "/page/viewer.js": ("viewer.js", "text/javascript"),
    "/page/style.css": ("style.css", "text/css"),
}
_log = logging.getLogger("cxrlab")


class Page:
    """What a browser is shown.

    Args:
        host: The address that is listened on, for the guard.
        max_upload_mb: Largest file, in MB of a million bytes, in (0, 1000].
        max_waiting: Files that may be examined or wait for it at a time, 1 to 1000; further ones are sent away. One
            address may have half of them, but for this machine's own: all its programs, and a proxy, are one address.
        limits: Of time, and of connections.

    Attributes:
        known: What each model is worth.
        app: The whole as an ASGI application.

    Raises:
        ValueError: A limit is out of its range.
    """

    def __init__(
        self,
        desk: Desk,
        *,
        host: str = "127.0.0.1",
        max_upload_mb: float = 64,
        max_waiting: int = 16,
        limits: Limits | None = None,
    ) -> None:
        check_range("max_upload_mb", max_upload_mb, 0, 1000, low_open=True)
        check_range("max_waiting", max_waiting, 1, 1000, integer=True)
        self.known = [worth(predictor) for predictor in desk.predictors]
        self._desk = desk
        self._max_bytes = int(max_upload_mb * 1e6)
        self._max_waiting = max_waiting
        self._limits = limits or Limits()
        self._uploads: dict[asyncio.Timeout, int] = {}  # bytes that have arrived of each, the oldest first
        self._line: list[tuple[str, Future[Any]]] = []  # address, and work that may be done by now
        # Models take one file at a time. More threads decode, so that a file that takes long holds up few others.
        self._pool = ThreadPoolExecutor(max(_DECODING, len(desk.predictors)), "examine")
        self._server: Server | None = None
        app = Starlette(routes=self._routes(), exception_handlers={HTTPException: _told})
        app.router.redirect_slashes = False
        self.app = Guard(app, host)

    def serve(self, listening: socket.socket, ready: Callable[[], object] = lambda: None) -> None:
        """Answers until Ctrl-C, SIGTERM, or until :meth:`stop` is called in another thread.

        A file that is being examined at that moment is not waited for: nothing interrupts its thread.

        Args:
            listening: As :func:`cxrlab.page.open_socket` gives it; closed at the end.
            ready: Called when the first request can be answered.
        """
        self._server = Server(self.app, self._limits, ready)
        try:
            self._server.run(sockets=[listening])
        finally:
            listening.close()
            self._pool.shutdown(wait=False, cancel_futures=True)
            POOL.give_up()  # what is decoded; a network that is at work ends by itself

    def stop(self) -> None:
        """Ends :meth:`serve`."""
        if self._server is not None:
            self._server.should_exit = True

    def _routes(self) -> list[Route]:
        """Texts that never change are made once; everything else takes a file or counts."""
        fixed = {path: Response(asset(name), media_type=kind) for path, (name, kind) in _FILES.items()}
        index = render("index", known=self.known, max_upload_mb=self._max_bytes / 1e6)
        fixed |= {"/": HTMLResponse(index), "/page/report": HTMLResponse(render("tab"))}
        policy = {"content-security-policy": DOCUMENT_POLICY}
        for number, each in enumerate(self.known):
            if each.card:
                fixed[f"/page/card/{number}"] = HTMLResponse(each.card, headers=policy)
        return [
            Route("/api/examine", self._examine, methods=["POST"]),
            Route("/api/film", functools.partial(self._in_line, work=self._show), methods=["POST"]),
            Route("/api/state", self._state, methods=["GET"]),
            *(Route(path, response, methods=["GET"]) for path, response in fixed.items()),
        ]

    async def _state(self, _: Request) -> Response:
        return Json({"in_line": len(self._waiting()), "limit": self._max_waiting})

    async def _examine(self, request: Request) -> Response:
        closely = request.query_params.get("card") == "true"

        def say(name: str, data: bytes) -> Response:
            case = self._desk.examine(name, data, closely=closely)
            said = answer(case, self.known)
            if closely:
                said |= card_and_report(case, self.known, datetime.now(UTC).astimezone())
            return Json(said)

        return await self._in_line(request, say)

    async def _in_line(self, request: Request, work: _Work) -> Response:
        """Takes a file, and answers when a thread has worked on it."""
        address = request.client.host if request.client else ""
        self._check_room(address)  # before the upload, so that it need not be sent twice
        try:
            data = await self._read(request)
        except ClientDisconnect:
            return Response(status_code=499)  # which nobody reads
        except TimeoutError:
            sentence = f"The upload stood still, or took more than {self._limits.upload:g} s; send it again."
            raise HTTPException(408, sentence, CLOSE) from None
        self._check_room(address)  # an upload holds no place: only a file that is there does
        sent = request.headers.get("x-file-name", "")[:_LONGEST_HEADER]
        name = unquote(re.sub(r"%[0-9a-fA-F]?$", "", sent), errors="replace")
        done = self._pool.submit(self._work, work, name, data)
        self._line.append((address, done))
        del data  # a visitor who waits has the only copy
        # Where the visitor leaves before the answer is begun, his place is free.
        answered, left = asyncio.wrap_future(done), asyncio.ensure_future(request.receive())
        try:
            await asyncio.wait((answered, left), return_when=asyncio.FIRST_COMPLETED)
            response = await answered if done.done() else Response(status_code=499)
        finally:
            done.cancel()
            left.cancel()
        if isinstance(response, _Film):
            self._line.append((address, response.taken))  # so many bytes hold a place until they are taken
        return response

    def _waiting(self) -> list[tuple[str, Future[Any]]]:
        self._line = [each for each in self._line if not each[1].done()]
        return self._line

    def _check_room(self, address: str) -> None:
        """Sends a file away, with status 503, where too many wait already."""
        waiting = self._waiting()
        own = sum(each == address for each, _ in waiting)
        again = "send it again in a few seconds"
        if len(waiting) >= self._max_waiting:
            raise HTTPException(503, f"{len(waiting)} files wait already; {again}", {"retry-after": "2"})
        if own >= max(1, self._max_waiting // 2) and not is_this_machine(address):
            sentence = f"{own} files of {address} wait already, half of what may wait; {again}"
            raise HTTPException(503, sentence, {"retry-after": "2"})

    async def _read(self, request: Request) -> bytes:
        """The body of a request; ClientDisconnect, TimeoutError or HTTPException tell why there is none."""
        sentence = f"The file is larger than {self._max_bytes / 1e6:g} MB, the limit of this page (max_upload_mb)."
        # Nobody reads what else is sent, so the connection is of no further use.
        too_large = HTTPException(413, sentence, CLOSE)
        announced = request.headers.get("content-length", "")
        if announced.isdigit() and (len(announced) > _LONGEST_LENGTH or int(announced) > self._max_bytes):
            raise too_large
        parts: list[bytes] = []
        async with asyncio.timeout(self._limits.upload) as clock:
            self._uploads[clock] = 0
            try:
                while True:
                    message = await asyncio.wait_for(request.receive(), self._limits.pause)
                    if message["type"] == "http.disconnect":
                        raise ClientDisconnect
                    parts.append(message.get("body", b""))
                    self._uploads[clock] += len(parts[-1])
                    if self._uploads[clock] > self._max_bytes:
                        raise too_large
                    if not message.get("more_body"):
                        return b"".join(parts)
                    # Where all together take too much memory, the oldest goes, which most have overtaken.
                    under_way = [each for each in self._uploads if not each.expired()]
                    if sum(self._uploads[each] for each in under_way) > self._max_bytes * self._max_waiting:
                        under_way[0].reschedule(0)
            finally:
                del self._uploads[clock]

    def _work(self, work: _Work, name: str, data: bytes) -> Response:
        """Does it in a thread; no file may end the page."""
        try:
            return work(name, data)
        except Exception as error:  # noqa: BLE001 - the place is reported below
            # Where, and not what: the message may hold what stands in the file, a patient's name among it.
            where = "".join(traceback.format_tb(error.__traceback__))
            _log.error("a file could not be examined, %s at\n%s", type(error).__name__, where)
            return Json({"error": "The program failed on this file; where it did is told in its terminal."}, 500)

    def _show(self, _: str, data: bytes) -> Response:
        try:
            png, levels = self._desk.film(data)
        except UnreadableError as error:
            return Json({"error": str(error)}, 422)
        headers = {} if levels is None else {"x-grey-levels": json.dumps(levels._asdict(), allow_nan=False)}
        return _Film(png, headers=headers, media_type="image/png")


class _Film(Response):
    """Is sent piece by piece; ``taken`` is done when the last one is on its way, or the client has gone."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.taken: Future[None] = Future()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            for start in range(0, len(self.body), _PIECE):
                piece = bytes(self.body[start : start + _PIECE])
                more = start + _PIECE < len(self.body)
                await send({"type": "http.response.body", "body": piece, "more_body": more})
        finally:
            self.taken.set_result(None)


async def _told(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if error.status_code not in (404, 405):
        return Json({"error": error.detail}, error.status_code, error.headers)
    asked = f"{request.method} {request.scope['path'][:80]}"
    return Json({"error": f"{asked}: there is nothing here; the page is at /, and POST /api/examine takes a file"}, 404)
