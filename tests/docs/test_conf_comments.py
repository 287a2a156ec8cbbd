"""The reader behind the page of configuration keys: docs/_hooks/conf_comments.py."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
CONF = ROOT / "conf"
FILES = [file for file in sorted(CONF.rglob("*.yaml")) if "hydra" not in file.relative_to(CONF).parts]

_spec = importlib.util.spec_from_file_location("conf_comments", ROOT / "docs/_hooks/conf_comments.py")
assert _spec is not None
assert _spec.loader is not None
conf_comments = importlib.util.module_from_spec(_spec)
sys.modules[_spec.name] = conf_comments  # dataclasses look their module up
_spec.loader.exec_module(conf_comments)

TEXT = """\
# @package _global_
# Trains on films.
# One line more.
defaults:
  - _self_
  - data: synthetic
  - override /optimizer: adamw
  - override hydra/job_logging: run

rate: 0.1     # above 0; a # is no end
sides: [1, 2] # pixels
name: "a # b" # text
folds: auto   # auto: as many as fit | whole
              # number >= 2
bare: null
# these two
# go together
inner:
  # deeper
  path: ${oc.env:HOME}/x # folder
steps:
  - _target_: toys.Step
    size: 3 # of the side
names:
  - one
  - two

hydra:
  sweeper:
    params:
      seed: range(0,3)
  help:
    template: |-
      cxrlab: does it.

        python train.py     once

      Groups (choose with group=option):

      $APP_CONFIG_GROUPS
"""


def test_every_kind_of_comment_is_found() -> None:
    found = conf_comments.read(TEXT)
    assert found.about == "Trains on films.\nOne line more."
    assert found.chooses == ["data=synthetic", "optimizer=adamw"]
    assert found.varies == {"seed": "range(0,3)"}
    assert found.usage == "cxrlab: does it.\n\n  python train.py     once"
    assert [(key.name, key.default, key.comment, key.heading) for key in found.keys] == [
        ("rate", "0.1", "above 0; a # is no end", ""),
        ("sides", "[1, 2]", "pixels", ""),
        ("name", '"a # b"', "text", ""),
        ("folds", "auto", "auto: as many as fit | whole number >= 2", ""),
        ("bare", "null", "", ""),
        ("inner.path", "${oc.env:HOME}/x", "folder", "these two go together deeper"),
        ("steps[0]._target_", "toys.Step", "", ""),
        ("steps[0].size", "3", "of the side", ""),
        ("names", "[one, two]", "", ""),
    ]


def leaves(value: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted names and values below a mapping, lists of mappings numbered."""
    for name, each in value.items():
        if isinstance(each, dict) and each:
            yield from leaves(each, f"{prefix}{name}.")
        elif isinstance(each, list) and each and all(isinstance(entry, dict) for entry in each):
            for number, entry in enumerate(each):
                yield from leaves(entry, f"{prefix}{name}[{number}].")
        else:
            yield f"{prefix}{name}", each


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(CONF)))
def test_no_key_of_the_project_is_missed_and_each_default_is_that_of_the_file(file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    content = yaml.safe_load(text) or {}
    expected = dict(leaves({name: value for name, value in content.items() if name not in ("hydra", "defaults")}))
    assert {key.name: yaml.safe_load(key.default) for key in conf_comments.read(text).keys} == expected
