"""Getting a collection: fetched or found, checked, unpacked, recorded and moved into place whole."""

from __future__ import annotations

import os
import re
import tempfile
import urllib.parse
import urllib.request
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cxrlab.console import say
from cxrlab.downloads.collections import Collection
from cxrlab.downloads.disk import in_words, writing_to
from cxrlab.downloads.fetching import fetch
from cxrlab.downloads.kaggle import from_kaggle
from cxrlab.downloads.unpacking import DamagedError, unpack
from cxrlab.errors import DataError
from cxrlab.files import file_sha256, write_json

RECORD = "download.json"
"""The file in a set's folder that says where it came from."""


def download(
    collection: Collection,
    to: str | Path,
    url: str | None = None,
    sha256: str | None = None,
    force: bool = False,
    timeout: float = 30.0,
) -> Path:
    """Gets a collection and puts it into a folder of its own, all of it or nothing.

    An archive that was fetched in part is kept as a hidden ``.part`` file, with which the next call goes on where the
    server can. Where it came from and what was checked stands in :data:`RECORD`.

    Args:
        collection: One of :data:`cxrlab.downloads.COLLECTIONS`.
        to: The folder above; ``~`` is expanded, and it is made where needed.
        url: Another place for its ZIP archive: ``http``, ``https``, or a file on this machine.
        sha256: What the archive's SHA-256 has to be, in hexadecimal.
        force: Replace a folder that is there already; otherwise that is left alone.
        timeout: Seconds without an answer after which the server is given up.

    Returns:
        The folder.

    Raises:
        DataError: No network, another answer than an archive, a wrong checksum, a damaged or dangerous archive, no
            room, kagglehub missing. Says what to do about it; a folder that was there before is untouched.
    """
    parent = Path(to).expanduser()
    folder = parent / collection.folder
    _say_terms(collection, folder)
    if os.path.lexists(folder) and not force:
        say("there already, left alone; force=true fetches it again and replaces it")
        return folder
    with writing_to(parent):
        parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{collection.folder}.", dir=parent) as scratch:
            fresh = Path(scratch, collection.folder)
            if url is None and collection.kaggle:
                if sha256 is not None:
                    raise DataError(
                        "sha256: belongs to an archive, and kagglehub hands over none; leave it out, or give url=…"
                    )
                record = from_kaggle(collection, fresh)
            else:
                record = _from_archive(collection, url or collection.archive, sha256, timeout, parent, fresh)
            about = {"data": collection.name, "licence": collection.licence, "cite": list(collection.cite)}
            write_json(fresh / RECORD, {**about, **record, "fetched": datetime.now(UTC).isoformat(timespec="seconds")})
            _put(fresh, folder, Path(scratch, "replaced"))
    (parent / _part_name(collection)).unlink(missing_ok=True)
    (parent / _state_name(collection)).unlink(missing_ok=True)
    say(f"put into {folder}: {record['files']:,} files, {in_words(record['unpacked_bytes'])}; see {RECORD} there")
    return folder


def _say_terms(collection: Collection, folder: Path) -> None:
    say(f"{collection.name}: {collection.title}")
    say(f"  from     {collection.page}")
    say(f"  licence  {collection.licence}")
    say(f"  size     {collection.size}")
    for work in collection.cite:
        say(f"  cite     {work}")
    say(f"  to       {folder}")


def _put(fresh: Path, folder: Path, aside: Path) -> None:
    """Moves a finished folder into place; what was there before goes only when the new one stands."""
    if folder.is_symlink():
        raise DataError(f"{folder}: a link to {folder.readlink()}, which is not replaced; take the link away first")
    if folder.exists():
        folder.rename(aside)
    try:
        fresh.rename(folder)
    except BaseException:
        if aside.exists():
            aside.rename(folder)
        raise


def _from_archive(
    collection: Collection, url: str, sha256: str | None, timeout: float, parent: Path, fresh: Path
) -> dict[str, Any]:
    """Fetches and checks an archive and unpacks it; returns what is known of it."""
    expected = _expected(sha256)
    again = "download it again, or look for another copy"
    facts: dict[str, Any] = {"url": url}
    if urllib.parse.urlsplit(url).scheme in ("http", "https"):
        archive = parent / _part_name(collection)
        again = "type the same again to fetch it anew"
        facts |= fetch(url, archive, parent / _state_name(collection), timeout, collection.by_hand)
    else:
        archive = _local(url)
    facts |= {"sha256": file_sha256(archive), "bytes": archive.stat().st_size}
    say(f"sha256   {facts['sha256']}")
    if expected is not None and facts["sha256"] != expected:
        (parent / _part_name(collection)).unlink(missing_ok=True)  # or the next try would go on with it
        raise DataError(
            f"{url}: its SHA-256 is {facts['sha256']}, expected was {expected}: damaged, or not the archive that was "
            f"meant; nothing was unpacked; {again}"
        )
    checked = "as given" if expected else "NOT CHECKED: none is published to compare it with"
    say(f"         {checked}; the archive's own check sums (CRC-32) are compared while it is unpacked")
    try:
        return facts | {"sha256_checked": checked} | unpack(archive, collection, fresh, again)
    except DamagedError:
        (parent / _part_name(collection)).unlink(missing_ok=True)
        raise


def _expected(sha256: str | None) -> str | None:
    if sha256 is None:
        return None
    if not re.fullmatch(r"[0-9a-fA-F]{64}", str(sha256)):
        raise DataError(f"sha256: must be 64 hexadecimal digits, got {str(sha256)!r}")
    return str(sha256).lower()


def _local(url: str) -> Path:
    """An archive on this machine, by its path or ``file:`` address."""
    parts = urllib.parse.urlsplit(url)
    if parts.scheme not in ("", "file"):
        raise DataError(f"url={url}: must be http, https, or a file on this machine")
    file = Path(urllib.request.url2pathname(parts.path) if parts.scheme else url).expanduser()
    if not file.is_file():
        raise DataError(f"url={url}: no such file; name the archive that was downloaded by hand")
    return file


def _part_name(collection: Collection) -> str:
    return f".{collection.folder}.zip.part"


def _state_name(collection: Collection) -> str:
    return f"{_part_name(collection)}.json"
