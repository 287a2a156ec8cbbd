"""Getting a collection: fetched or found, checked, unpacked, recorded and moved into place whole."""

from __future__ import annotations

import errno
import os
import re
import shutil
import stat
import tempfile
import urllib.parse
import urllib.request
import zipfile
import zlib
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Any

from cxrlab.console import say
from cxrlab.downloads.collections import Collection
from cxrlab.downloads.fetching import BLOCK, bar, check_room, fetch, in_words
from cxrlab.errors import DataError
from cxrlab.files import file_sha256, write_json
from cxrlab.imports import need

RECORD = "download.json"
"""The file in a set's folder that says where it came from."""
LARGEST = 20 * 10**9
"""Bytes that an archive may unpack to; the largest collection here has some two thousand million."""


class DamagedError(DataError):
    """An archive that is worth fetching anew."""


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
    say(
        f"{collection.name}: {collection.title}",
        f"  from     {collection.page}",
        f"  licence  {collection.licence}",
        f"  size     {collection.size}",
        *(f"  cite     {work}" for work in collection.cite),
        f"  to       {folder}",
    )
    if os.path.lexists(folder) and not force:
        say("there already, left alone; force=true fetches it again and replaces it")
        return folder
    part = parent / f".{collection.folder}.zip.part"
    try:
        parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{collection.folder}.", dir=parent) as scratch:
            fresh = Path(scratch, collection.folder)
            if url is None and collection.kaggle:
                record = _from_kaggle(collection, sha256, fresh)
            else:
                record = _from_archive(collection, url or collection.archive, sha256, timeout, part, fresh)
            about = {"data": collection.name, "licence": collection.licence, "cite": list(collection.cite)}
            write_json(fresh / RECORD, {**about, **record, "fetched": datetime.now(UTC).isoformat(timespec="seconds")})
            if folder.is_symlink():
                raise DataError(
                    f"{folder}: a link to {folder.readlink()}, which is not replaced; take the link away first"
                )
            # What was there before goes only when the new one stands.
            aside = Path(scratch, "replaced")
            if folder.exists():
                folder.rename(aside)
            try:
                fresh.rename(folder)
            except BaseException:
                if aside.exists():
                    aside.rename(folder)
                raise
        for left in (part, part.with_name(f"{part.name}.json")):
            left.unlink(missing_ok=True)
    except OSError as error:  # on this side of the network
        room = "make room there, or " if error.errno in (errno.ENOSPC, errno.EDQUOT) else ""
        hint = f"{room}choose another folder with to=/some/folder, and type the same again"
        where = error.filename or parent
        raise DataError(f"{where}: cannot be written ({error.strerror or error}); {hint}") from None
    say(f"put into {folder}: {record['files']:,} files, {in_words(record['unpacked_bytes'])}; see {RECORD} there")
    return folder


def _from_archive(
    collection: Collection, url: str, sha256: str | None, timeout: float, part: Path, fresh: Path
) -> dict[str, Any]:
    """Fetches and checks an archive and unpacks it; returns what is known of it."""
    if sha256 is not None and not re.fullmatch(r"[0-9a-fA-F]{64}", str(sha256)):
        raise DataError(f"sha256: must be 64 hexadecimal digits, got {str(sha256)!r}")
    address = urllib.parse.urlsplit(url)
    facts: dict[str, Any] = {"url": url}
    if address.scheme in ("http", "https"):
        archive, again = part, "type the same again to fetch it anew"
        facts |= fetch(url, archive, timeout, collection.by_hand)
    elif address.scheme in ("", "file"):
        archive = Path(urllib.request.url2pathname(address.path) if address.scheme else url).expanduser()
        again = "download it again, or look for another copy"
        if not archive.is_file():
            raise DataError(f"url={url}: no such file; name the archive that was downloaded by hand")
    else:
        raise DataError(f"url={url}: must be http, https, or a file on this machine")
    facts |= {"sha256": file_sha256(archive), "bytes": archive.stat().st_size}
    say(f"sha256   {facts['sha256']}")
    try:
        if sha256 is not None and facts["sha256"] != str(sha256).lower():
            raise DamagedError(
                f"{url}: its SHA-256 is {facts['sha256']}, expected was {str(sha256).lower()}: damaged, or not the "
                f"archive that was meant; nothing was unpacked; {again}"
            )
        checked = "as given" if sha256 else "NOT CHECKED: none is published to compare it with"
        say(f"         {checked}; the archive's own check sums (CRC-32) are compared while it is unpacked")
        return facts | {"sha256_checked": checked} | _unpack(archive, collection, fresh, again)
    except DamagedError:
        part.unlink(missing_ok=True)  # or the next try would go on with it
        raise


