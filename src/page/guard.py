"""The outermost layer of the page: who may ask, for what, and what a browser may do with the answer."""

from __future__ import annotations

import ipaddress
import logging
import re
import socket
import traceback

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

LOCAL = ("localhost", "127.0.0.1", "::1")
"""Names and addresses under which a machine reaches itself."""
ANY = ("0.0.0.0", "::", "")
"""Addresses that stand for every one of a machine."""
CLOSE = {"connection": "close"}
"""Headers of an answer after which nothing else of the connection is read."""
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""The Content-Security-Policy: files of this address only, no inline script and no inline style."""
DOCUMENT_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)
"""For a document that carries its style and its figures inside: no script at all, and no request."""
_LONGEST_TARGET = 1000  # bytes of path and query
_LONGEST_HEADERS = 16_384  # bytes of all names and values
_HEADERS = {
    "cache-control": "no-store",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), microphone=(), geolocation=(), clipboard-read=()",
}
_log = logging.getLogger("cxrlab")


class Json(JSONResponse):
    """JSON that names its encoding, for programs that do not assume UTF-8."""

    media_type = "application/json; charset=utf-8"


class Guard:
    """Refuses what does not belong to the page, and adds the headers that limit what a browser does (ASGI middleware).

    Starlette's ``TrustedHostMiddleware`` is not used: it compares with a list of names, and has no rule for
    ``0.0.0.0``, where every address of the machine is right and every name but its own is wrong. It also answers with
    plain text and status 400.

    Args:
        app: Answers what is let through.
        host: The address that the page listens on, which may also be the name of a proxy in front of it.
    """

    def __init__(self, app: ASGIApp, host: str) -> None:
        self._app = app
        self._host = host.strip("[]").lower()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request, whatever fails inside.

        Where something failed is reported in the terminal, without what was asked for: that may name a patient.
        """
        if scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": 1008})
            return
        begun = False

        async def with_headers(message: Message) -> None:
            nonlocal begun
            begun = True
            if message["type"] == "http.response.start":
                headers = MutableHeaders(raw=list(message.get("headers", ())))  # a fixed answer is sent many times
                headers.update(_HEADERS)
                headers.setdefault("content-security-policy", POLICY)
                del headers["access-control-allow-origin"]
                message = {**message, "headers": headers.raw}
            await send(message)

        try:
            status, sentence = self._refusal(scope)
            answer = Json({"error": sentence}, status, {} if status == 403 else CLOSE) if status else self._app
            await answer(scope, receive, with_headers)
        except Exception as error:  # noqa: BLE001 - no request may end in a traceback; where it failed is reported here
            place = traceback.extract_tb(error.__traceback__)[-1]
            _log.error("a request failed: %s at %s:%s", type(error).__name__, place.filename, place.lineno)
            if not begun:
                sentence = "The program failed on this request; where it did is told in its terminal."
                await Json({"error": sentence}, 500, CLOSE)(scope, receive, with_headers)

    def _refusal(self, scope: Scope) -> tuple[int, str]:
        """Status and sentence for a request that is refused; status 0 where it is not.

        A page elsewhere can make a browser ask this one under any name whose owner lets it point here (DNS rebinding),
        and can make it send anything. The first is recognised by the name, the second by the origin.
        """
        if len(scope.get("raw_path") or b"") + len(scope["query_string"]) > _LONGEST_TARGET:
            return 414, f"the address is longer than {_LONGEST_TARGET} bytes"
        if sum(len(name) + len(value) for name, value in scope["headers"]) > _LONGEST_HEADERS:
            return 431, f"the headers are longer than {_LONGEST_HEADERS:,} bytes"
        headers = Headers(scope=scope)
        if any(name.lower() == b"transfer-encoding" for name, _ in scope["headers"]):
            # A body in pieces costs more to take apart than to send, and two ways to say its length can contradict.
            return 411, "a body has to say its length (Content-Length), and may not come in pieces (Transfer-Encoding)"
        host, origin = headers.get("host", ""), headers.get("origin")
        if not self._is_ours(host):
            return (
                403,
                f"asked for as {host[:80]!r}, which is not this machine; type the address that the program printed",
            )
        if origin is not None and origin.lower() not in (f"http://{host}".lower(), f"https://{host}".lower()):
            return 403, "sent by a page of another origin; open the page itself"
        site = headers.get("sec-fetch-site", "same-origin")
        if scope["method"] not in ("GET", "HEAD") and site not in ("same-origin", "none"):
            return 403, "sent by a page of another site; open the page itself"
        return 0, ""

    def _is_ours(self, host: str) -> bool:
        """Whether a Host header names this machine."""
        found = re.fullmatch(r"(\[[0-9a-fA-F:.]+\]|[^:\[\]/@]+)(:\d{1,5})?", host)
        name = found[1].strip("[]").lower().rstrip(".") if found else ""
        if not name:
            return False
        if name in LOCAL or name == self._host:
            return True
        # On every address of the machine: an address cannot be rebound, a name can.
        return self._host in ANY and (_ip(name) is not None or name == socket.gethostname().lower())


def is_this_machine(address: str) -> bool:
    """Whether an address that connected is one of this machine's own: 127.0.0.1, ::1 and the like."""
    found = _ip(address.partition("%")[0])
    return found is not None and (getattr(found, "ipv4_mapped", None) or found).is_loopback


def _ip(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None
