from __future__ import annotations

from cxrlab.config import resolvers


def test_a_run_is_named_after_its_experiment_or_its_model() -> None:
    assert resolvers.run_name({"experiment": None, "model": "paper_cnn"}) == "paper_cnn"
    assert resolvers.run_name({"experiment": "paper", "model": "paper_cnn"}) == "paper"


def test_a_continued_run_keeps_its_folder() -> None:
    assert resolvers.run_dir(None, "runs/fresh") == "runs/fresh"
    assert resolvers.run_dir("runs/x", "runs/fresh") == "runs/x"
    assert resolvers.run_dir("runs/x/checkpoints/last.ckpt", "runs/fresh") == "runs/x"


def test_job_folders_are_short_and_safe() -> None:
    overrides = ["model.dropout=[0,0,0]", "data.image_size=128", "+trainer.precision=32-true"]
    assert resolvers.job_folder(3, overrides) == "3_dropout-0-0-0_image_size-128_precision-32-true"
    assert resolvers.job_folder(1, ["experiment=seeds"]) == "1"
    long = resolvers.job_folder(0, [f"key{number}=value" for number in range(50)])
    assert len(long) <= 100
