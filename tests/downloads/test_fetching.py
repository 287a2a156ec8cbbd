"""Fetching from a real server that breaks off, changes its file, refuses or says nothing."""

from __future__ import annotations

import hashlib
import json
import socket
from pathlib import Path
from typing import Any

import pytest
from tests.downloads.conftest import COHEN, FILES, WANTED, Server, archive, below, get, refused

from cxrlab.downloads import download, getting


@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunked"])
def test_it_goes_on_where_the_connection_broke(
    server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str], chunked: bool
) -> None:
    server.chunked = chunked
    server.breaks_after = 60_000
    message = refused(lambda: get(tmp_path, server))
    assert "the connection broke off" in message
    kept = tmp_path / ".covid-chestxray-dataset.zip.part"
    assert 0 < kept.stat().st_size <= 60_000 or chunked
    begun = kept.stat().st_size
    assert not (tmp_path / "covid-chestxray-dataset").exists()
    server.breaks_after = None
    folder = get(tmp_path, server)
    assert below(folder) == WANTED
    assert json.loads((folder / "download.json").read_text())["sha256"] == hashlib.sha256(server.body).hexdigest()
    if begun:
        assert server.requests[1]["Range"] == f"bytes={begun}-"
        assert server.requests[1]["If-Range"] == '"one"'
        assert "going on after 0.1 MB" in capsys.readouterr().out


@pytest.mark.parametrize(
    "change",
    [{"ranges": False}, {"etag": '"two"', "body": archive({**FILES, "x/y": b"more"})}, {"etag": None}],
    ids=["no-ranges", "changed", "no-mark"],
)
def test_it_starts_over_where_the_server_cannot_go_on(
    server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str], change: dict[str, Any]
) -> None:
    server.breaks_after = 60_000
    refused(lambda: get(tmp_path, server))
    server.breaks_after = None
    vars(server).update(change)
    folder = get(tmp_path, server)
    assert json.loads((folder / "download.json").read_text())["sha256"] == hashlib.sha256(server.body).hexdigest()
    assert "starting over: the server cannot go on" in capsys.readouterr().out


def test_a_weak_mark_is_not_gone_on_with(server: Server, tmp_path: Path) -> None:
    server.etag, server.breaks_after = 'W/"one"', 60_000
    refused(lambda: get(tmp_path, server))
    server.breaks_after = None
    get(tmp_path, server)
    assert "Range" not in server.requests[1]


def test_a_fetched_archive_is_not_fetched_twice(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(getting, "LARGEST", 10)
        assert "over the limit of 0.0 MB" in refused(lambda: get(tmp_path, server))
    assert below(get(tmp_path, server)) == WANTED
    assert server.requests[1]["Range"] == f"bytes={len(server.body)}-"  # answered with 416: nothing is missing


def test_another_address_does_not_go_on_with_the_first(server: Server, tmp_path: Path) -> None:
    server.breaks_after = 60_000
    refused(lambda: get(tmp_path, server))
    server.breaks_after = None
    download(COHEN, tmp_path, url=server.url + "?mirror", timeout=5)
    assert "Range" not in server.requests[1]


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (404, "the server says 404 Not Found: it is not there any more; url=https://… names another copy"),
        (403, "the server says 403 Forbidden: it, or a proxy on the way, lets nobody in without signing in"),
        (429, "the server says 429 Too Many Requests: try again later"),
        (503, "the server says 503 Service Unavailable: try again later"),
        (418, "the server says 418 I'm a Teapot"),
    ],
)
def test_what_a_server_may_say(server: Server, tmp_path: Path, status: int, message: str) -> None:
    server.status = status
    told = refused(lambda: get(tmp_path, server))
    assert told.startswith(f"{server.url}: {message}. Or get its ZIP archive from {COHEN.page} with a browser")
    assert told.endswith("type data=cohen url=/path/to/the/archive.zip")
    assert list(tmp_path.iterdir()) == []


def test_a_sign_in_page_is_no_archive(server: Server, tmp_path: Path) -> None:
    server.body, server.kind = b"<html><head><title>Hotel WiFi</title></head></html>", "text/html"
    told = refused(lambda: get(tmp_path, server))
    assert "the answer is no ZIP archive but text/html, titled 'Hotel WiFi', from 127.0.0.1" in told
    server.body, server.kind = archive(FILES), "application/zip"
    assert below(get(tmp_path, server)) == WANTED


def test_nobody_listens(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/a.zip"
        told = refused(lambda: download(COHEN, tmp_path, url=url, timeout=5))
    assert told.startswith(f"{url}: cannot be reached: the connection was refused. Or get its ZIP archive from")


def test_a_host_that_nobody_knows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    told = refused(lambda: download(COHEN, tmp_path, timeout=5))
    assert told.startswith(
        f"{COHEN.archive}: cannot be reached: no network, or no name server that knows the host (Name"
    )
    assert list(tmp_path.iterdir()) == []


def test_a_silent_server_is_given_up(tmp_path: Path) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/a.zip"
        told = refused(lambda: download(COHEN, tmp_path, url=url, timeout=0.2))
    assert f"{url}: no answer for 0.2 seconds (timeout=…)" in told
