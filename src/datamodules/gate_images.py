"""Frontal chest films and what is not one, for training the gate: films, drawings, and photographs of two libraries."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset, Sampler

from cxrlab.console import command
from cxrlab.datamodules.films import film_keys, near_duplicates, perceptual_hash
from cxrlab.datamodules.flow import Flow
from cxrlab.datamodules.folds import FoldedDataModule
from cxrlab.datamodules.gate_augment import TURNS, altered, augmented
from cxrlab.datamodules.gate_drawings import draw_document, draw_pattern
from cxrlab.datamodules.manifest import people
from cxrlab.datamodules.sources import DarkCovidNetSource, PaperSource, SyntheticSource
from cxrlab.datamodules.sources.cohen import SAME_PERSON, read_metadata
from cxrlab.errors import DataError, check_choice, check_range
from cxrlab.imports import check_installed, command_to_install, need
from cxrlab.reading.image import read_image
from cxrlab.thumbnails import luma, square, thumbnail

Image = NDArray[np.uint8]

SHARES = {
    "frontal": 0.34,
    "lateral": 0.11,
    "ct": 0.08,
    "photograph": 0.12,
    "document": 0.05,
    "pattern": 0.05,
    "inverted": 0.07,
    "turned_90": 0.06,
    "turned_180": 0.06,
    "turned_270": 0.06,
}
"""How much of an epoch each kind is, whatever its number of images; what is absent leaves its share to the others."""
OF_FRONTAL = ("inverted", *TURNS)
"""Kinds that are made of frontal films."""

_VIEWS = {"PA": "frontal", "AP": "frontal", "AP Supine": "frontal", "AP Erect": "frontal", "L": "lateral"}
_COLUMNS = ("path", "kind", "patient_id", "source", "collection", "finding", "view")
_PHOTOGRAPHS = (
    *("astronaut.png", "brick.png", "camera.png", "cell.png", "chelsea.png", "clock_motion.png", "coffee.png"),
    *("coins.png", "color.png", "grass.png", "gravel.png", "hubble_deep_field.jpg", "ihc.png", "moon.png"),
    *("motorcycle_left.png", "retina.jpg", "rocket.jpg"),
)
_FACES = "lfw_subset.npy"  # 200 pieces of photographs, 25x25 pixels, half of them faces
_FACES_TAKEN = 4  # one in so many
_CROPS = 12  # of each photograph
_WITHOUT = "pass data.photographs=false, and the gate that comes of it knows no photographs"


class GateImagesDataModule(FoldedDataModule):
    """Pictures of every kind in folds by collection or by person, as batches ``{"image", "kind"}``.

    ``image`` is float32 (N, 1, size, size), see :func:`cxrlab.thumbnails.square`; ``kind`` int64 (N,), a position in
    :data:`SHARES`.

    Frontal films are those of Cohen's collection whose view is recorded as PA or AP, of the paper's set and of
    DarkCovidNet, and drawn phantoms; lateral views and CT slices are Cohen's; photographs come with scikit-image and
    scikit-learn; pages, noise and patterns are drawn. Inverted and turned films are made of the frontal ones, in the
    same fold. All cuts of a photograph are in one fold.

    By collection, a fold holds all frontal films of one collection, so that limits are chosen for hospitals that a
    network has not seen. Everything else is assigned by person, and no frontal film of a person is trained on while
    another picture of that person is held out. By person, all pictures of a person are in one fold, whatever the
    collection, the view and the id.

    Args:
        root: Folder of Cohen's collection; ``~`` is expanded.
        paper_root: Folder of the paper's set.
        darkcovidnet_root: Folder of DarkCovidNet's set.
        cache: Folder that keeps the phantoms.
        cohen: Whether Cohen's collection is used.
        paper: Whether the paper's set is used: true, false, or ``auto``: where its folder is there.
        darkcovidnet: Likewise.
        photographs: Whether photographs are used; they need scikit-image.
        phantoms: Drawn films, 0 or at least 2.
        drawn: Drawn pages, and as many patterns; at least ``folds``, at least 3 with ``auto``.
        image_size: Pixels, side of the square that the network sees, 32 to 256.
        folds: At least 2: folds by person. ``auto``: one for each collection of frontal films, where there are at least
            two beside the phantoms; else 3 by person.
        epoch_images: Images drawn for an epoch, at least ``batch_size``.
        batch_size: Images per step.
        seed: Of folds, drawings, crops, order and augmentation.

    Attributes:
        manifest: One row per picture: ``path`` (or what was drawn), ``kind``, ``patient_id``, ``source``,
            ``collection`` (of films; one for all films of a person), ``finding``, ``view``, ``sha256``, ``film``,
            ``person``, ``fold``, ``short_side`` (pixels) and ``picture``, its place in :attr:`thumbnails`.
        thumbnails: RGB, (height, width, 3), uint8, the right way up; :meth:`picture` gives a row's own.
        collections: Those left out one at a time, in the order of their folds; empty where folds are by person.

    Raises:
        MissingLibraryError: Photographs are used, and scikit-image is not installed.
        ValueError: An argument is out of range.
    """

    def __init__(
        self,
        root: str,
        paper_root: str,
        darkcovidnet_root: str,
        cache: str,
        cohen: bool = True,
        paper: bool | str = "auto",
        darkcovidnet: bool | str = "auto",
        photographs: bool = True,
        phantoms: int = 60,
        drawn: int = 150,
        image_size: int = 64,
        folds: int | str = "auto",
        epoch_images: int = 2400,
        batch_size: int = 32,
        seed: int = 0,
    ) -> None:
        self._auto = folds == "auto"
        if not self._auto:
            check_range("folds", folds, 2, 100, integer=True)
        super().__init__(3 if self._auto else int(folds))
        check_choice("cohen", cohen, (True, False))
        check_choice("paper", paper, (True, False, "auto"))
        check_choice("darkcovidnet", darkcovidnet, (True, False, "auto"))
        check_choice("photographs", photographs, (True, False))
        if photographs:
            check_installed("skimage", "photographs=true", _WITHOUT)
        check_range("phantoms", phantoms, 0, 100_000, integer=True)
        if phantoms < (0 if cohen else 2) or phantoms == 1:
            raise ValueError(f"phantoms must be {'0 or ' if cohen else ''}at least 2, got {phantoms}")
        check_range("drawn", drawn, self.folds, 100_000, integer=True)
        check_range("image_size", image_size, 32, 256, integer=True)
        check_range("batch_size", batch_size, 2, 65536, integer=True)
        check_range("epoch_images", epoch_images, batch_size, 10_000_000, integer=True)
        check_range("seed", seed, 0, 2**32 - 1, integer=True)
        self.root = Path(str(root)).expanduser()
        self.sets = {"paper": (paper, paper_root), "darkcovidnet": (darkcovidnet, darkcovidnet_root)}
        self.cohen = cohen
        self.photographs = photographs
        self.phantoms = SyntheticSource(cache, n_train=phantoms, disease="consolidation") if phantoms else None
        self.drawn = drawn
        self.image_size = image_size
        self.epoch_images = epoch_images
        self.batch_size = batch_size
        self.seed = seed
        self.thumbnails: list[Image] = []
        self.collections: list[str] = []
        self.flow = Flow("gate")
        self._greys: list[Image] = []

    @property
    def synthetic(self) -> bool:
        """Whether every film is drawn."""
        films = self.manifest[self.manifest["kind"] == "frontal"]["source"]
        return bool((films == "synthetic").all())

    @property
    def fingerprint(self) -> str:
        """SHA-256 over the bytes of all pictures and what each is, in any order."""
        lines = sorted(f"{row.sha256} {row.kind}" for row in self.manifest.itertuples())
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()

    def setup(self, stage: str | None = None) -> None:
        """Lists, reads and draws everything and assigns people to folds; later calls find everything done.

        Raises:
            DataError: Nothing to read, a file that cannot be read, or fewer people than folds.
        """
        if len(self.manifest):
            return
        self.flow = Flow("gate")
        films = pd.concat(self._films(), ignore_index=True)
        films = films.drop_duplicates("path", ignore_index=True)
        with ThreadPoolExecutor() as pool:
            pictures = list(pool.map(_read, films["path"]))
        films["sha256"] = [each.sha256 for each in pictures]
        hashes = np.stack([each.hash for each in pictures])
        pairs = near_duplicates(list(films["path"]), hashes, list(films["sha256"]))
        films["film"] = film_keys(list(films["sha256"]), pairs)
        films["person"] = people(films)
        films["collection"] = films.groupby("person")["collection"].transform("min")
        others, more = self._others()
        table = pd.concat([films, others], ignore_index=True).fillna("")
        pictures += more
        table["short_side"] = [each.short_side for each in pictures]
        table["picture"] = np.arange(len(table))
        frontal = table["kind"] == "frontal"
        collections = sorted(set(table.loc[frontal, "collection"]) - {"synthetic"})
        if self._auto and len(collections) > 1:
            self.collections, self.folds = collections, len(collections)
        table["fold"] = _deal(table, self.folds, self.seed)
        for fold, collection in enumerate(self.collections):
            table.loc[frontal & (table["collection"] == collection), "fold"] = fold
        made = [table[frontal].assign(kind=kind) for kind in OF_FRONTAL]
        self.thumbnails = [each.thumbnail for each in pictures]
        self._greys = [luma(each) for each in self.thumbnails]
        self.manifest = pd.concat([table, *made], ignore_index=True)

    def rows(self, split: str) -> NDArray[np.int64]:
        """Rows of the manifest that are trained on (``train``) or held out (``val``)."""
        rows = super().rows(split)
        if split == "val" or not self.collections:
            return rows
        held_out = self.manifest["person"].iloc[super().rows("val")]
        table = self.manifest.iloc[rows]
        shown = table["kind"].isin(["frontal", *OF_FRONTAL]) & table["person"].isin(held_out)
        return rows[~shown.to_numpy()]

    def picture(self, row: int) -> Image:
        """What a row of the manifest shows: its thumbnail, inverted or turned where the row is, (h, w, 3), uint8."""
        place, kind = self.manifest[["picture", "kind"]].iloc[row]
        return altered(self.thumbnails[int(place)], str(kind))

    def train_dataloader(self) -> DataLoader[dict[str, Any]]:
        """Drawn by :data:`SHARES`, and augmented with numbers that belong to (seed, epoch, place, row)."""
        rows = self.rows("train")
        sampler = KindSampler(rows, self.manifest["kind"].iloc[rows].tolist(), self.epoch_images, self.seed)
        kinds, places = self.manifest["kind"].tolist(), self.manifest["picture"].tolist()
        dataset = _Squares(self._greys, kinds, places, self.image_size, self.seed)
        return DataLoader(dataset, self.batch_size, sampler=sampler, drop_last=True, generator=torch.Generator())

    def _films(self) -> list[pd.DataFrame]:
        """Films and CT slices of every collection that is used."""
        tables = [self._cohen()] if self.cohen else []
        for name, (wanted, root) in self.sets.items():
            if wanted is True or (wanted == "auto" and self.cohen and Path(str(root)).expanduser().is_dir()):
                tables.append(self._set(name, root))
        if self.phantoms:
            table = self.phantoms.manifest().query("split == 'train'").assign(kind="frontal", collection="synthetic")
            tables.append(_started(self.flow, "synthetic", table, "phantoms drawn")[list(_COLUMNS)])
        return tables

    def _cohen(self) -> pd.DataFrame:
        """The images of the collection whose view is recorded: frontal, lateral, CT slices."""
        if not self.root.is_dir():
            raise DataError(f"{self.root.absolute()}: no such folder; {_remedy()}")
        known = read_metadata(self.root / "metadata.csv", SAME_PERSON, _remedy())
        known["kind"] = known["view"].map(_VIEWS).where(known["modality"] == "X-ray", "ct").fillna("")
        known["path"] = [str((self.root / "images" / file).absolute()) for file in known["file"]]
        flow = Flow("cohen")
        table = flow.start(known.assign(source="cohen", collection="cohen"), "rows of metadata.csv")
        table = flow.keep(table, (table["folder"] == "images") & (table["file"] != ""), "no file in the folder images")
        table = flow.keep(table, ~table["path"].duplicated(), "the file is listed already")
        table = flow.keep(table, table["kind"] != "", "view is none of PA, AP, AP Supine, AP Erect, L")
        there = table["path"].map(lambda path: Path(path).is_file())
        table = flow.keep(table, there, "the file is not there")
        self.flow.steps += flow.steps
        if table.empty:
            raise DataError(f"{self.root.absolute()}: no image that metadata.csv names is in images/; {_remedy()}")
        return table[list(_COLUMNS)]

    def _set(self, name: str, root: str) -> pd.DataFrame:
        """The films of the paper's set or of DarkCovidNet, all of them frontal."""
        source = (
            PaperSource(root)
            if name == "paper"
            else DarkCovidNetSource(root, ("No_findings", "Pneumonia"), str(self.root / "metadata.csv"))
        )
        try:
            table = source.manifest()
        except DataError as error:
            told = str(error).replace("data.source.root", f"data.{name}_root")
            raise DataError(f"{told}; data.{name}=false goes without") from None
        flow = Flow(name)
        table = flow.start(table.assign(kind="frontal"), "image files listed")
        table = flow.keep(table, table["view"] != "L", "view is L")
        self.flow.steps += flow.steps
        return table[list(_COLUMNS)]

    def _others(self) -> tuple[pd.DataFrame, list[_Picture]]:
        """Photographs and drawings: their part of the manifest, and the pictures."""
        named = _photographs(self.seed) if self.photographs else []
        for number in range(self.drawn):
            for kind, draw in (("document", draw_document), ("pattern", draw_pattern)):
                rng = np.random.default_rng([self.seed, len(kind), number])
                named.append((f"drawn {kind} {number}", kind, f"drawn {kind} {number}", draw(rng)))
        pictures = [_picture(image) for *_, image in named]
        table = pd.DataFrame(
            {
                "path": [path for path, *_ in named],
                "kind": [kind for _, kind, *_ in named],
                "person": [person for *_, person, _ in named],
                "source": ["drawn" if path.startswith("drawn") else "photographs" for path, *_ in named],
                "sha256": [each.sha256 for each in pictures],
            }
        )
        for source, rows in table.groupby("source", sort=True):
            _started(self.flow, str(source), rows.assign(patient_id=rows["person"]), "pictures")
        return table, pictures


