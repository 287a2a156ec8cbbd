"""Every mistake at once, each with the key to type: config/preflight.py."""

from __future__ import annotations

import subprocess
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf

from cxrlab.config.preflight import Problems, check_names
from cxrlab.errors import ConfigError, DataError, check_choice, check_range

TOP_LEVEL = ("seed", "data", "model", "module", "trainer", "callbacks", "paths", "optimizer")


class PaperCNN:
    """A network's constructor as the house writes them."""

    def __init__(self, image_size: int, dropout: list[float] | None = None, loss: str = "bce") -> None:
        check_range("image_size", image_size, 1, integer=True)
        for position, value in enumerate([0.25] if dropout is None else dropout):
            check_range(f"dropout[{position}]", value, 0, 1, high_open=True)
        check_choice("loss", loss, ["bce", "focal"])


class Module:
    """Takes a network that code gives."""

    def __init__(self, network: Any, optimizer: Any = None) -> None:
        self.network = network


def compare(size: int) -> bool:
    """Fails as Python does when it gets a string."""
    return size < 3


def open_to_all(**kwargs: Any) -> dict[str, Any]:
    """Takes anything."""
    return kwargs


def fails_with(kind: str) -> None:
    """Fails in a chosen way."""

    class MisconfigurationException(Exception):  # the name of Lightning's
        pass

    kinds: dict[str, Exception] = {
        "data": DataError("no folder 'x'"),
        "lightning": MisconfigurationException("`kind` is not for this machine"),
        "import": ImportError("No module named 'rich'"),
        "bug": KeyError("bug"),
        "long": ValueError("word " * 1000),
        "empty": ValueError(),
    }
    raise kinds[kind]


@pytest.fixture(autouse=True)
def toys(monkeypatch: pytest.MonkeyPatch) -> None:
    module = types.ModuleType("toys")
    for toy in (PaperCNN, Module, compare, open_to_all, fails_with):
        setattr(module, toy.__name__, toy)
    monkeypatch.setitem(sys.modules, "toys", module)


def names(node: dict[str, Any], **keywords: Any) -> list[str]:
    """The lines that the name check writes."""
    problems = Problems()
    check_names(OmegaConf.create(node), TOP_LEVEL, problems, **keywords)
    return sorted(problems.lines)


def built(node: dict[str, Any], key: str, **kwargs: Any) -> list[str]:
    """The lines that building a node writes."""
    problems = Problems()
    problems.build(OmegaConf.create(node), key, **kwargs)
    return problems.lines


CNN = {"_target_": "toys.PaperCNN", "image_size": 224}


# ---------------------------------------------------------------------------------------------------------------- names


def test_a_right_configuration_has_no_problem() -> None:
    node = {
        "seed": 1,
        "hydra": {"anything": "???"},
        "data": {"image_size": 224},
        "model": {**CNN, "image_size": "${data.image_size}"},
        "optimizer": {"_target_": "torch.optim.AdamW", "_partial_": True, "lr": 1e-3},
        "callbacks": {"off": None, "open": {"_target_": "toys.open_to_all", "x": 1, "_convert_": "all"}},
        "paths": None,
        "trainer": {"_target_": "pytorch_lightning.Trainer", "max_epochs": 1},
    }
    assert names(node) == []
    Problems().raise_if_any()


