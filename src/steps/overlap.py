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
from cxrlab.errors import CheckpointError
from cxrlab.runs.checkpoint import LoadedModel
from cxrlab.runs.folder import RunFolder


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
        how: Shape (n,), text: ``film`` or ``patient`` for the others, empty for these.
        films: Films in common.
        people: People in common, by patient ids and by films.
        images: Of the column, that are removed.
        unread: Training images that are not there any more, of which only patient and bytes were compared.
    """

    kept: npt.NDArray[np.bool_]
    how: npt.NDArray[np.str_]
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
        return Shared(np.ones(len(column), dtype=bool), np.full(len(column), ""), 0, 0, 0, 0)
    known, here = images.of(trained["path"]), images.of(column["path"])
    film, person = here["film"].isin(known["film"]), here["person"].isin(known["person"])
    gone = (film | person).to_numpy(dtype=bool)
    return Shared(
        kept=~gone,
        how=np.where(film, "film", np.where(person, "patient", "")),
        films=int(here.loc[film, "film"].nunique()),
        people=int(here.loc[person, "person"].nunique()),
        images=int(gone.sum()),
        unread=int((~known["readable"]).sum()),
    )


def chose_weights(manifest: pd.DataFrame) -> pd.DataFrame:
    """The images that chose a run's weights; where validation was the test set it had no rows of its own."""
    return manifest[manifest["split"].isin(["train", "val"])].reset_index(drop=True)


def images_of_run(run: RunFolder) -> pd.DataFrame | None:
    """The manifest of a run; ``None`` where it is not there."""
    return mf.read(run.manifest) if run.manifest.is_file() else None


def images_of_model(model: LoadedModel, given: str | None) -> pd.DataFrame | None:
    """The manifest of the run that a model comes from; ``None`` where it is not beside the checkpoint.

    Args:
        model: Its checkpoint has the fingerprint of the images it was trained with.
        given: ``trained_on``: where the manifest is, or its run folder, if the checkpoint was moved away from it.

    Raises:
        CheckpointError: The manifest that was given is that of other images.
        DataError: It cannot be read.
    """
    if given is None:
        found = images_of_run(RunFolder(model.path.parent.parent))
    else:
        path = Path(given).expanduser()
        found = mf.read(path / "manifest.csv" if path.is_dir() else path)
    if found is None or "sha256" not in found or mf.fingerprint(found) == model.metadata["data"].get("fingerprint"):
        return found if found is not None and "sha256" in found else None
    if given is None:
        return None  # a checkpoint that was copied into the folder of another run
    raise CheckpointError(f"trained_on={given}: {model.path.name} was trained with other images, labels or splits")


@dataclass(frozen=True)
class Known:
    """What a model knows of the images that it is evaluated on.

    Attributes:
        splits: Shape (rows of the manifest,): the split of each image in the model's own training; where that had not
            this very file, or another collection is evaluated, the split in which it is to be scored.
        how: Shape (rows,), text: ``film`` or ``patient`` where training or validation had the image's film, in whatever
            encoding or crop, or its patient; empty for the others and for what is not evaluated.
        shared: The same, counted; ``None`` where the training images are not known.
        images: The films of both; ``None`` where the evaluated images are the run's own.
        own: Whether all training images are among the listed ones: it is the model's own set, or one that holds it.
    """

    splits: pd.Series[str]
    how: pd.Series[str]
    shared: Shared | None
    images: Pool | None
    own: bool


def known_to(
    manifest: pd.DataFrame, run: pd.DataFrame | None, whole: bool, evaluated: str, cache: Path | None
) -> Known:
    """Finds which images a model must not be tested on, as a matrix does.

    Args:
        manifest: Of what is evaluated, set up; every row of it a test image where ``whole``.
        run: Manifest of the training run; ``None`` where it is not known.
        whole: Whether everything is to be evaluated that was not trained on, rather than a split that was asked for.
        evaluated: The split that is scored, ``test`` or ``val``.
        cache: See :func:`cxrlab.datamodules.measurements.measure`.
    """
    splits, how = manifest["split"], pd.Series("", manifest.index, dtype=object)
    if run is None:
        return Known(splits, how, None, None, own=False)
    trained = chose_weights(run)
    there = manifest["sha256"].map(run.drop_duplicates("sha256").set_index("sha256")["split"])
    own = bool(trained["sha256"].isin(manifest["sha256"]).all())
    if own and whole:
        splits = there.fillna("test").replace("", "test")
    rows = splits == evaluated
    if own and not (rows & there.isna()).any():  # a run compared its own images when it began
        by_file = rows & there.isin({"train", "val"} - {evaluated})
        how[by_file] = "film"
        count = int(by_file.sum())
        same = manifest[by_file]
        found = Shared(
            ~by_file[rows].to_numpy(bool),
            how[rows].to_numpy(str),
            same["film"].nunique(),
            mf.people(same).nunique(),
            count,
            0,
        )
        return Known(splits, how, found, None, own)
    column = manifest[rows]
    images = pool([column, trained], cache)
    found = shared(images, column, trained)
    how[rows] = found.how
    return Known(splits, how, found, images, own)
