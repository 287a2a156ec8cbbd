"""A real server in a thread, and archives that it hands out."""

from __future__ import annotations

import http.server
import io
import re
import threading
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from cxrlab.downloads import COLLECTIONS, Collection, download
from cxrlab.errors import UserError

COMMIT = "0123456789abcdef0123456789abcdef01234567"
FILES = {
    "covid-chestxray-dataset-0123/metadata.csv": b"patientid,filename\n",
    "covid-chestxray-dataset-0123/images/a.png": b"\x00" * 100_000,
    "covid-chestxray-dataset-0123/images/deep/b.png": b"film",
    "covid-chestxray-dataset-0123/images/.DS_Store": b"leftover",
    "covid-chestxray-dataset-0123/docs/paper.pdf": b"not wanted",
    "covid-chestxray-dataset-0123/README.md": b"read me",
}
WANTED = {"metadata.csv", "images/a.png", "images/deep/b.png", "README.md", "download.json"}
COHEN = COLLECTIONS["cohen"]


def archive(files: Mapping[str, bytes], comment: str = COMMIT, compression: int = zipfile.ZIP_STORED) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", compression) as zipped:
        for name, data in files.items():
            zipped.writestr(name, data)
        zipped.comment = comment.encode()
    return stream.getvalue()


@dataclass
class Server:
    """What the server answers with, and what it was asked."""

    url: str = ""
    body: bytes = b""
    etag: str | None = '"one"'
    status: int = 200
    kind: str = "application/zip"
    ranges: bool = True
    breaks_after: int | None = None  # bytes of an answer, after which the connection is closed
    chunked: bool = False
    requests: list[dict[str, str]] = field(default_factory=list)


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    plan: Server

    def do_GET(self) -> None:
        plan = self.plan
        plan.requests.append(dict(self.headers.items()))
        begin = self.begin()
        if begin is not None and begin >= len(plan.body):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(plan.body)}")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        body = plan.body[begin or 0 :]
        self.send_response(plan.status if begin is None else 206)
        self.send_header("Content-Type", plan.kind)
        if begin is not None:
            self.send_header("Content-Range", f"bytes {begin}-{len(plan.body) - 1}/{len(plan.body)}")
        if plan.etag:
            self.send_header("ETag", plan.etag)
        self.send_header(*(("Transfer-Encoding", "chunked") if plan.chunked else ("Content-Length", str(len(body)))))
        self.end_headers()
        sent = body[: plan.breaks_after]
        if plan.chunked:
            end = b"" if plan.breaks_after is not None else b"0\r\n\r\n"
            sent = f"{len(sent):x}\r\n".encode() + sent + b"\r\n" + end
        self.wfile.write(sent)
        self.close_connection = True

    def begin(self) -> int | None:
        """Where the answer begins, if a part of the same file is asked for and given."""
        wanted = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        same = self.plan.etag is not None and self.headers.get("If-Range") == self.plan.etag
        return int(wanted[1]) if wanted and same and self.plan.ranges else None

    def log_message(self, *args: Any) -> None:
        """Says nothing."""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    plan = Server(body=archive(FILES))
    handler = type("Planned", (Handler,), {"plan": plan})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        plan.url = f"http://127.0.0.1:{running.server_port}/archive.zip"
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield plan
        running.shutdown()
        thread.join()


def get(to: Path, server: Server, **options: Any) -> Path:
    return download(COHEN, to, url=server.url, timeout=5, **options)


def by_hand(tmp_path: Path, data: bytes, collection: Collection = COHEN) -> Path:
    file = tmp_path / "by hand.zip"
    file.write_bytes(data)
    return download(collection, tmp_path / "data", url=str(file))


def refused(call: Callable[[], object]) -> str:
    with pytest.raises(UserError) as caught:
        call()
    return str(caught.value)


def below(folder: Path) -> set[str]:
    return {file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file()}