class KindSampler(Sampler[tuple[int, int, int]]):
    """Yields (epoch, place, row), each kind as often as :data:`SHARES` says, its rows in random order, again and again.

    Args:
        rows: Rows of the manifest.
        kinds: Of each of them.
        length: Of an epoch.
        seed: Of the run.
    """

    def __init__(self, rows: NDArray[np.int64], kinds: Sequence[str], length: int, seed: int) -> None:
        names = np.asarray(kinds)
        self.rows = {kind: rows[names == kind] for kind in SHARES if (names == kind).any()}
        self.length = length
        self.seed = seed
        self.epoch = 0

    def __len__(self) -> int:
        return self.length

    def set_epoch(self, epoch: int) -> None:
        """Chooses the draw of the next pass."""
        self.epoch = epoch

    def __iter__(self) -> Any:
        rng = np.random.default_rng([self.seed, self.epoch])
        shares = np.array([SHARES[kind] for kind in self.rows])
        counts = np.maximum(1, np.rint(shares / shares.sum() * self.length)).astype(int)
        drawn = [_again_and_again(rows, count, rng) for rows, count in zip(self.rows.values(), counts, strict=True)]
        order = rng.permutation(np.concatenate(drawn))
        order = np.concatenate([order, rng.choice(order, max(0, self.length - len(order)))])[: self.length]
        return iter([(self.epoch, place, int(row)) for place, row in enumerate(order)])


