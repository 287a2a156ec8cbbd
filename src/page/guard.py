"""What stands before everything else: who may ask, for what, and what a browser may do with the answer.

Gradio answers far more than this page needs: addresses to upload to, to fetch files by path or by URL, to run
functions. None of them can be reached through a :class:`Guard`. It knows the few addresses of the page, passes on
nothing of a request but its path, and has a browser load nothing from elsewhere.
"""

from __future__ import annotations

import base64
import hashlib
import ipaddress
import json
import logging
import re
import socket
import traceback
from collections.abc import Awaitable, Callable, Iterable, Mapping, MutableMapping
from typing import Any, TypeAlias

Scope: TypeAlias = MutableMapping[str, Any]
Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
App: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]

LOCAL = ("localhost", "127.0.0.1", "::1")
_ANY = ("0.0.0.0", "::", "")
_GRADIO = re.compile(r"/|/theme\.css|/(assets|static)(/[\w-][\w.-]{0,150})+", re.ASCII)
"""What gradio's own page loads; looked through with gradio 6.31."""
_LONGEST_TARGET = 1000  # bytes of path and query
_LONGEST_HEADERS = 16_384  # bytes of all names and values
CLOSE = ((b"connection", b"close"),)
_INLINE = re.compile(rb"<script(?![^>]*\bsrc=)[^>]*>(.*?)</script>", re.DOTALL)
_log = logging.getLogger("cxrlab")
_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"permissions-policy", b"camera=(), microphone=(), geolocation=(), clipboard-read=()"),
)
_OURS = frozenset(name for name, _ in _HEADERS) | {b"content-security-policy", b"access-control-allow-origin"}


