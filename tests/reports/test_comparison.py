"""Comparisons of fabricated run folders: what is one setting, what is refused, and every number against its files."""

from __future__ import annotations

import copy
import hashlib
import json
import re
import shutil
from dataclasses import asdict
from functools import reduce
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests

from cxrlab.errors import ConfigError, DataError
from cxrlab.evaluation import summarise
from cxrlab.evaluation.estimate import Resampling, mean, wilson
from cxrlab.evaluation.paired import auroc_difference
from cxrlab.reports.comparison import Comparison, best_by_validation, compare_settings
from cxrlab.reports.comparison_page import write_comparison
from cxrlab.reports.record import find_runs
from cxrlab.reports.settings import gather

N_TEST, N_VAL, N_TRAIN = 40, 8, 12
CONFIG: dict[str, Any] = yaml.safe_load("""
seed: 0
monitor: val/loss
monitor_mode: min
weights: best
keep_weights: true
ckpt_path: null
output_dir: /somewhere
data:
  {_target_: cxrlab.datamodules.ChestXRayDataModule, image_size: 64, val: 0.15, num_workers: 0, seed: 0,
   source: {_target_: cxrlab.datamodules.PaperSource, root: /somewhere}}
augment: {_target_: cxrlab.datamodules.Augmentation, transforms: []}
model: {_target_: cxrlab.models.PaperCNN, image_size: 64, in_channels: 3, dropout: [0.25, 0.25, 0.5]}
optimizer: {_target_: torch.optim.Adam, _partial_: true, lr: 0.001, eps: 1.0e-07}
scheduler: {}
loss: {_target_: cxrlab.models.BinaryCrossEntropy, class_weights: null}
callbacks:
  progress: {_target_: cxrlab.callbacks.Progress}
  checkpoints: {_target_: cxrlab.callbacks.Checkpoints, monitor: val/loss, mode: min}
logger: {tensorboard: {_target_: pytorch_lightning.loggers.TensorBoardLogger, save_dir: /somewhere}}
trainer: {_target_: pytorch_lightning.Trainer, max_epochs: 3}
""")
RESNET = {"_target_": "cxrlab.models.TorchvisionNet", "name": "resnet18", "pretrained": False}


def images(root: str = "films") -> pd.DataFrame:
    """A manifest whose test images are of patients with two images each, a tenth of the findings COVID-19."""
    splits = ["train"] * N_TRAIN + ["val"] * N_VAL + ["test"] * N_TEST
    i = np.array([*range(N_TRAIN), *range(N_VAL), *range(N_TEST)])
    names = [f"{split}-{number:02d}.png" for split, number in zip(splits, i, strict=True)]
    return pd.DataFrame(
        {
            "path": [f"/{root}/{name}" for name in names],
            "label": i % 2,
            "patient_id": [f"{split}{n % 2}-{n // 4:03d}" for split, n in zip(splits, i, strict=True)],
            "split": splits,
            "source": "paper",
            "finding": np.where(i % 2 == 0, "Normal", np.where(i < 8, "COVID-19", "SARS")),
            "view": "PA",
            "sha256": [hashlib.sha256(name.encode()).hexdigest() for name in names],
        }
    )


class Run:
    """A run folder in the making; ``write`` makes it.

    Keys are those of its configuration, with ``__`` for a dot, or attributes of the run itself.
    """

    def __init__(self, folder: Path, seed: int = 0, quality: float = 1.0, **keys: Any) -> None:
        self.folder, self.quality, self.manifest = folder, quality, images()
        self.rng = np.random.default_rng([seed, len(folder.name), int(1000 * quality)])
        self.status, self.evaluated = "finished", "best (epoch 2 of 3, by val/loss)"
        self.warnings, self.val_loss = ["the films are old"], [0.6, 0.4, 0.5]
        self.synthetic, self.overrides = False, ["experiment=mine"]
        self.baselines: dict[str, float] = {}  # by baseline: the share of the labels that it gets
        self.files = {"manifest.csv", "metrics.csv", "predictions.csv", "metrics.json", "environment.json"}
        for name in [name for name in keys if hasattr(self, name)]:
            setattr(self, name, keys.pop(name))
        self.config = copy.deepcopy(CONFIG)
        for key, value in {"seed": seed, "data.seed": seed, **keys}.items():
            *parents, last = key.replace("__", ".").split(".")
            reduce(lambda node, parent: node.setdefault(parent, {}), parents, self.config)[last] = value

    def write(self) -> Path:
        rows = self.manifest[self.manifest["split"] != "train"].copy()
        noise = self.rng.normal(0, 0.25, len(rows))
        rows["score"] = np.clip(0.5 + 0.3 * self.quality * (rows["label"] - 0.5) + noise, 0, 1)
        metrics: dict[str, Any] = {"status": self.status, "epochs": 3, "weights": self.evaluated}
        metrics |= {"synthetic": self.synthetic, "warnings": self.warnings}
        for split in ("val", "test"):
            part = rows[rows["split"] == split]
            if len(part):
                people = part["patient_id"].where(part["patient_id"] != "", part["path"])
                metrics[split] = summarise(part["label"], part["score"], people, resamples=100)
        memory = 100.0 + self.config["seed"]
        metrics |= {"epoch_seconds": [9.0, 7.0, 8.0], "wall_seconds": 25.0, "peak_memory_mb": memory}
        environment = {"parameters": 1234, "seed": self.config["seed"], "git_commit": "abc", "packages": {}}
        texts = {
            "manifest.csv": self.manifest.to_csv(index=False),
            "predictions.csv": rows.sample(frac=1, random_state=self.config["seed"]).to_csv(index=False),
            "metrics.csv": pd.DataFrame({"epoch": [1, 2, 3], "val/loss": self.val_loss}).to_csv(index=False),
            "metrics.json": json.dumps(metrics, default=asdict),
            "environment.json": json.dumps(environment),
        }
        self.folder.mkdir(parents=True)
        (self.folder / "config.yaml").write_text(yaml.safe_dump(self.config, sort_keys=False))
        (self.folder / "overrides.yaml").write_text(yaml.safe_dump(self.overrides))
        for name in self.files:
            (self.folder / name).write_text(texts[name])
        if self.baselines:
            test = self.manifest[self.manifest["split"] == "test"].copy()
            for name, share in self.baselines.items():
                right = np.arange(len(test)) < share * len(test)
                test[name] = np.where(right, test["label"], 1 - test["label"]).astype(float)
            test.to_csv(self.folder / "baselines.csv", index=False)
        return self.folder


