"""Times the input side: the first and the second setup of a data set, and the loader; against plain ways and a floor.

A first setup reads the images (that is timed alone, too), hashes them, looks for copies of a film and fills the cache.
All are measured in turn in one process, so that whatever else the machine is doing disturbs all alike. Compare the
ratios; the seconds are this machine's, today. The image files themselves are in the system's cache throughout.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import cv2
import numpy as np
import pandas as pd

from cxrlab.config import build, compose
from cxrlab.datamodules import Augmentation, ChestXRayDataModule, ManifestSource, SyntheticSource
from cxrlab.datamodules.pixels import read_all
from cxrlab.datamodules.preprocessing import Preprocessing
from cxrlab.reading.image import SUFFIXES

PLAIN, READING, FIRST, SECOND = "plain loop", "reading", "setup, first run", "setup, second run"
FLOOR = "copying the bytes"
AUGMENTATIONS = ("none", "light", "strong")


def draw_images(folder: Path, count: int, side: int) -> list[str]:
    """Draws phantoms, half of either label, and returns their files."""
    source = SyntheticSource(str(folder), n_train=count - 4, n_test=4, size=side)
    return list(source.manifest()["path"])


def find_images(folder: Path, count: int) -> list[str]:
    """The first image files below a folder, by name."""
    return [str(path) for path in sorted(folder.rglob("*")) if path.suffix.lower() in SUFFIXES][:count]


def write_manifest(paths: Sequence[str], file: Path) -> Path:
    """Lists images: their labels, which do not matter here, take turns; the last four are for testing."""
    rows = range(len(paths))
    splits = ["test" if row >= len(paths) - 4 else "train" for row in rows]
    labels = [row % 2 for row in rows]
    table = pd.DataFrame({"path": paths, "label": labels, "patient_id": [f"p{row}" for row in rows], "split": splits})
    table.to_csv(file, index=False)
    return file


def set_up(manifest: Path, size: int, cache: Path, **options: Any) -> ChestXRayDataModule:
    """A data module that has read its images."""
    options = {"image_size": size, "val": "test", "allow_leak": True, "on_error": "skip", **options}
    datamodule = ChestXRayDataModule(ManifestSource(str(manifest)), cache=str(cache), **options)
    datamodule.setup()
    return datamodule


def plain_loop(paths: Sequence[str], size: int) -> None:
    """Reads and resizes as one would write it down: one image after the other, and nothing else."""
    for path in paths:
        image = cv2.imread(path)
        if image is not None:  # OpenCV reads no DICOM
            cv2.resize(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), (size, size))


def setups(paths: Sequence[str], manifest: Path, size: int) -> dict[str, Callable[[Path], object]]:
    """By name the ways to get at all pixels; each is called with a folder for the cache, empty before the first run."""
    return {
        PLAIN: lambda cache: plain_loop(paths, size),
        READING: lambda cache: read_all(paths, Preprocessing.create(size)),
        FIRST: lambda cache: set_up(manifest, size, cache),
        SECOND: lambda cache: set_up(manifest, size, cache),
    }


def passes(manifest: Path, size: int, batch_size: int, cache: Path) -> dict[str, Callable[[], int]]:
    """By name the ways to pass once over the training images in batches; each returns their number."""
    ways: dict[str, Callable[[], int]] = {}
    for name in AUGMENTATIONS:
        augment: Augmentation = build(compose("train", [f"augment={name}"], "unused").augment)
        datamodule = set_up(manifest, size, cache, batch_size=batch_size, augment=augment)
        ways[f"loader, augment={name}"] = lambda module=datamodule: sum(  # type: ignore[misc]
            len(batch["row"]) for batch in module.train_dataloader()
        )
    held = datamodule.pixels[datamodule.rows("train")]

    def copy() -> int:
        """The floor: batches in another order, out of memory."""
        order = np.random.default_rng(0).permutation(len(held))
        starts = range(0, len(order), batch_size)
        return sum(len(held[order[start : start + batch_size]]) for start in starts)

    return {FLOOR: copy, **ways}


def measure(paths: Sequence[str], size: int, batch_size: int, repeats: int) -> dict[str, Any]:
    """Measures everything.

    Args:
        paths: Image files, at least 8.
        size: Pixels, side of the square that the network sees.
        batch_size: Images per batch.
        repeats: Turns of each way.

    Returns:
        Plain values: ``images``, and ``setups`` and ``passes``: by name the ``seconds`` of every turn, their
        ``median``, ``images_per_second`` (of the median) and ``ratio``, the median over the turns of the seconds to
        those of the plain loop, or of the copy, in the same turn.
    """
    with TemporaryDirectory() as folder:
        manifest = write_manifest(paths, Path(folder) / "images.csv")
        reading: dict[str, list[float]] = {}
        for turn in range(repeats):
            for name, way in setups(paths, manifest, size).items():
                with _seconds(reading.setdefault(name, [])):
                    way(Path(folder) / str(turn))
        loading: dict[str, list[float]] = {}
        ways, images = passes(manifest, size, batch_size, Path(folder) / "0"), 0
        for _ in range(repeats):
            for name, pass_over in ways.items():
                with _seconds(loading.setdefault(name, [])):
                    images = pass_over()
    return {
        "images": len(paths),
        "setups": _summary(reading, PLAIN, len(paths)),
        "passes": _summary(loading, FLOOR, images),
    }


def render(result: dict[str, Any]) -> str:
    """A result of :func:`measure` as two tables."""
    lines = []
    for part, reference in (("setups", PLAIN), ("passes", FLOOR)):
        lines.append(f"{'':26}{'median s':>10}{'images/s':>12}  / {reference}")
        for name, way in result[part].items():
            lines.append(f"{name:26}{way['median']:10.4f}{way['images_per_second']:12,.0f}  {way['ratio']:.3f}")
        lines.append("")
    return "\n".join(lines[:-1])


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, metavar="FOLDER", help="of image files (default: phantoms are drawn)")
    parser.add_argument("--images", type=_at_least_8, default=200, help="at most so many (default: 200)")
    parser.add_argument("--side", type=_at_least_8, default=1024, help="pixels, of drawn phantoms (default: 1024)")
    parser.add_argument("--image-size", type=_at_least_8, default=224, help="pixels (default: 224, the paper's)")
    parser.add_argument("--batch-size", type=int, default=32, help="images per batch (default: 32, the paper's)")
    parser.add_argument("--repeats", type=int, default=3, help="turns of each way (default: 3)")
    parser.add_argument("--json", type=Path, metavar="PATH", help="also write everything measured to this file")
    options = parser.parse_args(arguments)
    with TemporaryDirectory() as drawn:
        paths = (
            draw_images(Path(drawn), options.images, options.side)
            if options.data is None
            else find_images(options.data, options.images)
        )
        if len(paths) < 8:
            parser.error(f"--data {options.data}: at least 8 images are needed, found {len(paths)}")
        result = measure(paths, options.image_size, options.batch_size, options.repeats)
    print(
        f"{result['images']} images, {os.cpu_count()} cores, batch {options.batch_size}, {options.image_size} pixels\n"
    )
    print(render(result))
    if options.json:
        settings = {key: value for key, value in vars(options).items() if key not in ("json", "data")}
        settings["data"] = None if options.data is None else options.data.name
        options.json.write_text(json.dumps({"settings": settings, **result}, indent=2) + "\n", encoding="utf-8")


@contextmanager
def _seconds(taken: list[float]) -> Iterator[None]:
    start = time.perf_counter()
    yield
    taken.append(time.perf_counter() - start)


def _summary(seconds: dict[str, list[float]], reference: str, images: int) -> dict[str, Any]:
    return {
        name: {
            "seconds": taken,
            "median": statistics.median(taken),
            "images_per_second": images / statistics.median(taken),
            "ratio": statistics.median(a / b for a, b in zip(taken, seconds[reference], strict=True)),
        }
        for name, taken in seconds.items()
    }


def _at_least_8(text: str) -> int:
    value = int(text)
    if value < 8:
        raise argparse.ArgumentTypeError(f"must be at least 8, got {value}")
    return value


if __name__ == "__main__":
    main()
