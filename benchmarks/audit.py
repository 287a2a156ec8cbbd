"""Times the stages of an audit and their peak memory as a data set grows, each stage in a process of its own.

The images are drawn from noise of all sizes (no radiographs, but files as large and as rich in detail), greyscale PNG;
every 50th is a smaller, cropped JPEG of the one before, which the search for films has to find. A stage gets what the
stages before it left on disk, and loading that is not timed; the peak is of the whole process.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import cv2
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cxrlab.audit import audit
from cxrlab.checks import Verdict
from cxrlab.config import compose
from cxrlab.datamodules import manifest as mf
from cxrlab.datamodules.films import film_keys, find_pairs
from cxrlab.datamodules.measurements import Measurements, measure
from cxrlab.datamodules.split import hold_out

SIZES = (1250, 2500, 5000, 10_000)
QUICK = (50, 100)
COPY_EVERY = 50
PER_PATIENT = 2

Stage = Callable[[pd.DataFrame, Path], tuple[float, str]]


def measure_all(manifest: pd.DataFrame, cache: Path) -> tuple[float, str]:
    """Reads and measures every file; nothing is in the cache the first time."""
    start = time.perf_counter()
    measured = measure(list(manifest["path"]), cache)
    return time.perf_counter() - start, f"{len(measured.problems)} unreadable"


def find_films(manifest: pd.DataFrame, cache: Path) -> tuple[float, str]:
    """Searches for images that are one film."""
    measured = _measured(manifest, cache)
    start = time.perf_counter()
    pairs = find_pairs(measured.hashes, measured.features, measured.sha256)
    film_keys(measured.sha256, pairs)
    seconds = time.perf_counter() - start
    planted = {(row - 1, row) for row in _copies(len(manifest))}
    found = set(zip(pairs["first"], pairs["second"], strict=True))
    return seconds, f"{len(planted & found)} of {len(planted)} copies, {len(found - planted)} other pairs"


def split(manifest: pd.DataFrame, cache: Path) -> tuple[float, str]:
    """Draws test and validation patients."""
    start = time.perf_counter()
    drawn = manifest
    for into in ("test", "val"):
        drawn = hold_out(drawn, 0.2, 0, into, into)
    return time.perf_counter() - start, " ".join(
        f"{count} {name}" for name, count in drawn["split"].value_counts().items()
    )


def audit_all(manifest: pd.DataFrame, cache: Path) -> tuple[float, str]:
    """Audits from what is typed to the page, with the measurements that are kept."""
    with TemporaryDirectory() as folder:
        table = Path(folder, "images.csv")
        mf.write(manifest.assign(split=""), table)
        typed = ["data=manifest", f"data.source.path={table}", "data.source.synthetic=true", f"data.cache={cache}"]
        config = compose("audit", typed, Path(folder, "audit"))
        start = time.perf_counter()
        sections = audit(config, typed)["sections"]
        seconds = time.perf_counter() - start
    findings = [finding.verdict for section in sections for finding in section.findings]
    return seconds, ", ".join(f"{findings.count(verdict)} {verdict}" for verdict in Verdict)


STAGES: dict[str, Stage] = {
    "measure": measure_all,
    "measure again": measure_all,
    "find films": find_films,
    "split": split,
    "audit": audit_all,
}
"""In order. Each gets a manifest and the cache's folder, and returns seconds and what came of it."""


def draw_images(folder: Path, n: int, side: int) -> None:
    """Draws the first n images that are not there yet.

    Args:
        folder: For the images.
        n: How many.
        side: Their height and width in pixels.
    """
    folder.mkdir(parents=True, exist_ok=True)
    copies = set(_copies(n))

    def draw(row: int) -> None:
        file = _file(folder, row)
        if file.exists():
            return
        image = _noise(row - 1 if row in copies else row, side)
        if row in copies:
            margin = side // 16
            image = image[margin:, margin:-margin]
            image = cv2.resize(image, None, fx=0.8, fy=0.8, interpolation=cv2.INTER_AREA)
        if not cv2.imwrite(str(file), image):
            raise OSError(f"cannot write {file}")

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(draw, range(n)))


def list_images(folder: Path, n: int) -> pd.DataFrame:
    """The manifest of the first n images."""
    rows = np.arange(n)
    patients = rows // PER_PATIENT
    return pd.DataFrame(
        {
            "path": [str(_file(folder, row)) for row in rows],
            "label": patients % 2,
            "patient_id": [f"P{patient}" for patient in patients],
            "split": "train",
            "source": "noise",
            "finding": "",
            "view": "",
        }
    )


