"""What the rest of the project asks of a source."""

from __future__ import annotations

import pandas as pd

from cxrlab.datamodules.flow import Flow


class Source:
    """Turns a collection into a manifest.

    Attributes:
        name: What the manifest's ``source`` column says.
        synthetic: Whether the images are drawn by a program; every result on them is then marked SYNTHETIC.
        claim: What Positive is said to mean, as a piece of text that a finding then contains (``COVID-19``); empty
            where nothing is claimed. An audit holds it against the findings.
        notes: What a reader of the results should know about the collection; filled by :meth:`manifest`.
        flow: What the collection lists, and what was left out and why; filled by :meth:`manifest`.
    """

    name: str
    synthetic: bool = False
    claim: str = ""
    notes: list[str]
    flow: Flow

    def begin(self) -> None:
        """Forgets what an earlier listing filled."""
        self.notes, self.flow = [], Flow(self.name)

    def manifest(self) -> pd.DataFrame:
        """Lists the images, see :mod:`cxrlab.datamodules.manifest`; ``split`` may be empty. Reads no pixel.

        Raises:
            DataError: The collection is missing or laid out otherwise, or what it says cannot be right.
        """
        raise NotImplementedError
