"""Archives that are dangerous or damaged."""

from __future__ import annotations

import io
import stat
import zipfile
from pathlib import Path
from typing import Any

import pytest
from tests.downloads.conftest import FILES, archive, by_hand, refused

from cxrlab.downloads import unpacking


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
    monkeypatch.setattr(unpacking, "LARGEST", 10**6)
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