def names_of(root: Path) -> list[str]:
    return [setting.name for setting in gather(str(root)).settings]


def written(root: Path, folder: Path, reference: str | None = None, resamples: int = 200) -> tuple[Comparison, str]:
    comparison = compare_settings(gather(str(root)), "test", reference, Resampling(resamples))
    return comparison, write_comparison(comparison, folder)["comparison.md"].read_text()


def predictions(folder: Path) -> pd.DataFrame:
    """The test predictions of a run folder as they stand in its file, by image, and whether they are ``right``."""
    rows = pd.read_csv(folder / "predictions.csv").query("split == 'test'")
    rows = rows.assign(right=(rows["score"] >= 0.5) == rows["label"])
    return rows.sort_values("path").reset_index(drop=True)


def n_right(folder: Path) -> int:
    return int(predictions(folder)["right"].sum())


def exact_p(a: Any, b: Any) -> float:
    """Of statsmodels' McNemar test of what two classifiers have right."""
    cells = pd.crosstab(a, b).reindex(index=[True, False], columns=[True, False], fill_value=0)
    return float(mcnemar(cells, exact=True).pvalue)


@pytest.fixture
def two_settings(tmp_path: Path) -> Path:
    """Two settings of three seeds each; the first has the better validation, the second the better test scores."""
    for number, (dropout, quality, losses) in enumerate(
        [([0, 0, 0.5], 1.0, [0.6, 0.1, 0.5]), ([0.25, 0.25, 0.5], 4.0, [0.6, 0.4, 0.5])]
    ):
        for seed in range(3):
            val_loss = [losses[0], losses[1] + seed / 100, losses[2]]
            Run(tmp_path / f"sweep/{number}_{seed}", seed, quality, model__dropout=dropout, val_loss=val_loss).write()
    return tmp_path / "sweep"


def test_runs_are_found_by_folder_pattern_and_list(tmp_path: Path) -> None:
    a, b, c = (Run(tmp_path / name, seed).write() for seed, name in enumerate(("x/sweep/0", "x/sweep/1", "y/2")))
    (a / "checkpoints").mkdir()
    assert find_runs([str(tmp_path / "x")]) == [a, b]
    assert find_runs([str(a)]) == [a]
    assert find_runs([f"{tmp_path}/x/**"]) == [a, b]
    assert find_runs([f"{tmp_path}/*"]) == [a, b, c]
    assert find_runs([f"{tmp_path}/x/sweep/[1]", str(tmp_path / "y"), str(b)]) == [b, c]
    assert find_runs([str(tmp_path / "x"), f"{tmp_path}/y/../x/sweep"]) == [a, b]
    assert find_runs([str(tmp_path / "nothing")]) == []
    jobs = [Run(tmp_path / f"jobs/{number}_x", number).write() for number in (0, 2, 10)]
    assert find_runs([str(tmp_path / "jobs")]) == jobs  # in the order in which they ran
    run = Run(tmp_path / "lr[1]").write()  # a folder, although it has the signs of a pattern
    assert find_runs([str(run)]) == [run]


def test_what_does_not_define_a_setting(tmp_path: Path) -> None:
    Run(tmp_path / "0").write()
    other = Run(tmp_path / "1", 1, output_dir="/else", keep_weights=False, logger=None, ckpt_path="/else")
    other.config["data"] |= {"num_workers": 4, "persistent_workers": True}
    other.config["data"]["source"]["root"] = "/else"
    other.config["callbacks"]["progress"] = None
    other.manifest["path"] = other.manifest["path"].str.replace("films", "copies")
    other.write()
    (setting,) = gather(str(tmp_path)).settings
    assert [repeat.seed for repeat in setting.repeats] == [0, 1]


