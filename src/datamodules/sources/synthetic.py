"""The embedded data set: chest phantoms drawn from a seed, with lung masks and a planted shortcut of known strength."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import cv2
import numpy as np
import numpy.typing as npt
import pandas as pd
from rich.progress import track

from cxrlab.datamodules.cues import CUES, plant_shortcut
from cxrlab.datamodules.sources.base import Source
from cxrlab.datamodules.sources.phantom import DISEASES, Anatomy, draw
from cxrlab.errors import DataError, check_choice, check_range

DRAWING_VERSION = 2  # raise it whenever the same parameters give other pixels, so that no stale picture is reused
SPLITS = ("train", "test")

_CLASSES = ("negative", "positive")
_FINDINGS = ("phantom, no disease", "phantom, disease")
_CUE_DRAW = 2**32 - 1  # where a patient's number stands in a seed: the draw of who carries the cue, not a patient


@dataclass(frozen=True)
class _Film:
    """One image to render: of whom, of which class, and whether it has the cue."""

    split: int
    patient: int
    number: int
    label: int
    cue: bool
    patient_id: str

    @property
    def image(self) -> str:
        """Where it goes below the data set's folder; its mask goes there below ``masks``."""
        return f"{SPLITS[self.split]}/{_CLASSES[self.label]}/{self.patient_id}_{self.number}.png"


