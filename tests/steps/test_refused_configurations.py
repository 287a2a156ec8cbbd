"""Values that a training refuses before it touches a file: which key is to blame, whatever the message says.

How such a message looks on the screen is told by tests/test_wrong_inputs.py.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from cxrlab.config import compose
from cxrlab.errors import ConfigError
from cxrlab.steps.assembly import assemble

SOUND = [
    "data=folder",
    "data.source.root=films",
    "data.source.labels={neg: 0, pos: 1}",
    "data.val=0.25",
    "data.image_size=32",
    "model=paper_cnn_small",
    "trainer=cpu",
    "trainer.max_epochs=1",
    "logger=none",
]
REFUSED: list[tuple[tuple[str, ...], tuple[str, ...]]] = [
    (("+trainer.mx_epochs=3", "+sed=2"), ("sed", "trainer.mx_epochs")),
    (("model.dropout=[0.25,0.5]",), ("model.dropout",)),
    (("model.dropout=much",), ("model.dropout",)),
    (("optimizer.lr=fast",), ("optimizer",)),
    (("+trainer.max_steps=3",), ("trainer.max_steps",)),
    (("+trainer.fast_dev_run=true",), ("trainer.fast_dev_run",)),
    (("trainer.limit_val_batches=0",), ("trainer.limit_val_batches",)),
    (("data.batch_size=0",), ("data.batch_size",)),
    (("seed=-1",), ("data.seed", "seed")),
    (("seed=lucky",), ("data.seed", "seed")),
    (("trainer.max_epochs=-3",), ("trainer.max_epochs",)),
    (("trainer.max_epochs=0",), ("trainer.max_epochs",)),
    (("data.val=0",), ("data.val",)),
    (("data.val=1.2",), ("data.val",)),
    (("trainer.precision=8-bit",), ("trainer.precision",)),
    (("data.image_size=[10,20,30]",), ("data.image_size", "model.image_size")),
    (("data.fold=1",), ("data.fold",)),
    (("data.folds=3",), ("data.folds",)),
    (("data.folds=3", "data.fold=3"), ("data.fold",)),
    (("loss=focal", "loss.gamma=-1"), ("loss.gamma",)),
    (("model=vit_b_16", "data.image_size=50"), ("model.image_size",)),
    (("data.image_size=0",), ("data.image_size", "model.image_size")),
    (("data.channels=2",), ("data.channels",)),
    (("weights=newest",), ("callbacks.checkpoints.weights", "weights")),
    (("keep_weights=maybe",), ("keep_weights",)),
    (("model.fused=no way",), ("model.fused",)),
    (("callbacks=progress",), ("callbacks.checkpoints",)),
    (("data.persistent_workers=true",), ("data.persistent_workers",)),
    (("data.cache_limit_gb=0",), ("data.cache_limit_gb",)),
    (("model=torchvision", "model.name=resnet81"), ("model.name",)),
    (("data.views=PA",), ("data.views",)),
    (("data.fit=sqeeze",), ("data.fit",)),
    (("data.border=0.5",), ("data.border",)),
    (("data.duplicates=dorp",), ("data.duplicates",)),
    (("data.limit_per_patient=0",), ("data.limit_per_patient",)),
    (("data.min_age=-1",), ("data.min_age",)),
    (("data.resplit=maybe",), ("data.resplit",)),
    (("trainer.precision=16-mixed",), ("trainer.precision",)),
    (("trainer=ddp", "trainer.accelerator=cpu"), ("trainer.devices",)),
    (("trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=4", "data.batch_size=3"), ("data.batch_size",)),
    (
        ("trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2", "model=paper_cnn_batchnorm"),
        ("trainer.sync_batchnorm",),
    ),
    (("+trainer.strategy=fsdp",), ("trainer.strategy",)),
    (("compile=fast",), ("compile",)),
    (("data.on_device=true", "augment=light"), ("data.on_device",)),
    (("data=folder",), ("data.source.labels", "data.source.root")),
    (("data.source.labels=[neg,pos]",), ("data.source.labels",)),
    (('data.source.patient_pattern="^p\\d+"',), ("data.source.patient_pattern",)),
    (('data.source.patient_pattern="(p"',), ("data.source.patient_pattern",)),
    (("data=manifest",), ("data.source.path",)),
    (("data=concat", "~data/source@data.source.sources.second"), ("data.source.sources",)),
    (("data.alter=centre_blak_60",), ("data.alter",)),
    (("data.alter=centre_black",), ("data.alter",)),
    (("data.mask=masks/",), ("data.mask",)),
    (("task=segmnt",), ("task",)),
    (("model=logistic", "saliency=gradcam"), ("saliency",)),
    (("decision.threshold=1.5",), ("decision.threshold",)),
    (("decision.calibration=plat",), ("decision.calibration",)),
]
"""What is typed, and the keys that are to blame, sorted."""


@pytest.mark.parametrize(("typed", "keys"), REFUSED, ids=[" ".join(typed) for typed, _ in REFUSED])
def test_the_key_that_is_to_blame(typed: tuple[str, ...], keys: tuple[str, ...], tmp_path: Path) -> None:
    chosen = {each.partition("=")[0] for each in typed}
    before = [each for each in SOUND if each.partition("=")[0] not in chosen]
    if "data" in chosen:
        before = [each for each in before if not each.startswith("data.source.")]
    with pytest.raises(ConfigError) as refused:
        assemble(compose("train", [*before, *typed], tmp_path))
    assert refused.value.keys == keys


def test_a_sound_configuration_is_none_of_them(tmp_path: Path) -> None:
    assemble(compose("train", SOUND, tmp_path))
