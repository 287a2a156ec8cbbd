"""The one LightningDataModule: source -> manifest -> split -> cached pixels -> batches."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader

from cxrlab.datamodules import manifest as mf
from cxrlab.datamodules.alterations import Alteration
from cxrlab.datamodules.augment import Augmentation
from cxrlab.datamodules.batches import BatchSampler, CachedImages, RowSampler
from cxrlab.datamodules.films import film_keys, find_pairs, near_duplicates
from cxrlab.datamodules.flow import Flow
from cxrlab.datamodules.measurements import kept_pairs, measure
from cxrlab.datamodules.partition import Partition, refuse_leaks
from cxrlab.datamodules.pixels import SCALED, ImageRows, Pixels, describe_problems, read_all
from cxrlab.datamodules.preprocessing import Preprocessing
from cxrlab.datamodules.selection import Selection
from cxrlab.datamodules.sources import Source
from cxrlab.errors import DataError, check_choice, check_range
from cxrlab.reading.image import BETWEEN

_SHOWN = 20
_NAMED = 3
_LUNGS_ONLY = Alteration.parse("lungs_only")

Segment = Callable[[np.ndarray[Any, np.dtype[np.uint8]]], np.ndarray[Any, np.dtype[np.bool_]]]
"""Segments lungs: images, uint8 (N, height, width, channels), to masks, bool (N, height, width)."""


@dataclass(frozen=True)
class Arrangement:
    """What became of the listed images."""

    manifest: pd.DataFrame  # one row per image that is used, with ``sha256``, ``film`` and a split on every row
    rows: np.ndarray[Any, np.dtype[np.int64]]  # where each of them stood in the list, shape (rows,)
    own: pd.Series  # the split that the source gave it, perhaps empty, shape (rows,)
    leaks: list[str]  # one sentence per patient, file or film in more than one split


class ChestXRayDataModule(pl.LightningDataModule):
    """Chest X-rays of any source as batches ``{"image", "label", "row"}``.

    A batch leaves the loader as uint8 (N, height, width, channels) and reaches the network as float32
    (N, channels, height, width) in [0, 1]. ``label`` is float32 (N,), 0 Negative, 1 Positive; ``row`` int64 (N,) into
    :attr:`manifest`. The constructor touches no file; :meth:`setup` reads every image once, and with a ``cache`` never
    again: pixels are then mapped from disk and need not fit into memory, except under ``mask`` and ``alter``, which
    change them there.

    Arguments that other classes take and describe: :meth:`.Preprocessing.create` has ``image_size``, ``channels``,
    ``fit``, ``contrast`` and ``border``; :class:`~cxrlab.datamodules.selection.Selection` has ``views``, ``min_age``,
    ``limit_per_patient`` and ``balance``; :class:`~cxrlab.datamodules.partition.Partition` has ``val``, ``test``,
    ``resplit``, ``split_seed``, ``folds``, ``fold`` and ``duplicates``.

    Args:
        source: Where the images come from.
        mask: ``lungs``: everything outside the lungs turns black, last of the preprocessing. The masks are predicted
            for every image of every class: real ones exist almost only for COVID-19 and would tell the label.
        alter: Name of an :class:`~cxrlab.datamodules.alterations.Alteration`, of every image of every split.
        batch_size: Images per step, of all processes together where several train.
        split_seed: Also of ``balance``; not the run's seed, so that several seeds are compared on the same images.
        permute_labels: Seed with which, after the splits are drawn, the labels of each split are permuted between
            patients: the negative control of a whole experiment. ``None`` keeps them.
        augment: Applied to training images only; none by default.
        num_workers: Processes that make batches; 0 makes them in the training process. The numbers are the same.
        persistent_workers: Keep them from one epoch to the next.
        on_device: Keep the pixels of every split on the device and put batches together there; needs ``augment=none``.
        on_error: ``raise`` or ``skip`` images that cannot be read; skipped ones are listed in every report.
        allow_leak: Train although a patient, file or film is in more than one split; every report repeats it.
        cache: Folder in which pixels and measurements of images are kept, ``~`` is expanded; ``None`` keeps none and
            holds the pixels in memory.
        cache_limit_gb: GB (of 10^9 bytes) that this folder may take; what was not used for longest goes first.
        seed: Of the order of batches and of augmentation.

    Attributes:
        segment: Segments lungs; has to be set before :meth:`setup` where :attr:`needs_lungs`.
        lost: The listed rows that could not be read.
        lungs: What it found, bool of shape (rows of the manifest, height, width); ``None`` where it was not used.

    Raises:
        ValueError: Names the argument, what is allowed and what was found.
    """

    def __init__(
        self,
        source: Source,
        image_size: int | Sequence[int] = 224,
        channels: int = 3,
        fit: str = "squeeze",
        contrast: str = "none",
        border: float = 0.0,
        mask: str | None = None,
        alter: str = "none",
        batch_size: int = 32,
        views: Sequence[str] | None = None,
        min_age: float | None = None,
        limit_per_patient: int | None = None,
        balance: bool = False,
        duplicates: str = "keep",
        val: float | str = 0.15,
        test: float | str = 0.2,
        resplit: bool = False,
        split_seed: int = 0,
        folds: int | None = None,
        fold: int | None = None,
        permute_labels: int | None = None,
        augment: Augmentation | None = None,
        num_workers: int = 0,
        persistent_workers: bool = False,
        on_device: bool = False,
        on_error: str = "raise",
        allow_leak: bool = False,
        cache: str | None = None,
        cache_limit_gb: float = 20,
        seed: int = 0,
    ) -> None:
        super().__init__()
        check_range("batch_size", batch_size, 1, 65536, integer=True)
        check_range("num_workers", num_workers, 0, 256, integer=True)
        if persistent_workers and not num_workers:
            raise ValueError("persistent_workers=true needs num_workers of at least 1, got 0")
        check_choice("on_device", on_device, (True, False))
        if on_device and augment is not None and augment.transforms:
            raise ValueError("on_device=true needs augment=none: images are augmented on the CPU, before they travel")
        check_choice("on_error", on_error, ("raise", "skip"))
        check_range("cache_limit_gb", cache_limit_gb, 0, low_open=True)
        check_range("seed", seed, 0, 2**32 - 1, integer=True)
        if mask not in (None, "lungs"):
            raise ValueError(
                f"mask must be null or lungs (predicted for every image; real masks would tell the label), got {mask!r}"
            )
        if permute_labels is not None:
            check_range("permute_labels", permute_labels, 0, 2**32 - 1, integer=True)
        self.source = source
        self.preprocessing = Preprocessing.create(image_size, channels, fit, contrast, border)
        self.mask, self.alteration = mask, Alteration.parse(alter)
        self.partition = Partition(val, test, split_seed, resplit, folds, fold, duplicates)
        self.selection = Selection(views, min_age, limit_per_patient, balance, split_seed)
        self.permute_labels, self.augment = permute_labels, augment or Augmentation([])
        self.batch_size, self.num_workers, self.persistent_workers = batch_size, num_workers, persistent_workers
        self.on_device, self.on_error, self.allow_leak, self.seed = on_device, on_error, allow_leak, seed
        self.cache = None if cache is None else Path(cache).expanduser()
        self.cache_limit_gb = cache_limit_gb
        self.segment: Segment | None = None
        self.lungs: np.ndarray[Any, np.dtype[np.bool_]] | None = None
        self.manifest = pd.DataFrame(columns=[*mf.COLUMNS, "sha256", "film"])
        self.flow = Flow(source.name)
        self.lost = pd.DataFrame(columns=list(mf.COLUMNS))
        self.warnings: list[str] = []
        self._images = ImageRows.of(np.zeros((0, 0, 0, 0), np.uint8))
        self._resident: torch.Tensor | None = None

    def setup(self, stage: str | None = None) -> None:
        """Lists, splits and reads the images; later calls find everything done.

        Raises:
            DataError: Nothing to read, unreadable images, a class or split without images, or a leak between splits.
        """
        if len(self.manifest):
            return
        listed = self.list_images()
        self.partition.refuse_one_class(listed, self.source.name)
        pixels = read_all(list(listed["path"]), self.preprocessing, self.cache, self.cache_limit_gb)
        if pixels.problems and self.on_error == "raise":
            raise DataError(describe_problems(pixels.problems, len(listed)))
        pairs, notes = self._films(listed, pixels)
        arranged = self.arrange(listed, pixels.sha256, pixels.problems, pairs)
        self.partition.refuse_one_class(arranged.manifest, self.source.name)
        self.partition.refuse_shared(arranged.manifest)
        if not self.allow_leak:
            refuse_leaks(arranged.leaks, self.source.name)
        self._images = self._changed(pixels.images.take(arranged.rows))
        self.manifest, self.warnings = arranged.manifest, []
        if self.permute_labels is not None:
            self.warnings.append(
                f"data.permute_labels={self.permute_labels}: labels were permuted between patients, a negative "
                "control: nothing can be learnt, and scores better than chance point to a leak"
            )
            self.manifest = mf.deal_labels(self.manifest, self.permute_labels)
        if self.alteration.kind != "none":
            words = f"every image was altered ({self.alteration.words})"
            self.warnings.append(f"data.alter={self.alteration.name}: {words}")
        self.warnings += self.partition.warnings(arranged.own, arranged.manifest, arranged.leaks, self.source.name)
        skipped = [f"left out: {problem}" for problem in pixels.problems.values()]
        more = "left out: {} more images that cannot be used"
        self.warnings += [*self.source.notes, *notes, *_shown(skipped, more)]
        self.warnings += _doubted(arranged.manifest, [pixels.doubts.get(int(row), "") for row in arranged.rows])

    @property
    def needs_lungs(self) -> bool:
        """Whether :attr:`segment` is used."""
        return self.mask is not None or self.alteration.needs_lungs

    def _changed(self, images: ImageRows) -> ImageRows:
        """Masks and alters the images, in memory; lungs are found on what the preprocessing gives."""
        if self.mask is None and self.alteration.kind == "none":
            return images
        changed = images[:]
        if self.needs_lungs:
            if self.segment is None:
                raise DataError("data.mask and data.alter need a lung segmenter; set `segment` before setup()")
            self.lungs = self.segment(changed)
        if self.mask is not None:
            changed = _LUNGS_ONLY.apply(changed, self.lungs)
        return ImageRows.of(changed if self.alteration.kind == "none" else self.alteration.apply(changed, self.lungs))

    def list_images(self) -> pd.DataFrame:
        """What the source lists and the filters leave, one row per image; begins the flow of cases anew.

        Raises:
            DataError: The source cannot be listed, or a filter leaves nothing.
        """
        listed = mf.check(self.source.manifest(), self.source.name)
        self.flow = Flow(self.source.name, self.source.flow.steps)
        return self.selection.apply(listed, self.flow)

    def _films(self, listed: pd.DataFrame, pixels: Pixels) -> tuple[pd.DataFrame, list[str]]:
        """Pairs of rows that are one film; and what went wrong with the cache."""
        paths, notes = list(listed["path"]), list(pixels.notes)

        def near() -> pd.DataFrame:
            return near_duplicates(paths, pixels.hashes, pixels.sha256)

        def thorough() -> pd.DataFrame:
            measured = measure(paths, self.cache)
            notes.extend(measured.notes)
            return find_pairs(measured.hashes, measured.features, measured.sha256)

        # Collections copy from each other, and crop: several together get the thorough search of an audit.
        search = ("near", near) if listed["source"].nunique() == 1 else ("thorough", thorough)
        pairs, more = kept_pairs(self.cache, *search, pixels.sha256)
        return pairs, notes or more  # of one folder, and one note tells enough

    def arrange(
        self,
        listed: pd.DataFrame,
        sha256: Sequence[str],
        problems: dict[int, str],
        pairs: pd.DataFrame,
        *,
        train: bool = True,
    ) -> Arrangement:
        """Leaves out what could not be read, tells films apart, and draws the splits.

        Args:
            listed: See :meth:`list_images`.
            sha256: One per row.
            problems: ``{row: why it could not be read}``.
            pairs: Rows that are one film, see :func:`cxrlab.datamodules.films.find_pairs`.
            train: Whether a training follows, see :meth:`Partition.draw`, which may then find a split without a label.

        Raises:
            DataError: No image is left, or no such splits can be drawn.
        """
        manifest = listed.assign(sha256=list(sha256), film=film_keys(sha256, pairs))
        if problems:
            readable = pd.Series(~manifest.index.isin(list(problems)), manifest.index)
            self.lost = manifest[~readable]
            manifest = self.flow.keep(manifest, readable, "could not be read (data.on_error=skip)")
        if manifest.empty:
            raise DataError(describe_problems(problems, len(listed)))
        manifest = self.partition.without_repeats(manifest, self.flow)
        rows = manifest.index.to_numpy(np.int64)
        manifest = manifest.reset_index(drop=True)
        own = manifest["split"]
        manifest = self.partition.draw(manifest, self.source.name, train=train)
        return Arrangement(manifest, rows, own, mf.leaks(manifest))

    def rows(self, split: str) -> np.ndarray[Any, np.dtype[np.int64]]:
        """Rows of the manifest that make up ``train``, ``val`` or ``test``; where it serves as validation, of test."""
        if split == "val" and self.partition.val_is_test:
            split = "test"
        return np.flatnonzero((self.manifest["split"] == split).to_numpy())

    @property
    def pixels(self) -> ImageRows:
        """Every preprocessed image, in the order of the manifest; perhaps not in memory."""
        return self._images

    def images(self, split: str, count: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
        """Up to ``count`` preprocessed images of a split, half of either label, shape (n, height, width, channels)."""
        rows = self.rows(split)
        labels = self.manifest["label"].to_numpy()[rows]
        picked = np.concatenate([rows[labels == label][: count // 2] for label in mf.LABELS.values()])
        return self._images[picked]

    def train_dataloader(self) -> DataLoader[dict[str, Any]]:
        """Shuffled, augmented, beginning with the epoch at which the trainer stands (not 0 when it resumes)."""
        # The number that Lightning hands to set_epoch; its type is declared too wide.
        epoch = self.trainer.fit_loop.epoch_progress.current.processed if self.trainer else 0  # type: ignore[attr-defined]
        return self._loader(RowSampler(self.rows("train"), self.seed, epoch), self.augment)

    def val_dataloader(self) -> DataLoader[dict[str, Any]]:
        """In the manifest's order, not augmented."""
        return self._loader(RowSampler(self.rows("val")), Augmentation([]))

    def test_dataloader(self) -> DataLoader[dict[str, Any]]:
        """In the manifest's order, not augmented."""
        return self._loader(RowSampler(self.rows("test")), Augmentation([]))

    def predict_dataloader(self) -> DataLoader[dict[str, Any]]:
        """Every image of the manifest, in its order, not augmented: as many scores as the manifest has rows."""
        return self._loader(RowSampler(np.arange(len(self.manifest))), Augmentation([]))

    def state_dict(self) -> dict[str, Any]:
        """What a user of the weights has to know of the data, as plain values; Lightning writes it into checkpoints.

        ``preprocessing``, ``mask`` and ``alter`` are what the network saw; ``lungs`` is the fingerprint of the weights
        that found them. Nothing of it is read back by :meth:`load_state_dict`.
        """
        return {
            "preprocessing": self.preprocessing.as_dict(),
            "mask": self.mask,
            "alter": self.alteration.name,
            "lungs": getattr(self.segment, "fingerprint", None),
            "labels": dict(mf.LABELS),
            "data": {
                "sources": sorted(self.manifest["source"].unique().tolist()),
                "synthetic": self.source.synthetic,
                "images": len(self.manifest),
                "fingerprint": mf.fingerprint(self.manifest),
            },
        }

    def _loader(self, rows: RowSampler, augment: Augmentation) -> DataLoader[dict[str, Any]]:
        trainer = self.trainer
        rank, processes = (trainer.global_rank, trainer.world_size) if trainer else (0, 1)
        labels = self.manifest["label"].to_numpy(np.int64)
        images = None if self.on_device else self._images
        return DataLoader(
            CachedImages(images, labels, augment, self.seed),
            batch_size=None,  # the sampler yields whole batches
            sampler=BatchSampler(rows, self.batch_size, rank, processes),
            num_workers=self.num_workers,
            persistent_workers=self.persistent_workers,
            # Only out of pinned memory does a copy run beside the step before it, as Lightning asks for on CUDA.
            pin_memory=trainer is not None and trainer.strategy.root_device.type == "cuda",
            # A generator of its own: the loader draws a number per pass, which must not come from the dropout's stream.
            generator=torch.Generator(),
        )

    def on_after_batch_transfer(self, batch: dict[str, Any], dataloader_idx: int) -> dict[str, Any]:
        """Makes floats of the pixels, on the device: a quarter of the bytes travel, or with ``on_device`` none."""
        if not self.on_device:
            return {**batch, "image": self.preprocessing.to_float(batch["image"])}
        device = batch["row"].device
        if self._resident is None or self._resident.device != device:
            try:
                self._resident = torch.from_numpy(np.array(self._images)).to(device)
            except torch.OutOfMemoryError:
                raise DataError(
                    f"data.on_device: {math.prod(self._images.shape) / 2**30:.1f} GB of pixels do not fit on {device}; "
                    "leave it out"
                ) from None
        return {**batch, "image": self.preprocessing.to_float(self._resident[batch["row"]])}