def _from_kaggle(collection: Collection, sha256: str | None, fresh: Path) -> dict[str, Any]:
    """Has kagglehub fetch a collection, and copies its files out of kagglehub's cache; returns what is known of it."""
    if sha256 is not None:
        raise DataError("sha256: belongs to an archive, and kagglehub hands over none; leave it out, or give url=…")
    # Here, since importing it reads credentials.
    what = f"data={collection.name}, which comes from Kaggle,"
    kagglehub = need("kagglehub", what, collection.by_hand.removeprefix("Or "))
    try:
        cached = Path(kagglehub.dataset_download(collection.kaggle))
    except Exception as error:  # noqa: BLE001 - its own, those of requests and those of the system have no base in common
        said = " ".join(str(error).split())[:300] or type(error).__name__
        raise DataError(
            f"https://www.kaggle.com: kagglehub could not fetch {collection.kaggle}: {said}. {collection.by_hand}"
        ) from None
    files = [file for file in sorted(cached.rglob("*")) if file.is_file() and not file.is_symlink()]
    wanted = collection.choose((file.relative_to(cached).as_posix() for file in files), str(cached))
    size = sum((cached / name).stat().st_size for name in wanted.values())
    check_room(fresh.parents[1], size, collection.name)
    for path, name in wanted.items():
        target = fresh / path
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(cached / name, target)
    say(f"sha256   NOT CHECKED: kagglehub hands over files, not the archive; its own copy stays in {cached}")
    checked = "NOT CHECKED: fetched by kagglehub"
    facts = {"url": collection.page, "kaggle": collection.kaggle, "version": cached.name, "sha256_checked": checked}
    return facts | {"files": len(wanted), "unpacked_bytes": size}


def _unpack(archive: Path, collection: Collection, fresh: Path, again: str) -> dict[str, Any]:
    """Unpacks the collection's own files, wherever in a ZIP archive they lie; returns what is known of them.

    Nothing leaves the folder and nothing is larger than it says; every check sum is compared. ``again`` says what to do
    about a damaged archive.
    """
    try:
        with zipfile.ZipFile(archive) as zipped:
            members = _members(zipped, archive)
            wanted = {path: members[name] for path, name in collection.choose(members, str(archive)).items()}
            size = _check_members(wanted, archive, fresh.parents[1])
            with bar("unpacking", size) as advance:
                for path, member in wanted.items():
                    target = fresh / path
                    target.parent.mkdir(parents=True, exist_ok=True)
                    with zipped.open(member) as packed, target.open("wb") as file:
                        while block := packed.read(BLOCK):
                            file.write(block)
                            advance(len(block))
            comment = zipped.comment.decode(errors="replace")
    except (zipfile.BadZipFile, EOFError, NotImplementedError, zlib.error) as error:
        raise DamagedError(f"{archive}: damaged ({error}); {again}") from None
    facts: dict[str, Any] = {"files": len(wanted), "unpacked_bytes": size}
    if re.fullmatch(r"[0-9a-f]{40}", comment):  # what `git archive` leaves, and GitHub with it
        say(f"commit   {comment}")
        facts["commit"] = comment
    return facts


def _members(zipped: zipfile.ZipFile, archive: Path) -> dict[str, zipfile.ZipInfo]:
    """Every file of an archive by its name, none of which leads out of the folder that it is unpacked into."""
    members: dict[str, zipfile.ZipInfo] = {}
    for member in zipped.infolist():
        name = member.filename
        parts = PurePosixPath(name).parts or (":",)
        if name.startswith("/") or ".." in parts or "\\" in name or ":" in parts[0]:
            raise DataError(f"{archive}: refused, since it holds {name!r}, which leads out of its folder")
        if name in members:
            raise DataError(f"{archive}: refused, since it holds {name!r} twice")
        if not member.is_dir():
            members[name] = member
    return members


def _check_members(wanted: dict[str, zipfile.ZipInfo], archive: Path, folder: Path) -> int:
    """Refuses what is no plain file, and more than there is room for; returns the bytes in all.

    A member that holds more than it declares is cut off there by zipfile, and its check sum is then wrong.
    """
    for name, member in wanted.items():
        if stat.S_IFMT(member.external_attr >> 16) not in (0, stat.S_IFREG):
            raise DataError(f"{archive}: refused, since {name!r} is a link or a device")
        if member.flag_bits & 1:
            raise DataError(f"{archive}: {name!r} is encrypted; look for another copy")
    size = sum(member.file_size for member in wanted.values())
    if size > LARGEST:
        raise DataError(
            f"{archive}: refused, since it would unpack to {in_words(size)}, over the limit of {in_words(LARGEST)}"
        )
    check_room(folder, size, f"unpacking {archive.name}")
    return size
