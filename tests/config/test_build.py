"""One way in which a node becomes an object: config/build.py."""

from __future__ import annotations

import sys
import types
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from hydra.errors import InstantiationException
from omegaconf import OmegaConf

from cxrlab.config.build import build, escaped


@dataclass
class Size:
    """What a constructor may get from code: a dataclass must arrive as one."""

    side: int = 224


def record(**kwargs: Any) -> dict[str, Any]:
    """Returns what it was called with."""
    return kwargs


@pytest.fixture(autouse=True)
def toys(monkeypatch: pytest.MonkeyPatch) -> None:
    module = types.ModuleType("toys")
    vars(module).update(record=record, torch=torch)
    monkeypatch.setitem(sys.modules, "toys", module)


@pytest.mark.parametrize("node", [None, {}, OmegaConf.create()])
def test_null_and_empty_build_nothing(node: Any) -> None:
    assert build(node) is None


def test_constructors_receive_plain_containers() -> None:
    cfg = OmegaConf.create({"size": 3, "node": {"_target_": "toys.record", "a": [1, {"b": "${size}"}], "c": {"d": 2}}})
    built = build(cfg.node)
    assert built == {"a": [1, {"b": 3}], "c": {"d": 2}}
    assert [type(value) for value in (built["a"], built["a"][1], built["c"])] == [list, dict, dict]


def test_a_plain_dict_is_a_node_too() -> None:
    assert build({"_target_": "toys.record", "a": 1}) == {"a": 1}
    assert build({"_target_": "toys.record", "a": 1}, b=2) == {"a": 1, "b": 2}


def test_a_dict_of_nodes_builds_each() -> None:
    cfg = OmegaConf.create({"x": {"_target_": "toys.record", "a": 1}, "y": None})
    assert build(cfg) == {"x": {"a": 1}, "y": None}


def test_arguments_from_code_arrive_untouched() -> None:
    network, size = torch.nn.Linear(1, 1), Size()
    cfg = OmegaConf.create({"_target_": "toys.record", "a": 1, "network": "???", "nested": {"_target_": "toys.record"}})
    built = build(cfg, network=network, size=size, shape=(1, 2), text="${nothing}", parts=[network], a=5)
    assert built["network"] is network
    assert built["parts"][0] is network
    assert built["size"] is size
    assert built["shape"] == (1, 2)
    assert built["text"] == "${nothing}"
    assert built["nested"] == {}
    assert built["a"] == 5


def test_a_partial_node_waits_for_the_rest() -> None:
    cfg = OmegaConf.create({"_target_": "torch.optim.AdamW", "_partial_": True, "lr": 0.5})
    parameters = [torch.nn.Parameter(torch.zeros(1))]
    assert build(cfg)(parameters).defaults["lr"] == 0.5
    optimizer = build(cfg, eps=1e-7)
    assert optimizer(parameters).defaults["eps"] == 1e-7


@pytest.mark.parametrize("struct", [True, False])
def test_a_locked_config_is_built_and_left_as_it_was(struct: bool) -> None:
    cfg = OmegaConf.create({"node": {"_target_": "toys.record", "a": 1}})
    OmegaConf.set_struct(cfg, struct)
    OmegaConf.set_readonly(cfg, True)
    before = OmegaConf.to_yaml(cfg)
    assert build(cfg.node, b=2) == {"a": 1, "b": 2}
    assert OmegaConf.to_yaml(cfg) == before


def test_arguments_need_a_target() -> None:
    with pytest.raises(ValueError, match="node must have a _target_ to take b"):
        build(OmegaConf.create({"a": 1}), b=2)


def test_a_refusal_keeps_its_cause() -> None:
    cfg = OmegaConf.create({"_target_": "torch.nn.Dropout", "p": 2})
    with pytest.raises(InstantiationException) as caught:
        build(cfg)
    assert isinstance(caught.value.__cause__, ValueError)


@pytest.mark.parametrize("name", ["a${b}.csv", "${x}", "a\\${b}", "${oc.env:HOME}", "${${a}}", "a\\\\${b}"])
def test_text_that_looks_like_an_interpolation_stays_text(name: str) -> None:
    inner = {"_target_": "builtins.dict", "path": name, "more": [name, {"deep": name}]}
    node = OmegaConf.create(escaped({"_target_": "builtins.dict", "source": inner, "name": name}))
    found = {"path": name, "more": [name, {"deep": name}]}
    assert build(node) == {"source": found, "name": name}
    assert build(node, more=1) == {"source": found, "name": name, "more": 1}
