"""Unpacking an archive of somebody else's: nothing leaves its folder, nothing is larger than it says."""

from __future__ import annotations

import re
import stat
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import IO, Any

from cxrlab.console import say
from cxrlab.downloads.collections import Collection
from cxrlab.downloads.disk import BLOCK, bar, check_room, in_words
from cxrlab.errors import DataError

LARGEST = 20 * 10**9
"""Bytes that an archive may unpack to; the largest collection here has some two thousand million."""


class DamagedError(DataError):
    """An archive that is worth fetching anew."""


def unpack(archive: Path, collection: Collection, fresh: Path, again: str) -> dict[str, Any]:
    """Unpacks the collection's own files, wherever in the archive they lie, and compares every check sum.

    Args:
        archive: A ZIP archive.
        collection: Whose files are wanted.
        fresh: The folder that they go to, made where needed. Two above it is the one whose disk has to have room.
        again: What to do about a damaged archive, which ends the message.

    Returns:
        ``files`` and ``unpacked_bytes``, their numbers; and ``commit`` where the archive says of which one it is.

    Raises:
        DamagedError: It cannot be read, or a check sum is wrong.
        DataError: It is another set, something in it is dangerous, or there is no room; nothing was unpacked.
        OSError: A file cannot be written.
    """
    try:
        with zipfile.ZipFile(archive) as zipped:
            members = _members(zipped, archive)
            root = collection.root(members, str(archive))
            wanted = {name[len(root) :]: member for name, member in members.items() if collection.wants(name, root)}
            size = _check_members(wanted, zipped, archive, fresh.parents[1])
            with bar("unpacking", size) as advance:
                for name, member in wanted.items():
                    target = fresh / name
                    target.parent.mkdir(parents=True, exist_ok=True)
                    with zipped.open(member) as packed, target.open("wb") as file:
                        _pour(packed, file, advance)
            comment = zipped.comment.decode(errors="replace")
    except (zipfile.BadZipFile, EOFError, NotImplementedError, zlib.error) as error:
        raise DamagedError(f"{archive}: damaged ({error}); {again}") from None
    facts = {"files": len(wanted), "unpacked_bytes": size}
    if re.fullmatch(r"[0-9a-f]{40}", comment):  # what `git archive` leaves, and GitHub with it
        say(f"commit   {comment}")
        return {"commit": comment, **facts}
    return facts


def _pour(packed: IO[bytes], file: IO[bytes], advance: Callable[[int], None]) -> None:
    while block := packed.read(BLOCK):
        file.write(block)
        advance(len(block))


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


def _check_members(wanted: dict[str, zipfile.ZipInfo], zipped: zipfile.ZipFile, archive: Path, folder: Path) -> int:
    """Refuses what is no plain file, and more than there is room for; returns the bytes in all.

    A member that holds more than it declares is cut off there by zipfile, and its check sum is then wrong.
    """
    for name, member in wanted.items():
        kind = stat.S_IFMT(member.external_attr >> 16)
        if kind not in (0, stat.S_IFREG):
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