def test_a_single_setting_is_called_by_its_experiment_or_model(tmp_path: Path) -> None:
    Run(tmp_path / "a/0").write()
    assert names_of(tmp_path / "a") == ["mine"]
    Run(tmp_path / "b/0", model=RESNET, overrides=["model=torchvision"]).write()
    assert names_of(tmp_path / "b") == ["resnet18"]


SGD = {"_target_": "torch.optim.SGD", "lr": 0.1}
AFFINE = {"_target_": "a.Affine", "p": 1.0}
STOPPING = {"_target_": "x.EarlyStopping", "patience": 3}
NAMED: dict[str, list[dict[str, Any]]] = {
    "dropout=[0,0,0.5] | dropout=[0.25,0.25,0.5]": [{"model.dropout": [0, 0, 0.5]}, {}],
    "image_size=32 | image_size=64": [{"data.image_size": 32, "model.image_size": 32}, {}],
    "model=resnet18 | model=PaperCNN": [{"model": RESNET}, {}],
    "model=resnet18 | model=PaperCNN dropout=[0,0,0] | model=PaperCNN dropout=[0.25,0.25,0.5]": [
        {"model": RESNET},
        {"model.dropout": [0, 0, 0]},
        {},
    ],
    "model=resnet18 | model=densenet121": [{"model": RESNET}, {"model": {**RESNET, "name": "densenet121"}}],
    "optimizer=SGD | optimizer=Adam lr=0.001 | optimizer=Adam lr=0.01": [
        {"optimizer": SGD},
        {},
        {"optimizer.lr": 0.01},
    ],
    "transforms=Affine+Noise | transforms=none": [{"augment.transforms": [AFFINE, {"_target_": "a.Noise"}]}, {}],
    "p=0.5 | p=1.0": [{"augment.transforms": [{"_target_": "a.Affine", "p": p}]} for p in (0.5, 1.0)],
    "monitor_mode=max | monitor_mode=min": [{"monitor_mode": "max", "callbacks.checkpoints.mode": "max"}, {}],
    "scheduler=StepLR | scheduler=none": [{"scheduler": {"_target_": "x.StepLR", "gamma": 0.1}}, {}],
    "early_stopping=EarlyStopping | early_stopping=none": [{"callbacks.early_stopping": STOPPING}, {}],
    "model._target_=mine.PaperCNN | model._target_=cxrlab.models.PaperCNN": [{"model._target_": "mine.PaperCNN"}, {}],
    "weights=last allow_leak=none | weights=best allow_leak=true": [{"weights": "last"}, {"data.allow_leak": True}],
}


@pytest.mark.parametrize("names", NAMED)
def test_a_setting_is_named_by_what_tells_it_apart(names: str, tmp_path: Path) -> None:
    for number, keys in enumerate(NAMED[names]):
        Run(tmp_path / str(number), **keys).write()
    assert " | ".join(names_of(tmp_path)) == names


def test_other_training_images_make_another_setting(tmp_path: Path) -> None:
    Run(tmp_path / "0").write()
    other = Run(tmp_path / "1", 1)
    other.manifest.loc[0, "sha256"] = "f" * 64
    other.write()
    assert re.fullmatch(r"images=[0-9a-f]{8} images=[0-9a-f]{8}", " ".join(names_of(tmp_path)))


def test_trainings_and_evaluations_are_told_apart(tmp_path: Path) -> None:
    Run(tmp_path / "a").write()
    run = Run(tmp_path / "b", ckpt_path="/runs/mine")
    del run.config["optimizer"]
    run.write()
    assert names_of(tmp_path) == ["mine", "evaluation of mine"]


def test_an_evaluations_setting_is_its_checkpoint(tmp_path: Path) -> None:
    for number, path in enumerate(["/runs/a/0", "/runs/b/0/checkpoints/model.ckpt", "/runs/b/0"]):
        run = Run(tmp_path / str(number), ckpt_path=path, seed=number, data__folds=4, data__fold=1)
        for key in ("optimizer", "scheduler", "loss", "callbacks", "logger", "trainer", "monitor", "monitor_mode"):
            del run.config[key]
        run.files.remove("metrics.csv")
        run.write()
    found = gather(str(tmp_path))
    assert [setting.name for setting in found.settings] == ["a/0", "b/0"]
    assert [folder.name for folder, _ in found.left_out] == ["1"]  # the same checkpoint, whatever the seed
    names, reason = best_by_validation(found.settings)
    assert names == []
    assert "not every run recorded a validation metric" in reason