@pytest.mark.parametrize(
    ("node", "line"),
    [
        ({"sed": 3}, "sed: unknown key; did you mean 'seed'?"),
        ({"zzzz": 3}, "zzzz: unknown key"),
        ({"model": {**CNN, "dropot": 1}}, "model.dropot: PaperCNN has no such argument; did you mean 'dropout'?"),
        (
            {"model": {**CNN, "zz": 1}},
            "model.zz: PaperCNN has no such argument; known are dropout, image_size, loss",
        ),
        (
            {"model": {**CNN, "_parital_": True}},
            "model._parital_: PaperCNN has no such argument; did you mean '_partial_'?",
        ),
        ({"model": {"_target_": "toys.PaperCNN"}}, "model.image_size: missing; PaperCNN needs this argument"),
        (
            {"model": {"_target_": "toys.PaperCNN", "imag_size": 3}},
            "model.imag_size: PaperCNN has no such argument; did you mean 'image_size'?",
        ),
        (
            {"model": {**CNN, "image_size": "???"}},
            "model.image_size: must be set; add model.image_size=... to the command",
        ),
        ({"model": {"_taget_": "toys.PaperCNN"}}, "model._taget_: unknown key; did you mean '_target_'?"),
        (
            {"model": {"_target_": "toys.PaperCN"}},
            "model._target_: 'toys.PaperCN' does not exist: toys has no 'PaperCN'; did you mean 'PaperCNN'?",
        ),
        (
            {"model": {"_target_": "cxrlab.confg.build"}},
            "model._target_: 'cxrlab.confg.build' does not exist: cxrlab has no 'confg'; did you mean 'config'?",
        ),
        (
            {"model": {"_target_": "nopackage.X"}},
            "model._target_: 'nopackage.X' does not exist: no package 'nopackage' is installed",
        ),
        (
            {"model": {"_target_": "PaperCNN"}},
            "model._target_: 'PaperCNN' does not exist: no package 'PaperCNN' is installed",
        ),
        (
            {"model": {"_target_": "cxrlab.config"}},
            "model._target_: 'cxrlab.config' is a module; it must name a class or function",
        ),
        ({"model": {"_target_": 3}}, "model._target_: must be the dotted name of a class or function, got 3"),
        (
            {"data": {"image_size": 3}, "model": {**CNN, "image_size": "${data.imge_size}"}},
            "model.image_size: refers to ${data.imge_size}, which does not exist; did you mean 'data.image_size'?",
        ),
        (
            {"paths": {"out": "${oc.env:CXRLAB_NOT_SET}"}},
            "paths.out: Environment variable 'CXRLAB_NOT_SET' not found",
        ),
        ({"paths": {"out": "${oc.evn:HOME}"}}, "paths.out: Unsupported interpolation type oc.evn"),
        (
            {"optimizer": {"_target_": "torch.optim.AdamW", "_partial_": True, "lrr": 1}},
            "optimizer.lrr: AdamW has no such argument; did you mean 'lr'?",
        ),
        (
            {"trainer": {"_target_": "pytorch_lightning.Trainer", "max_epoch": 3}},
            "trainer.max_epoch: Trainer has no such argument; did you mean 'max_epochs'?",
        ),
        (
            {"callbacks": {"best": {"_target_": "pytorch_lightning.callbacks.ModelCheckpoint", "moniter": "val/loss"}}},
            "callbacks.best.moniter: ModelCheckpoint has no such argument; did you mean 'monitor'?",
        ),
        (
            {"data": {"transforms": [{"_target_": "albumentations.Rotate", "limt": 5}]}},
            "data.transforms.0.limt: Rotate has no such argument; did you mean 'limit'?",
        ),
    ],
)
def test_one_mistake_is_one_line(node: dict[str, Any], line: str) -> None:
    assert names(node) == [line]


def test_a_module_that_does_not_import_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "needs_more.py").write_text("import not_installed_here\n")
    monkeypatch.syspath_prepend(tmp_path)
    line = "model._target_: 'needs_more.Net' cannot be imported: No module named 'not_installed_here'"
    assert names({"model": {"_target_": "needs_more.Net"}}) == [line]


def test_what_code_gives_is_not_missing() -> None:
    node = {"module": {"_target_": "toys.Module", "network": "???"}}
    assert names(node, supplied={"module": {"network"}}) == []
    assert names({"module": {"_target_": "toys.Module"}}, supplied={"module": {"network"}}) == []


def test_what_the_receiver_completes_is_not_missing() -> None:
    inner = {"_target_": "toys.PaperCNN"}
    assert names({"module": {"_target_": "toys.open_to_all", "_recursive_": False, "network": inner}}) == []
    assert names({"module": {**inner, "_partial_": True, "image_size": "???"}}) == []
    assert names({"module": {**inner, "_args_": [224]}}) == []


def test_a_value_that_waits_for_another_is_told_once_and_not_built() -> None:
    node = {"data": {"size": "???"}, "model": {**CNN, "image_size": "${data.size}"}}
    problems = Problems()
    cfg = OmegaConf.create(node)
    check_names(cfg, TOP_LEVEL, problems)
    assert problems.build(cfg, "model") is None
    assert problems.lines == ["data.size: must be set; add data.size=... to the command"]


def test_sections_without_a_target_can_have_a_schema() -> None:
    node = {"paths": {"outptu_dir": "x", "zz": 1}}
    assert names(node, sections={"paths": {"output_dir", "data_dir"}, "data": {"x"}}) == [
        "paths.outptu_dir: unknown key; did you mean 'output_dir'?",
        "paths.zz: unknown key; known are data_dir, output_dir",
    ]


# ------------------------------------------------------------------------------------------------------------- building


