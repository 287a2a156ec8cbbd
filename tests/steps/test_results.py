"""From scores to results: a decision is fitted to validation images, applied to every split, and costs no result."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit

from cxrlab.evaluation.decision import FIXED, Decision
from cxrlab.steps.results import NOT_OVER, Scored, decide, decision_warnings, predictions

BOTH = Decision("temperature", "youden")


def scored(split: str, seed: int, only: int | None = None) -> Scored:
    """200 images of 100 patients whose logits are twice too large."""
    rng = np.random.default_rng(seed)
    truth = rng.normal(0, 1.5, 200)
    labels = (rng.random(200) < expit(truth)).astype(int) if only is None else np.full(200, only)
    table = pd.DataFrame(
        {"label": labels, "score": expit(2 * truth), "split": split, "sha256": [f"{i}" for i in range(200)]}
    )
    table["path"] = [f"{split}/{i}.png" for i in range(200)]
    table["patient_id"] = [f"{split}{i // 2}" for i in range(200)]
    return Scored(table.set_index(pd.RangeIndex(200) + 200 * (split == "test")), {f"{split}/loss": 0.5})


def test_what_validation_images_say_is_applied_to_the_test_images() -> None:
    found = decide(BOTH, {"val": scored("val", 0), "test": scored("test", 1)}, finished=True, seed=0)
    decided = found["test"].decided
    assert found["val"].decided == decided
    assert found["test"].probabilities.tolist() == decided.calibration(found["test"].predictions["score"]).tolist()
    assert found["test"].summary()["threshold"] == decided.threshold
    swapped = decide(BOTH, {"val": scored("val", 0), "test": scored("test", 2)}, finished=True, seed=0)
    assert swapped["test"].decided == decided
    assert list(predictions(found)["split"].value_counts()) == [200, 200]
    assert predictions(found)["calibrated"].notna().all()


def test_validation_images_of_one_class_cost_no_result() -> None:
    found = decide(BOTH, {"val": scored("val", 0, only=1), "test": scored("test", 1)}, finished=True, seed=0)
    assert found["test"].summary() == scored("test", 1).summary()
    assert decision_warnings(found) == [
        "no calibration or threshold was fitted: all 200 validation images are Positive; images are called at 0.5"
    ]


@pytest.mark.parametrize(("decision", "warnings"), [(BOTH, 1), (Decision(), 0)])
def test_nothing_is_fitted_before_training_is_over(decision: Decision, warnings: int) -> None:
    found = decide(decision, {"val": scored("val", 0), "test": scored("test", 1)}, finished=False, seed=0)
    assert found["test"].decided.threshold == 0.5
    assert "calibrated" not in found["test"].predictions
    assert len(decision_warnings(found)) == warnings
    assert all(NOT_OVER in warning for warning in decision_warnings(found))
    assert decision_warnings({}) == []


def test_another_models_probabilities_in_a_manifest_are_not_taken_for_ones_own() -> None:
    """A manifest may be the predictions.csv of another model."""
    one = scored("test", 1)
    foreign = Scored(one.predictions.assign(calibrated=0.123), one.logged).under(FIXED)
    assert "calibrated" not in foreign.predictions
    assert foreign.summary() == one.summary()
