"""Fetching an archive over HTTP, going on where an earlier try broke off."""

from __future__ import annotations

import http.client
import json
import re
import shutil
import socket
import ssl
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from rich import get_console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from cxrlab.console import say
from cxrlab.errors import DataError
from cxrlab.files import write_json

BLOCK = 1 << 20
"""Bytes read at a time."""
_GONE = "it is not there any more; url=https://… names another copy"
_CLOSED = "it, or a proxy on the way, lets nobody in without signing in"
_LATER = "try again later"
_REFUSED = {401: _CLOSED, 403: _CLOSED, 404: _GONE, 407: _CLOSED, 410: _GONE, 429: _LATER}
_UNREACHABLE = {
    socket.gaierror: "cannot be reached: no network, or no name server that knows the host ({error.strerror})",
    ConnectionRefusedError: "cannot be reached: the connection was refused",
    TimeoutError: "no answer for {timeout:g} seconds (timeout=…)",
    ssl.SSLError: "no safe connection ({error}): a wrong clock, or a proxy that reads along",
    http.client.IncompleteRead: "the connection broke off",
}


def in_words(count: int) -> str:
    """Returns a number of bytes for people: MB, or GB from one of them on."""
    return f"{count / 1e9:.2f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"


def check_room(folder: Path, wanted: int, what: str) -> None:
    """Refuses with a DataError to write more bytes than there is room for on a folder's disk; ``what`` needs them."""
    free = shutil.disk_usage(folder).free
    if wanted > free:
        raise DataError(
            f"{folder}: {in_words(free)} are free, and {what} needs {in_words(wanted)}; make room, or choose another "
            "folder with to=/some/folder"
        )


@contextmanager
def bar(what: str, total: int | None) -> Iterator[Callable[[int], None]]:
    """A progress bar of bytes with the time left; yields the function that moves it on."""
    columns = (BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with Progress(TextColumn("{task.description}"), *columns, console=get_console(), transient=True) as progress:
        task = progress.add_task(what, total=total)
        yield lambda count: progress.advance(task, count)


def fetch(url: str, part: Path, timeout: float, by_hand: str) -> dict[str, str]:
    """Fetches a file, going on where an earlier try broke off if the server still has the same file.

    Args:
        url: ``http`` or ``https``.
        part: The file, whole or not; it is kept when the connection breaks off. A JSON file beside it says which
            version of which address it is a part of.
        timeout: Seconds without an answer after which the server is given up.
        by_hand: A sentence that ends the messages: what helps where the network does not.

    Returns:
        The ``url``, and the server's ``etag`` and ``last_modified``, empty where it tells none.

    Raises:
        DataError: No network, a server that refuses, an answer that is no ZIP archive, or no room.
        OSError: A file cannot be written; it is named.
    """
    facts, validator = _begun(url, part)
    begun = part.stat().st_size if validator else 0
    request = urllib.request.Request(url, headers={"User-Agent": "cxrlab", "Accept-Encoding": "identity"})
    if begun:
        # If the file has changed since, the server answers with all of it instead of the rest (RFC 9110, 13.1.5).
        request.add_header("Range", f"bytes={begun}-")
        request.add_header("If-Range", validator)
    try:
        with urllib.request.urlopen(request, timeout=timeout) as answer:
            return _copy(answer, part, begun, url)
    except urllib.error.HTTPError as error:
        with error:
            if begun and error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
                if error.headers["Content-Range"] == f"bytes */{begun}":  # nothing is missing
                    return facts
                part.unlink(missing_ok=True)
                return fetch(url, part, timeout, by_hand)
        hint = _REFUSED.get(error.code, _LATER if error.code >= http.HTTPStatus.INTERNAL_SERVER_ERROR else "")
        said = f"the server says {error.code} {error.reason}" + (f": {hint}" if hint else "")
        raise DataError(f"{url}: {said}. {by_hand}") from None
    except (OSError, http.client.HTTPException) as error:
        if isinstance(error, OSError) and error.filename:
            raise  # a file of ours, not the network
        reason = error.reason if isinstance(error, urllib.error.URLError) else error
        words = next((words for kind, words in _UNREACHABLE.items() if isinstance(reason, kind)), None)
        said = words.format(error=reason, timeout=timeout) if words else str(reason) or type(reason).__name__
        got = part.stat().st_size if part.exists() else 0
        going_on = "are kept, and the same command goes on from there where the server can."
        kept = f" {in_words(got)} {going_on}" if got else ""
        raise DataError(f"{url}: {said}.{kept} {by_hand}") from None


def _begun(url: str, part: Path) -> tuple[dict[str, str], str]:
    """What an earlier try was told of the file, and the mark of its version; empty if it cannot be resumed."""
    facts: dict[str, str] = {}
    with suppress(OSError, ValueError):
        found = json.loads(part.with_name(f"{part.name}.json").read_text(encoding="utf-8"))
        facts = {str(key): str(value) for key, value in found.items()} if isinstance(found, dict) else {}
    if not part.is_file() or facts.get("url") != url:
        return {}, ""
    etag = facts.get("etag", "")
    if not etag or etag.startswith("W/"):  # weak: it may stay when bytes change, and If-Range wants a strong one
        return facts, facts.get("last_modified", "")
    return facts, etag


def _copy(answer: http.client.HTTPResponse, part: Path, asked: int, url: str) -> dict[str, str]:
    """Writes an answer to disk; returns what the server tells of the file."""
    done = 0
    if asked and answer.status == http.HTTPStatus.PARTIAL_CONTENT:
        if not (answer.headers["Content-Range"] or "").startswith(f"bytes {asked}-"):
            raise http.client.HTTPException(f"it was asked for bytes from {asked} on and sent others")
        say(f"going on after {in_words(asked)}")
        done = asked
    elif asked:
        say("starting over: the server cannot go on, or its file has changed")
    headers = answer.headers
    facts = {"url": url, "etag": headers["ETag"] or "", "last_modified": headers["Last-Modified"] or ""}
    write_json(part.with_name(f"{part.name}.json"), facts)
    total = done + int(headers["Content-Length"]) if headers["Content-Length"] else None
    check_room(part.parent, (total or 0) - done, url)
    with part.open("r+b" if done else "wb") as file, bar("fetching", total) as advance:
        file.seek(done)
        file.truncate()
        advance(done)
        while block := answer.read(BLOCK):
            if not done:
                _check_is_archive(block, answer, url)
            try:
                file.write(block)
                file.flush()
            except OSError as error:  # of a full disk, which names no file; without one it would pass for the network's
                raise OSError(error.errno, error.strerror, str(part)) from None
            done += len(block)
            advance(len(block))
    if total is not None and done < total:
        raise http.client.HTTPException(f"the connection broke off after {in_words(done)} of {in_words(total)}")
    return facts


def _check_is_archive(block: bytes, answer: http.client.HTTPResponse, url: str) -> None:
    """A hotel's sign-in page, a proxy's message or an error page come as success, too."""
    if not block.startswith(b"PK"):
        title = re.search(rb"<title[^>]*>\s*(.*?)\s*</title>", block, re.IGNORECASE | re.DOTALL)
        said = f", titled {title[1].decode(errors='replace')[:80]!r}" if title else ""
        host = urllib.parse.urlsplit(answer.url).netloc
        raise DataError(
            f"{url}: the answer is no ZIP archive but {answer.headers.get_content_type()}{said}, from {host}; a "
            "network that wants a sign-in answers so, or the address is that of a page. Open it in a browser"
        )