class Guard:
    """Lets through what belongs to the page.

    Args:
        gradio: The application that draws the page.
        own: What answers the addresses below ``/api/`` and ``/page/``.
        host: The address that the page listens on; a name in front of it, or of this machine, is let through, too.
    """

    def __init__(self, gradio: App, own: App, host: str) -> None:
        self._gradio = gradio
        self._own = own
        self._host = host.strip("[]").lower()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request (ASGI)."""
        if scope["type"] == "lifespan":
            await self._gradio(scope, receive, send)
        elif scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": 1008})
        else:
            await self._safely(scope, receive, _with_headers(send))

    async def _safely(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers, whatever fails inside; where it failed is reported in the terminal, without what was asked for."""
        begun = False

        async def sent(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            status, sentence = _malformed(scope)
            if status:
                await reply(sent, status, {"error": sentence}, headers=CLOSE)
            else:
                await self._answer(scope, receive, sent)
        except Exception as error:  # noqa: BLE001 - no request may end in a traceback; where it failed is reported here
            place = traceback.extract_tb(error.__traceback__)[-1]
            _log.error("a request failed: %s at %s:%s", type(error).__name__, place.filename, place.lineno)
            if not begun:
                sentence = "The program failed on this request; where it did is told in its terminal."
                await reply(send, 500, {"error": sentence}, headers=CLOSE)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = {name.lower(): value.decode("latin-1") for name, value in scope["headers"]}
        path, method = scope["path"], scope["method"]
        reason = self._why_not(method, headers)
        if reason:
            await reply(send, 403, {"error": reason})
        elif path.startswith(("/api/", "/page/")) or path == "/favicon.ico":
            await self._own(scope, receive, send)
        elif method in ("GET", "HEAD") and _GRADIO.fullmatch(path):
            await self._gradio(_bare(scope, headers), receive, _with_policy(send) if path == "/" else send)
        else:
            await reply(send, 404, {"error": f"{method} {path[:80]}: there is nothing here; the page is at /"})

    def _why_not(self, method: str, headers: Mapping[bytes, str]) -> str:
        """Why a request is refused; empty where it is not.

        A page elsewhere can have a browser ask this one under any name that its owner lets point here (DNS rebinding),
        and can have it send what it likes. The first is seen by the name, the second by the origin.
        """
        host = headers.get(b"host", "")
        if not self._is_ours(_name(host)):
            return f"asked for as {host[:80]!r}, which is not this machine; type the address that the program printed"
        origin = headers.get(b"origin")
        if origin is not None and origin.lower() not in (f"http://{host}".lower(), f"https://{host}".lower()):
            return "sent by a page of another origin; open the page itself"
        if method not in ("GET", "HEAD") and headers.get(b"sec-fetch-site", "same-origin") not in (
            "same-origin",
            "none",
        ):
            return "sent by a page of another site; open the page itself"
        return ""

    def _is_ours(self, name: str) -> bool:
        if not name:
            return False
        if name in LOCAL or name == self._host:
            return True
        # On every address of the machine: an address cannot be rebound, a name can.
        return self._host in _ANY and (_is_address(name) or name == socket.gethostname().lower())


async def reply(
    send: Send,
    status: int,
    content: Mapping[str, Any] | str | bytes,
    kind: str = "application/json",
    headers: Iterable[tuple[bytes, bytes]] = (),
) -> None:
    """Answers with JSON or text.

    Args:
        send: Of the request.
        status: Of HTTP.
        content: A mapping becomes JSON.
        kind: Content type.
        headers: Further ones.
    """
    if isinstance(content, Mapping):
        content = json.dumps(content, allow_nan=False)
    body = content.encode() if isinstance(content, str) else content
    sent = [
        (b"content-type", f"{kind}; charset=utf-8".encode()),
        (b"content-length", str(len(body)).encode()),
        (b"cache-control", b"no-store"),
        *headers,
    ]
    await send({"type": "http.response.start", "status": status, "headers": sent})
    await send({"type": "http.response.body", "body": body})


def _malformed(scope: Scope) -> tuple[int, str]:
    """Status and sentence for a request that is refused by its form alone; 0 where it is not."""
    if len(scope.get("raw_path") or b"") + len(scope["query_string"]) > _LONGEST_TARGET:
        return 414, f"the address is longer than {_LONGEST_TARGET} bytes"
    if sum(len(name) + len(value) for name, value in scope["headers"]) > _LONGEST_HEADERS:
        return 431, f"the headers are longer than {_LONGEST_HEADERS:,} bytes"
    if any(name.lower() == b"transfer-encoding" for name, _ in scope["headers"]):
        # A body in pieces costs more to take apart than to send, and two ways to say its length can contradict.
        return 411, "a body has to say its length (Content-Length), and may not come in pieces (Transfer-Encoding)"
    return 0, ""


def _name(host: str) -> str:
    """The name or address in a Host header, without port and brackets."""
    found = re.fullmatch(r"(\[[0-9a-fA-F:.]+\]|[^:\[\]/@]+)(:\d{1,5})?", host)
    return found[1].strip("[]").lower().rstrip(".") if found else ""


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _bare(scope: Scope, headers: Mapping[bytes, str]) -> Scope:
    """A request of which gradio learns the path and nothing else: no query, no cookie, no word of a proxy."""
    kept = [(b"host", headers[b"host"].encode("latin-1"))]
    return {**scope, "headers": kept, "query_string": b""}


def _with_headers(send: Send) -> Send:
    async def sent(message: Message) -> None:
        if message["type"] == "http.response.start":
            theirs = [(name, value) for name, value in message.get("headers", []) if name.lower() not in _OURS]
            policy = (
                [] if _has(message, b"content-security-policy") else [(b"content-security-policy", _POLICY_OF_REST)]
            )
            kept = [(name, value) for name, value in message.get("headers", []) if name == b"content-security-policy"]
            message = {**message, "headers": [*theirs, *kept, *policy, *_HEADERS]}
        await send(message)

    return sent


_POLICY_OF_REST = (
    b"default-src 'none'; style-src 'unsafe-inline'; img-src data:; frame-ancestors 'none'; base-uri 'none'"
)


def _has(message: Message, name: bytes) -> bool:
    return any(each == name for each, _ in message.get("headers", []))


def _with_policy(send: Send) -> Send:
    """Holds the page back until it is whole, and allows the scripts that are in it, by their hash, and no others."""
    start: Message = {}
    parts: list[bytes] = []

    async def sent(message: Message) -> None:
        if message["type"] == "http.response.start":
            start.update(message)
            return
        parts.append(message.get("body", b""))
        if message.get("more_body"):
            return
        body = b"".join(parts)
        headers = [(name, value) for name, value in start["headers"] if name.lower() != b"content-length"]
        headers += [(b"content-length", str(len(body)).encode()), (b"content-security-policy", policy(body))]
        headers.append((b"cache-control", b"no-store"))
        await send({**start, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    return sent


def policy(page: bytes) -> bytes:
    """The Content-Security-Policy of a page: its own origin, its own inline scripts, and nothing else.

    Args:
        page: Its HTML.
    """
    hashes = {base64.b64encode(hashlib.sha256(script).digest()).decode() for script in _INLINE.findall(page)}
    scripts = " ".join(f"'sha256-{each}'" for each in sorted(hashes))
    return (
        f"default-src 'none'; script-src 'self' {scripts}; style-src 'self' 'unsafe-inline'; "
        "img-src 'self' data: blob:; font-src 'self' data:; connect-src 'self'; base-uri 'self'; form-action 'none'; "
        "frame-ancestors 'none'; object-src 'none'"
    ).encode()