def test_what_cannot_be_compared_is_left_out_with_the_reason(tmp_path: Path) -> None:
    Run(tmp_path / "a").write()
    Run(tmp_path / "b", 1, files={"manifest.csv"}).write()
    Run(tmp_path / "c", 2, status="interrupted").write()
    damaged = Run(tmp_path / "d", 3).write()
    (damaged / "metrics.json").write_text("{")
    unscored = Run(tmp_path / "e", 4)
    unscored.files.remove("predictions.csv")
    unscored.write()
    shortened = Run(tmp_path / "f", 5).write()
    pd.read_csv(shortened / "predictions.csv").iloc[:-20].to_csv(shortened / "predictions.csv", index=False)
    gathered = gather(str(tmp_path))
    reasons = {folder.name: reason for folder, reason in gathered.left_out}
    assert [run.folder.name for setting in gathered.settings for run in setting.runs] == ["a"]
    assert reasons["b"] == "no metrics.json: the run has not finished"
    assert reasons["c"] == "the run is interrupted, not finished"
    assert "metrics.json in the run folder" in reasons["d"]
    assert reasons["e"] == "it holds no predictions of test images"
    assert re.fullmatch(r"predictions.csv holds \d+ test images, metrics.json 40", reasons["f"])
    _, text = written(tmp_path, tmp_path / "out")
    assert "**WARNING:** 5 folders left out, see Repeat this" in text
    assert f"| {tmp_path / 'c'} | the run is interrupted, not finished |" in text


def test_a_seed_counts_once(tmp_path: Path) -> None:
    for name, seed in (("2026-01-01", 0), ("2026-01-02", 0), ("2026-01-03", 1)):
        Run(tmp_path / name, seed).write()
    gathered = gather(str(tmp_path))
    assert [run.folder.name for run in gathered.settings[0].runs] == ["2026-01-02", "2026-01-03"]
    assert gathered.left_out == [(tmp_path / "2026-01-01", f"same setting and seed as {tmp_path / '2026-01-02'}")]


def test_nothing_there_and_nothing_finished(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"runs=.*/nowhere/\*\*: no run folder .* type for example runs='runs/seeds/\*\*'"
    ):
        gather(f"{tmp_path}/nowhere/**")
    Run(tmp_path / "a", status="interrupted").write()
    with pytest.raises(
        DataError, match=r"none of 1 run folder\(s\) can be compared[^\n]*\n.*/a: the run is interrupted"
    ):
        gather(str(tmp_path))


def test_validation_images_can_be_compared_unless_they_are_the_test_images(tmp_path: Path) -> None:
    Run(tmp_path / "a").write()
    (setting,) = gather(str(tmp_path), "val").settings
    assert setting.labels.size == N_VAL
    Run(tmp_path / "b", 1, data__val="test").write()
    gathered = gather(str(tmp_path), "val")
    assert gathered.left_out == [
        (tmp_path / "b", "its validation images are its test images: split=test compares them")
    ]


@pytest.mark.parametrize(
    ("change", "own"), [({"sha256": "f" * 64}, "1 of its 40"), ({"label": 0}, "1 of its 40"), ({}, "0 of its 39")]
)
def test_other_test_images_are_refused(change: dict[str, Any], own: str, tmp_path: Path) -> None:
    Run(tmp_path / "a").write()
    other = Run(tmp_path / "b", 1)
    last = other.manifest.index[-1]
    for column, value in change.items():
        other.manifest.loc[last, column] = value
    if not change:
        other.manifest = other.manifest.drop(last)
    other.write()
    with pytest.raises(DataError) as caught:
        gather(str(tmp_path))
    message = str(caught.value)
    assert message.startswith(f"{tmp_path / 'b'}: its test images are not those of {tmp_path / 'a'}: {own} are not")
    assert "1 of those are not among its own (for example /films/test-39.png)" in message
    assert "compare either group separately" in message


def fold_run(root: Path, seed: int, fold: int, folds: int = 4) -> Run:
    """A run of a cross-validation: every image of the set is in the test split of one fold."""
    run = Run(root / f"{seed}_{fold}", seed, data__folds=folds, data__fold=fold)
    run.manifest["patient_id"] = [f"p{i}" for i in range(len(run.manifest))]
    part = np.arange(len(run.manifest)) // 2 % folds
    run.manifest["split"] = np.where(part == fold, "test", np.where(part == (fold + 1) % folds, "val", "train"))
    return run


def test_folds_are_pooled(tmp_path: Path) -> None:
    for seed in range(2):
        for fold in range(4):
            fold_run(tmp_path, seed, fold).write()
    comparison, text = written(tmp_path, tmp_path / "out")
    (setting,) = comparison.settings
    assert [len(repeat.runs) for repeat in setting.repeats] == [4, 4]
    n = N_TEST + N_VAL + N_TRAIN
    assert setting.labels.size == n
    right = [sum(n_right(tmp_path / f"{seed}_{fold}") for fold in range(4)) for seed in range(2)]
    assert comparison.table["accuracy_mean"].item() == pytest.approx(np.mean(right) / n)
    assert list(comparison.runs["fold"]) == [0, 1, 2, 3] * 2
    assert "the folds are pooled" in text
    assert "| 1_3 |" not in text
    assert f"| {tmp_path / '1_3'} | mine | 1 | 3 |" in text


