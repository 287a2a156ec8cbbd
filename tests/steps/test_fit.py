"""Processes that train together, fail and are ended; tests/test_ddp.py does the same through the command line."""

from __future__ import annotations

import multiprocessing
import os
from pathlib import Path

import pytest
import torch
from omegaconf import DictConfig, OmegaConf

from cxrlab.config import compose
from cxrlab.steps.fit import ProcessFailedError, _together


def lose_the_others(config: DictConfig) -> None:
    with _together(config, 2):
        assert os.environ["LOCAL_RANK"] == "0"
        for process in multiprocessing.active_children():
            process.join()
        raise RuntimeError("the connection is broken")


def test_one_process_starts_no_other() -> None:
    with _together(OmegaConf.create({}), 1):
        assert "LOCAL_RANK" not in os.environ


@pytest.mark.slow
def test_a_mistake_in_another_process_is_told_and_nothing_stays_behind(
    capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    before, threads = dict(os.environ), torch.get_num_threads()
    with pytest.raises(ProcessFailedError, match=r"process 2 of this run failed, see above; ckpt_path="):
        lose_the_others(compose("train", ["+sed=1"], tmp_path))
    assert (dict(os.environ), torch.get_num_threads()) == (before, threads)
    said = capfd.readouterr().err
    assert said.startswith("error in process 2: 1 problem in the configuration:")
    assert "did you mean 'seed'?" in said
