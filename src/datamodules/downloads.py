"""Getting the public collections: fetched, checked, unpacked safely and moved into place whole."""

from __future__ import annotations

import errno
import hashlib
import http.client
import json
import os
import re
import shutil
import socket
import ssl
import stat
import tempfile
import urllib.error
import urllib.parse
import urllib.request
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from email.message import Message
from pathlib import Path, PurePosixPath
from typing import IO, Any

from rich import get_console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from cxrlab.console import say
from cxrlab.errors import DataError
from cxrlab.files import write_json

RECORD = "download.json"
"""The file in a set's folder that says where it came from."""
LARGEST = 20 * 10**9
"""Bytes that an archive may unpack to; the largest collection here has some two thousand million."""
_BLOCK = 1 << 20  # bytes read at a time
_ZIP = b"PK"  # what every archive begins with
_AGENT = "cxrlab"


class _DamagedError(DataError):
    """An archive that is worth fetching anew."""


@dataclass(frozen=True)
class Collection:
    """A public collection and where it is to be had.

    Attributes:
        name: As in ``data=…``.
        source: The class of :mod:`cxrlab.datamodules` that reads it.
        title: What it is, in a few words.
        folder: What its folder is called, below which the source looks for it.
        needed: Files and folders that lie directly in it; all of them, or it is another set.
        optional: Others that are unpacked with them.
        page: Where a person finds it.
        licence: Under which terms, in the words of whoever publishes it.
        size: Images and bytes, where known.
        cite: What a publication has to cite.
        archive: URL of a ZIP archive; empty where Kaggle has it.
        kaggle: The handle on Kaggle; empty where it is not from there.
    """

    name: str
    source: str
    title: str
    folder: str
    needed: tuple[str, ...]
    page: str
    licence: str
    size: str
    cite: tuple[str, ...]
    optional: tuple[str, ...] = ()
    archive: str = ""
    kaggle: str = ""


_COHEN = "Cohen et al., COVID-19 Image Data Collection, arXiv:2003.11597 and arXiv:2006.11988"
_KERMANY = "Kermany et al., Cell 172 (2018) 1122-1131, doi:10.1016/j.cell.2018.02.010; data: doi:10.17632/rscbjbr9sj"
_NIH = "Wang et al., ChestX-ray8, CVPR 2017, arXiv:1705.02315 (films of NIH ChestX-ray)"
_COHEN_TERMS = "per image in metadata.csv (many CC BY-NC-SA, many unstated); code and metadata CC BY-NC-SA 4.0"