def test_folds_that_are_missing_or_there_twice_are_named(tmp_path: Path) -> None:
    for fold in (0, 2):
        fold_run(tmp_path, 7, fold).write()
    with pytest.raises(DataError, match=r"mine, seed 7: of 4 folds .* missing: 1, 3; train what is missing"):
        gather(str(tmp_path))
    for fold in (1, 2, 3):
        fold_run(tmp_path / "b", 7, fold).write()
    with pytest.raises(DataError, match="more than once: 2"):
        gather(str(tmp_path))


def test_a_row_per_setting(two_settings: Path, tmp_path: Path) -> None:
    _, text = written(two_settings, tmp_path / "out")
    table = pd.read_csv(tmp_path / "out/comparison.csv")
    assert list(table["setting"]) == ["dropout=[0,0,0.5]", "dropout=[0.25,0.25,0.5]"]
    for number, row in table.iterrows():
        files = [predictions(two_settings / f"{number}_{seed}") for seed in range(3)]
        right = [int(rows["right"].sum()) for rows in files]
        accuracy = np.array(right) / N_TEST
        own = [json.loads((two_settings / f"{number}_{seed}/metrics.json").read_text()) for seed in range(3)]
        auroc = [metrics["test"]["auroc"]["value"] for metrics in own]
        middle, pooled = wilson(sorted(right)[1], N_TEST), wilson(sum(right), 3 * N_TEST)
        scores, ids = np.mean([rows["score"] for rows in files], axis=0), files[0]["patient_id"]
        together = summarise(files[0]["label"], scores, ids, resamples=200)
        seeds = mean(np.mean([rows["right"] for rows in files], axis=0), ids, Resampling(200), share=True)
        expected: dict[str, Any] = {
            "seeds": 3,
            "images": N_TEST,
            "patients": 20,
            "right_min": min(right),
            "right_max": max(right),
        }
        expected |= {"accuracy_mean": accuracy.mean(), "accuracy_sd": accuracy.std(ddof=1)}
        expected |= {"auroc_mean": np.mean(auroc), "auroc_sd": np.std(auroc, ddof=1)}
        expected |= {"accuracy_one_run_low": middle[0], "accuracy_one_run_high": middle[1]}
        expected |= {"accuracy_pooled_low": pooled[0], "accuracy_pooled_high": pooled[1]}
        expected |= {"parameters": 1234, "seconds_per_epoch": 8.0, "peak_memory_mb": 102.0}
        expected |= {f"ensemble_{metric}": together[metric].value for metric in ("accuracy", "auroc")}
        assert row[[*expected]].to_dict() == pytest.approx(expected)
        assert row["accuracy_mean"] == pytest.approx(seeds.value)
        # 3 digits, as the order of the images decides which patients a resample draws
        for name, found in (("ensemble_auroc", together["auroc"]), ("accuracy_mean", seeds)):
            limits = [row[f"{name}_low"], row[f"{name}_high"]]
            assert limits == pytest.approx([found.low, found.high], abs=0.03)
        shown = [
            f"{row[name]:.3f} [{row[f'{name}_low']:.3f}, {row[f'{name}_high']:.3f}]"
            for name in ("accuracy_mean", "auroc_mean")
        ]
        of_all = f"{min(right)} to {max(right)} of 40 | 3 |"
        assert f"| {row['setting']} | {' | '.join(shown)} | {of_all}" in text
        apart = [f"{row[f'{name}_mean']:.3f} ± {row[f'{name}_sd']:.3f}" for name in ("accuracy", "auroc")]
        assert f"| {' | '.join(apart)} | [{middle[0]:.3f}, {middle[1]:.3f}]" in text
    assert "too narrow, since all seeds share their images" in text


def test_a_single_seed_has_the_interval_of_its_own_report(tmp_path: Path) -> None:
    Run(tmp_path / "sweep/0", 0, 1.0).write()
    comparison, _ = written(tmp_path / "sweep", tmp_path / "out")
    (row,) = comparison.table.to_dict("records")
    (means,), (own,) = comparison.means.values(), comparison.ensembles.values()
    assert (row["accuracy_mean_low"], row["accuracy_mean_high"]) == wilson(row["right_min"], N_TEST)
    assert means["accuracy"].method == own["accuracy"].method


def test_a_row_per_run(two_settings: Path, tmp_path: Path) -> None:
    written(two_settings, tmp_path / "out")
    runs = pd.read_csv(tmp_path / "out/runs.csv")
    assert list(runs["seed"]) == [0, 1, 2] * 2
    for _, row in runs.iterrows():
        right = n_right(Path(row["folder"]))
        assert (row["right"], row["images"]) == (right, N_TEST)
        assert row["accuracy"] == pytest.approx(right / N_TEST)
    assert list(runs["validation"]) == pytest.approx([0.1, 0.11, 0.12, 0.4, 0.41, 0.42])


