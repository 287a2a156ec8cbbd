"""Getting collections: what stands in the folder in the end, and that it is all or nothing."""

from __future__ import annotations

import hashlib
import json
import re
import stat
import zipfile
from pathlib import Path

import pytest
from tests.downloads.conftest import COHEN, COMMIT, FILES, WANTED, Server, archive, below, by_hand, get, refused

from cxrlab.downloads import download


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