COLLECTIONS = {
    each.name: each
    for each in (
        Collection(
            name="paper",
            source="PaperSource",
            title="the paper's set: COVID-19 and other films against films of children",
            folder="xray_dataset_covid19",
            needed=("train", "test"),
            kaggle="khoongweihao/covid19-xray-dataset-train-test-sets",
            page="https://www.kaggle.com/datasets/khoongweihao/covid19-xray-dataset-train-test-sets",
            licence=f"see its page; the positives are Cohen's: {_COHEN_TERMS}; the negatives Kermany's: CC BY 4.0",
            size="188 images",
            cite=(_COHEN, _KERMANY),
        ),
        Collection(
            name="kermany",
            source="KermanySource",
            title="chest-xray-pneumonia: children with and without pneumonia",
            folder="chest_xray",
            needed=("train", "test"),
            optional=("val",),
            kaggle="paultimothymooney/chest-xray-pneumonia",
            page="https://www.kaggle.com/datasets/paultimothymooney/chest-xray-pneumonia",
            licence="CC BY 4.0",
            size="5,856 images, about 1.2 GB; Kaggle's archive holds everything twice",
            cite=(_KERMANY,),
        ),
        Collection(
            name="cohen",
            source="CohenSource",
            title="COVID-19 image data collection",
            folder="covid-chestxray-dataset",
            needed=("metadata.csv", "images"),
            optional=("annotations", "README.md", "SCHEMA.md"),
            archive="https://github.com/ieee8023/covid-chestxray-dataset/archive/HEAD.zip",
            page="https://github.com/ieee8023/covid-chestxray-dataset",
            licence=_COHEN_TERMS,
            size="more than 700 images, several hundred MB (the server tells no size beforehand)",
            cite=(_COHEN,),
        ),
        Collection(
            name="darkcovidnet",
            source="DarkCovidNetSource",
            title="the images behind DarkCovidNet",
            folder="darkcovidnet",
            needed=("Covid-19", "No_findings", "Pneumonia"),
            archive="https://github.com/muhammedtalo/COVID-19/archive/HEAD.zip",
            page="https://github.com/muhammedtalo/COVID-19",
            licence=f"see its page; COVID-19 films are Cohen's: {_COHEN_TERMS}; others NIH's: free with attribution",
            size="1,125 images, several hundred MB (the server tells no size beforehand)",
            cite=(
                "Ozturk et al., Comput. Biol. Med. 121 (2020) 103792, doi:10.1016/j.compbiomed.2020.103792",
                _COHEN,
                _NIH,
            ),
        ),
        Collection(
            name="actualmed",
            source="ActualmedSource",
            title="Actualmed COVID-19 chest X-rays",
            folder="Actualmed-COVID-chestxray-dataset",
            needed=("metadata.csv", "images"),
            optional=("README.md",),
            archive="https://github.com/agchung/Actualmed-COVID-chestxray-dataset/archive/HEAD.zip",
            page="https://github.com/agchung/Actualmed-COVID-chestxray-dataset",
            licence="no licence file; its README speaks of research use",
            size="238 images, about 1 GB (the server tells no size beforehand)",
            cite=(
                "Actualmed COVID-19 Chest X-ray Dataset Initiative, https://github.com/agchung/Actualmed-COVID-chestxray-dataset",
            ),
        ),
    )
}
"""Every collection that can be had, by its name."""


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
        collection: One of :data:`COLLECTIONS`.
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
    with _writing_to(parent):
        parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{collection.folder}.", dir=parent) as scratch:
            fresh = Path(scratch, collection.folder)
            if url is None and collection.kaggle:
                if sha256 is not None:
                    raise DataError(
                        "sha256: belongs to an archive, and kagglehub hands over none; leave it out, or give url=…"
                    )
                record = _from_kaggle(collection, fresh)
            else:
                record = _from_archive(collection, url or collection.archive, sha256, timeout, parent, fresh)
            about = {"data": collection.name, "licence": collection.licence, "cite": list(collection.cite)}
            write_json(fresh / RECORD, {**about, **record, "fetched": datetime.now(UTC).isoformat(timespec="seconds")})
            _put(fresh, folder, Path(scratch, "replaced"))
    (parent / _part_name(collection)).unlink(missing_ok=True)
    (parent / _state_name(collection)).unlink(missing_ok=True)
    say(f"put into {folder}: {record['files']:,} files, {_bytes(record['unpacked_bytes'])}; see {RECORD} there")
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


@contextmanager
def _writing_to(parent: Path) -> Iterator[None]:
    """What can go wrong on this side of the network, as a sentence."""
    try:
        yield
    except OSError as error:
        where = error.filename or parent
        room = "make room there, or " if error.errno in (errno.ENOSPC, errno.EDQUOT) else ""
        hint = f"{room}choose another folder with to=/some/folder, and type the same again"
        raise DataError(f"{where}: cannot be written ({error.strerror or error}); {hint}") from None


# ------------------------------------------------------------------------------------------------------------ archives


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
        facts |= _fetch(url, archive, parent / _state_name(collection), timeout, _by_hand(collection))
    else:
        archive = _local(url)
    facts |= {"sha256": _sha256(archive), "bytes": archive.stat().st_size}
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
        return facts | {"sha256_checked": checked} | _unpack(archive, collection, fresh, again)
    except _DamagedError:
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


def _by_hand(collection: Collection) -> str:
    """What helps where the network does not."""
    return (
        f"Or get its ZIP archive from {collection.page} with a browser and type "
        f"data={collection.name} url=/path/to/the/archive.zip"
    )


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _bytes(count: int) -> str:
    return f"{count / 1e9:.2f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"