@pytest.fixture
def three_settings(tmp_path: Path) -> Path:
    for number, (dropout, quality) in enumerate([(0.0, 0.5), (0.25, 1.5), (0.5, 3.0)]):
        for seed in range(2):
            Run(tmp_path / f"sweep/{number}_{seed}", seed, quality, model__dropout=[0, 0, dropout]).write()
    return tmp_path / "sweep"


def test_pairs_against_statsmodels_on_the_same_files(three_settings: Path, tmp_path: Path) -> None:
    _, text = written(three_settings, tmp_path / "out", resamples=4000)
    pairs = pd.read_csv(tmp_path / "out/pairs.csv")
    files = [[predictions(three_settings / f"{number}_{seed}") for seed in range(2)] for number in range(3)]
    rows, scores = files[0][0], [np.mean([rows["score"] for rows in tables], axis=0) for tables in files]
    label = rows["label"].to_numpy()
    right = [(each >= 0.5) == label for each in scores]
    ids, tested = rows["patient_id"], ((0, 1), (0, 2), (1, 2))
    expected = [exact_p(right[a], right[b]) for a, b in tested]
    aurocs = [auroc_difference(label, scores[a], scores[b], ids, Resampling(4000)) for a, b in tested]
    assert list(pairs["only_a_right"]) == [(right[a] & ~right[b]).sum() for a, b in tested]
    assert list(pairs["only_b_right"]) == [(right[b] & ~right[a]).sum() for a, b in tested]
    assert list(pairs["accuracy_p"]) == pytest.approx(expected)
    assert list(pairs["accuracy_p_holm"]) == pytest.approx(list(multipletests(expected, method="holm")[1]))
    assert min(expected) < 0.05  # or this test would say little
    assert list(pairs["auroc_difference"]) == pytest.approx([found.value for found in aurocs])
    assert list(pairs["auroc_p"]) == pytest.approx([found.p for found in aurocs], abs=0.01)
    adjusted = multipletests(pairs["auroc_p"], method="holm")[1]
    assert list(pairs["auroc_p_holm"]) == pytest.approx(list(adjusted))
    assert list(zip(pairs["a"], pairs["b"], strict=True))[1] == ("dropout=[0,0,0.0]", "dropout=[0,0,0.5]")
    assert pairs["auroc_method"].str.contains("not DeLong: 40 images of 20 patients").all()
    apart = (pairs[["accuracy_p_holm", "auroc_p_holm"]].min(axis=1) < 0.05).sum()
    assert 0 < apart < 3
    assert f"{apart} of 3 pairs of settings differ by more than chance" in text.partition("![")[0]


def test_delong_where_every_image_is_of_another_patient(tmp_path: Path) -> None:
    for number, quality in enumerate((1.0, 3.0)):
        run = Run(tmp_path / f"sweep/{number}", 0, quality, weights=["best", "last"][number])
        run.manifest["patient_id"] = ""
        run.write()
    _, text = written(tmp_path / "sweep", tmp_path / "out")
    assert "Intervals: AUROC: DeLong 95 % (20 positive, 20 negative images); every image is of another patient." in text
    assert "40 images of 40 patients" in text


def test_a_reference_halves_the_tests_and_an_unknown_one_is_told_what_to_type(
    three_settings: Path, tmp_path: Path
) -> None:
    comparison, text = written(three_settings, tmp_path / "out", reference="dropout=[0,0,0.25]")
    assert list(comparison.pairs["a"]) == ["dropout=[0,0,0.0]", "dropout=[0,0,0.5]"]
    assert set(comparison.pairs["b"]) == {"dropout=[0,0,0.25]"}
    plain = list(comparison.pairs["accuracy_p"])
    assert list(comparison.pairs["accuracy_p_holm"]) == pytest.approx(list(multipletests(plain, method="holm")[1]))
    assert "## Paired differences from dropout=[0,0,0.25]" in text
    assert "adjusted for 2 pairs" in text
    with pytest.raises(ConfigError) as caught:
        compare_settings(gather(str(three_settings)), reference="dropout=[0,0,0.3]")
    assert "no such setting; did you mean 'dropout=[0,0,0." in str(caught.value)
    assert """'reference="dropout=[0,0,0.25]"'""" in str(caught.value)


def test_the_best_is_chosen_by_validation_and_the_first_sentence_says_how_sure_it_is(
    two_settings: Path, tmp_path: Path
) -> None:
    comparison, text = written(two_settings, tmp_path / "out")
    table, (pair,) = comparison.table, comparison.pairs.to_dict("records")
    assert table["accuracy_mean"][1] > table["accuracy_mean"][0]
    assert "Best on the validation images: **dropout=[0,0,0.5]**, val/loss 0.110 ± 0.010 (smaller is better" in text
    assert min(pair["accuracy_p_holm"], pair["auroc_p_holm"]) < 0.05
    assert "it differs by more than chance from 1 of 1 other setting (smallest p" in text.partition("![")[0]
    for seed in range(3):  # the same network again, said to be another one
        shutil.rmtree(two_settings / f"1_{seed}")
        shutil.copytree(two_settings / f"0_{seed}", two_settings / f"1_{seed}")
        config = two_settings / f"1_{seed}/config.yaml"
        config.write_text(config.read_text().replace("lr: 0.001", "lr: 0.01"))
    assert "no setting can be told from another (smallest p" in written(two_settings, tmp_path / "same")[1]