def _doubted(manifest: pd.DataFrame, doubts: Sequence[str]) -> list[str]:
    """Films whose header speaks against them, or that are blank: each reason with how many of each label, and a few."""
    named: dict[str, list[int]] = {}
    for row, found in enumerate(doubts):
        for doubt in found.split(BETWEEN) if found else ():
            named.setdefault(doubt, []).append(row)
    depths = [doubt for doubt in named if doubt.startswith(SCALED)]
    if len(depths) == 1:
        del named[depths[0]]  # all alike: no film is brighter than another for it
    lines = []
    for doubt, rows in sorted(named.items(), key=lambda each: -len(each[1])):
        labels = manifest["label"].iloc[rows]
        counts = ", ".join(f"{(labels == label).sum()} {name}" for name, label in mf.LABELS.items())
        names = [Path(path).name for path in manifest["path"].iloc[rows[:_NAMED]]] + ["…"] * (len(rows) > _NAMED)
        lines.append(f"{len(rows)} of {len(manifest)} films ({counts}): {doubt}; look at {', '.join(names)}")
    return _shown(lines, "{} more doubts about films; an audit lists all")


def _shown(lines: list[str], more: str) -> list[str]:
    """The first lines, and one that counts the rest."""
    rest = len(lines) - _SHOWN
    return [*lines[:_SHOWN], *([more.format(rest)] if rest > 0 else [])]
