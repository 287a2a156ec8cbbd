"""Films with lung masks, for training the lung segmenter: Cohen's collection, and drawn phantoms."""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset

from cxrlab.console import command
from cxrlab.datamodules.batches import RowSampler
from cxrlab.datamodules.films import film_keys, near_duplicates, perceptual_hash
from cxrlab.datamodules.flow import Flow
from cxrlab.datamodules.folds import FoldedDataModule
from cxrlab.datamodules.manifest import people
from cxrlab.datamodules.sources import SyntheticSource
from cxrlab.datamodules.sources.cohen import SAME_PERSON, read_metadata
from cxrlab.errors import DataError, check_choice, check_range
from cxrlab.reading.image import read_image

MASKS = "annotations/lungVAE-masks"
"""Below the root of Cohen's collection: one ``<image>_mask.png`` per image, 255 inside the lungs. Drawn by a network
(Selvan et al., Lung Segmentation from Chest X-rays using Variational Data Imputation, arXiv:2005.10052), not by a
radiologist."""

_SUFFIX = "_mask"
_COLUMNS = ["path", "mask", "patient_id", "source", "finding", "view"]


class LungMasksDataModule(FoldedDataModule):
    """Films and lung masks in folds by person, as batches ``{"image", "mask"}``, both float32 (N, 1, size, size).

    A person is in one fold only: ids of Cohen's collection that are one person are made one, and so are images that are
    one radiograph (see :func:`cxrlab.datamodules.manifest.people`). The masks are for training and measuring what finds
    lungs; no classifier is ever shown one, since they exist almost only for films of COVID-19.

    Args:
        root: Folder of Cohen's collection; ``~`` is expanded.
        cohen: Whether its masks are used.
        phantoms: Drawn films with exact masks, 0 or at least 2.
        cache: Folder that keeps the phantoms; ``~`` is expanded.
        image_size: Pixels, side of the square that the network sees, at least 32.
        folds: At least 2.
        batch_size: Images per step.
        augment: Whether training images are turned, moved, stretched, mirrored, framed in black, and changed in
            brightness and contrast, so that what is learned holds for other collections.
        seed: Of folds, order and augmentation.

    Attributes:
        images: Grey (ITU-R 601 luma), one per row of the manifest, at its file's own size, (height, width, 1), uint8.
        masks: Likewise, (height, width), bool.

    Raises:
        ValueError: An argument is out of range.
    """

    def __init__(
        self,
        root: str,
        cache: str,
        cohen: bool = True,
        phantoms: int = 60,
        image_size: int = 96,
        folds: int = 5,
        batch_size: int = 8,
        augment: bool = True,
        seed: int = 0,
    ) -> None:
        super().__init__(folds)
        check_choice("cohen", cohen, (True, False))
        check_range("phantoms", phantoms, 0, 100_000, integer=True)
        if phantoms < (0 if cohen else 2) or phantoms == 1:
            raise ValueError(f"phantoms must be {'0 or ' if cohen else ''}at least 2, got {phantoms}")
        check_range("image_size", image_size, 32, 1024, integer=True)
        check_range("batch_size", batch_size, 1, 65536, integer=True)
        check_choice("augment", augment, (True, False))
        check_range("seed", seed, 0, 2**32 - 1, integer=True)
        self.root = Path(str(root)).expanduser()
        self.cohen = cohen
        self.phantoms = None
        if phantoms:  # with consolidations, as on films of patients
            side = max(64, image_size)
            self.phantoms = SyntheticSource(cache, n_train=phantoms, size=side, disease="consolidation")
        self.image_size, self.batch_size, self.augment, self.seed = image_size, batch_size, augment, seed
        self.images: list[NDArray[np.uint8]] = []
        self.masks: list[NDArray[np.bool_]] = []
        self.flow = Flow("cohen")
        self._squares = np.zeros((0, 0, 0), np.uint8)
        self._square_masks = np.zeros((0, 0, 0), np.bool_)

    @property
    def synthetic(self) -> bool:
        """Whether every film is drawn."""
        return not self.cohen

    @property
    def fingerprint(self) -> str:
        """SHA-256 over the bytes of all images and masks, in any order."""
        lines = sorted(f"{row.sha256} {row.mask_sha256}" for row in self.manifest.itertuples())
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()

    def setup(self, stage: str | None = None) -> None:
        """Lists and reads films and masks and assigns people to folds; later calls find everything done.

        Raises:
            DataError: Nothing to read, a file that cannot be read or does not fit its mask, or fewer people than folds.
        """
        if len(self.manifest):
            return
        self.flow = Flow("cohen")
        tables = [self._cohen()] if self.cohen else []
        if self.phantoms:
            drawn = self.phantoms.manifest().query("split == 'train'")
            steps = Flow("synthetic")
            tables.append(steps.start(drawn, "phantoms drawn")[_COLUMNS])
            self.flow.steps += steps.steps
        manifest = pd.concat(tables, ignore_index=True)
        with ThreadPoolExecutor() as pool:
            read = list(pool.map(_read, manifest["path"], manifest["mask"]))
        self.images, self.masks, sha256, mask_sha256, hashes = map(list, zip(*read, strict=True))
        manifest["sha256"], manifest["mask_sha256"] = sha256, mask_sha256
        pairs = near_duplicates(list(manifest["path"]), np.stack(hashes), sha256)
        manifest["film"] = film_keys(sha256, pairs)
        manifest["person"] = people(manifest)
        manifest["fold"] = self._deal(manifest)
        self._squares = np.stack([_square(image[..., 0], self.image_size) for image in self.images])
        self._square_masks = np.stack([_square(mask.astype(np.float32), self.image_size) >= 0.5 for mask in self.masks])
        self.manifest = manifest

    def train_dataloader(self) -> DataLoader[dict[str, Any]]:
        """Shuffled and augmented."""
        return self._loader(RowSampler(self.rows("train"), self.seed), self.augment)

    def val_dataloader(self) -> DataLoader[dict[str, Any]]:
        """The held-out fold, in the manifest's order, not augmented."""
        return self._loader(RowSampler(self.rows("val")), False)

    def _loader(self, sampler: RowSampler, augment: bool) -> DataLoader[dict[str, Any]]:
        dataset = _Squares(self._squares, self._square_masks, self.seed if augment else None)
        return DataLoader(dataset, self.batch_size, sampler=sampler, generator=torch.Generator())

    def _cohen(self) -> pd.DataFrame:
        """The films of the collection that have a mask; a CT's scout view is left out."""
        folder = self.root / MASKS
        remedy = (
            f"`{command('download', 'data=cohen')}` gets the collection with its masks, data.root=/path/to/it names a "
            "copy elsewhere; data.cohen=false data.phantoms=200 trains on drawn phantoms only"
        )
        if not folder.is_dir():
            raise DataError(f"{folder.absolute()}: no such folder; {remedy}")
        masks = sorted(folder.glob(f"*{_SUFFIX}.png"))
        images = {path.stem: path for path in sorted((self.root / "images").glob("*"))}
        known = read_metadata(self.root / "metadata.csv", SAME_PERSON, remedy)
        known = known.assign(stem=known["file"].map(lambda file: Path(file).stem)).drop_duplicates("stem")
        stems = [mask.stem.removesuffix(_SUFFIX) for mask in masks]
        table = pd.DataFrame({"stem": stems, "mask": [str(mask) for mask in masks]})
        table["path"] = [str(images.get(stem, "")) for stem in stems]
        facts = known[["stem", "patient_id", "finding", "view", "modality"]]
        table = table.merge(facts, how="left", on="stem").fillna("").assign(source="cohen")
        table = self.flow.start(table, f"masks in {MASKS}")
        table = self.flow.keep(table, table["path"] != "", "no image of that name in images/")
        # Three films have a mask and have left the table since: they are frontal X-rays of people unknown.
        table["finding"] = table["finding"].where(table["modality"] != "", "not in metadata.csv")
        table = self.flow.keep(table, table["modality"].isin(("X-ray", "")), "modality is not X-ray")
        if table.empty:
            raise DataError(f"{folder.absolute()}: no <image>{_SUFFIX}.png with its image; {remedy}")
        return table[_COLUMNS]

    def _deal(self, manifest: pd.DataFrame) -> NDArray[np.int64]:
        """A fold for each row: people of each collection in random order, to the fold that has the fewest images."""
        folds = np.zeros(len(manifest), np.int64)
        rng = np.random.default_rng(self.seed)
        for source, rows in manifest.groupby("source", sort=True):
            sizes = rows["person"].value_counts(sort=False).sort_index()
            if len(sizes) < self.folds:
                raise DataError(
                    f"{source}: masks of {len(sizes)} people; data.folds={self.folds} wants one each at least"
                )
            filled = np.zeros(self.folds, np.int64)
            dealt = {}
            for person in rng.permutation(sizes.index.to_numpy()):
                dealt[person] = int(filled.argmin())
                filled[dealt[person]] += sizes[person]
            folds[rows.index] = rows["person"].map(dealt)
        return folds