class _Picture(NamedTuple):
    """A thumbnail, the shorter side of the image, and what it is known by."""

    thumbnail: Image
    short_side: int
    sha256: str
    hash: Image


class _Squares(Dataset[dict[str, Any]]):
    """Augmented squares of the network's size."""

    def __init__(self, greys: list[Image], kinds: list[str], places: list[int], size: int, seed: int) -> None:
        self.greys, self.kinds, self.places, self.size, self.seed = greys, kinds, places, size, seed
        self.number = {kind: number for number, kind in enumerate(SHARES)}

    def __len__(self) -> int:
        return len(self.kinds)

    def __getitem__(self, key: tuple[int, int, int]) -> dict[str, Any]:
        epoch, place, row = key
        kind = self.kinds[row]
        image = augmented(self.greys[self.places[row]], kind, np.random.default_rng([self.seed, epoch, place, row]))
        return {"image": torch.from_numpy(square(image, self.size))[None], "kind": self.number[kind]}


def _read(path: str) -> _Picture:
    image = read_image(path)
    return _Picture(thumbnail(image.pixels), min(image.pixels.shape[:2]), image.sha256, perceptual_hash(image.pixels))


def _picture(image: Image) -> _Picture:
    """Of pixels that come from no film."""
    digest = hashlib.sha256(image.tobytes()).hexdigest()
    return _Picture(thumbnail(image), min(image.shape[:2]), digest, np.zeros(0, np.uint8))


