"""Times how long commands take to answer: bare imports, the help text, a mistake, and a training's first step.

Every command is a process of its own, begun in turn with the others, so that whatever else the machine is doing
disturbs all alike. The training finds its images decoded in the cache, as from its second run on. Compare the ratios;
the seconds are this machine's, today.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytorch_lightning as pl

ROOT = Path(__file__).resolve().parents[1]
TRAIN = str(ROOT / "train.py")
PACKAGES = ("torch", "pytorch-lightning", "hydra-core")
MARK = "first batch:"

TORCH, LIGHTNING = "import torch", "import pytorch_lightning"
IMPORTED, FIRST_STEP = "training: everything imported", "training: first step begins"


class FirstBatch(pl.Callback):
    """Prints, when the first batch has arrived, at what time that was and when everything had been imported.

    The pre-flight check imports this module, after all that a training needs and before anything is built.
    """

    imported = time.time()

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Prints once; whoever measures ends the process then."""
        if batch_idx == 0 and trainer.current_epoch == 0:
            print(f"\n{MARK} {self.imported} {time.time()}", flush=True)


def commands() -> dict[str, list[str]]:
    """What is run to its end, by name: arguments of Python."""
    found = {
        "python -c pass": ["-c", "pass"],
        TORCH: ["-c", TORCH],
        LIGHTNING: ["-c", LIGHTNING],
        "train.py --help": [TRAIN, "--help"],
        "train.py modle=x": [TRAIN, "modle=x"],
    }
    if importlib.util.find_spec("keras") and importlib.util.find_spec("tensorflow"):
        found["import keras (tensorflow)"] = ["-c", "import keras"]
    return found


def seconds_of(arguments: Sequence[str], environment: Mapping[str, str]) -> float:
    """Runs Python to its end; what it prints, and whether it ends with an error, does not matter."""
    began = time.perf_counter()
    subprocess.run(
        [sys.executable, *arguments],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        check=False,
    )
    return time.perf_counter() - began


def seconds_to_first_step(
    folder: Path, overrides: Sequence[str], environment: Mapping[str, str]
) -> tuple[float, float]:
    """Begins a training and ends it when its first batch has arrived.

    Args:
        folder: In which it runs.
        overrides: Of the training's configuration.
        environment: Of the process.

    Returns:
        Seconds until everything was imported, and until the first step began.

    Raises:
        RuntimeError: It ended before; holds what it printed.
    """
    callback = f"+callbacks.first_batch._target_={Path(__file__).stem}.{FirstBatch.__name__}"
    command = [sys.executable, TRAIN, callback, *overrides]
    environment = {**environment, "PYTHONPATH": str(Path(__file__).parent)}
    printed = []
    began = time.time()
    with subprocess.Popen(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith(MARK):
                process.kill()
                imported, first = map(float, line.removeprefix(MARK).split())
                return imported - began, first - began
            printed.append(line)
    raise RuntimeError(f"the training ended before its first step:\n{''.join(printed)}")


def measure(repeats: int, overrides: Sequence[str]) -> dict[str, Any]:
    """Measures everything.

    Args:
        repeats: Turns of each command.
        overrides: Of the training's configuration.

    Returns:
        Plain values: ``machine``, and ``ways``: by name the ``seconds`` of every turn, their ``median`` and ``min``,
        and ``to_torch`` and ``to_lightning``, medians over the turns of the ratio to the bare imports.
    """
    chosen = commands()
    seconds: dict[str, list[float]] = {name: [] for name in (*chosen, IMPORTED, FIRST_STEP)}
    with TemporaryDirectory() as folder:
        environment = {**os.environ, "CXRLAB_CACHE": str(Path(folder) / "cache"), "KERAS_BACKEND": "tensorflow"}
        seconds_to_first_step(Path(folder), overrides, environment)  # draws the phantoms and fills the caches
        for _ in range(repeats):
            for name, arguments in chosen.items():
                seconds[name].append(seconds_of(arguments, environment))
            for name, taken in zip(
                (IMPORTED, FIRST_STEP), seconds_to_first_step(Path(folder), overrides, environment), strict=True
            ):
                seconds[name].append(taken)
    return {
        "machine": {
            "platform": platform.platform(),
            "cores": os.cpu_count(),
            "python": platform.python_version(),
            "packages": {name: version(name) for name in PACKAGES},
        },
        "ways": {
            name: {
                "seconds": taken,
                "median": statistics.median(taken),
                "min": min(taken),
                "to_torch": _ratio(taken, seconds[TORCH]),
                "to_lightning": _ratio(taken, seconds[LIGHTNING]),
            }
            for name, taken in seconds.items()
        },
    }


def _ratio(taken: Sequence[float], floor: Sequence[float]) -> float:
    return statistics.median(a / b for a, b in zip(taken, floor, strict=True))


def render(result: dict[str, Any]) -> str:
    """A result of :func:`measure` as a table."""
    lines = [f"{'':32}{'median s':>10}{'min s':>8}{'/ torch':>10}{'/ lightning':>13}"]
    for name, way in result["ways"].items():
        ratios = f"{way['to_torch']:10.2f}{way['to_lightning']:13.2f}"
        lines.append(f"{name:32}{way['median']:10.2f}{way['min']:8.2f}{ratios}")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="/ torch, / lightning: median over the turns of the ratio to the bare import in the same turn. A\n"
        "training imports with the garbage collector at rest, and so can begin before a bare import is over.",
    )
    parser.add_argument("--repeats", type=_positive, default=5, help="turns of each command (default: 5)")
    parser.add_argument("--json", type=Path, metavar="PATH", help="also write everything measured to this file")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="of the training, for example model=resnet18")
    options = parser.parse_args(arguments)
    result = measure(options.repeats, options.overrides)
    machine = result["machine"]
    packages = ", ".join(f"{name} {number}" for name, number in machine["packages"].items())
    print(f"{machine['platform']}, {machine['cores']} cores, Python {machine['python']}; {packages}\n")
    print(render(result))
    if options.json:
        settings = {"repeats": options.repeats, "overrides": options.overrides}
        text = json.dumps({"settings": settings, **result}, indent=2)
        options.json.write_text(f"{text}\n", encoding="utf-8")


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {value}")
    return value


if __name__ == "__main__":
    main()
