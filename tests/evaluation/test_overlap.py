"""Agreement of masks: values worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from cxrlab.evaluation.overlap import dice, iou


def test_values_worked_out_by_hand() -> None:
    one, other, empty = np.zeros((3, 2, 4), bool)
    one[0] = True  # 4 pixels, of which 2 are in the other's 3
    other[0, 2:] = other[1, 0] = True
    assert dice(one, other) == pytest.approx(4 / 7)
    assert iou(one, other) == pytest.approx(2 / 5)
    assert dice(one, one) == iou(one, one) == dice(empty, empty) == iou(empty, empty) == 1
    assert dice(one, ~one) == iou(one, ~one) == dice(empty, ~empty) == 0
    with pytest.raises(ValueError, match=r"one shape, got \(2, 4\) and \(4,\)"):
        dice(one, other[0])
