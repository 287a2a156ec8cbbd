"""Fetching an archive over HTTP, going on where an earlier try broke off."""

from __future__ import annotations

import http.client
import json
import re
import socket
import ssl
import urllib.error
import urllib.parse
import urllib.request
from email.message import Message
from pathlib import Path
from typing import IO

from cxrlab.console import say
from cxrlab.downloads.disk import BLOCK, bar, check_room, in_words
from cxrlab.errors import DataError
from cxrlab.files import write_json

_ZIP = b"PK"  # what every archive begins with
_AGENT = "cxrlab"


def fetch(url: str, part: Path, state: Path, timeout: float, by_hand: str) -> dict[str, str]:
    """Fetches a file into ``part``, going on where an earlier try broke off if the server still has the same file.

    Args:
        url: ``http`` or ``https``.
        part: The file, whole or not; it is kept when the connection breaks off.
        state: A file beside it that says which version of which address it is a part of.
        timeout: Seconds without an answer after which the server is given up.
        by_hand: A sentence that ends the messages: what helps where the network does not.

    Returns:
        The ``url``, and the server's ``etag`` and ``last_modified``, empty where it tells none.

    Raises:
        DataError: No network, a server that refuses, an answer that is no ZIP archive, or no room.
        OSError: A file cannot be written; it is named.
    """
    begun, validator = _begun(url, part, state)
    request = urllib.request.Request(url, headers={"User-Agent": _AGENT, "Accept-Encoding": "identity"})
    if begun:
        # If the file has changed since, the server answers with all of it instead of the rest (RFC 9110, 13.1.5).
        request.add_header("Range", f"bytes={begun}-")
        request.add_header("If-Range", validator)
    try:
        with urllib.request.urlopen(request, timeout=timeout) as answer:
            begun = _position(answer, begun)
            facts = _remember(answer.headers, url, state)
            total = begun + int(answer.headers["Content-Length"]) if answer.headers["Content-Length"] else None
            check_room(part.parent, (total or 0) - begun, url)
            _copy(answer, part, begun, total, url)
    except urllib.error.HTTPError as error:
        with error:
            if begun and error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
                if _is_complete(error.headers, begun):
                    return _remembered(state)
                part.unlink(missing_ok=True)
                return fetch(url, part, state, timeout, by_hand)
        raise DataError(f"{url}: {_why_refused(error)}. {by_hand}") from None
    except (OSError, http.client.HTTPException) as error:
        if isinstance(error, OSError) and error.filename:
            raise  # a file of ours, not the network
        got = part.stat().st_size if part.exists() else 0
        going_on = "are kept, and the same command goes on from there where the server can."
        kept = f" {in_words(got)} {going_on}" if got else ""
        raise DataError(f"{url}: {_why_unreachable(error, timeout)}.{kept} {by_hand}") from None
    return facts


def _begun(url: str, part: Path, state: Path) -> tuple[int, str]:
    """Bytes of an earlier try and the server's mark of that version; 0 if the download cannot be resumed."""
    facts = _remembered(state)
    validator = facts.get("etag") or facts.get("last_modified") or ""
    if facts.get("etag", "").startswith("W/"):  # weak: it may stay when bytes change, and If-Range wants a strong one
        validator = facts.get("last_modified", "")
    known = part.is_file() and facts.get("url") == url and validator
    return (part.stat().st_size, validator) if known else (0, "")


def _remembered(state: Path) -> dict[str, str]:
    try:
        facts = json.loads(state.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return {str(key): str(value) for key, value in facts.items()} if isinstance(facts, dict) else {}


def _remember(headers: Message, url: str, state: Path) -> dict[str, str]:
    facts = {"url": url, "etag": headers["ETag"] or "", "last_modified": headers["Last-Modified"] or ""}
    write_json(state, facts)
    return facts


def _position(answer: http.client.HTTPResponse, asked: int) -> int:
    """Where in the file the answer begins."""
    if asked and answer.status == http.HTTPStatus.PARTIAL_CONTENT:
        found = re.match(r"bytes (\d+)-", answer.headers["Content-Range"] or "")
        if found and int(found[1]) == asked:
            say(f"going on after {in_words(asked)}")
            return asked
        raise http.client.HTTPException(f"it was asked for bytes from {asked} on and sent others")
    if asked:
        say("starting over: the server cannot go on, or its file has changed")
    return 0


def _is_complete(headers: Message, begun: int) -> bool:
    found = re.fullmatch(r"bytes \*/(\d+)", headers["Content-Range"] or "")
    return found is not None and int(found[1]) == begun


def _copy(answer: http.client.HTTPResponse, part: Path, begun: int, total: int | None, url: str) -> None:
    with part.open("r+b" if begun else "wb") as file, bar("fetching", total) as advance:
        file.seek(begun)
        file.truncate()
        advance(begun)
        done = begun
        while block := answer.read(BLOCK):
            if not done:
                _check_is_archive(block, answer, url)
            _write(file, block, part)
            done += len(block)
            advance(len(block))
    if total is not None and done < total:
        raise http.client.HTTPException(f"the connection broke off after {in_words(done)} of {in_words(total)}")


def _write(file: IO[bytes], block: bytes, path: Path) -> None:
    try:
        file.write(block)
        file.flush()
    except OSError as error:  # of a full disk, which names no file; without one it would pass for the network's
        raise OSError(error.errno, error.strerror, str(path)) from None


def _check_is_archive(block: bytes, answer: http.client.HTTPResponse, url: str) -> None:
    """A hotel's sign-in page, a proxy's message or an error page come as success, too."""
    if not block.startswith(_ZIP):
        kind = answer.headers.get_content_type()
        title = re.search(rb"<title[^>]*>\s*(.*?)\s*</title>", block, re.IGNORECASE | re.DOTALL)
        said = f", titled {title[1].decode(errors='replace')[:80]!r}" if title else ""
        host = urllib.parse.urlsplit(answer.url).netloc
        raise DataError(
            f"{url}: the answer is no ZIP archive but {kind}{said}, from {host}; a network that wants a sign-in "
            "answers so, or the address is that of a page. Open it in a browser"
        )


def _why_refused(error: urllib.error.HTTPError) -> str:
    said = f"the server says {error.code} {error.reason}"
    if error.code in (http.HTTPStatus.NOT_FOUND, http.HTTPStatus.GONE):
        return f"{said}: it is not there any more; url=https://… names another copy"
    if error.code in (
        http.HTTPStatus.UNAUTHORIZED,
        http.HTTPStatus.FORBIDDEN,
        http.HTTPStatus.PROXY_AUTHENTICATION_REQUIRED,
    ):
        return f"{said}: it, or a proxy on the way, lets nobody in without signing in"
    if error.code == http.HTTPStatus.TOO_MANY_REQUESTS or error.code >= http.HTTPStatus.INTERNAL_SERVER_ERROR:
        return f"{said}: try again later"
    return said


def _why_unreachable(error: Exception, timeout: float) -> str:
    reason = error.reason if isinstance(error, urllib.error.URLError) else error
    host = "no network, or no name server that knows the host"
    if isinstance(reason, socket.gaierror):
        return f"cannot be reached: {host} ({reason.strerror})"
    if isinstance(reason, ConnectionRefusedError):
        return "cannot be reached: the connection was refused"
    if isinstance(reason, TimeoutError):
        return f"no answer for {timeout:g} seconds (timeout=…)"
    if isinstance(reason, ssl.SSLError):
        return f"no safe connection ({reason}): a wrong clock, or a proxy that reads along"
    if isinstance(reason, http.client.IncompleteRead):
        return "the connection broke off"
    return str(reason) or type(reason).__name__
