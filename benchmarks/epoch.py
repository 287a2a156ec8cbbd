"""Times whole epochs of the paper's training: ``train.py``, bare loops, Keras; or, with --job, whole jobs.

Every way is a process of its own, in turn, round after round, so that whatever else the machine is doing disturbs all
alike. An epoch is training and validation with all that comes with it, from the end of one to the end of the next; the
first of each process does not count. Compare the ratios; the seconds are this machine's, today.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from rivals.plain_torch import DTYPES, plain_network
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from train_step import arithmetic_rate, forward_flops, step_flops

from cxrlab.config import compose
from cxrlab.config.build import build
from cxrlab.runs import environment

FOLDER = Path(__file__).resolve().parent
TRAIN, BARE, PLAIN, KERAS = "train.py", "cxrlab, bare loop", "plain PyTorch", "Keras"
PRECISIONS = tuple(DTYPES)


@dataclass
class Way:
    """One way of training.

    Args:
        name: For the table.
        precision: As Lightning calls it.
        command: Given a folder for what it writes, the command that trains.
        ends: Given that folder and what the command printed, when each epoch ended.
    """

    name: str
    precision: str
    command: Callable[[Path], list[str]]
    ends: Callable[[Path, str], list[float]]
    epochs: list[float] = field(default_factory=list)
    wall: list[float] = field(default_factory=list)
    peak_mb: list[float] = field(default_factory=list)
    stolen: list[float] = field(default_factory=list)

    def turn(self, folder: Path) -> None:
        """Runs it once.

        Raises:
            SystemExit: The command failed.
        """
        start, stolen = time.perf_counter(), _stolen_seconds()
        with (folder / "printed").open("w+", encoding="utf-8") as printed:
            process = subprocess.Popen(self.command(folder), stdout=printed, stderr=subprocess.STDOUT)
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
            self.wall.append(time.perf_counter() - start)
            self.stolen.append((_stolen_seconds() - stolen) / self.wall[-1])
            printed.seek(0)
            text = printed.read()
        if process.returncode:
            raise SystemExit(f"{self.name}, {self.precision}: failed\n{text[-4000:]}")
        self.peak_mb.append(usage.ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10))
        ends = self.ends(folder, text)
        self.epochs.append((ends[-1] - ends[0]) / (len(ends) - 1))  # the mean: not every epoch writes a checkpoint


def _stolen_seconds() -> float:
    """Processor time that a virtual machine was denied so far, all cores together; 0 where Linux does not say."""
    counters = Path("/proc/stat")
    return int(counters.read_text().split(maxsplit=9)[8]) / os.sysconf("SC_CLK_TCK") if counters.is_file() else 0.0


def _printed_ends(folder: Path, text: str) -> list[float]:
    """Of a rival, which prints them on its last line; without the first epoch."""
    found: list[float] = json.loads(text.strip().splitlines()[-1])["ends"][1:]
    return found


def _logged_ends(folder: Path, text: str) -> list[float]:
    """Of a run of ``train.py``: when TensorBoard was told of each epoch."""
    events = EventAccumulator(str(folder / "run"))
    events.Reload()
    return [event.wall_time for event in events.Scalars("val/loss")]


def _ways(
    data: list[str], arrays: Path, manifest: Path, epochs: int, keras_python: str | None, *, job: bool
) -> list[Way]:
    """Everything that can be compared here."""
    here = [sys.executable]
    ways = []
    for precision in PRECISIONS:
        options = [f"trainer.max_epochs={epochs}", f"trainer.precision={precision}", *data]
        train = [*here, "-m", "cxrlab.train", "experiment=paper", *options]
        ways.append(
            Way(TRAIN, precision, lambda folder, train=train: [*train, f"hydra.run.dir={folder / 'run'}"], _logged_ends)
        )
        common = ["--precision", precision, "--epochs", str(epochs)]
        loop = [*here, str(FOLDER / "rivals" / "plain_torch.py"), str(arrays), *common]
        if not job:
            for name, way in ((BARE, "cxrlab"), (PLAIN, "plain")):
                command = [*loop, "--way", way]
                ways.append(Way(name, precision, lambda _, command=command: command, _printed_ends))
        if keras_python:
            script = str(FOLDER / "rivals" / "keras_paper.py")
            command = [keras_python, script, str(manifest if job else arrays), *common]
            ways.append(Way(KERAS, precision, lambda _, command=command: command, _printed_ends))
    return ways


def measure(
    data: list[str],
    epochs: int,
    rounds: int,
    keras_python: str | None,
    *,
    job: bool = False,
    only: Sequence[str] = (),
    matmul_size: int = 4096,
) -> dict[str, Any]:
    """Measures every way.

    Args:
        data: Overrides of ``train.py`` that choose the images.
        epochs: Of each process, at least 3.
        rounds: Processes of each way.
        keras_python: A Python that has Keras and TensorFlow (and OpenCV, for a job); ``None`` for none.
        job: Measure whole jobs, from the start of the process to its end.
        only: Names of ways to measure; all, if empty.
        matmul_size: Side of the matrices that are multiplied to find the machine's rate.

    Returns:
        Plain values: ``machine``, ``data``, ``floor_seconds`` by precision, and ``ways``, each with ``name``,
        ``precision``, and per round ``epochs`` (mean seconds), ``wall``, ``peak_mb`` and ``stolen`` (share of a core).
    """
    with TemporaryDirectory() as scratch:
        folder = Path(scratch)
        config = compose("train", ["experiment=paper", *data], folder)
        datamodule = build(config.data)
        datamodule.setup()
        rows = np.concatenate([datamodule.rows("train"), datamodule.rows("test")])
        counts = [len(datamodule.rows(split)) for split in ("train", "test")]
        arrays, manifest = folder / "arrays.npz", folder / "manifest.csv"
        labels = datamodule.manifest["label"].to_numpy()[rows]
        np.savez(arrays, images=np.asarray(datamodule.pixels)[rows], labels=labels, n_train=counts[0])
        datamodule.manifest.to_csv(manifest, index=False)
        ways = [
            way for way in _ways(data, arrays, manifest, epochs, keras_python, job=job) if not only or way.name in only
        ]
        rates: dict[str, float] = dict.fromkeys(PRECISIONS, 0.0)
        for turn in range(rounds):
            # There and back again, or a machine that slows down would slow the later ways.
            for index, way in list(enumerate(ways))[:: -1 if turn % 2 else 1]:
                own = folder / f"{turn}-{index}"
                own.mkdir()
                way.turn(own)
                head = f"round {turn + 1}: {way.name}, {way.precision}"
                _say(f"{head}: {way.epochs[-1]:.2f} s an epoch; {way.stolen[-1]:.1%} of a core went to other guests")
            for precision in PRECISIONS:
                rate = arithmetic_rate(matmul_size, torch.device("cpu"), precision)
                rates[precision] = max(rates[precision], rate)
    return {
        "machine": {
            "cpu": environment.cpu_name(),
            "cores": torch.get_num_threads(),
            "python": platform.python_version(),
        },
        "torch": torch.__version__,
        "data": {"name": datamodule.source.name, "train": counts[0], "test": counts[1]},
        "epochs_per_process": epochs,
        "job": job,
        "flops_per_second": rates,
        "floor_seconds": {name: epoch_flops(*counts) / rate for name, rate in rates.items()},
        "ways": [
            {key: getattr(way, key) for key in ("name", "precision", "epochs", "wall", "peak_mb", "stolen")}
            for way in ways
        ],
    }


def epoch_flops(train: int, test: int, image_size: int = 224) -> int:
    """Floating-point operations of training on so many images and validating on so many."""
    network = plain_network(image_size)
    return step_flops(network, train, image_size) + sum(forward_flops(network, test, image_size))


def ratio(result: dict[str, Any], of: tuple[str, str], to: tuple[str, str]) -> float | None:
    """Median over the rounds of one way's seconds over another's of the same round; ways by name and precision."""
    by_key = {(way["name"], way["precision"]): way["wall" if result["job"] else "epochs"] for way in result["ways"]}
    if of not in by_key or to not in by_key:
        return None
    return statistics.median(a / b for a, b in zip(by_key[of], by_key[to], strict=True))


def render(result: dict[str, Any]) -> str:
    """A result of :func:`measure` as a table."""
    key = "wall" if result["job"] else "epochs"
    head = f"{'':20}{'':12}{'median s':>10}{'min s':>8}{'/ Keras f32':>13}{'/ Keras':>9}{'/ plain':>9}{'/ bare':>8}"
    lines = [head + ("" if result["job"] else f"{'/ floor':>9}") + f"{'peak MiB':>10}"]
    for way in result["ways"]:
        own, precision = (way["name"], way["precision"]), way["precision"]
        against = ((KERAS, "32-true"), (KERAS, precision), (PLAIN, precision), (BARE, precision))
        ratios = [ratio(result, own, other) for other in against]
        columns = [
            f"{value:{width}.3f}" if value else " " * width for value, width in zip(ratios, (13, 9, 9, 8), strict=True)
        ]
        floor = "" if result["job"] else f"{min(way[key]) / result['floor_seconds'][precision]:9.2f}"
        lines.append(
            f"{way['name']:20}{precision:12}{statistics.median(way[key]):10.2f}{min(way[key]):8.2f}"
            f"{''.join(columns)}{floor}{max(way['peak_mb']):10.0f}"
        )
    if not result["job"]:
        for precision, seconds in result["floor_seconds"].items():
            rate = result["flops_per_second"][precision] / 1e9
            lines.append(f"{'arithmetic floor':20}{precision:12}{seconds:10.2f}          at {rate:,.0f} GFLOP/s")
    return "\n".join(lines)


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _python_with_keras(given: str | None) -> str | None:
    """Which Python runs the Keras script: the one that was named, this one if it has Keras, or none."""
    candidate = given or sys.executable
    done = subprocess.run([candidate, "-c", "import keras, tensorflow"], capture_output=True, check=False)
    if done.returncode and given:
        raise SystemExit(f"--keras-python {given}: cannot import keras and tensorflow")
    return None if done.returncode else candidate


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="/ Keras: the same precision. / bare: cxrlab's network in a loop without Lightning. / floor: the\n"
        "shortest epoch over its arithmetic at the best rate that a matrix product or a convolution reached here.",
    )
    parser.add_argument("--epochs", type=int, help="of each process (default: 4; with --job 20, the paper's)")
    parser.add_argument("--rounds", type=int, default=3, help="processes of each way (default: 3)")
    parser.add_argument("--job", action="store_true", help="whole jobs: from files to a report or to predictions")
    parser.add_argument("--data", default="synthetic", help="data=… of train.py (default: 148 + 40 phantoms)")
    parser.add_argument("--image-size", type=int, default=224, help="pixels (default: 224, the paper's)")
    parser.add_argument("--images", type=int, nargs=2, default=(148, 40), help="of phantoms (default: 148 40)")
    parser.add_argument("--only", nargs="+", default=(), choices=(TRAIN, BARE, PLAIN, KERAS), help="ways to measure")
    parser.add_argument("--keras-python", help="a Python with keras and tensorflow; default: this one, if it has them")
    parser.add_argument("--matmul-size", type=int, default=4096, help="side of the matrices (default: 4096)")
    parser.add_argument("--json", type=Path, metavar="PATH", help="also write everything measured to this file")
    options = parser.parse_args(arguments)
    epochs = options.epochs or (20 if options.job else 4)
    if epochs < 3:
        parser.error(f"--epochs must be at least 3, got {epochs}: the first does not count")
    keras_python = _python_with_keras(options.keras_python)
    if keras_python is None:
        _say("Keras is not compared: pip install 'cxrlab[bench]', or name a Python that has it with --keras-python")
    with TemporaryDirectory() as phantoms:
        data = [f"data={options.data}", f"data.image_size={options.image_size}"]
        if options.data == "synthetic":
            train, test = options.images
            data += [f"data.source.root='{phantoms}'", f"data.source.n_train={train}", f"data.source.n_test={test}"]
        result = measure(
            data,
            epochs,
            options.rounds,
            keras_python,
            job=options.job,
            only=options.only,
            matmul_size=options.matmul_size,
        )
    machine = result["machine"]
    counts = "{train} + {test} images".format(**result["data"])
    print(
        f"{machine['cpu']}, {machine['cores']} threads; torch {result['torch']}; {result['data']['name']}, {counts}\n"
    )
    print(render(result))
    if options.json:
        options.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