def test_a_monitor_that_metrics_json_holds_is_read_there(tmp_path: Path) -> None:
    best = {}
    for number, quality in enumerate((0.5, 6.0)):
        keys: dict[str, Any] = {"monitor": "val/auroc", "monitor_mode": "max"}
        folder = Run(tmp_path / str(number), 0, quality, model__dropout=[0, 0, quality], **keys).write()
        best[folder.name] = json.loads((folder / "metrics.json").read_text())["val"]["auroc"]["value"]
    assert best["1"] > best["0"]
    assert best_by_validation(gather(str(tmp_path)).settings) == (["dropout=[0,0,6.0]"], "")


def test_a_loss_of_zero_is_the_best(tmp_path: Path) -> None:
    for number, loss in enumerate((0.0, 0.1)):
        Run(tmp_path / str(number), model__dropout=[0, 0, loss], val_loss=[0.6, loss, 0.5]).write()
    assert best_by_validation(gather(str(tmp_path)).settings) == (["dropout=[0,0,0.0]"], "")


@pytest.mark.parametrize(("weights", "loss"), [("best (epoch 2 of 3, by val/loss)", 0.4), ("last (epoch 3)", 0.5)])
def test_the_loss_is_that_of_the_evaluated_epoch(weights: str, loss: float, tmp_path: Path) -> None:
    Run(tmp_path / "sweep/a", evaluated=weights).write()
    comparison, _ = written(tmp_path / "sweep", tmp_path / "out")
    assert comparison.table["validation_mean"].item() == loss


@pytest.mark.parametrize(
    ("keys", "reason"),
    [
        ({"data.val": "test"}, "in 1 of 2 runs validation was the test set (data.val=test)"),
        ({"monitor": "val/ap", "monitor_mode": "max"}, "different metrics: val/ap (max), val/loss (min)"),
        ({"loss.class_weights": "balanced"}, "the settings minimise different losses"),
    ],
)
def test_no_setting_is_named_where_validation_does_not_allow_it(
    keys: dict[str, Any], reason: str, tmp_path: Path
) -> None:
    Run(tmp_path / "sweep/a").write()
    Run(tmp_path / "sweep/b", **keys).write()
    _, text = written(tmp_path / "sweep", tmp_path / "out")
    assert f"No setting can be named the best: {reason}" in text.replace("the runs were monitored by ", "")


def test_no_setting_is_named_on_different_validation_images_or_without_a_value(tmp_path: Path) -> None:
    for number in range(2):
        run = Run(tmp_path / f"a/{number}", data__val=[0.15, 0.3][number])
        run.manifest.loc[number, "split"] = "val"
        run.write()
    assert "validated on different images" in best_by_validation(gather(str(tmp_path / "a")).settings)[1]
    for number in range(2):
        Run(tmp_path / f"b/{number}", monitor="train/loss", weights=["best", "last"][number]).write()
    assert "(monitor: train/loss)" in best_by_validation(gather(str(tmp_path / "b")).settings)[1]


@pytest.fixture
def seeds(tmp_path: Path) -> Path:
    baselines = {"majority": 0.5, "left_strip": 0.95, "thumbnail_8x8": 0.9}
    for seed in range(4):
        Run(tmp_path / f"sweep/{seed}", seed, 3.0, baselines=baselines).write()
    return tmp_path / "sweep"


def test_how_many_are_right_is_distributed(seeds: Path, tmp_path: Path) -> None:
    _, text = written(seeds, tmp_path / "out")
    right = [n_right(seeds / str(seed)) for seed in range(4)]
    counts = pd.Series(right).value_counts().sort_index()
    shown = ", ".join(f"{value}: {times} run{'s' * (times > 1)}" for value, times in counts.items())
    low, high = wilson(sum(right), 4 * N_TEST)
    assert f"| mine | {shown} | 0." in text
    assert f"| [{low:.3f}, {high:.3f}] |" in text
    assert "the best" not in text
    assert "## Paired differences" not in text


def test_true_findings(seeds: Path, tmp_path: Path) -> None:
    _, text = written(seeds, tmp_path / "out")
    section = text.partition("against the true findings")[2].partition("## ")[0]
    tables = [predictions(seeds / str(seed)) for seed in range(4)]
    right = [int(((rows["score"] >= 0.5) == (rows["finding"] == "COVID-19")).sum()) for rows in tables]
    accuracy = np.array(right) / N_TEST
    apart = f"{accuracy.mean():.3f} ± {accuracy.std(ddof=1):.3f}"
    low, high = wilson(sorted(right)[1], N_TEST)
    assert "4 of the 20 labelled Positive show COVID-19" in section
    assert f"| mine | {min(right)} to {max(right)} of 40 | {apart} | [{low:.3f}, {high:.3f}] |" in section
    assert "Always answering Negative would get 36 of 40 right" in section


