"""Experiments: each a complete sweep in one word, and every job of it can be run."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
import torch
import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf
from tests import programs
from tests.training import ONE_STEP, ROOT, without_pages

from cxrlab.config import compose
from cxrlab.runs import RunFolder
from cxrlab.steps.assembly import assemble
from cxrlab.train import train

FOLDER = ROOT / "conf" / "experiment"
SINGLE = ("paper", "lungs", "gate")  # one run each
SWEEPS = sorted(path.stem for path in FOLDER.glob("*.yaml") if path.stem not in SINGLE)
CONTROLS = {"control_marker", "control_none", "control_permuted"}
"""On phantoms; their jobs are seeds."""
REPEATS = {"seeds", "shortcut_battery"}
"""With the paper's own protocol, in which the test images are the validation images."""
SMALL = [
    "data=synthetic",
    "data.source.n_train=40",
    "data.source.n_test=16",
    "data.source.size=64",
    "data.batch_size=8",
    "trainer=cpu",
    *ONE_STEP,
    "keep_weights=false",
]


def jobs(experiment: str) -> list[list[str]]:
    """What Hydra would add to the command line of each job of a sweep."""
    config = yaml.safe_load((FOLDER / f"{experiment}.yaml").read_text(encoding="utf-8"))
    if "hydra" not in config:
        return jobs(config["defaults"][0])  # those of the experiment that it begins with
    swept = [f"{key}={values}" for key, values in config["hydra"]["sweeper"]["params"].items()]
    parsed = OverridesParser.create().parse_overrides(swept)
    lists = [[f"{each.key_or_group}={value}" for value in each.sweep_string_iterator()] for each in parsed]
    return [list(job) for job in itertools.product(*lists)]


@pytest.mark.parametrize("experiment", SWEEPS)
def test_every_job_is_a_setting_of_its_own_and_can_be_built(experiment: str, tmp_path: Path) -> None:
    """At full size, on the images that it names: those of the paper need not be there to be asked for."""
    settings = dict.fromkeys(tuple(each for each in job if not each.startswith("seed=")) for job in jobs(experiment))
    configs = [compose("train", [f"experiment={experiment}", "trainer=cpu", *typed], tmp_path) for typed in settings]
    assert len(jobs(experiment)) >= 2
    assert len({OmegaConf.to_yaml(config, resolve=True) for config in configs}) == len(configs)
    networks = {OmegaConf.to_yaml(config.model, resolve=True): config for config in configs}
    for config in configs:
        assert config.trainer.max_epochs == 20
        assert config.data.batch_size == 32
        # A setting is chosen on images that are not the test images; repeating the paper chooses nothing.
        assert config.data.val == ("test" if experiment in REPEATS else 0.15)
    for config in networks.values():
        with torch.device("meta"):  # no memory for weights
            parts = assemble(config)
        assert parts.datamodule.source.name == ("synthetic" if experiment in CONTROLS else "paper")


PAPERS = {"model.dropout=[0.25,0.25,0.5]", "data.image_size=224", "model=paper_cnn", "augment=none"}


@pytest.mark.parametrize("experiment", [name for name in SWEEPS if name.startswith("ablation_")])
def test_every_ablation_holds_the_papers_setting(experiment: str) -> None:
    assert any({*job} & {*PAPERS, "trainer.precision=32-true"} for job in jobs(experiment))


RUN = {name: jobs(name)[-1] for name in SWEEPS if name.startswith("ablation_") or name in CONTROLS}
RUN |= {f"shortcut_battery {number}": job for number, job in enumerate(jobs("shortcut_battery")) if "seed=0" in job}
"""A job of each, and one for each alteration of the battery."""


QUICKLY = ("ablation_dropout", "control_marker", "shortcut_battery 0")


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in QUICKLY else pytest.mark.slow) for name in RUN]
)
def test_every_kind_of_job_runs(name: str, tmp_path: Path) -> None:
    experiment = name.partition(" ")[0]
    sizes = [] if experiment == "ablation_image_size" else ["data.image_size=32"]
    network = [] if experiment in ("ablation_capacity", "ablation_dropout") else ["model=paper_cnn_small"]
    overrides = [f"experiment={experiment}", *SMALL, *sizes, *network, *RUN[name]]
    with without_pages():
        metrics, _ = train(compose("train", overrides, tmp_path / "run"), overrides)
    assert metrics["status"] == "finished"
    assert (metrics["val"]["n"] == metrics["test"]["n"]) == (experiment in REPEATS)


@pytest.mark.slow
def test_one_word_is_a_sweep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without ``-m``, too, and varied further from the command line."""
    words = ["experiment=ablation_dropout", "seed=0,1", *SMALL, "data.image_size=32"]
    monkeypatch.chdir(tmp_path)
    with without_pages():
        status, printed, errors = programs.run("train", *words)
    assert status == 0, errors
    folders = sorted(path for path in tmp_path.glob("runs/ablation_dropout/*/*") if path.is_dir())
    found = {
        (tuple(config.model.dropout), config.seed) for config in (RunFolder(each).saved_config() for each in folders)
    }
    rates = [(0, 0, 0), (0.25, 0.25, 0), (0, 0, 0.5), (0.25, 0.25, 0.5)]
    assert found == set(itertools.product(rates, (0, 1)))
    assert folders[0].name.startswith("0_dropout-0-0-0_seed-0_")
    assert f"compare  python {ROOT}/src/compare.py runs=runs/ablation_dropout/{folders[0].parent.name}" in printed
