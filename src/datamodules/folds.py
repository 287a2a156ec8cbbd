"""Data in folds by person, one of which is held out at a time."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytorch_lightning as pl
from numpy.typing import NDArray

from cxrlab.errors import check_range


class FoldedDataModule(pl.LightningDataModule):
    """What data modules have in common whose manifest has a column ``fold``, in [0, ``folds``), once it is set up."""

    def __init__(self, folds: int) -> None:
        super().__init__()
        check_range("folds", folds, 2, integer=True)
        self.folds = folds
        self.manifest = pd.DataFrame()
        self._held_out: int | None = None

    def hold_out(self, fold: int | None) -> None:
        """Chooses the fold that is held out, in [0, ``folds``); ``None`` trains on everything."""
        if fold is not None:
            check_range("fold", fold, 0, self.folds, high_open=True, integer=True)
        self._held_out = fold

    def rows(self, split: str) -> NDArray[np.int64]:
        """Rows of the manifest that are trained on (``train``) or held out (``val``)."""
        held_out = (self.manifest["fold"] == (-1 if self._held_out is None else self._held_out)).to_numpy()
        return np.flatnonzero(held_out if split == "val" else ~held_out)
