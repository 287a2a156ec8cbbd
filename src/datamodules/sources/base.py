"""What the rest of the project asks of a source."""

from __future__ import annotations

from typing import Protocol

import pandas as pd


class Source(Protocol):
    """Turns a collection into a manifest.

    Attributes:
        name: What the manifest's ``source`` column says.
        synthetic: Whether the images are drawn by a program; every result on them is then marked SYNTHETIC.
        notes: What a reader of the results should know about the collection; filled by :meth:`manifest`.
    """

    name: str
    synthetic: bool
    notes: list[str]

    def manifest(self) -> pd.DataFrame:
        """Lists the images, see :mod:`cxrlab.datamodules.manifest`; ``split`` may be empty. Reads no pixel."""
        ...
