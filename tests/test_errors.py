"""The words that a user meets: errors.py."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from cxrlab.errors import CheckpointError, ConfigError, DataError, UserError, check_choice, check_range, did_you_mean


@pytest.mark.parametrize("kind", [ConfigError, DataError, CheckpointError])
def test_every_mistake_of_a_user_is_one_kind(kind: type[UserError]) -> None:
    assert issubclass(kind, UserError)
    assert not issubclass(UserError, ValueError)


@pytest.mark.parametrize(
    ("word", "known", "expected"),
    [
        ("sed", ["seed", "model"], "; did you mean 'seed'?"),
        ("AUROC", ["auroc", "loss"], "; did you mean 'auroc'?"),
        ("papercnn", ["PaperCNN"], "; did you mean 'PaperCNN'?"),
        ("zzz", ["seed"], ""),
        ("x", [], ""),
    ],
)
def test_did_you_mean(word: str, known: list[str], expected: str) -> None:
    assert did_you_mean(word, known) == expected


@pytest.mark.parametrize(
    ("value", "keywords"),
    [
        (0, {"low": 0}),
        (1, {"low": 0, "high": 1}),
        (0.5, {"low": 0, "high": 1, "low_open": True, "high_open": True}),
        (10**400, {"low": 1, "integer": True}),
        (-5, {"low": -math.inf, "high": 0}),
    ],
)
def test_check_range_lets_pass(value: Any, keywords: dict[str, Any]) -> None:
    check_range("x", value, **keywords)


@pytest.mark.parametrize(
    ("value", "keywords", "message"),
    [
        (1.5, {"low": 0, "high": 1, "high_open": True}, "x must be a number in [0, 1), got 1.5"),
        (1, {"low": 0, "high": 1, "high_open": True}, "x must be a number in [0, 1), got 1"),
        (0, {"low": 0, "low_open": True}, "x must be a number in (0, inf), got 0"),
        (-1, {"low": 0}, "x must be a number in [0, inf), got -1"),
        (2.0, {"low": 1, "integer": True}, "x must be a whole number in [1, inf), got 2.0"),
        (True, {"low": 0}, "x must be a number in [0, inf), got True"),
        (None, {"low": 0}, "x must be a number in [0, inf), got None"),
        ("3", {"low": 0}, "x must be a number in [0, inf), got '3'"),
        (math.nan, {"low": 0}, "x must be a number in [0, inf), got nan"),
        (math.inf, {"low": 0}, "x must be a number in [0, inf), got inf"),
        (-math.inf, {"low": -math.inf}, "x must be a number in (-inf, inf), got -inf"),
    ],
)
def test_check_range_names_argument_range_and_value(value: Any, keywords: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the whole message is compared
        check_range("x", value, **keywords)
    assert str(caught.value) == message


def test_check_range_takes_numpys_numbers() -> None:
    check_range("x", np.int64(3), 0, integer=True)
    check_range("x", np.float32(0.5), 0, 1)
    for wrong in (np.float64(3), np.bool_(True)):
        with pytest.raises(ValueError, match="x must be a whole number"):
            check_range("x", wrong, 0, integer=True)


@pytest.mark.parametrize(("value", "choices"), [("bce", ["bce", "focal"]), (None, [None, 1]), (True, [True, "auto"])])
def test_check_choice_lets_pass(value: Any, choices: list[Any]) -> None:
    check_choice("x", value, choices)


@pytest.mark.parametrize(
    ("value", "choices", "message"),
    [
        ("bec", ["bce", "focal"], "x must be one of bce, focal, got 'bec'; did you mean 'bce'?"),
        ("hinge", ["bce", "focal"], "x must be one of bce, focal, got 'hinge'"),
        (True, [1, 2], "x must be one of 1, 2, got True"),
        (None, ["bce"], "x must be one of bce, got None"),
    ],
)
def test_check_choice_names_argument_choices_and_value(value: Any, choices: list[Any], message: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the whole message is compared
        check_choice("x", value, choices)
    assert str(caught.value) == message


def test_check_choice_takes_an_iterator() -> None:
    with pytest.raises(ValueError, match="x must be one of 1, 2, got 3"):
        check_choice("x", 3, iter([1, 2]))
