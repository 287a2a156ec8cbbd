"""Collections on Kaggle, by way of kagglehub, which is optional."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from cxrlab.console import say
from cxrlab.downloads.collections import Collection
from cxrlab.downloads.disk import check_room
from cxrlab.errors import DataError
from cxrlab.imports import need


def from_kaggle(collection: Collection, fresh: Path) -> dict[str, Any]:
    """Has kagglehub fetch a collection, and copies its files out of kagglehub's cache.

    Args:
        collection: One with a handle on Kaggle.
        fresh: The folder that its files go to, made where needed. Two above it is the one whose disk has to have room.

    Returns:
        For the record: ``url``, ``kaggle``, ``version``, ``sha256_checked``, ``files``, ``unpacked_bytes``.

    Raises:
        MissingLibraryError: kagglehub is not installed.
        DataError: kagglehub cannot fetch it, it is another set, or there is no room.
        OSError: A file cannot be written.
    """
    # Here, since importing it reads credentials.
    kagglehub = need(
        "kagglehub", f"data={collection.name}, which comes from Kaggle,", collection.by_hand.removeprefix("Or ")
    )
    try:
        cached = Path(kagglehub.dataset_download(collection.kaggle))
    except Exception as error:  # noqa: BLE001 - its own, those of requests and those of the system have no base in common
        said = " ".join(str(error).split())[:300] or type(error).__name__
        raise DataError(
            f"https://www.kaggle.com: kagglehub could not fetch {collection.kaggle}: {said}. {collection.by_hand}"
        ) from None
    names = [
        file.relative_to(cached).as_posix()
        for file in sorted(cached.rglob("*"))
        if file.is_file() and not file.is_symlink()
    ]
    root = collection.root(names, str(cached))
    wanted = [name for name in names if collection.wants(name, root)]
    size = sum((cached / name).stat().st_size for name in wanted)
    check_room(fresh.parents[1], size, collection.name)
    for name in wanted:
        target = fresh / name[len(root) :]
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(cached / name, target)
    say(f"sha256   NOT CHECKED: kagglehub hands over files, not the archive; its own copy stays in {cached}")
    checked = "NOT CHECKED: fetched by kagglehub"
    facts = {"url": collection.page, "kaggle": collection.kaggle, "version": cached.name, "sha256_checked": checked}
    return facts | {"files": len(wanted), "unpacked_bytes": size}