# ------------------------------------------------------------------------------------------------------------ fetching


def _fetch(url: str, part: Path, state: Path, timeout: float, by_hand: str) -> dict[str, str]:
    """Fetches a file into ``part``, going on where an earlier try broke off if the server still has the same file.

    Returns:
        The server's ``etag`` and ``last_modified``, empty where it tells none.
    """
    begun, validator = _begun(url, part, state)
    request = urllib.request.Request(url, headers={"User-Agent": _AGENT, "Accept-Encoding": "identity"})
    if begun:
        # If the file has changed since, the server answers with all of it instead of the rest (RFC 9110, 13.1.5).
        request.add_header("Range", f"bytes={begun}-")
        request.add_header("If-Range", validator)
    try:
        with urllib.request.urlopen(request, timeout=timeout) as answer:
            begun = _position(answer, begun)
            facts = _remember(answer.headers, url, state)
            total = begun + int(answer.headers["Content-Length"]) if answer.headers["Content-Length"] else None
            _check_room(part.parent, (total or 0) - begun, url)
            _copy(answer, part, begun, total, url)
    except urllib.error.HTTPError as error:
        with error:
            if begun and error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
                if _is_complete(error.headers, begun):
                    return _remembered(state)
                part.unlink(missing_ok=True)
                return _fetch(url, part, state, timeout, by_hand)
        raise DataError(f"{url}: {_why_refused(error)}. {by_hand}") from None
    except (OSError, http.client.HTTPException) as error:
        if isinstance(error, OSError) and error.filename:
            raise  # a file of ours, not the network
        got = part.stat().st_size if part.exists() else 0
        kept = f" {_bytes(got)} are kept, and the same command goes on from there where the server can." if got else ""
        raise DataError(f"{url}: {_why_unreachable(error, timeout)}.{kept} {by_hand}") from None
    return facts


def _begun(url: str, part: Path, state: Path) -> tuple[int, str]:
    """Bytes of an earlier try and the server's mark of that version; 0 where it cannot be gone on with."""
    facts = _remembered(state)
    validator = facts.get("etag") or facts.get("last_modified") or ""
    if facts.get("etag", "").startswith(
        "W/"
    ):  # a weak mark may stay when bytes change, and If-Range wants a strong one
        validator = facts.get("last_modified", "")
    known = part.is_file() and facts.get("url") == url and validator
    return (part.stat().st_size, validator) if known else (0, "")


