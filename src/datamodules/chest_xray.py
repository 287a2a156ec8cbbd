"""The one LightningDataModule: source -> manifest -> split -> cached pixels -> batches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader

from cxrlab.datamodules import manifest as mf
from cxrlab.datamodules.augment import Augmentation
from cxrlab.datamodules.batches import CachedImages, RowSampler
from cxrlab.datamodules.pixels import Preprocessing, describe_problems, read_all
from cxrlab.datamodules.sources import Source
from cxrlab.datamodules.split import hold_out, hold_out_fold
from cxrlab.errors import DataError, check_choice, check_range

_SHOWN_LEAKS = 5
_SHOWN_SKIPPED = 20
_SHOWN_FOLDS = 20


class ChestXRayDataModule(pl.LightningDataModule):
    """Chest X-rays of any source as batches ``{"image", "label", "row"}``.

    A batch leaves the loader as uint8 (N, height, width, channels) and reaches the network as float32
    (N, channels, height, width) in [0, 1]. ``label`` is float32 (N,), 0 Negative, 1 Positive; ``row`` int64 (N,) into
    :attr:`manifest`. The constructor touches no file; :meth:`setup` reads every image once.

    Args:
        source: Where the images come from.
        image_size: Pixels, one number or ``[height, width]``.
        channels: 3 (RGB) or 1 (grey).
        batch_size: Images per step.
        val: Share of the training patients held out for validation, in (0, 1); ``"test"`` validates on the test images,
            as the paper does, and every report then says so. A source with a ``val`` split of its own keeps it.
        test: Share of the training patients held out for testing, in (0, 1), where the source has no ``test`` split;
            ``"all"`` makes every image a test image, for evaluating a model that was trained on others.
        split_seed: Of these two draws and of the folds; not the run's seed, so that several seeds are compared on the
            same images.
        folds: Cross-validation: all images are pooled, whatever splits the source has, and spread over so many folds
            by patient, stratified by label (at least 2). ``test`` is then not used.
        fold: The fold that is the test split, in [0, ``folds``); validation images are drawn from the others.
        augment: Applied to training images only; none by default.
        num_workers: Processes that make batches; 0 makes them in the training process. The numbers are the same.
        persistent_workers: Keep them from one epoch to the next.
        on_error: ``raise`` or ``skip`` images that cannot be read; skipped ones are listed in every report.
        allow_leak: Train although a patient or file is in more than one split; every report repeats it.
        seed: Of the order of batches and of augmentation.

    Raises:
        ValueError: Names the argument, what is allowed and what was found.
    """

    def __init__(
        self,
        source: Source,
        image_size: int | Sequence[int] = 224,
        channels: int = 3,
        batch_size: int = 32,
        val: float | str = 0.15,
        test: float | str = 0.2,
        split_seed: int = 0,
        folds: int | None = None,
        fold: int | None = None,
        augment: Augmentation | None = None,
        num_workers: int = 0,
        persistent_workers: bool = False,
        on_error: str = "raise",
        allow_leak: bool = False,
        seed: int = 0,
    ) -> None:
        super().__init__()
        check_range("batch_size", batch_size, 1, 65536, integer=True)
        if isinstance(val, str):
            check_choice("val", val, ("test",))
        else:
            check_range("val", val, 0, 1, low_open=True, high_open=True)
        if isinstance(test, str):
            check_choice("test", test, ("all",))
        else:
            check_range("test", test, 0, 1, low_open=True, high_open=True)
        check_range("split_seed", split_seed, 0, 2**32 - 1, integer=True)
        _check_folds(folds, fold, test)
        check_range("num_workers", num_workers, 0, 256, integer=True)
        if persistent_workers and not num_workers:
            raise ValueError("persistent_workers=true needs num_workers of at least 1, got 0")
        check_choice("on_error", on_error, ("raise", "skip"))
        check_range("seed", seed, 0, 2**32 - 1, integer=True)
        self.source = source
        self.preprocessing = Preprocessing.create(image_size, channels)
        self.batch_size = batch_size
        self.val = val
        self.test = test
        self.split_seed = split_seed
        self.folds = folds
        self.fold = fold
        self.augment = augment or Augmentation([])
        self.num_workers = num_workers
        self.persistent_workers = persistent_workers
        self.on_error = on_error
        self.allow_leak = allow_leak
        self.seed = seed
        self.manifest = pd.DataFrame(columns=[*mf.COLUMNS, "sha256"])
        self.warnings: list[str] = []
        self._images = np.zeros((0, 0, 0, 0), np.uint8)

    def setup(self, stage: str | None = None) -> None:
        """Lists, splits and reads the images; later calls find everything done.

        Raises:
            DataError: Nothing to read, unreadable images, a class or split without images, or a leak between splits.
        """
        if len(self.manifest):
            return
        listed = mf.check(self.source.manifest(), self.source.name)
        pixels = read_all(list(listed["path"]), self.preprocessing)
        if pixels.problems and self.on_error == "raise":
            raise DataError(describe_problems(pixels.problems, len(listed)))
        good = ~listed.index.isin(list(pixels.problems))
        read = listed.assign(sha256=pixels.sha256)[good].reset_index(drop=True)
        manifest = self._split(read.copy())
        leaks = mf.leaks(manifest)
        self._check_leaks(leaks)
        self._images = pixels.images if good.all() else pixels.images[good]
        protocol = self._protocol_warnings(read["split"], manifest, leaks)
        self.warnings = [*protocol, *self.source.notes, *_skipped(pixels.problems)]
        self.manifest = manifest

    def _split(self, manifest: pd.DataFrame) -> pd.DataFrame:
        if isinstance(self.test, str):
            return manifest.assign(split="test")
        remedy = None
        if self.folds is not None and self.fold is not None:
            manifest = hold_out_fold(manifest, self.fold, self.folds, self.split_seed)
            remedy = "type data.val=test"
        manifest["split"] = manifest["split"].replace("", "train")
        if not (manifest["split"] == "test").any():
            manifest = hold_out(manifest, self.test, self.split_seed, "test", f"data.test={self.test}")
        if not isinstance(self.val, str) and not (manifest["split"] == "val").any():
            manifest = hold_out(manifest, self.val, self.split_seed, "val", f"data.val={self.val}", remedy)
        self._check_labels(manifest)
        return manifest

    def _check_labels(self, manifest: pd.DataFrame) -> None:
        hint = "add some, or let the split be drawn (leave that split out of the set)"
        if self.folds is not None:
            hint = "type a smaller data.folds, or another data.split_seed"
        for split in mf.SPLITS:
            present = set(manifest.loc[manifest["split"] == split, "label"])
            absent = [name for name, label in mf.LABELS.items() if label not in present]
            if absent and not (split == "val" and self.val == "test"):
                lack = " and no ".join(absent)
                raise DataError(f"{self.source.name}: the {split} split holds no {lack} image; it needs both: {hint}")

    def _check_leaks(self, found: list[str]) -> None:
        if found and not self.allow_leak:
            more = [f"… and {len(found) - _SHOWN_LEAKS} more"] if len(found) > _SHOWN_LEAKS else []
            hint = "mend the splits, or pass data.allow_leak=true to train all the same (every report then says so)"
            head = f"{self.source.name}: {len(found)} leak(s) between splits:"
            raise DataError("\n  ".join([head, *found[:_SHOWN_LEAKS], *more, hint]))

    def _protocol_warnings(self, own: pd.Series, manifest: pd.DataFrame, leaks: list[str]) -> list[str]:
        """What could have inflated every number of a run on this split, and where it is not the source's ``own``."""
        found = []
        if self.val == "test":
            found.append("validation was the test set (data.val=test): nothing here was chosen on independent images")
            unused = int((manifest["split"] == "val").sum())
            if unused:
                found.append(f"{self.source.name}: its own val split ({unused} images) is not used (data.val=test)")
        counts = {split: int((own == split).sum()) for split in mf.SPLITS}
        if self.folds is not None and any(counts.values()):
            listed = ", ".join(f"{count} {split}" for split, count in counts.items() if count)
            found.append(
                f"{self.source.name}: its own split ({listed} images) is set aside: all {len(manifest)} images are "
                f"pooled, and the test images are those of data.fold={self.fold} of data.folds={self.folds}"
            )
        if leaks:
            found.append(f"data.allow_leak=true: {len(leaks)} leak(s) between splits, the first: {leaks[0]}")
        return found

    def rows(self, split: str) -> np.ndarray[Any, np.dtype[np.int64]]:
        """Rows of the manifest that make up ``train``, ``val`` or ``test``; where it serves as validation, of test."""
        if split == "val" and self.val == "test":
            split = "test"
        return np.flatnonzero((self.manifest["split"] == split).to_numpy())

    @property
    def pixels(self) -> np.ndarray[Any, np.dtype[np.uint8]]:
        """Every preprocessed image, shape (rows of the manifest, height, width, channels)."""
        return self._images

    def images(self, split: str, count: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
        """Up to ``count`` preprocessed images of a split, half of either label, shape (n, height, width, channels)."""
        rows = self.rows(split)
        labels = self.manifest["label"].to_numpy()[rows]
        picked = np.concatenate([rows[labels == label][: count // 2] for label in mf.LABELS.values()])
        return np.asarray(self._images[picked], np.uint8)

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

    def _loader(self, sampler: RowSampler, augment: Augmentation) -> DataLoader[dict[str, Any]]:
        labels = self.manifest["label"].to_numpy(np.int64)
        dataset: torch.utils.data.Dataset[dict[str, Any]] = CachedImages(self._images, labels, augment, self.seed)
        return DataLoader(
            dataset,
            batch_size=self.batch_size,
            sampler=sampler,
            num_workers=self.num_workers,
            persistent_workers=self.persistent_workers,
            pin_memory=torch.cuda.is_available(),
            # A generator of its own: the loader draws a number per pass, which must not come from the dropout's stream.
            generator=torch.Generator(),
        )

    def on_after_batch_transfer(self, batch: dict[str, Any], dataloader_idx: int) -> dict[str, Any]:
        """Makes floats of the pixels, on the device: a quarter of the bytes travel."""
        return {**batch, "image": self.preprocessing.to_float(batch["image"])}


def _check_folds(folds: int | None, fold: int | None, test: float | str) -> None:
    if folds is not None:
        check_range("folds", folds, 2, integer=True)
        if test == "all":
            raise ValueError(f"folds must be left out with test=all, which makes every image a test image, got {folds}")
        if fold is None:
            numbers = ",".join(map(str, range(folds))) if folds <= _SHOWN_FOLDS else f"0,1,…,{folds - 1}"
            raise ValueError(f"folds={folds} needs fold: type data.fold=0, or -m data.fold={numbers} for all of them")
        check_range("fold", fold, 0, folds - 1, integer=True)
    elif fold is not None:
        raise ValueError(f"fold={fold} needs folds, how many there are: type data.folds=5 data.fold={fold}")


def _skipped(problems: dict[int, str]) -> list[str]:
    """What data.on_error=skip left out: the first few by name."""
    lines = [f"left out: {problem}" for problem in problems.values()]
    more = len(lines) - _SHOWN_SKIPPED
    return [*lines[:_SHOWN_SKIPPED], *([f"left out: {more} more images that cannot be used"] if more > 0 else [])]
