"""Runs everything that docs/validity.md reports: ``make validity``. What is finished is not done again.

Below ``runs/validity/`` each training has a folder of its own, so that a killed run of this file goes on where it was.
The figures are copied to ``docs/figures/``; the text is written by people who have looked at them.
"""

from __future__ import annotations

import itertools
import json
import shutil
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).parents[1]
RUNS = Path("runs/validity")
SEEDS = range(5)
CONTROL_SEEDS = range(10)
CENTRES = ("centre_black_90", "centre_black_80", "centre_black_70", "centre_black_60")
OTHERS = ("none", "lungs_box_black", "lungs_only")
FAST = ("trainer.precision=bf16-mixed", "logger=none")
"""Half the time; ten seeds in single precision gave the same 39 and 40 of 40 (docs/results.md)."""
LUNGS = f"lungs={RUNS}/lungs"
SETS = "[paper,darkcovidnet,cohen]"
COHEN = 'sets={cohen: "data=cohen data.on_error=skip"}'  # copies of it often lack files

FIGURES = {
    "probe/paper/figures/lungs_removed.png": "lungs_removed",
    "lungs/figures/dice.png": "dice",
    "matrix/page/figures/matrix.png": "matrix",
    "matrix/page/figures/drop.png": "drop",
}
"""File below the runs: name."""


def main() -> None:
    """All of it, in an order in which each step finds what it needs."""
    train("lungs", "experiment=lungs")
    for name, seed in (*itertools.product(CENTRES, SEEDS), *((name, 0) for name in OTHERS)):
        # Jobs of experiment=shortcut_battery; the one whose weights are probed keeps them.
        keep = f"keep_weights={str(name == 'none').lower()}"
        train(
            f"battery/{name}-seed{seed}", "experiment=paper", f"data.alter={name}", f"seed={seed}", keep, LUNGS, *FAST
        )
    train("collections", "data=which_collection", "data.on_error=skip", "trainer.max_epochs=20", *FAST)
    for control in ("control_marker", "control_none", "control_permuted"):
        for seed in CONTROL_SEEDS:
            # One job of the sweep that the experiment is.
            train(f"{control}/seed{seed}", f"experiment={control}", f"seed={seed}", "hydra.mode=RUN")
        probe(control, f"ckpt_path={RUNS}/{control}/*", "saliency=hirescam", LUNGS)
    probe(
        "paper",
        f"ckpt_path={RUNS}/battery/none-seed0",
        f"retrained={RUNS}/battery/*",
        f"source_classifier={RUNS}/collections",
        "saliency=hirescam",
        LUNGS,
    )
    matrix()
    copy_figures()


def train(folder: str, *words: str) -> None:
    """Trains, unless the folder holds a finished run; goes on with one that was killed."""
    run = RUNS / folder
    metrics = run / "metrics.json"
    if metrics.is_file() and json.loads(metrics.read_text(encoding="utf-8")).get("status", "finished") == "finished":
        return
    if any((run / "checkpoints").glob("*.ckpt")):
        _python("train.py", f"ckpt_path={run}")
        return
    shutil.rmtree(run, ignore_errors=True)  # killed before its first epoch was over
    _python("train.py", *words, f"hydra.run.dir={run}")


def probe(name: str, *words: str) -> None:
    """Probes, unless it was done."""
    folder = RUNS / "probe" / name
    if not any((folder / done).is_file() for done in ("probe.json", "summary.json")):
        shutil.rmtree(folder, ignore_errors=True)
        _python("src/probe.py", *words, f"hydra.run.dir={folder}")


def matrix() -> None:
    """The matrix, which keeps its own trainings and scores."""
    shutil.rmtree(RUNS / "matrix/page", ignore_errors=True)
    recipe = "model=paper_cnn trainer.max_epochs=20 weights=best data.val=0.15 " + " ".join(FAST)
    _python(
        "src/matrix.py",
        f"train={SETS}",
        COHEN,
        f'recipe="{recipe}"',
        f"runs={RUNS}/matrix/rows",
        f"hydra.run.dir={RUNS}/matrix/page",
    )


def copy_figures() -> None:
    """Puts the figures that the text shows where it finds them."""
    for source, name in FIGURES.items():
        shutil.copyfile(RUNS / source, REPOSITORY / "docs/figures" / f"validity_{name}.png")


def _python(*words: str) -> None:
    print("$ python", *words, flush=True)
    subprocess.run([sys.executable, *words], cwd=REPOSITORY, check=True)


if __name__ == "__main__":
    main()