def run_stage(name: str, folder: Path, n: int) -> dict[str, Any]:
    """Runs one stage in this process.

    Args:
        name: A key of ``STAGES``.
        folder: With the images; the cache is beside them.
        n: How many images.

    Returns:
        ``stage``, ``n``, ``seconds``, ``peak_mb`` (resident memory of the process) and ``found``.
    """
    seconds, found = STAGES[name](list_images(folder, n), _cache(folder, n))
    unit = 2**20 if platform.system() == "Darwin" else 2**10  # of ru_maxrss in a megabyte
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit
    return {"stage": name, "n": n, "seconds": seconds, "peak_mb": peak, "found": found}


def run_all(folder: Path, sizes: Sequence[int]) -> list[dict[str, Any]]:
    """Runs every stage for every size, each in a new process, and prints a line for each."""
    print(f"{'stage':16}{'images':>8}{'seconds':>10}{'ms/image':>10}{'peak MB':>9}  found", flush=True)
    results = []
    for n in sizes:
        for name in STAGES:
            command = [sys.executable, __file__, "--stage", name, "--folder", str(folder), "--sizes", str(n)]
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
            result = json.loads(done.stdout.splitlines()[-1])
            results.append(result)
            seconds, peak = result["seconds"], result["peak_mb"]
            print(
                f"{name:16}{n:8,}{seconds:10.2f}{1000 * seconds / n:10.2f}{peak:9,.0f}  {result['found']}", flush=True
            )
    return results


def growth(results: Sequence[dict[str, Any]]) -> dict[str, float]:
    """By stage the exponent k of seconds ~ n^k, by least squares on logarithms; 1 is linear."""
    exponents = {}
    for name in STAGES:
        own = [result for result in results if result["stage"] == name]
        if len(own) > 1:
            n, seconds = np.log([result["n"] for result in own]), np.log([result["seconds"] for result in own])
            exponents[name] = float(np.polyfit(n, seconds, 1)[0])
    return exponents


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=_positive, nargs="+", metavar="N", help=f"images (default: {SIZES})")
    parser.add_argument("--side", type=_positive, help="their height and width in pixels (default: 512)")
    parser.add_argument("--quick", action="store_true", help=f"{QUICK} images of 256 pixels")
    parser.add_argument("--folder", type=Path, help="keeps images and cache here (default: a temporary folder)")
    parser.add_argument("--json", type=Path, metavar="PATH", help="also write everything measured to this file")
    parser.add_argument("--stage", choices=STAGES, help=argparse.SUPPRESS)  # how this program calls itself
    options = parser.parse_args(arguments)
    sizes = options.sizes or (QUICK if options.quick else SIZES)
    side = options.side or (256 if options.quick else 512)
    if side < 64:
        parser.error(f"--side must be at least 64, got {side}")
    if options.stage:
        print(json.dumps(run_stage(options.stage, options.folder, sizes[0])))
        return
    with TemporaryDirectory() as temporary:
        folder = (options.folder or Path(temporary)) / f"{side}px"
        load = f", load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
        print(f"{os.cpu_count()} cores{load}; PNG of {side}x{side} pixels")
        draw_images(folder, max(sizes), side)
        results = run_all(folder, sizes)
    exponents = growth(results)
    for name, exponent in exponents.items():
        print(f"{name}: seconds grow as n^{exponent:.2f}")
    if options.json:
        text = json.dumps({"side": side, "results": results, "exponents": exponents}, indent=2)
        options.json.write_text(f"{text}\n", encoding="utf-8")


def _noise(seed: int, side: int) -> NDArray[np.uint8]:
    """Noise of all sizes, the coarser the stronger; a different picture for every seed."""
    rng = np.random.default_rng(seed)
    image = np.zeros((side, side), np.float32)
    for cells in (4, 8, 16, 32, 64, 128):
        layer = rng.standard_normal((cells, cells), np.float32) * (64 / cells) ** 0.5
        image += cv2.resize(layer, (side, side), interpolation=cv2.INTER_CUBIC)
    image += 0.05 * rng.standard_normal((side, side), np.float32)
    return (255 * (image - image.min()) / np.ptp(image)).astype(np.uint8)


def _copies(n: int) -> range:
    return range(COPY_EVERY - 1, n, COPY_EVERY)


def _file(folder: Path, row: int) -> Path:
    return folder / f"{row:06}.{'jpg' if row % COPY_EVERY == COPY_EVERY - 1 else 'png'}"


def _cache(folder: Path, n: int) -> Path:
    return folder.parent / f"measurements-{folder.name}-{n}"


def _measured(manifest: pd.DataFrame, cache: Path) -> Measurements:
    return measure(list(manifest["path"]), cache)


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {value}")
    return value


if __name__ == "__main__":
    main()
