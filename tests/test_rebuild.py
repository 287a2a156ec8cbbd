"""Objects from plain values of a file: the classes of conf/, and what else a file may say."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import nn

from cxrlab.datamodules import ChestXRayDataModule, ConcatSource, ManifestSource
from cxrlab.errors import ConfigError
from cxrlab.models import PaperCNN
from cxrlab.rebuild import CLASSES, at_home, check_node, paths_in, rebuild

CONF = Path(__file__).parents[1] / "conf"
NET = {"_target_": "cxrlab.models.PaperCNN", "image_size": 16, "filters": [2, 3, 4], "dense_units": 5}
TABLE = {"_target_": "cxrlab.datamodules.ManifestSource", "path": "films.csv"}
DATA = {"_target_": "cxrlab.datamodules.ChestXRayDataModule", "source": TABLE}


def test_neither_omegaconf_nor_hydra_is_within_reach() -> None:
    program = "import sys, cxrlab.rebuild, cxrlab.untrusted; print(*(n.partition('.')[0] for n in sys.modules))"
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert {"pandas", "cxrlab"} <= set(found.stdout.split())
    assert not {"omegaconf", "hydra", "torch"} & set(found.stdout.split())


def test_the_classes_are_those_of_conf_by_group() -> None:
    assert CLASSES["data"] == {
        "cxrlab.datamodules.ChestXRayDataModule",
        "cxrlab.datamodules.GateImagesDataModule",
        "cxrlab.datamodules.LungMasksDataModule",
    }
    assert CLASSES["optimizer"] == {"torch.optim.Adam", "torch.optim.AdamW", "torch.optim.SGD"}
    assert {"cxrlab.datamodules.CohenSource", "cxrlab.datamodules.ConcatSource"} <= CLASSES["source"]
    assert not {"hydra", "experiment", ""} & set(CLASSES)
    named = {each for path in CONF.rglob("*.yaml") for each in re.findall(r"_target_: ([\w.]+)", path.read_text())}
    of_hydra = {"cxrlab.sweeps.LiveView", "cxrlab.config.new_folder.NewFolder"}
    assert named - of_hydra == set().union(*CLASSES.values())


def test_it_builds_what_the_files_of_this_project_name() -> None:
    network = rebuild(NET, "model", base=nn.Module)
    assert isinstance(network, PaperCNN)
    both = {"first": TABLE, "second": {**TABLE, "name": "other"}}
    found = rebuild({**DATA, "source": {"_target_": "cxrlab.datamodules.ConcatSource", "sources": both}}, "data")
    assert isinstance(found, ChestXRayDataModule)
    assert isinstance(found.source, ConcatSource)
    assert isinstance(found.source.sources["second"], ManifestSource)
    assert rebuild({**DATA, "val": "test", "min_age": 18, "views": ["PA"]}, "data").partition.val_is_test


REFUSED: dict[str, tuple[Any, str, str]] = {
    "no class": ({}, "model", "model names no class"),
    "no mapping": ([NET], "model", "model names no class"),
    "a function": ({"_target_": "os.system", "command": "id"}, "model", "not allowed here"),
    "a way through ours": ({"_target_": "cxrlab.models.torchvision_net.torch.hub.load"}, "model", "not allowed here"),
    "another name of ours": ({"_target_": "cxrlab.models.paper_cnn.PaperCNN"}, "model", "did you mean"),
    "of another group": (TABLE, "model", "not allowed here"),
    "a resolver": ({**NET, "init": "${oc.env:HOME}"}, "model", "nothing in a file is interpolated"),
    "a resolver in a key": ({**NET, "${oc.env:HOME}": 1}, "model", "nothing in a file is interpolated"),
    "an escaped resolver": ({**NET, "init": "\\\\${oc.env:HOME}"}, "model", "nothing in a file is interpolated"),
    "missing": ({**NET, "init": "???"}, "model", "nothing in a file is interpolated"),
    "_args_": ({**NET, "_args_": [1]}, "model", r"model\._args_ does not belong"),
    "_partial_": ({**NET, "_partial_": True}, "model", r"model\._partial_ does not belong"),
    "_convert_": ({**NET, "_convert_": "all"}, "model", "does not belong"),
    "_recursive_": ({**NET, "_recursive_": False}, "model", "does not belong"),
    "unknown argument": ({**NET, "dense": 5}, "model", "no argument 'dense'; did you mean 'dense_units'"),
    "missing argument": ({"_target_": DATA["_target_"]}, "data", "lacks source"),
    "a text for a number": ({**NET, "dense_units": "5"}, "model", "dense_units must be int, got '5'"),
    "a text in a list": ({**NET, "filters": [1, "2", 3]}, "model", r"filters must be Sequence\[int\]"),
    "a boolean for a number": ({**NET, "dense_units": True}, "model", "dense_units must be int, got True"),
    "a node for a text": ({**NET, "init": TABLE}, "model", "not allowed here"),
    "a source for a text": ({**DATA, "fit": TABLE}, "data", "fit must be str"),
    "a text for a source": ({**DATA, "source": "films.csv"}, "data", "source must be Source"),
    "a set for a source": ({**DATA, "source": DATA}, "data", "not allowed here"),
    "a long text": ({**NET, "init": "x" * 5000}, "model", "a text of 5,000 characters"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_everything_else_is_refused(what: str) -> None:
    node, group, message = REFUSED[what]
    with pytest.raises(ConfigError, match=message):
        rebuild(node, group, base=nn.Module if group == "model" else object)


def test_a_trusted_package_gives_classes_of_the_right_kind_only(monkeypatch: pytest.MonkeyPatch) -> None:
    package = ModuleType("mine")

    class Net(nn.Module):
        def __init__(self, width: int = 1) -> None:
            super().__init__()

    class Danger:
        def __init__(self) -> None:
            raise AssertionError("was built")

    for each in (Net, Danger):
        each.__module__ = "mine"
        setattr(package, each.__name__, each)
    package.linear = nn.Linear  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "mine", package)
    assert isinstance(rebuild({"_target_": "mine.Net", "width": 2}, "model", ["mine"], nn.Module), Net)
    for target in ("mine.Danger", "mine.linear", "mine.absent", "mine", "mine.Net.forward", "mined.Net"):
        with pytest.raises(ConfigError, match=r"not allowed here|cannot be imported"):
            rebuild({"_target_": target}, "model", ["mine"], nn.Module)
    with pytest.raises(ConfigError, match=r"not allowed here.*trusted=\[mine\]"):
        rebuild({"_target_": "mine.Net"}, "model", [], nn.Module)


@pytest.mark.parametrize("target", ["os.system", "torch.nn.Linear", "cxrlab.train.main", "a b.c", 3])
def test_nobody_is_told_to_trust_what_is_no_package_of_theirs(target: object) -> None:
    with pytest.raises(ConfigError) as caught:
        rebuild({"_target_": target} if isinstance(target, str) else {"_target_": "os", "a": {"_target_": 3}}, "model")
    assert "trusted" not in str(caught.value)


def test_a_caller_without_trusted_does_not_name_it() -> None:
    with pytest.raises(ConfigError) as caught:
        check_node({"_target_": "mine.Net"}, "model")
    assert "trusted" not in str(caught.value)


def test_a_run_may_name_what_conf_has_and_nothing_else() -> None:
    check_node({"_target_": "torch.optim.Adam", "_partial_": True, "lr": 0.1}, "optimizer")
    check_node({"a": {"_target_": "pytorch_lightning.callbacks.EarlyStopping"}}, "callbacks")
    for group, node in {
        "optimizer": {"_target_": "torch.optim.Adam", "_partial_": "yes"},
        "callbacks": {"a": {"_target_": "torch.optim.Adam"}},
        "lungs": {"_target_": "torch.optim.Adam"},
        "logger": {"a": {"_target_": "pytorch_lightning.loggers.CSVLogger", "save_dir": "/"}},
    }.items():
        with pytest.raises(ConfigError):
            check_node(node, group)


def test_what_is_written_is_written_on_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXRLAB_CACHE", "/here")
    drawn = {"_target_": "cxrlab.datamodules.SyntheticSource", "root": "/theirs", "n_train": 4}
    node = {**DATA, "cache": "/theirs", "source": {"sources": {"a": drawn, "b": TABLE}}}
    found = at_home(node)
    assert found["cache"] == "/here/measurements"
    assert found["source"]["sources"]["a"]["root"] == "/here"
    assert node["cache"] == "/theirs"
    assert at_home({**DATA, "cache": None})["cache"] is None
    assert paths_in(found) == ["'films.csv'", "'/here'"]


def test_building_takes_no_memory_on_the_device_meta() -> None:
    with torch.device("meta"):
        assert rebuild({**NET, "dense_units": 10**9}, "model").dense.weight.device.type == "meta"
