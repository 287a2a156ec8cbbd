"""Which content a file had when it was last read: a file that has not changed since is not read again to tell."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from cxrlab.datamodules.cache.shelf import key_of, seal, unseal
from cxrlab.datamodules.parallel import for_each
from cxrlab.files import file_sha256, write_atomically

_KEY = 32  # bytes of a SHA-256


class KnownFiles:
    """Remembers the SHA-256 of image files for as long as their path, size and time of last change stay the same.

    Of two processes that write at once one may lose what it has learnt, and then learns it again.

    Args:
        table: File in which it is kept, 64 bytes per state of an image file.
        paths: Image files.

    Attributes:
        sha256: Of each file as far as it is known, otherwise empty; whoever reads a file fills it in.
    """

    def __init__(self, table: Path, paths: Sequence[str]) -> None:
        self._table, self._paths = table, paths
        self._states = [key_of(path) for path in paths]
        self._remembered = self._load()
        self.sha256 = [self._remembered.get(state or "", "") for state in self._states]

    def hash_others(self) -> None:
        """Reads the files that are not known; one that cannot be read stays so."""

        def hash_one(row: int) -> None:
            try:
                self.sha256[row] = file_sha256(Path(self._paths[row]))
            except (OSError, ValueError):
                return

        unknown = [row for row, sha256 in enumerate(self.sha256) if not sha256]
        for_each(hash_one, unknown, "looking for changed images")

    def keep(self) -> None:
        """Remembers what has been learnt, of files that did not change in the meantime.

        Raises:
            OSError: It cannot be written.
        """
        learnt = {
            state: sha256
            for path, state, sha256 in zip(self._paths, self._states, self.sha256, strict=True)
            if state and sha256 and self._remembered.get(state) != sha256 and state == key_of(path)
        }
        if learnt:
            everything = self._load() | learnt
            data = b"".join(bytes.fromhex(state + sha256) for state, sha256 in everything.items())
            write_atomically(self._table, lambda file: file.write(seal(data)))

    def _load(self) -> dict[str, str]:
        try:
            data = unseal(self._table.read_bytes()) or b""
        except OSError:
            return {}
        pairs = (data[start : start + 2 * _KEY].hex() for start in range(0, len(data), 2 * _KEY))
        return {pair[: 2 * _KEY]: pair[2 * _KEY :] for pair in pairs}