def test_other_images_than_the_papers_have_no_true_findings_and_drawn_ones_are_marked(tmp_path: Path) -> None:
    run = Run(tmp_path / "sweep/a", synthetic=True)
    run.manifest["source"] = "folder"
    run.write()
    comparison, text = written(tmp_path / "sweep", tmp_path / "out")
    assert "true findings" not in text
    assert text.startswith("# SYNTHETIC: Comparison of 1 setting (1 run)")
    assert "| mine (SYNTHETIC) | 0." in text
    assert comparison.table["synthetic"].item()


def test_baselines_against_statsmodels(seeds: Path, tmp_path: Path) -> None:
    _, text = written(seeds, tmp_path / "out")
    found = []
    for seed in range(4):
        rows = predictions(seeds / str(seed))
        strip = pd.read_csv(seeds / str(seed) / "baselines.csv").set_index("path").loc[rows["path"], "left_strip"]
        found.append(exact_p(rows["right"], (strip.to_numpy() >= 0.5) == rows["label"]))
    line = next(line for line in text.splitlines() if line.startswith("| mine | left strip | 38 of 40 |"))
    shown = sorted({f"{p:.3f}" for p in (min(found), max(found))})
    assert f"| {' to '.join(shown)} | {sum(p < 0.05 for p in found)} of 4 |" in line
    assert "| mine | majority | 20 of 40 |" in text
    assert "not recorded" not in text.partition("## Trivial baselines")[2].partition("## The same")[0]
    (seeds / "2/baselines.csv").unlink()
    assert "not recorded: mine: 1 of 4." in written(seeds, tmp_path / "less")[1]


def test_warnings_are_counted_and_told_of_above_the_first_figure(tmp_path: Path) -> None:
    for seed in range(3):
        said = ["the films are old", *(["one was skipped"] if seed else [])]
        Run(tmp_path / f"sweep/{seed}", seed, warnings=said).write()
    _, text = written(tmp_path / "sweep", tmp_path / "out")
    section = text.partition("## Cautions")[2].partition("## ")[0]
    assert "- **WARNING:** the films are old (all runs)" in section
    assert "- **WARNING:** one was skipped (2 of 3 runs)" in section
    top = text.partition("![")[0]
    assert "Research software, not a medical device. 2 warnings below: [Cautions](#cautions)." in top
    assert "SYNTHETIC" not in text


def test_runs_of_two_versions_of_the_code_are_told(two_settings: Path, tmp_path: Path) -> None:
    file = two_settings / "0_0/environment.json"
    file.write_text(file.read_text().replace('"abc"', '"def"'))
    assert "2 versions of the code (git commits abc, def)" in written(two_settings, tmp_path / "out")[1]


def test_what_is_written(two_settings: Path, tmp_path: Path) -> None:
    comparison = compare_settings(gather(str(two_settings)), how=Resampling(100))
    paths = write_comparison(comparison, tmp_path / "out", "python src/compare.py runs=x")
    tables = {"comparison.csv", "pairs.csv", "runs.csv"}
    figures = {f"figures/{name}.png" for name in ("accuracy", "auroc", "differences")}
    assert set(paths) == tables | figures | {"comparison.md", "comparison.html"}
    assert all(path.is_file() for path in paths.values())
    text, page = paths["comparison.md"].read_text(), paths["comparison.html"].read_text()
    assert "![Accuracy of each setting](figures/accuracy.png)\n![AUROC of each setting](figures/auroc.png)" in text
    assert text.rstrip().endswith("```")  # how to repeat it comes last
    assert "data:image/png;base64," in page
    assert "python src/compare.py runs=x" in text
    assert text.count("NOT CHECKED") >= 5
    again = write_comparison(comparison, tmp_path / "out", "python src/compare.py runs=x")
    assert again["comparison.md"].read_text() == text


def test_one_class_has_no_auroc(tmp_path: Path) -> None:
    for number in range(2):
        run = Run(tmp_path / f"sweep/{number}", weights=["best", "last"][number])
        run.manifest.loc[run.manifest["split"] == "test", "label"] = 1
        run.write()
    comparison, text = written(tmp_path / "sweep", tmp_path / "out")
    assert comparison.table["auroc_mean"].isna().all()
    assert comparison.pairs["auroc_p_holm"].isna().all()
    assert "undefined: no negative images" in text
    assert "nan" not in text.lower()


def test_thresholds_of_a_setting_must_agree(tmp_path: Path) -> None:
    Run(tmp_path / "a").write()
    other = Run(tmp_path / "b", 1).write()
    file = other / "metrics.json"
    file.write_text(file.read_text().replace('"threshold": 0.5', '"threshold": 0.4'))
    with pytest.raises(DataError, match=r"different scores on \(\[0.4, 0.5\]\)"):
        gather(str(tmp_path))