def _photographs(seed: int) -> list[tuple[str, str, str, Image]]:
    """Crops of photographs that two libraries ship: name, kind, what it was cut from, and RGB pixels.

    Every second crop is grey: colour is what a rule goes by, and the network is to do without.
    """
    found = []
    for number, path in enumerate(_photograph_files()):
        whole = read_image(path).pixels
        for crop in range(_CROPS):
            rng = np.random.default_rng([seed, number, crop])
            image = _cropped(whole, rng)
            if crop % 2:
                image = np.repeat(luma(image)[..., None], 3, axis=2)
            found.append((f"{path.name} crop {crop}", "photograph", path.name, image))
    faces = np.load(_skimage() / _FACES, allow_pickle=False)[::_FACES_TAKEN]
    for number, face in enumerate(faces):
        grey = np.asarray(np.clip(face, 0, 1) * 255, np.uint8)
        image = np.asarray(cv2.resize(grey, (100, 100), interpolation=cv2.INTER_CUBIC), np.uint8)
        name = f"{_FACES} {number * _FACES_TAKEN}"
        found.append((name, "photograph", name, np.repeat(image[..., None], 3, axis=2)))
    return found


def _cropped(image: Image, rng: np.random.Generator) -> Image:
    """A part of a photograph, at least 96 pixels a side."""
    height, width = image.shape[:2]
    high, wide = (max(96, int(side * rng.uniform(0.4, 1))) for side in (height, width))
    high, wide = min(high, height), min(wide, width)
    top, left = int(rng.integers(height - high + 1)), int(rng.integers(width - wide + 1))
    return np.ascontiguousarray(image[top : top + high, left : left + wide])


