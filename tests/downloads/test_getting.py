"""Getting collections: all or nothing, from a server, a file or Kaggle, and nothing dangerous or damaged."""

from __future__ import annotations

import hashlib
import io
import json
import re
import shutil
import stat
import sys
import zipfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tests.downloads.conftest import COHEN, COMMIT, FILES, WANTED, Server, archive, below, by_hand, get, refused

from cxrlab.downloads import COLLECTIONS, download, getting

PAPER = COLLECTIONS["paper"]


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


def test_an_archive_that_was_downloaded_by_hand(tmp_path: Path) -> None:
    folder = by_hand(tmp_path, archive(FILES, comment="zipped by a person", compression=zipfile.ZIP_DEFLATED))
    assert below(folder) == WANTED
    assert "commit" not in json.loads((folder / "download.json").read_text())
    assert (tmp_path / "by hand.zip").exists()
    again = download(COHEN, tmp_path / "again", url=(tmp_path / "by hand.zip").as_uri())
    assert below(again) == WANTED
    assert "no such file; name the archive" in refused(lambda: download(COHEN, tmp_path / "x", url="none.zip"))
    assert "must be http, https" in refused(lambda: download(COHEN, tmp_path / "x", url="ftp://host/a.zip"))


def test_a_flipped_bit_is_found_and_the_archive_fetched_anew(server: Server, tmp_path: Path) -> None:
    whole = server.body
    server.body = whole.replace(b"film", b"fi1m")
    told = refused(lambda: get(tmp_path, server))
    assert "damaged (Bad CRC-32 for file" in told
    assert told.endswith("type the same again to fetch it anew")
    server.body = whole
    assert below(get(tmp_path, server)) == WANTED
    assert "Range" not in server.requests[1]


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


def test_no_room(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1_000))
    told = refused(lambda: get(tmp_path, server))
    assert told.startswith(f"{tmp_path}: 0.0 MB are free, and {server.url} needs 0.1 MB; make room, or choose another")


def test_a_disk_that_is_full_in_the_middle(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(zipfile.ZipFile, "open", full)
    told = refused(lambda: get(tmp_path, server))
    assert "cannot be written (No space left on device); make room there" in told
    assert below(tmp_path) == {f".covid-chestxray-dataset.zip.part{end}" for end in ("", ".json")}


def test_a_folder_that_is_a_file(tmp_path: Path, server: Server) -> None:
    (tmp_path / "data").touch()
    assert f"{tmp_path / 'data'}: cannot be written (File exists)" in refused(lambda: get(tmp_path / "data", server))


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
    monkeypatch.setattr(getting, "LARGEST", 10**6)
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


def test_a_truncated_archive_is_damaged(tmp_path: Path) -> None:
    assert "damaged (File is not a zip file)" in refused(lambda: by_hand(tmp_path, archive(FILES)[:-200]))


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
    assert "needs kagglehub, which is not installed: type `pip install 'cxrlab[kaggle]'`, or get its ZIP" in told


def test_a_checksum_needs_an_archive(kagglehub: SimpleNamespace, tmp_path: Path) -> None:
    assert "sha256: belongs to an archive" in refused(lambda: download(PAPER, tmp_path, sha256="0" * 64))
    assert kagglehub.asked == []


def test_a_mirror_does_without_kaggle(kagglehub: SimpleNamespace, tmp_path: Path) -> None:
    by_hand(tmp_path, archive({"x/train/NORMAL/a.jpeg": b"", "x/test/NORMAL/b.jpeg": b""}), PAPER)
    assert kagglehub.asked == []
