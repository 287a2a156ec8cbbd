"""Getting collections, from a real server in a thread: datamodules/downloads.py."""

from __future__ import annotations

import hashlib
import http.server
import io
import json
import re
import shutil
import socket
import stat
import sys
import threading
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from omegaconf import OmegaConf

from cxrlab import datamodules
from cxrlab.datamodules import downloads
from cxrlab.datamodules.downloads import COLLECTIONS, Collection, download
from cxrlab.errors import DataError

ROOT = Path(__file__).parents[2]
COMMIT = "0123456789abcdef0123456789abcdef01234567"
FILES = {
    "covid-chestxray-dataset-0123/metadata.csv": b"patientid,filename\n",
    "covid-chestxray-dataset-0123/images/a.png": b"\x00" * 100_000,
    "covid-chestxray-dataset-0123/images/deep/b.png": b"film",
    "covid-chestxray-dataset-0123/images/.DS_Store": b"leftover",
    "covid-chestxray-dataset-0123/docs/paper.pdf": b"not wanted",
    "covid-chestxray-dataset-0123/README.md": b"read me",
}
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


def refused(call: Callable[[], object]) -> str:
    with pytest.raises(DataError) as caught:
        call()
    return str(caught.value)


def below(folder: Path) -> set[str]:
    return {file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file()}


WANTED = {"metadata.csv", "images/a.png", "images/deep/b.png", "README.md", "download.json"}


