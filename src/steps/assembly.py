"""From a configuration to the parts of a run, or to one error that names everything wrong with it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from omegaconf import DictConfig, OmegaConf
from torch import nn

from cxrlab.callbacks import Checkpoints, History, RandomState
from cxrlab.config import Problems, check_names, check_targets
from cxrlab.datamodules import ChestXRayDataModule, Preprocessing
from cxrlab.errors import CheckpointError, ConfigError, check_choice, check_range
from cxrlab.models import ClassifierModule, TorchvisionNet
from cxrlab.models.classifier import MONITORS
from cxrlab.models.layer_table import LayerTable, layer_table
from cxrlab.runs import AtomicCheckpointIO, LoadedModel, RunFolder, load_model
from cxrlab.steps.quiet import quiet_lightning

KEYS = (
    "data",
    "augment",
    "model",
    "optimizer",
    "scheduler",
    "loss",
    "callbacks",
    "logger",
    "trainer",
    "seed",
    "monitor",
    "monitor_mode",
    "weights",
    "keep_weights",
    "ckpt_path",
    "output_dir",
)
"""The keys of ``conf/train.yaml``, groups first."""

EVALUATION_KEYS = ("data", "ckpt_path", "split", "accelerator", "precision", "trusted", "seed", "output_dir", "model")
"""The keys of ``conf/evaluate.yaml``, and ``model``, which comes out of the checkpoint."""
AUDIT_KEYS = ("data", "seed", "strict", "output_dir")
"""The keys of ``conf/audit.yaml``."""
_ACCELERATORS = ("auto", "cpu", "gpu", "mps")
_PRECISIONS = ("32-true", "bf16-mixed", "16-mixed", "64-true", "bf16-true", "16-true")
_FROM_CHECKPOINT = ("image_size", "channels", "fit", "contrast", "border")  # of a data node; they belong to the weights


@dataclass(frozen=True)
class Parts:
    """Everything a training needs, built and not yet begun."""

    datamodule: ChestXRayDataModule
    network: nn.Module
    module: ClassifierModule
    trainer: pl.Trainer
    checkpoints: Checkpoints
    history: History

    def layer_table(self) -> LayerTable:
        """The network's layers, as the paper's Fig. 6 lists them."""
        return layer_table(self.network, self.datamodule.preprocessing.shape)

    def prepare(self, *, resumed: bool) -> None:
        """What needs the data, or files, and so is not done by constructors: class weights, pretrained weights.

        Args:
            resumed: Whether a checkpoint will bring the weights.
        """
        fit = getattr(self.module.loss, "fit", None)
        if callable(fit):
            rows = self.datamodule.rows("train")
            fit(self.datamodule.manifest["label"].to_numpy()[rows])
        if isinstance(self.network, TorchvisionNet) and not resumed:
            self.network.load_pretrained()


def assemble(config: DictConfig) -> Parts:
    """Checks a configuration and builds what it describes; no data are touched.

    Args:
        config: As composed from ``conf/train.yaml``.

    Raises:
        ConfigError: Lists every problem: misspelt keys, values out of range, options that contradict each other.
    """
    problems = Problems()
    check_names(config, KEYS, problems, supplied={"trainer": {"callbacks", "logger", "plugins"}})
    with problems.guard("seed"):
        check_range("seed", config.seed, 0, 2**32 - 1, integer=True)
        pl.seed_everything(config.seed, workers=False, verbose=False)  # before the network draws its weights
    datamodule = problems.build(config, "data", augment=problems.build(config, "augment"))
    network = problems.build(config, "model")
    loss = problems.build(config, "loss")
    callbacks = _build_each(config, "callbacks", problems)
    loggers = _build_each(config, "logger", problems)
    _check_contradictions(config, problems, datamodule, network)
    history = History(RunFolder(config.output_dir).history)
    extra = {"callbacks": [*callbacks.values(), RandomState(), history], "logger": [*loggers.values()]}
    with quiet_lightning():
        trainer = problems.build(config, "trainer", plugins=[AtomicCheckpointIO()], **extra)
    module = _module(config, problems, network, loss)
    problems.raise_if_any()
    checkpoints = next(callback for callback in callbacks.values() if isinstance(callback, Checkpoints))
    checkpoints.folder = Path(config.output_dir) / "checkpoints"
    # Filling new memory with NaN is PyTorch's aid for finding reads of it; it costs time and changes no result.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    return Parts(datamodule, network, module, trainer, checkpoints, history)


def assemble_evaluation(
    config: DictConfig, overrides: Sequence[str]
) -> tuple[DictConfig, LoadedModel, ChestXRayDataModule]:
    """Loads a model and builds the data it is to be evaluated on; no image is touched.

    Args:
        config: As composed from ``conf/evaluate.yaml``.
        overrides: What was typed, to refuse a preprocessing other than the checkpoint's.

    Returns:
        The configuration with everything that came out of the checkpoint filled in, the model, and the data.

    Raises:
        ConfigError: Lists every problem.
        CheckpointError: The checkpoint cannot be used.
    """
    problems = Problems()
    check_names(config, EVALUATION_KEYS, problems)
    problems.raise_if_any()
    model = load_model(config.ckpt_path, config.trusted)
    config = OmegaConf.create({**config, "model": model.metadata["model"]})
    _fill_from_checkpoint(config, model)
    size = model.metadata["preprocessing"]
    for key in _FROM_CHECKPOINT:
        if any(override.startswith(f"data.{key}=") for override in overrides):
            problems.add(f"data.{key}", f"belongs to the weights, which want {size}; leave it out")
    with problems.guard("split"):
        check_choice("split", config.split, ("test", "val", "all"))
    _check_device(config, "", problems)
    datamodule = problems.build(config, "data")
    problems.raise_if_any()
    assert isinstance(datamodule, ChestXRayDataModule)
    return config, model, datamodule


def assemble_audit(config: DictConfig) -> ChestXRayDataModule:
    """Builds the data to be audited; no image is touched.

    Args:
        config: As composed from ``conf/audit.yaml``.

    Raises:
        ConfigError: Lists every problem.
    """
    problems = Problems()
    check_names(config, AUDIT_KEYS, problems)
    with problems.guard("seed"):
        check_range("seed", config.seed, 0, 2**32 - 1, integer=True)
    with problems.guard("strict"):
        check_choice("strict", config.strict, (True, False))
    datamodule = problems.build(config, "data")
    if isinstance(datamodule, ChestXRayDataModule) and datamodule.partition.test == "all":
        problems.add("data.test", "all leaves no split to audit; leave it out")
    problems.raise_if_any()
    assert isinstance(datamodule, ChestXRayDataModule)
    return datamodule


def _fill_from_checkpoint(config: DictConfig, model: LoadedModel) -> None:
    """Takes preprocessing, and what was left open, from the checkpoint, whose data may name only classes of ours."""
    try:
        saved = model.metadata["config"]
        config.precision = config.precision or saved["trainer"]["precision"]
        if not config.get("data"):
            check_targets(saved["data"], ("cxrlab.datamodules", *config.trusted))
            config.data = saved["data"]
        size = Preprocessing.from_dict(model.metadata["preprocessing"])
        config.data.image_size = [size.height, size.width]
        for key in _FROM_CHECKPOINT[1:]:
            config.data[key] = getattr(size, key)
        if config.split == "all":
            config.data.test = "all"
            config.data.folds = config.data.fold = None
    except ConfigError as error:
        raise CheckpointError(f"{model.path}: refused: {error}; data=… names other data") from None
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"{model.path}: not a checkpoint of this project: its metadata are incomplete ({error})"
        ) from None


def _build_each(config: DictConfig, group: str, problems: Problems) -> dict[str, Any]:
    """Builds every node of a group that is a collection of nodes (callbacks, loggers)."""
    nodes = config.get(group) or {}
    return {name: built for name in nodes if (built := problems.build(config, f"{group}.{name}")) is not None}


def _module(
    config: DictConfig, problems: Problems, network: nn.Module | None, loss: nn.Module | None
) -> ClassifierModule:
    """The LightningModule; tries optimizer and scheduler on a dummy weight, so that their range errors come now."""
    optimizer, scheduler = problems.build(config, "optimizer"), problems.build(config, "scheduler")
    trial = None
    if optimizer is not None:
        with problems.guard("optimizer", config):
            trial = optimizer([nn.Parameter(torch.zeros(1))])
    if scheduler is not None and trial is not None:
        with problems.guard("scheduler", config):
            scheduler(trial)
    return ClassifierModule(network or nn.Identity(), optimizer, scheduler, loss, config.monitor)


def _check_contradictions(
    config: DictConfig, problems: Problems, datamodule: ChestXRayDataModule | None, network: nn.Module | None
) -> None:
    """Rules across keys, which no constructor can know."""
    choices: dict[str, tuple[Any, ...]] = {
        "monitor": MONITORS,
        "monitor_mode": ("min", "max"),
        "weights": ("best", "last"),
        "keep_weights": (True, False),
    }
    for key, allowed in choices.items():
        with problems.guard(key):
            check_choice(key, config[key], allowed)
    trainer = config.get("trainer") or {}
    with problems.guard("trainer.max_epochs"):
        check_range("max_epochs", trainer.get("max_epochs"), 1, integer=True)
    if datamodule is not None and datamodule.partition.test == "all":
        problems.add("data.test", "all leaves nothing to train on; it is for evaluate.py (there: split=all)")
    if trainer.get("devices") != 1:
        problems.add(
            "trainer.devices", f"must be 1, got {trainer.get('devices')!r}; runs of a sweep are what uses several"
        )
    _check_device(trainer, "trainer.", problems)
    checkpoints = [
        node for node in (config.callbacks or {}).values() if str(node.get("_target_", "")).endswith("Checkpoints")
    ]
    if len(checkpoints) != 1:
        problems.add(
            "callbacks.checkpoints", "exactly one is needed, as in callbacks=default: without, a killed run is lost"
        )
    if datamodule is not None and network is not None:
        _, height, width = datamodule.preprocessing.shape
        try:
            layer_table(network, datamodule.preprocessing.shape)
        except (RuntimeError, ValueError) as error:
            reason = str(error).partition("\n")[0]
            problems.add("data.image_size", f"{height}x{width} does not go through the network ({reason})")


def _check_device(node: DictConfig | dict[str, Any], prefix: str, problems: Problems) -> None:
    """Checks ``accelerator`` and ``precision`` of a node against each other and against this machine."""
    accelerator, precision = node.get("accelerator"), node.get("precision")
    with problems.guard(f"{prefix}accelerator"):
        check_choice("accelerator", accelerator, _ACCELERATORS)
    with problems.guard(f"{prefix}precision"):
        check_choice("precision", precision, _PRECISIONS)
    absent = {"gpu": not torch.cuda.is_available(), "mps": not torch.backends.mps.is_available()}
    if absent.get(str(accelerator)):
        there_is = f"this machine has none; {prefix}accelerator=auto takes what there is"
        problems.add(f"{prefix}accelerator", f"{accelerator} was asked for, and {there_is}")
    on_cpu = accelerator == "cpu" or (accelerator == "auto" and all(absent.values()))
    if precision == "16-mixed" and on_cpu:  # Lightning would change it to bf16-mixed with a warning
        problems.add(f"{prefix}precision", f"16-mixed needs a GPU; {prefix}precision=bf16-mixed or 32-true on a CPU")