def _remembered(state: Path) -> dict[str, str]:
    try:
        facts = json.loads(state.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return {str(key): str(value) for key, value in facts.items()} if isinstance(facts, dict) else {}


def _remember(headers: Message, url: str, state: Path) -> dict[str, str]:
    facts = {"url": url, "etag": headers["ETag"] or "", "last_modified": headers["Last-Modified"] or ""}
    write_json(state, facts)
    return facts


def _position(answer: http.client.HTTPResponse, asked: int) -> int:
    """Where in the file the answer begins."""
    if asked and answer.status == http.HTTPStatus.PARTIAL_CONTENT:
        found = re.match(r"bytes (\d+)-", answer.headers["Content-Range"] or "")
        if found and int(found[1]) == asked:
            say(f"going on after {_bytes(asked)}")
            return asked
        raise http.client.HTTPException(f"it was asked for bytes from {asked} on and sent others")
    if asked:
        say("starting over: the server cannot go on, or its file has changed")
    return 0


def _is_complete(headers: Message, begun: int) -> bool:
    found = re.fullmatch(r"bytes \*/(\d+)", headers["Content-Range"] or "")
    return found is not None and int(found[1]) == begun


def _check_room(folder: Path, wanted: int, what: str) -> None:
    free = shutil.disk_usage(folder).free
    if wanted > free:
        raise DataError(
            f"{folder}: {_bytes(free)} are free, and {what} needs {_bytes(wanted)}; make room, or choose another "
            "folder with to=/some/folder"
        )


def _copy(answer: http.client.HTTPResponse, part: Path, begun: int, total: int | None, url: str) -> None:
    with part.open("r+b" if begun else "wb") as file, _bar("fetching", total) as advance:
        file.seek(begun)
        file.truncate()
        advance(begun)
        done = begun
        while block := answer.read(_BLOCK):
            if not done:
                _check_is_archive(block, answer, url)
            _write(file, block, part)
            done += len(block)
            advance(len(block))
    if total is not None and done < total:
        raise http.client.HTTPException(f"the connection broke off after {_bytes(done)} of {_bytes(total)}")


def _write(file: IO[bytes], block: bytes, path: Path) -> None:
    try:
        file.write(block)
        file.flush()
    except OSError as error:  # of a full disk, which names no file; without one it would pass for the network's
        raise OSError(error.errno, error.strerror, str(path)) from None


def _check_is_archive(block: bytes, answer: http.client.HTTPResponse, url: str) -> None:
    """A hotel's sign-in page, a proxy's message or an error page come as success, too."""
    if not block.startswith(_ZIP):
        kind = answer.headers.get_content_type()
        title = re.search(rb"<title[^>]*>\s*(.*?)\s*</title>", block, re.IGNORECASE | re.DOTALL)
        said = f", titled {title[1].decode(errors='replace')[:80]!r}" if title else ""
        host = urllib.parse.urlsplit(answer.url).netloc
        raise DataError(
            f"{url}: the answer is no ZIP archive but {kind}{said}, from {host}; a network that wants a sign-in "
            "answers so, or the address is that of a page. Open it in a browser"
        )


def _why_refused(error: urllib.error.HTTPError) -> str:
    said = f"the server says {error.code} {error.reason}"
    if error.code in (http.HTTPStatus.NOT_FOUND, http.HTTPStatus.GONE):
        return f"{said}: it is not there any more; url=https://… names another copy"
    if error.code in (
        http.HTTPStatus.UNAUTHORIZED,
        http.HTTPStatus.FORBIDDEN,
        http.HTTPStatus.PROXY_AUTHENTICATION_REQUIRED,
    ):
        return f"{said}: it, or a proxy on the way, lets nobody in without signing in"
    if error.code == http.HTTPStatus.TOO_MANY_REQUESTS or error.code >= http.HTTPStatus.INTERNAL_SERVER_ERROR:
        return f"{said}: try again later"
    return said


def _why_unreachable(error: Exception, timeout: float) -> str:
    reason = error.reason if isinstance(error, urllib.error.URLError) else error
    host = "no network, or no name server that knows the host"
    if isinstance(reason, socket.gaierror):
        return f"cannot be reached: {host} ({reason.strerror})"
    if isinstance(reason, ConnectionRefusedError):
        return "cannot be reached: the connection was refused"
    if isinstance(reason, TimeoutError):
        return f"no answer for {timeout:g} seconds (timeout=…)"
    if isinstance(reason, ssl.SSLError):
        return f"no safe connection ({reason}): a wrong clock, or a proxy that reads along"
    if isinstance(reason, http.client.IncompleteRead):
        return "the connection broke off"
    return str(reason) or type(reason).__name__


# ----------------------------------------------------------------------------------------------------------- unpacking


def _unpack(archive: Path, collection: Collection, fresh: Path, again: str) -> dict[str, Any]:
    """Unpacks the collection's own files, wherever in the archive they lie, and compares every check sum."""
    try:
        with zipfile.ZipFile(archive) as zipped:
            members = _members(zipped, archive)
            root = _root(members, collection, str(archive))
            wanted = {
                name[len(root) :]: member for name, member in members.items() if _is_wanted(name, root, collection)
            }
            size = _check_members(wanted, zipped, archive, fresh.parents[1])
            with _bar("unpacking", size) as advance:
                for name, member in wanted.items():
                    target = fresh / name
                    target.parent.mkdir(parents=True, exist_ok=True)
                    with zipped.open(member) as packed, target.open("wb") as file:
                        _pour(packed, file, advance)
            comment = zipped.comment.decode(errors="replace")
    except (zipfile.BadZipFile, EOFError, NotImplementedError, zlib.error) as error:
        raise _DamagedError(f"{archive}: damaged ({error}); {again}") from None
    facts = {"files": len(wanted), "unpacked_bytes": size}
    if re.fullmatch(r"[0-9a-f]{40}", comment):  # what `git archive` leaves, and GitHub with it
        say(f"commit   {comment}")
        return {"commit": comment, **facts}
    return facts


def _pour(packed: IO[bytes], file: IO[bytes], advance: Callable[[int], None]) -> None:
    while block := packed.read(_BLOCK):
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


def _root(names: Iterable[str], collection: Collection, where: str) -> str:
    """The folder in which everything that is needed lies: the one with the most files, then the least deep."""
    inside: dict[str, set[str]] = {}
    files: dict[str, int] = {}
    for name in names:
        parts = name.split("/")
        for depth in range(len(parts)):
            folder = "".join(f"{part}/" for part in parts[:depth])
            if parts[depth] in (*collection.needed, *collection.optional):
                inside.setdefault(folder, set()).add(parts[depth])
                files[folder] = files.get(folder, 0) + 1
    found = [folder for folder, there in inside.items() if there.issuperset(collection.needed)]
    if not found:
        needed = ", ".join(collection.needed)
        raise DataError(f"{where}: not {collection.title}: no folder in it holds {needed}; look for another copy")
    return min(found, key=lambda folder: (-files[folder], folder.count("/"), folder))


def _is_wanted(name: str, root: str, collection: Collection) -> bool:
    if not name.startswith(root):
        return False
    first, *rest = name[len(root) :].split("/")
    return first in (*collection.needed, *collection.optional) and not any(part.startswith(".") for part in rest)


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
            f"{archive}: refused, since it would unpack to {_bytes(size)}, over the limit of {_bytes(LARGEST)}"
        )
    _check_room(folder, size, f"unpacking {archive.name}")
    return size