class SyntheticSource(Source):
    """Chest phantoms in which the right answer of every audit is known.

    The lungs of positive patients have fine lines, those of negative patients broad ones of the same mean and spread;
    nothing else differs, except a shortcut when one is planted. So a network has to see small detail inside the lungs:
    neither a thumbnail nor the grey levels tell the labels apart. (With ``disease="consolidation"`` positive lungs have
    soft bright opacities instead, and these do.) The shortcut is present on ``(1 + s) / 2`` of the positive and
    ``(1 - s) / 2`` of the negative images of each split (``s`` is ``shortcut_strength``; counts are rounded), so that
    on its own it reaches an AUROC of ``0.5 + s / 2``. The phantoms are the same with and without it.

    Every image follows from its own seed (seed, split, patient, image): the same arguments give the same bytes, and
    another ``n_test`` changes no training image.

    Args:
        root: Cache folder; ``~`` is expanded. Nothing is read or written before :meth:`manifest`.
        n_train: Training images, at least 2; half of them positive (one fewer when odd).
        n_test: Test images, at least 2; likewise.
        size: Height and width in pixels, 64 to 2048.
        disease: ``lines`` or ``consolidation``; see :func:`cxrlab.datamodules.sources.phantom.draw`.
        opacity: Strength of the disease, 0 to 1. At 0 the lungs say nothing about the label: the negative control.
        shortcut: ``none``, ``marker`` (a corner letter), ``border`` (a bright frame) or ``brightness`` (a shift).
        shortcut_strength: 0 (the cue is there but says nothing) to 1 (the cue is the label); no effect without a cue.
        seed: Any whole number from 0 to 2**32 - 1.

    Raises:
        ValueError: For an argument out of its range.
    """

    name = "synthetic"
    synthetic = True
    claim = _FINDINGS[1]

    def __init__(
        self,
        root: str,
        n_train: int = 148,
        n_test: int = 40,
        size: int = 256,
        disease: str = "lines",
        opacity: float = 1.0,
        shortcut: str = "none",
        shortcut_strength: float = 1.0,
        seed: int = 0,
    ) -> None:
        self.begin()  # nothing to note that the mark SYNTHETIC does not say
        check_range("n_train", n_train, 2, integer=True)
        check_range("n_test", n_test, 2, integer=True)
        check_range("size", size, 64, 2048, integer=True)
        check_choice("disease", disease, DISEASES)
        check_range("opacity", opacity, 0, 1)
        check_choice("shortcut", shortcut, ("none", *CUES))
        check_range("shortcut_strength", shortcut_strength, 0, 1)
        check_range("seed", seed, 0, 2**32 - 1, integer=True)
        self.root = root
        self.n_train, self.n_test, self.size, self.seed = n_train, n_test, size, seed
        self.disease, self.opacity, self.shortcut = disease, float(opacity), shortcut
        self.shortcut_strength = float(shortcut_strength) if shortcut != "none" else 0.0  # no cue has no strength

    @property
    def folder(self) -> Path:
        """Where the pictures of these arguments lie: a readable name and a hash of all that changes a pixel."""
        cue = self.shortcut if self.shortcut == "none" else f"{self.shortcut}-{self.shortcut_strength:g}"
        readable = f"{self.n_train}+{self.n_test}-{self.size}px-{self.disease}-{self.opacity:g}-{cue}-seed-{self.seed}"
        picture = (self.size, self.disease, self.opacity, self.shortcut, self.shortcut_strength, self.seed)
        exact = (DRAWING_VERSION, self.n_train, self.n_test, picture)
        key = f"{readable}-{hashlib.sha256(repr(exact).encode()).hexdigest()[:8]}"
        return Path(self.root).expanduser().resolve() / self.name / key

    def manifest(self) -> pd.DataFrame:
        """Lists the images, training images first, rendering them before where they do not lie ready.

        The manifest has ``mask`` (path of the lung mask, 255 inside) and ``shortcut`` (1 where the cue is on it).

        Raises:
            DataError: The pictures cannot be written; names the folder.
        """
        films, folder = list(self._films()), self.folder
        if not _complete(folder, films):
            try:
                self._build(folder, films)
            except OSError as error:
                raise DataError(
                    f"cannot write the synthetic images to {folder}: {error.strerror or error}. Make the folder "
                    "writable, or choose another by setting CXRLAB_CACHE=/some/folder before the command"
                ) from error
        manifest = pd.DataFrame(
            {
                "path": [str(folder / film.image) for film in films],
                "label": [film.label for film in films],
                "patient_id": [film.patient_id for film in films],
                "split": [SPLITS[film.split] for film in films],
                "source": self.name,
                "finding": [_FINDINGS[film.label] for film in films],
                "view": "PA",
                "mask": [str(folder / "masks" / film.image) for film in films],
                "shortcut": [int(film.cue) for film in films],
            }
        )
        self.begin()
        return self.flow.start(manifest, "phantoms drawn")

    def _films(self) -> Iterator[_Film]:
        """Plans every image of both splits."""
        for split, total in enumerate((self.n_train, self.n_test)):
            left = [total - total // 2, total // 2]
            cues = [iter(self._cues(split, label, count)) for label, count in enumerate(left)]
            patient = 0
            while any(left):  # labels alternate, one to three images each, until both classes are full
                label = patient % 2
                images = min(left[label], int(self._rng(split, patient, 0).integers(1, 4)))
                patient_id = f"synthetic{self.seed}-{SPLITS[split]}-{patient:05d}"
                for number in range(images):
                    yield _Film(split, patient, number, label, next(cues[label]), patient_id)
                left[label] -= images
                patient += 1

    def _cues(self, split: int, label: int, count: int) -> npt.NDArray[np.bool_]:
        """Deals the cue to an exact share of one class of one split."""
        share = (1 + (1 if label else -1) * self.shortcut_strength) / 2
        dealt = np.arange(count) < (0 if self.shortcut == "none" else round(share * count))
        return self._rng(split, _CUE_DRAW, label).permutation(dealt)

    def _rng(self, *place: int) -> np.random.Generator:
        return np.random.default_rng(np.random.SeedSequence([self.seed, *place]))

    def _build(self, folder: Path, films: list[_Film]) -> None:
        """Renders everything beside the folder and moves it into place in one step.

        A reader therefore sees all pictures or none, whoever is killed and whoever else is building.
        """
        folder.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(prefix=".building-", dir=folder.parent, ignore_cleanup_errors=True) as scratch:
            fresh = Path(scratch, folder.name)  # TemporaryDirectory is private; a folder made in it is as open as usual
            quick = len(films) <= 1000  # rendered before a bar would be read
            for film in films if quick else track(films, description="Drawing chest phantoms", transient=True):
                anatomy = Anatomy.sample(self._rng(film.split, film.patient, 1))
                rng = self._rng(film.split, film.patient, film.number + 2)
                image, mask = draw(anatomy, rng, self.size, self.opacity * film.label, self.disease)
                if film.cue:
                    image = plant_shortcut(image, self.shortcut)
                # Not packed: fine lines would make larger files, which would be a shortcut.
                _write(fresh / film.image, image, [cv2.IMWRITE_PNG_COMPRESSION, 0])
                _write(fresh / "masks" / film.image, mask)
            if _complete(folder, films):
                return
            if folder.exists():  # somebody took files away
                folder.rename(Path(scratch, "incomplete"))
            try:
                fresh.rename(folder)
            except OSError:
                if not _complete(folder, films):  # otherwise another process was faster, with the same bytes
                    raise


def _complete(folder: Path, films: list[_Film]) -> bool:
    """Whether a folder holds an image and a mask for every film."""
    return sum(1 for _ in folder.rglob("*.png")) == 2 * len(films)


def _write(path: Path, pixels: npt.NDArray[np.uint8], settings: Sequence[int] = ()) -> None:
    """Writes a PNG; unlike ``cv2.imwrite`` a full disk is an OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(cv2.imencode(".png", pixels, settings)[1].tobytes())