@pytest.mark.parametrize(
    ("node", "line"),
    [
        ({"dropout": [1.5]}, "model.dropout[0] must be a number in [0, 1), got 1.5"),
        ({"loss": "bec"}, "model.loss must be one of bce, focal, got 'bec'; did you mean 'bce'?"),
        ({"image_size": "big"}, "model.image_size must be a whole number in [1, inf), got 'big'"),
        ({"_target_": "toys.compare"}, "model: compare cannot be built with these values: "),
        ({"_target_": "toys.fails_with", "kind": "data"}, "model: no folder 'x'"),
        ({"_target_": "toys.fails_with", "kind": "lightning"}, "model.kind is not for this machine"),
        ({"_target_": "toys.fails_with", "kind": "import"}, "model: No module named 'rich'"),
        ({"_target_": "toys.fails_with", "kind": "empty"}, "model: ValueError"),
        ({"_target_": "torch.nn.Dropout", "p": 2}, "model.p: dropout probability has to be between 0 and 1, but got 2"),
    ],
)
def test_a_refusal_becomes_a_line_with_the_key(node: dict[str, Any], line: str) -> None:
    base = CNN if "_target_" not in node else {}
    (found,) = built({"model": {**base, **node}}, "model")
    assert found.startswith(line)
    assert "\n" not in found


def test_a_type_error_of_python_is_short() -> None:
    (line,) = built({"model": {"_target_": "toys.compare", "size": "big"}}, "model")
    python_says = "'<' not supported between instances of 'str' and 'int'"
    assert line == f"model: compare cannot be built with these values: {python_says}; given as text: size='big'"


def test_a_long_message_is_cut() -> None:
    (line,) = built({"model": {"_target_": "toys.fails_with", "kind": "long"}}, "model")
    assert 300 < len(line) < 500
    assert line.endswith(" ...")


def test_a_refusal_deep_inside_names_its_own_key() -> None:
    node = {"data": {"_target_": "toys.open_to_all", "parts": [{**CNN, "loss": "bec"}]}}
    (line,) = built(node, "data")
    assert line.startswith("data.parts.0.loss must be one of bce, focal")


def test_a_refusal_of_albumentations_is_one_sentence() -> None:
    node = {"data": {"transforms": [{"_target_": "albumentations.HorizontalFlip", "p": 7}]}}
    (line,) = built(node, "data")
    assert line == "data.transforms.0.p: Input should be less than or equal to 1, got 7"


def test_a_refusal_of_lightning_names_the_trainer() -> None:
    (line,) = built({"trainer": {"_target_": "pytorch_lightning.Trainer", "accelerator": "gppu"}}, "trainer")
    assert line.startswith("trainer")
    assert "gppu" in line


def test_the_same_words_with_arguments_from_code() -> None:
    assert built({"model": {**CNN, "loss": "bec"}}, "model", dropout=[0.5]) == [
        "model.loss must be one of bce, focal, got 'bec'; did you mean 'bce'?"
    ]


def test_a_bug_is_no_problem_of_the_user() -> None:
    with pytest.raises(Exception, match="bug"):
        built({"model": {"_target_": "toys.fails_with", "kind": "bug"}}, "model")


def test_build_returns_what_it_built_and_none_for_null() -> None:
    problems = Problems()
    cfg = OmegaConf.create({"model": CNN, "paths": None, "deep": {"model": CNN}})
    assert isinstance(problems.build(cfg, "model"), PaperCNN)
    assert isinstance(problems.build(cfg, "deep.model"), PaperCNN)
    assert problems.build(cfg, "paths") is None
    assert problems.lines == []


@pytest.mark.parametrize("node", [{}, {"other": 1}])
def test_a_node_that_is_not_there_is_a_problem(node: dict[str, Any]) -> None:
    assert built(node, "model") == ["model: missing; a run needs it"]


def test_an_interpolation_that_fails_in_the_build_is_a_line() -> None:
    assert built({"model": {**CNN, "image_size": "${modl.x}"}}, "model") == [
        "model: refers to ${modl.x}, which does not exist; did you mean 'model'?"
    ]


def test_a_node_with_a_problem_is_not_built() -> None:
    problems = Problems()
    problems.add("model.dropot", "wrong")
    cfg = OmegaConf.create({"model": {**CNN, "loss": "bec"}, "modelling": CNN})
    assert problems.build(cfg, "model") is None
    assert isinstance(problems.build(cfg, "modelling"), PaperCNN)
    assert problems.lines == ["model.dropot: wrong"]


def test_a_misspelt_argument_does_not_hide_the_others_mistakes() -> None:
    cfg = OmegaConf.create({"model": {**CNN, "dropot": 0.1, "dropout": [1.5]}})
    problems = Problems()
    check_names(cfg, ["model"], problems)
    assert problems.build(cfg, "model") is None
    assert problems.lines == [
        "model.dropot: PaperCNN has no such argument; did you mean 'dropout'?",
        "model.dropout[0] must be a number in [0, 1), got 1.5",
    ]
    assert "dropot" in cfg.model