# -------------------------------------------------------------------------------------------------------------- Kaggle


def _from_kaggle(collection: Collection, fresh: Path) -> dict[str, Any]:
    """Has kagglehub fetch a collection, and copies its files out of kagglehub's cache."""
    try:
        import kagglehub  # an extra, and importing it reads credentials
    except ImportError:
        raise DataError(
            f"data={collection.name} comes from Kaggle by way of kagglehub, which is not installed: type `pip install "
            f"'cxrlab[kaggle]'`, or `pip install kagglehub`. {_by_hand(collection)}"
        ) from None
    try:
        cached = Path(kagglehub.dataset_download(collection.kaggle))
    except Exception as error:  # noqa: BLE001 - its own, those of requests and those of the system have no base in common
        said = " ".join(str(error).split())[:300] or type(error).__name__
        raise DataError(
            f"https://www.kaggle.com: kagglehub could not fetch {collection.kaggle}: {said}. {_by_hand(collection)}"
        ) from None
    names = [
        file.relative_to(cached).as_posix()
        for file in sorted(cached.rglob("*"))
        if file.is_file() and not file.is_symlink()
    ]
    root = _root(names, collection, str(cached))
    wanted = [name for name in names if _is_wanted(name, root, collection)]
    size = sum((cached / name).stat().st_size for name in wanted)
    _check_room(fresh.parents[1], size, collection.name)
    for name in wanted:
        target = fresh / name[len(root) :]
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(cached / name, target)
    say(f"sha256   NOT CHECKED: kagglehub hands over files, not the archive; its own copy stays in {cached}")
    checked = "NOT CHECKED: fetched by kagglehub"
    facts = {"url": collection.page, "kaggle": collection.kaggle, "version": cached.name, "sha256_checked": checked}
    return facts | {"files": len(wanted), "unpacked_bytes": size}


@contextmanager
def _bar(what: str, total: int | None) -> Iterator[Callable[[int], None]]:
    """A progress bar of bytes; yields the function that moves it on."""
    columns: Sequence[Any] = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=get_console(), transient=True) as progress:
        task = progress.add_task(what, total=total)
        yield lambda count: progress.advance(task, count)
