"""How many jobs of a sweep a machine does in an hour: one by one with all threads, or several at once with fewer.

    python benchmarks/sweep.py                              4 jobs of 2 epochs, 148 + 40 phantoms of the paper's size
    python benchmarks/sweep.py --jobs 8 --json sweep.json   more of them, kept in a file

Every row is one sweep in a process of its own, start-up included. Rows run in turn, and the median of several rounds is
printed, with the ratio to the first row: jobs one after another, on all cores.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from joblib import cpu_count
from rich.console import Console
from rich.table import Table


def ways(cores: int) -> dict[str, list[str]]:
    """Launchers to compare, by name; joblib shares the cores out among its processes."""
    at_once = sorted({number for number in (2, cores // 2, cores) if 1 < number <= cores})
    parallel = {
        f"joblib, {number} x {max(1, cores // number)} threads": [
            "hydra/launcher=joblib",
            f"hydra.launcher.n_jobs={number}",
        ]
        for number in at_once
    }
    return {f"one by one, {cores} threads": [], **parallel}


def seconds_of(way: list[str], settings: list[str], jobs: int) -> float:
    """Wall-clock seconds of one sweep, which is thrown away."""
    seeds = ",".join(map(str, range(jobs)))
    environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "cxrlab.train", "-m", f"seed={seeds}", f"hydra.sweep.dir={folder}/sweep"]
        began = time.perf_counter()
        done = subprocess.run([*command, *settings, *way], capture_output=True, text=True, env=environment, check=False)
        seconds = time.perf_counter() - began
        finished = len(list(Path(folder).glob("sweep/*/report.html")))
    if done.returncode or finished != jobs:
        raise SystemExit(f"{finished} of {jobs} jobs finished\n{done.stdout}{done.stderr}")
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=4, help="of each sweep")
    parser.add_argument("--epochs", type=int, default=2, help="of each job")
    parser.add_argument("--images", type=int, default=148, help="to train on")
    parser.add_argument("--size", type=int, default=224, help="pixels")
    parser.add_argument("--precision", default="32-true")
    parser.add_argument("--rounds", type=int, default=1, help="each row so many times")
    parser.add_argument("--json", type=Path, help="file for the results")
    given = parser.parse_args()
    settings = [
        f"data.source.n_train={given.images}",
        "data.source.n_test=40",
        f"data.image_size={given.size}",
        f"trainer.max_epochs={given.epochs}",
        f"trainer.precision={given.precision}",
        "trainer=cpu",
        "keep_weights=false",
    ]
    cores = int(cpu_count())
    rows = ways(cores)
    taken: dict[str, list[float]] = {name: [] for name in rows}
    for _ in range(given.rounds):
        for name, way in rows.items():
            taken[name].append(seconds_of(way, settings, given.jobs))
    seconds = {name: statistics.median(values) for name, values in taken.items()}
    first = next(iter(seconds.values()))
    results = {
        name: {"seconds": value, "jobs_per_hour": 3600 * given.jobs / value, "throughput_ratio": first / value}
        for name, value in seconds.items()
    }
    table = Table(title=f"{given.jobs} jobs of {given.epochs} epochs, {cores} cores, {given.precision}")
    for column in ("sweep", "s", "jobs per hour", "ratio"):
        table.add_column(column, justify="left" if column == "sweep" else "right")
    for name, row in results.items():
        ratio = f"{row['throughput_ratio']:.2f}"
        table.add_row(name, f"{row['seconds']:.1f}", f"{row['jobs_per_hour']:.1f}", ratio)
    Console().print(table)
    if given.json:
        what = {key: value for key, value in vars(given).items() if key != "json"}
        given.json.write_text(json.dumps({"cores": cores, "settings": what, "rows": results}, indent=2) + "\n")


if __name__ == "__main__":
    main()