def _photograph_files() -> list[Path]:
    """The photographs that the installed libraries hold."""
    folder = _skimage()
    sklearn = Path(str(resources.files("sklearn") / "datasets" / "images"))
    files = [*(folder / name for name in _PHOTOGRAPHS), *(sklearn / name for name in ("china.jpg", "flower.jpg"))]
    there = [path for path in files if path.is_file()]
    if len(there) < len(files) // 2:
        install = command_to_install("skimage")
        raise DataError(f"{folder}: {len(there)} of {len(files)} photographs are there; type {install}, or {_WITHOUT}")
    return there


def _skimage() -> Path:
    """The folder in which scikit-image keeps its photographs."""
    return Path(need("skimage", "photographs=true", _WITHOUT).__file__).parent / "data"


def _started(flow: Flow, source: str, table: pd.DataFrame, step: str) -> pd.DataFrame:
    """Notes the images of one source in the flow of all."""
    own = Flow(source)
    own.start(table, step)
    flow.steps += own.steps
    return table


def _deal(table: pd.DataFrame, folds: int, seed: int) -> NDArray[np.int64]:
    """A fold for each row, by person.

    Kind by kind, the rarest first: whoever has a lateral view is dealt out before those who have frontal films only, to
    the fold with the fewest images of that kind, so that every fold has some of each.
    """
    rng = np.random.default_rng(seed)
    dealt: dict[str, int] = {}
    counts = table["kind"].value_counts()
    for kind in sorted(counts.index, key=lambda name: (counts[name], name)):
        rows = table[table["kind"] == kind]
        sizes = rows["person"].value_counts(sort=False).sort_index()
        if len(sizes) < folds:
            raise DataError(f"{kind}: pictures of {len(sizes)} people; data.folds={folds} wants one each at least")
        filled = np.zeros(folds, np.int64)
        for person in rng.permutation(sizes.index.to_numpy()):
            if person not in dealt:
                dealt[person] = int(filled.argmin())
            filled[dealt[person]] += sizes[person]
    return np.asarray(table["person"].map(dealt), np.int64)


def _again_and_again(rows: NDArray[np.int64], count: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """So many rows, each once before any comes twice."""
    rounds = -(-count // len(rows))
    again: NDArray[np.int64] = np.concatenate([rng.permutation(rows) for _ in range(rounds)])
    return again[:count]


def _remedy() -> str:
    return (
        f"`{command('download', 'data=cohen')}` gets the collection, data.root=/path/to/it names a copy elsewhere; "
        "data.cohen=false data.phantoms=200 trains on drawn phantoms only"
    )