def test_a_collection_arrives_whole(server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = get(tmp_path / "data", server)
    assert folder == tmp_path / "data" / "covid-chestxray-dataset"
    assert below(folder) == WANTED
    assert (folder / "images/deep/b.png").read_bytes() == b"film"
    assert [path.name for path in (tmp_path / "data").iterdir()] == [folder.name]  # nothing else is left
    assert stat.S_IMODE(folder.stat().st_mode) & 0o055 == 0o055  # colleagues can read it
    record = json.loads((folder / "download.json").read_text())
    sha256 = hashlib.sha256(server.body).hexdigest()
    fetched = record.pop("fetched")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00", fetched)
    assert record == {
        "data": "cohen",
        "licence": COHEN.licence,
        "cite": list(COHEN.cite),
        "url": server.url,
        "etag": '"one"',
        "last_modified": "",
        "sha256": sha256,
        "bytes": len(server.body),
        "sha256_checked": "NOT CHECKED: none is published to compare it with",
        "commit": COMMIT,
        "files": 4,
        "unpacked_bytes": 100_000 + len(b"patientid,filename\nfilmread me"),
    }
    said = capsys.readouterr().out
    assert said.index("licence  per image in metadata.csv") < said.index(f"sha256   {sha256}")
    for line in ("cite     Cohen et al.", "size     more than 700 images", "NOT CHECKED", f"commit   {COMMIT}"):
        assert line in said


def test_a_checksum_is_compared(server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sha256 = hashlib.sha256(server.body).hexdigest()
    message = refused(lambda: get(tmp_path, server, sha256="0" * 64))
    assert message.startswith(f"{server.url}: its SHA-256 is {sha256}, expected was {'0' * 64}: ")
    assert below(tmp_path) == {".covid-chestxray-dataset.zip.part.json"}  # the next try begins anew
    folder = get(tmp_path, server, sha256=sha256.upper())
    assert json.loads((folder / "download.json").read_text())["sha256_checked"] == "as given"
    assert "         as given; the archive's own" in capsys.readouterr().out
    assert "must be 64 hexadecimal digits, got 'abc'" in refused(lambda: get(tmp_path / "x", server, sha256="abc"))


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
        patch.setattr(downloads, "LARGEST", 10)
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


def test_no_room(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1_000))
    told = refused(lambda: get(tmp_path, server))
    assert told.startswith(f"{tmp_path}: 0.0 MB are free, and {server.url} needs 0.1 MB; make room, or choose another")


def test_a_disk_that_is_full_in_the_middle(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(downloads, "_pour", full)
    told = refused(lambda: get(tmp_path, server))
    assert "cannot be written (No space left on device); make room there" in told
    assert below(tmp_path) == {f".covid-chestxray-dataset.zip.part{end}" for end in ("", ".json")}


def test_a_folder_that_is_a_file(tmp_path: Path, server: Server) -> None:
    (tmp_path / "data").touch()
    assert f"{tmp_path / 'data'}: cannot be written (File exists)" in refused(lambda: get(tmp_path / "data", server))


def test_what_is_there_is_left_alone(server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / COHEN.folder
    folder.mkdir()
    (folder / "mine.txt").touch()
    assert get(tmp_path, server) == folder
    assert "there already, left alone; force=true fetches it again" in capsys.readouterr().out
    assert server.requests == []
    server.breaks_after = 10
    refused(lambda: get(tmp_path, server, force=True))
    assert below(folder) == {"mine.txt"}
    server.breaks_after = None
    get(tmp_path, server, force=True)
    assert below(folder) == WANTED
    assert [path.name for path in tmp_path.iterdir()] == [COHEN.folder]


def test_a_link_is_not_replaced(server: Server, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / COHEN.folder).symlink_to(tmp_path / "elsewhere")
    assert "which is not replaced; take the link away first" in refused(lambda: get(tmp_path, server, force=True))
    assert (tmp_path / "elsewhere").is_dir()


# ------------------------------------------------------------------------------------------------------------ archives


def by_hand(tmp_path: Path, data: bytes, collection: Collection = COHEN) -> Path:
    file = tmp_path / "by hand.zip"
    file.write_bytes(data)
    return download(collection, tmp_path / "data", url=str(file))


def test_an_archive_that_was_downloaded_by_hand(tmp_path: Path) -> None:
    folder = by_hand(tmp_path, archive(FILES, comment="zipped by a person", compression=zipfile.ZIP_DEFLATED))
    assert below(folder) == WANTED
    assert "commit" not in json.loads((folder / "download.json").read_text())
    assert (tmp_path / "by hand.zip").exists()
    again = download(COHEN, tmp_path / "again", url=(tmp_path / "by hand.zip").as_uri())
    assert below(again) == WANTED
    assert "no such file; name the archive" in refused(lambda: download(COHEN, tmp_path / "x", url="none.zip"))
    assert "must be http, https" in refused(lambda: download(COHEN, tmp_path / "x", url="ftp://host/a.zip"))


def link(name: str) -> zipfile.ZipInfo:
    member = zipfile.ZipInfo(name)
    member.external_attr = (stat.S_IFLNK | 0o777) << 16
    return member


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ("../evil.png", "which leads out of its folder"),
        ("set/images/../../../evil.png", "which leads out of its folder"),
        ("/etc/evil.png", "which leads out of its folder"),
        ("set\\images\\..\\..\\evil.png", "which leads out of its folder"),
        ("C:/evil.png", "which leads out of its folder"),
        (link("set/images/evil.png"), "'images/evil.png' is a link or a device"),
    ],
    ids=["up", "up-inside", "absolute", "backslash", "drive", "link"],
)
def test_archives_that_reach_outside_are_refused(tmp_path: Path, extra: Any, message: str) -> None:
    stream = io.BytesIO(archive({"set/metadata.csv": b"", "set/images/a.png": b""}))
    with zipfile.ZipFile(stream, "a") as zipped:
        zipped.writestr(extra, "/etc/passwd")
    assert message in refused(lambda: by_hand(tmp_path, stream.getvalue()))
    assert list((tmp_path / "data").iterdir()) == []
    assert not list(tmp_path.rglob("evil*"))


def test_a_bomb_is_refused_before_it_is_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(downloads, "LARGEST", 10**6)
    bomb = archive({**FILES, "covid-chestxray-dataset-0123/images/c.png": b"\0" * 10**7}, "", zipfile.ZIP_DEFLATED)
    assert len(bomb) < 20_000
    assert "refused, since it would unpack to 10.1 MB, over the limit of 1.0 MB" in refused(
        lambda: by_hand(tmp_path, bomb)
    )


def test_a_member_that_is_longer_than_it_says_is_damaged(tmp_path: Path) -> None:
    data = bytearray(archive({"metadata.csv": b"x" * 50, "images/a.png": b"y" * 50}, "", zipfile.ZIP_DEFLATED))
    central = data.rindex(b"PK\x01\x02")
    data[central + 24 : central + 28] = (10).to_bytes(4, "little")  # images/a.png says 10 bytes
    assert "damaged (Bad CRC-32 for file 'images/a.png')" in refused(lambda: by_hand(tmp_path, bytes(data)))


def test_a_flipped_bit_is_found_and_the_archive_fetched_anew(server: Server, tmp_path: Path) -> None:
    whole = server.body
    server.body = whole.replace(b"film", b"fi1m")
    told = refused(lambda: get(tmp_path, server))
    assert "damaged (Bad CRC-32 for file" in told
    assert told.endswith("type the same again to fetch it anew")
    server.body = whole
    assert below(get(tmp_path, server)) == WANTED
    assert "Range" not in server.requests[1]


def test_a_truncated_archive_is_damaged(tmp_path: Path) -> None:
    assert "damaged (File is not a zip file)" in refused(lambda: by_hand(tmp_path, archive(FILES)[:-200]))


def test_another_set_is_not_taken_for_this_one(tmp_path: Path) -> None:
    told = refused(lambda: by_hand(tmp_path, archive({"set/metadata.csv": b"", "other/images/a.png": b""})))
    assert "not COVID-19 image data collection: no folder in it holds metadata.csv, images" in told
    assert list((tmp_path / "data").iterdir()) == []


def test_of_a_nested_copy_the_outer_is_taken(tmp_path: Path) -> None:
    names = [f"{part}/{name}/a.jpeg" for part in ("train", "val", "test") for name in ("NORMAL", "PNEUMONIA")]
    files = {f"chest_xray/{name}": b"outer" for name in names}
    files |= {f"chest_xray/chest_xray/{name}": b"inner" for name in names}
    files |= {f"chest_xray/__MACOSX/{name}": b"leftover" for name in names}
    folder = by_hand(tmp_path, archive(files), COLLECTIONS["kermany"])
    assert below(folder) == {*names, "download.json"}
    assert {(folder / name).read_bytes() for name in names} == {b"outer"}


def test_of_two_copies_the_fuller_is_taken(tmp_path: Path) -> None:
    classes = ("Covid-19", "No_findings", "Pneumonia")
    files = {f"a/Dataset/{name}/1.png": b"" for name in classes}
    files |= {f"a/X-Ray Image DataSet/{name}/{number}.png": b"" for name in classes for number in range(3)}
    assert len(below(by_hand(tmp_path, archive(files), COLLECTIONS["darkcovidnet"]))) == 9 + 1


# -------------------------------------------------------------------------------------------------------------- Kaggle

PAPER = COLLECTIONS["paper"]


@pytest.fixture
def kagglehub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Stands in for kagglehub, whose cache holds the paper's set."""
    cached = tmp_path / "cache" / "versions" / "4"
    for name in ("train/NORMAL/a.jpeg", "test/PNEUMONIA/b.jpeg", "notes.txt"):
        (cached / "xray_dataset_covid19" / name).parent.mkdir(parents=True, exist_ok=True)
        (cached / "xray_dataset_covid19" / name).write_bytes(b"film")
    module = SimpleNamespace(asked=[], error=None)

    def dataset_download(handle: str) -> str:
        module.asked.append(handle)
        if module.error:
            raise module.error
        return str(cached)

    module.dataset_download = dataset_download
    monkeypatch.setitem(sys.modules, "kagglehub", module)
    return module


def test_from_kaggle(kagglehub: SimpleNamespace, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = download(PAPER, tmp_path / "data")
    assert kagglehub.asked == ["khoongweihao/covid19-xray-dataset-train-test-sets"]
    assert below(folder) == {"train/NORMAL/a.jpeg", "test/PNEUMONIA/b.jpeg", "download.json"}
    record = json.loads((folder / "download.json").read_text())
    assert (record["kaggle"], record["version"], record["files"]) == (PAPER.kaggle, "4", 2)
    assert record["sha256_checked"].startswith("NOT CHECKED")
    assert "NOT CHECKED: kagglehub hands over files" in capsys.readouterr().out


def test_what_kagglehub_says_is_passed_on(kagglehub: SimpleNamespace, tmp_path: Path) -> None:
    kagglehub.error = ConnectionError("no route\nto kaggle")
    told = refused(lambda: download(PAPER, tmp_path / "data"))
    assert (
        f"kagglehub could not fetch {PAPER.kaggle}: no route to kaggle. Or get its ZIP archive from {PAPER.page}"
        in told
    )
    assert list((tmp_path / "data").iterdir()) == []


def test_without_kagglehub_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "kagglehub", None)
    told = refused(lambda: download(PAPER, tmp_path))
    assert "kagglehub, which is not installed: type `pip install 'cxrlab[kaggle]'`" in told
    assert f"Or get its ZIP archive from {PAPER.page} with a browser" in told


def test_a_checksum_needs_an_archive(kagglehub: SimpleNamespace, tmp_path: Path) -> None:
    assert "sha256: belongs to an archive" in refused(lambda: download(PAPER, tmp_path, sha256="0" * 64))
    assert kagglehub.asked == []


def test_a_mirror_does_without_kaggle(kagglehub: SimpleNamespace, tmp_path: Path) -> None:
    by_hand(tmp_path, archive({"x/train/NORMAL/a.jpeg": b"", "x/test/NORMAL/b.jpeg": b""}), PAPER)
    assert kagglehub.asked == []


# --------------------------------------------------------------------------------------------------------- collections


@pytest.mark.parametrize("collection", COLLECTIONS.values(), ids=COLLECTIONS)
def test_every_collection_goes_where_its_source_looks(collection: Collection) -> None:
    node = OmegaConf.load(ROOT / "conf/data/source" / f"{collection.name}.yaml")
    assert OmegaConf.to_container(node)["root"] == f"${{oc.env:CXRLAB_DATA,data}}/{collection.folder}"  # type: ignore[call-overload,index]
    assert node._target_ == f"cxrlab.datamodules.{collection.source}"
    assert hasattr(datamodules, collection.source)
    assert bool(collection.archive) != bool(collection.kaggle)
    assert all((collection.licence, collection.size, collection.cite, collection.needed))
