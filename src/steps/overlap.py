"""Who and what several sets have in common: people and films, across all of them at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from cxrlab.datamodules import manifest as mf
from cxrlab.datamodules.films import film_keys, find_pairs
from cxrlab.datamodules.measurements import Measurements, measure


@dataclass(frozen=True)
class Pool:
    """Every image of several manifests, once.

    Attributes:
        table: Indexed by ``path``: ``film`` and ``person``, keys that are the same wherever a film or a person occurs,
            ``row``, the image's place in ``measured``, and ``readable``.
        measured: Of every image.
    """

    table: pd.DataFrame
    measured: Measurements

    def of(self, paths: Sequence[str] | pd.Series) -> pd.DataFrame:
        """The rows of some images, in their order."""
        return self.table.loc[list(paths)]

    def persons(self, paths: Sequence[str] | pd.Series) -> npt.NDArray[np.str_]:
        """The person of each image."""
        return self.of(paths)["person"].to_numpy(dtype=str)


@dataclass(frozen=True)
class Shared:
    """What a column has in common with the images that a model was trained on.

    Attributes:
        kept: Shape (n,), boolean: which of the column's images share neither film nor person.
        films: Films in common.
        people: People in common, by patient ids and by films.
        images: Of the column, that are removed.
        unread: Training images that are not there any more, of which only patient and bytes were compared.
    """

    kept: npt.NDArray[np.bool_]
    films: int
    people: int
    images: int
    unread: int


def pool(manifests: Sequence[pd.DataFrame], cache: Path | None) -> Pool:
    """Measures the images of all manifests, as an audit does, and tells films and people apart across them.

    Two ids that share a film are one person, in whichever sets they stand.

    Args:
        manifests: With ``path``, ``patient_id`` and ``sha256``.
        cache: See :func:`cxrlab.datamodules.measurements.measure`.
    """
    columns = ["path", "patient_id", "sha256"]
    table = pd.concat([manifest[columns] for manifest in manifests]).drop_duplicates("path").reset_index(drop=True)
    measured = measure(list(table["path"]), cache)
    table["sha256"] = [found or known for found, known in zip(measured.sha256, table["sha256"], strict=True)]
    pairs = find_pairs(measured.hashes, measured.features, list(table["sha256"]))
    table["film"] = film_keys(list(table["sha256"]), pairs)
    table["person"] = mf.people(table)
    table["row"] = np.arange(len(table))
    table["readable"] = ~table["row"].isin(list(measured.problems))
    return Pool(table.set_index("path"), measured)


def shared(images: Pool, column: pd.DataFrame, trained: pd.DataFrame | None) -> Shared:
    """Finds which images of a column a model must not be tested on.

    Args:
        images: Holds those of both.
        column: Manifest of the column.
        trained: Rows of the images that chose the weights, training and validation; ``None`` where they are unknown.
    """
    if trained is None:
        return Shared(np.ones(len(column), dtype=bool), 0, 0, 0, 0)
    known, here = images.of(trained["path"]), images.of(column["path"])
    film, person = here["film"].isin(known["film"]), here["person"].isin(known["person"])
    gone = (film | person).to_numpy(dtype=bool)
    return Shared(
        kept=~gone,
        films=int(here.loc[film, "film"].nunique()),
        people=int(here.loc[person, "person"].nunique()),
        images=int(gone.sum()),
        unread=int((~known["readable"]).sum()),
    )