def test_what_hangs_on_a_part_that_failed_is_left_alone() -> None:
    cfg = OmegaConf.create({"model": {**CNN, "loss": "bec"}, "module": {"_target_": "toys.compare"}})
    problems = Problems()
    assert problems.build(cfg, "module", size=problems.build(cfg, "model")) is None
    assert len(problems.lines) == 1


def test_a_null_part_is_not_taken_for_a_failed_one() -> None:
    problems = Problems()
    problems.add("sed", "unknown key")
    cfg = OmegaConf.create({"optimizer": None, "module": {"_target_": "toys.Module"}})
    assert isinstance(problems.build(cfg, "module", network=1, optimizer=problems.build(cfg, "optimizer")), Module)


def test_guard_does_not_say_a_key_twice() -> None:
    problems = Problems()
    with problems.guard("seed"):
        check_range("seed", -1, 0)
    with problems.guard("data.folds"):
        check_range("folds", 1, 2)
    assert problems.lines == [
        "seed must be a number in [0, inf), got -1",
        "data.folds must be a number in [2, inf), got 1",
    ]


def test_guard_tries_what_no_constructor_tries() -> None:
    cfg = OmegaConf.create({"optimizer": {"_target_": "torch.optim.AdamW", "_partial_": True, "lr": -1}})
    problems = Problems()
    optimizer = problems.build(cfg, "optimizer")
    assert callable(optimizer)
    with problems.guard("optimizer", cfg):
        optimizer([torch.nn.Parameter(torch.zeros(1))])
    assert problems.lines == ["optimizer.lr: Invalid learning rate: -1"]


def test_all_problems_come_sorted_in_one_error() -> None:
    problems = Problems()
    problems.add("seed", "b")
    problems.add("model", "a")
    problems.add("model", "a")
    with pytest.raises(ConfigError) as caught:
        problems.raise_if_any()
    assert str(caught.value) == "2 problems in the configuration:\n  model: a\n  seed: b"


def test_one_problem_is_singular_and_keeps_its_cause() -> None:
    problems = Problems()
    problems.build(OmegaConf.create({"model": {**CNN, "loss": "x"}}), "model")
    with pytest.raises(ConfigError, match=r"^1 problem in the configuration:\n") as caught:
        problems.raise_if_any()
    assert isinstance(caught.value.__cause__, ValueError)


# ---------------------------------------------------------------------------------------- with Hydra's own composition


@pytest.fixture
def composed(tmp_path: Path) -> Callable[..., DictConfig]:
    """Composes a small run from files, as an entry point does."""
    files = {
        "train.yaml": "defaults:\n  - model: paper_cnn\n  - data: toy\n  - _self_\n  - experiment: null\nseed: 0\n",
        "model/paper_cnn.yaml": "_target_: toys.PaperCNN\nimage_size: ${data.image_size}\ndropout: [0.25, 0.5]\n",
        "data/toy.yaml": "image_size: 224\ntransforms:\n  - {_target_: albumentations.HorizontalFlip, p: 0.5}\n",
        "experiment/typo.yaml": "# @package _global_\nsed: 3\nmodel: {dropot: 0.1}\n",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)

    def run(*overrides: str) -> DictConfig:
        with initialize_config_dir(str(tmp_path), version_base="1.3"):
            return compose("train", overrides=list(overrides))

    return run


def test_typos_in_an_experiment_file_are_told_together(composed: Callable[..., DictConfig]) -> None:
    cfg = composed("experiment=typo", "model.dropout=[1.5]", "+data.transforms.0.pp=1")
    problems = Problems()
    check_names(cfg, TOP_LEVEL, problems)
    problems.build(cfg, "model")
    problems.build(cfg, "data")
    with pytest.raises(ConfigError) as caught:
        problems.raise_if_any()
    assert str(caught.value).splitlines() == [
        "4 problems in the configuration:",
        "  data.transforms.0.pp: HorizontalFlip has no such argument; did you mean 'p'?",
        "  model.dropot: PaperCNN has no such argument; did you mean 'dropout'?",
        "  model.dropout[0] must be a number in [0, 1), got 1.5",
        "  sed: unknown key; did you mean 'seed'?",
    ]


def test_the_key_that_is_named_is_the_key_to_type(composed: Callable[..., DictConfig]) -> None:
    problems = Problems()
    problems.build(composed("data.transforms.0.p=7"), "data")
    assert problems.lines == ["data.transforms.0.p: Input should be less than or equal to 1, got 7"]
    cfg = composed("data.transforms.0.p=0.7")
    assert Problems().build(cfg, "data")["transforms"][0].p == 0.7
    assert isinstance(Problems().build(cfg, "model"), PaperCNN)


def test_the_check_itself_imports_nothing_heavy() -> None:
    code = "import sys, cxrlab.config; print([m for m in ('torch', 'pytorch_lightning', 'pandas') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