class _Squares(Dataset[dict[str, Any]]):
    """Squares of the network's size, augmented on the way out with numbers that belong to (seed, epoch, row)."""

    def __init__(self, images: NDArray[np.uint8], masks: NDArray[np.bool_], seed: int | None) -> None:
        self.images, self.masks, self.seed = images, masks, seed

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, key: tuple[int, int]) -> dict[str, Any]:
        epoch, row = key
        image, mask = self.images[row], self.masks[row]
        if self.seed is not None:
            image, mask = augmented(image, mask, np.random.default_rng([self.seed, epoch, row]))
        floats = torch.from_numpy(image.astype(np.float32) / 255)[None]
        return {"image": floats, "mask": torch.from_numpy(mask.astype(np.float32))[None]}


def augmented(
    image: NDArray[np.uint8], mask: NDArray[np.bool_], rng: np.random.Generator
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Another film of the same chest, as another department might have stored it.

    Turned by up to 12 degrees, scaled by 0.75 to 1.2 (each side by up to 10 % more), moved by up to 8 % of the side,
    mirrored half of the time; gamma 0.6 to 1.6, contrast 0.6 to 1.2, noise; bars of black on any side in one of three.
    Bars take up to 12 % of the side each.

    Args:
        image: Shape (size, size), uint8.
        mask: The same shape, bool, as are those of the result.
        rng: Of this sample.
    """
    size = image.shape[0]
    shape = (size, size)
    # A (2, 3) map of pixels about the middle of the image.
    angle, scale = np.deg2rad(rng.uniform(-12, 12)), rng.uniform(0.75, 1.2)
    sides = scale * rng.uniform(0.9, 1.1, 2)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) * sides
    middle = np.full(2, (size - 1) / 2)
    matrix = np.column_stack([turn, middle - turn @ middle + rng.uniform(-0.08, 0.08, 2) * size])
    moved = cv2.warpAffine(image, matrix, shape, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)
    inside, frame = (
        cv2.warpAffine(each, matrix, shape, flags=cv2.INTER_NEAREST) > 0
        for each in (mask.astype(np.uint8), np.ones(shape, np.uint8))
    )
    grey = np.asarray(moved, np.float32) / 255
    grey = grey ** rng.uniform(0.6, 1.6) * rng.uniform(0.6, 1.2) + rng.uniform(-0.1, 0.15)
    grey = grey + rng.normal(0, rng.uniform(0, 0.04), shape).astype(np.float32)
    grey = np.where(frame, grey, 0)
    if rng.random() < 1 / 3:  # black bars, as scanners and slides leave them; what they cover is no lung
        top, bottom, left, right = rng.integers(0, max(1, round(0.12 * size)), 4)
        seen = np.zeros(shape, np.bool_)
        seen[top : size - bottom, left : size - right] = True
        grey, inside = np.where(seen, grey, 0), inside & seen
    if rng.random() < 0.5:
        grey, inside = grey[:, ::-1], inside[:, ::-1]
    pixels = np.rint(np.clip(grey, 0, 1) * 255).astype(np.uint8)
    return np.ascontiguousarray(pixels), np.ascontiguousarray(inside)


_Pair = tuple[NDArray[np.uint8], NDArray[np.bool_], str, str, NDArray[np.uint8]]


def _read(path: str, mask_path: str) -> _Pair:
    """A film and its mask at their own size, the hashes of the two files, and that of what the film looks like."""
    film, mask = read_image(path), read_image(mask_path)
    if film.pixels.shape != mask.pixels.shape:
        sizes = " and ".join("x".join(map(str, each.pixels.shape[:2])) for each in (film, mask))
        raise DataError(f"{mask_path}: image and mask are of different sizes ({sizes}); restore both from one release")
    grey = np.asarray(cv2.cvtColor(film.pixels, cv2.COLOR_RGB2GRAY), np.uint8)[..., None]
    return grey, mask.pixels[..., 0] >= 128, film.sha256, mask.sha256, perceptual_hash(film.pixels)


def _square(image: NDArray[Any], size: int) -> NDArray[Any]:
    """An image (H, W) as a square, as :func:`cxrlab.models.segmenter.square` makes it of what is to be segmented."""
    shrinks = size < min(image.shape[:2])
    interpolation = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(image, (size, size), interpolation=interpolation))
