"""From a configuration to the parts of a run, or to one error that names everything wrong with it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from omegaconf import DictConfig, OmegaConf
from torch import nn

from cxrlab.callbacks import Checkpoints, Divergence, History, KeepMemory, RandomState, Termination
from cxrlab.config import Problems, check_names, keys_of
from cxrlab.console import say
from cxrlab.datamodules import ChestXRayDataModule, Preprocessing
from cxrlab.errors import CheckpointError, ConfigError, check_choice, check_range
from cxrlab.evaluation.decision import Decision
from cxrlab.machine.precision import AUTO, Shape, fastest
from cxrlab.models import ClassifierModule, TorchvisionNet
from cxrlab.models.classifier import ADAM, MONITORS
from cxrlab.models.gate import Gate
from cxrlab.models.layer_table import LayerTable, layer_table
from cxrlab.models.saliency import Saliency
from cxrlab.rebuild import at_home, check_node, check_texts, paths_in, rebuild
from cxrlab.runs import AtomicCheckpointIO, LoadedModel, RunFolder, load_model
from cxrlab.runs.auxiliary import load_gate, load_segmenter
from cxrlab.runs.checkpoint import PRECISIONS
from cxrlab.steps.devices import check_compile, check_devices
from cxrlab.steps.quiet import quiet_lightning
from cxrlab.steps.trainer_keys import check_trainer, seen

_ACCELERATORS = ("auto", "cpu", "gpu", "mps")
_PRECISIONS = (AUTO, *PRECISIONS)
_FROM_CHECKPOINT = ("image_size", "channels", "fit", "contrast", "border", "mask")  # of a data node; the weights' own


@dataclass(frozen=True)
class Parts:
    """Everything a training needs, built and not yet begun."""

    datamodule: ChestXRayDataModule
    network: nn.Module
    module: ClassifierModule
    trainer: pl.Trainer
    checkpoints: Checkpoints
    history: History
    decision: Decision
    saliency: Saliency | None
    gate: Gate | None

    def layer_table(self) -> LayerTable:
        """The network's layers, as the paper's Fig. 6 lists them."""
        return layer_table(self.network, self.datamodule.preprocessing.shape)

    def seen(self) -> list[str]:
        """What a reader must know where an epoch is a part of the images only."""
        return seen(self.trainer, self.datamodule, self.module.monitor)

    def prepare(self, *, resumed: bool) -> None:
        """What needs the data, or files, and so is not done by constructors: class weights, pretrained weights.

        Args:
            resumed: Whether a checkpoint will bring the weights.

        Raises:
            ConfigError: The data do not suit the trainer or the monitor.
        """
        self.seen()
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
    check_names(config, keys_of("train"), problems, supplied={"trainer": {"callbacks", "logger", "plugins"}})
    _check_task(config, problems)
    with problems.guard("seed"):
        check_range("seed", config.seed, 0, 2**32 - 1, integer=True)
        pl.seed_everything(config.seed, workers=False, verbose=False)  # before the network draws its weights
    datamodule = problems.build(config, "data", augment=problems.build(config, "augment"))
    network = problems.build(config, "model")
    _find_lungs(config, problems, datamodule)
    loss = problems.build(config, "loss")
    decision = problems.build(config, "decision")
    saliency = problems.build(config, "saliency") if config.saliency else None
    gate = _load_gate(config, problems)
    callbacks = _build_each(config, "callbacks", problems)
    loggers = _build_each(config, "logger", problems)
    _check_contradictions(config, problems, datamodule, network)
    _check_decision(problems, datamodule, decision)
    _check_saliency(problems, datamodule, network, saliency)
    history = History(RunFolder(config.output_dir).history)
    own: list[pl.Callback] = [RandomState(config.seed), Termination(), history]
    if config.keep_memory:
        own.append(KeepMemory())
    extra: dict[str, Any] = {"callbacks": [Divergence(), *callbacks.values(), *own], "logger": [*loggers.values()]}
    # LightningEnvironment, since on a cluster, too, a job is one process, which starts the others itself (fit.py).
    extra["plugins"] = [AtomicCheckpointIO(), LightningEnvironment()]
    if config.get("trainer"):
        settle_precision(config.trainer, network, None if problems.lines else _batch(datamodule))
    with quiet_lightning():
        trainer = problems.build(config, "trainer", **extra)
    module = _module(config, problems, network, loss)
    problems.raise_if_any()
    if config.get("compile"):
        module.compile()
    checkpoints = next(callback for callback in callbacks.values() if isinstance(callback, Checkpoints))
    checkpoints.folder = Path(config.output_dir) / "checkpoints"
    # Filling new memory with NaN is PyTorch's aid for finding reads of it; it costs time and changes no result.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    return Parts(datamodule, network, module, trainer, checkpoints, history, decision, saliency, gate)


def settle_precision(
    node: DictConfig, network: nn.Module | None, images: Shape | None, *, training: bool = True
) -> None:
    """Replaces ``precision=auto`` by the precision in which the network is fastest here, and says why.

    What is settled is what the run's files and checkpoints hold, so that a run goes on as it was begun on any machine.

    Args:
        node: With ``accelerator`` and ``precision``: a trainer's, or the configuration of an evaluation; changed in
            place.
        network: That is measured; ``None`` where another check reports a mistake in it.
        images: Shape of a batch; ``None`` likewise.
        training: Whether gradients are computed, too.
    """
    if node.get("precision") != AUTO:
        return
    node.precision = "32-true"
    if network is not None and images is not None:
        node.precision, reason = fastest(network, images, str(node.get("accelerator")), training=training)
        say(f"precision=auto: {reason}")


def _batch(datamodule: ChestXRayDataModule | None) -> Shape | None:
    return None if datamodule is None else (datamodule.batch_size, *datamodule.preprocessing.shape)


def assemble_evaluation(
    config: DictConfig, overrides: Sequence[str], program: str = "evaluate"
) -> tuple[DictConfig, LoadedModel, ChestXRayDataModule]:
    """Loads a model and builds the data it is to be evaluated on; no image is touched.

    Args:
        config: As composed from ``conf/evaluate.yaml``.
        overrides: What was typed, to refuse a preprocessing other than the checkpoint's.
        program: Whose configuration it is.

    Returns:
        The configuration with everything that came out of the checkpoint filled in, the model, and the data.

    Raises:
        ConfigError: Lists every problem.
        CheckpointError: The checkpoint cannot be used.
    """
    problems = Problems()
    check_names(config, keys_of(program), problems)
    _check_task(config, problems)
    problems.raise_if_any()
    model = load_model(config.ckpt_path, config.trusted)
    from_file = not config.get("data")
    config = OmegaConf.create({**config, "model": model.metadata["model"]})
    _fill_from_checkpoint(config, model, alter=not any(each.startswith("data.alter=") for each in overrides))
    size = model.metadata["preprocessing"]
    for key in _FROM_CHECKPOINT:
        if any(override.startswith(f"data.{key}=") for override in overrides):
            problems.add(f"data.{key}", f"belongs to the weights, which want {size}; leave it out")
    with problems.guard("split"):
        check_choice("split", config.split, ("test", "val", "all", *([None] if "trained_on" in config else [])))
    with problems.guard("prevalence"):
        if config.get("prevalence") is not None:
            check_range("prevalence", config.prevalence, 0.0, 1.0, low_open=True, high_open=True)
    check_device(config, "", problems)
    datamodule = None
    if from_file:
        with problems.guard("data", config):
            datamodule = rebuild(OmegaConf.to_container(config.data), "data", config.trusted, ChestXRayDataModule)
            say(f"data     as the checkpoint names them: {', '.join(paths_in(config.data)) or 'no folder'}")
    else:
        datamodule = problems.build(config, "data")
    _find_lungs(config, problems, datamodule)
    problems.raise_if_any()
    assert isinstance(datamodule, ChestXRayDataModule)
    settle_precision(config, model.network, _batch(datamodule), training=False)
    _check_same_lungs(config, model, datamodule)
    return config, model, datamodule


def assemble_audit(config: DictConfig) -> tuple[ChestXRayDataModule, Gate | None]:
    """Builds the data to be audited, and the gate that looks at them; no image is touched.

    Args:
        config: As composed from ``conf/audit.yaml``.

    Raises:
        ConfigError: Lists every problem.
    """
    problems = Problems()
    check_names(config, keys_of("audit"), problems)
    _check_task(config, problems)
    with problems.guard("seed"):
        check_range("seed", config.seed, 0, 2**32 - 1, integer=True)
    with problems.guard("strict"):
        check_choice("strict", config.strict, (True, False))
    datamodule = problems.build(config, "data")
    if isinstance(datamodule, ChestXRayDataModule) and datamodule.partition.test == "all":
        problems.add("data.test", "all leaves no split to audit; leave it out")
    gate = _load_gate(config, problems)
    problems.raise_if_any()
    assert isinstance(datamodule, ChestXRayDataModule)
    return datamodule, gate


def _check_same_lungs(config: DictConfig, model: LoadedModel, datamodule: ChestXRayDataModule) -> None:
    """A network that saw lungs only wants them found as in its training."""
    wanted, found = model.metadata.get("lungs"), getattr(datamodule.segment, "fingerprint", None)
    if datamodule.mask is not None and wanted != found:
        raise CheckpointError(
            f"{model.path}: it was trained on lungs that weights {str(wanted)[:12]} found, and lungs={config.lungs} "
            f"has {str(found)[:12]}; name the run that it was trained with: lungs=…"
        )


def _fill_from_checkpoint(config: DictConfig, model: LoadedModel, *, alter: bool) -> None:
    """Takes preprocessing, and what was left open, from the checkpoint, whose data may name only classes of ours.

    Args:
        config: Changed in place.
        model: The checkpoint.
        alter: Whether images are to be altered as in training, nothing else having been typed.
    """
    try:
        saved = model.metadata["config"]
        config.precision = config.precision or saved["trainer"]["precision"]
        check_texts([saved["data"].get("mask"), saved["data"].get("alter")], "data")
        if not config.get("data"):
            check_node(saved["data"], "data", config.trusted)
            config.data = at_home(saved["data"])
        size = Preprocessing.from_dict(model.metadata["preprocessing"])
        config.data.image_size = [size.height, size.width]
        config.data.mask = saved["data"].get("mask")  # these two are absent in checkpoints older than the keys
        if alter:
            config.data.alter = saved["data"].get("alter", "none")
        for key in set(_FROM_CHECKPOINT) - {"image_size", "mask"}:
            config.data[key] = getattr(size, key)
        if config.split == "all":
            config.data.test = "all"
            config.data.folds = config.data.fold = None
    except ConfigError as error:
        raise CheckpointError(f"{model.path}: refused: {error}; data=… names other data") from None
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"{model.path}: not a checkpoint of this project: its metadata are incomplete ({error})"
        ) from None


def _check_task(config: DictConfig, problems: Problems) -> None:
    """Refuses what only ``experiment=lungs`` and ``experiment=gate`` can use: masks and kinds are no labels."""
    with problems.guard("task"):
        check_choice("task", config.get("task", "classify"), ("classify", "segment", "gate"))
    for group, target in (("data", "LungMasksDataModule"), ("model", "LungUnet")):
        if str((config.get(group) or {}).get("_target_", "")).endswith(f".{target}"):
            problems.add(group, f"{target} segments lungs and calls no image Positive; it is for experiment=lungs only")
    for group, target in (("data", "GateImagesDataModule"), ("model", "GateNet")):
        if str((config.get(group) or {}).get("_target_", "")).endswith(f".{target}"):
            problems.add(
                group,
                f"{target} tells films from other pictures and calls none Positive; it is for experiment=gate only",
            )


def _find_lungs(config: DictConfig, problems: Problems, datamodule: ChestXRayDataModule | None) -> None:
    """Loads the lung segmenter, where the data need it."""
    if datamodule is not None and datamodule.needs_lungs:
        with problems.guard("lungs"):
            datamodule.segment = load_segmenter(config.lungs)


def _load_gate(config: DictConfig, problems: Problems) -> Gate | None:
    """Loads what is to travel with the weights and judge images before they are scored."""
    if not config.gate:
        return None
    with problems.guard("gate"):
        return load_gate(config.gate)
    return None


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
    # Where one of them is missing, its problem is raised before anything is trained.
    return ClassifierModule(network or nn.Identity(), optimizer or ADAM, scheduler, loss, config.monitor)


def _check_contradictions(
    config: DictConfig, problems: Problems, datamodule: ChestXRayDataModule | None, network: nn.Module | None
) -> None:
    """Rules across keys, which no constructor can know."""
    choices: dict[str, tuple[Any, ...]] = {
        "monitor": MONITORS,
        "monitor_mode": ("min", "max"),
        "weights": ("best", "last"),
        "keep_weights": (True, False),
        "keep_memory": (False, True),
    }
    for key, allowed in choices.items():
        with problems.guard(key):
            check_choice(key, config.get(key), allowed)
    trainer = config.get("trainer") or {}
    check_trainer(trainer, problems)
    if datamodule is not None and datamodule.partition.test == "all":
        problems.add("data.test", "all leaves nothing to train on; it is for evaluate.py (there: split=all)")
    check_device(trainer, "trainer.", problems)
    _check_clipping(config, problems)
    check_devices(trainer, problems, datamodule, network)
    check_compile(config.get("compile", False), problems)
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


def _check_clipping(config: DictConfig, problems: Problems) -> None:
    """Refuses what Lightning would refuse in the middle of the first step."""
    trainer, optimizer = config.get("trainer") or {}, config.get("optimizer") or {}
    if trainer.get("precision") == "16-mixed" and trainer.get("gradient_clip_val") and optimizer.get("fused"):
        problems.add(
            "optimizer.fused",
            "true scales gradients back within its step, so that 16-mixed cannot clip them before it; "
            "optimizer.fused=false, or trainer.precision=bf16-mixed",
        )


def _check_saliency(
    problems: Problems, datamodule: ChestXRayDataModule | None, network: nn.Module | None, saliency: Saliency | None
) -> None:
    """Refuses a method that cannot explain the network; another check reports a size that does not go through it."""
    if saliency is not None and datamodule is not None and network is not None and not problems.lines:
        try:
            saliency.check(network, datamodule.preprocessing.shape)
        except ConfigError as error:
            key, _, reason = str(error).partition(": ")
            problems.add(key, reason)


def _check_decision(problems: Problems, datamodule: ChestXRayDataModule | None, decision: Decision | None) -> None:
    """Refuses to fit to the test images."""
    wanted = decision is not None and decision.needs_validation
    if wanted and datamodule is not None and datamodule.partition.val_is_test:
        problems.add(
            "decision",
            "calibration and thresholds by a rule are fitted to validation images, and data.val=test has none of its "
            "own; data.val=0.15 holds some out, decision=fixed fits nothing",
        )


def check_device(node: DictConfig | dict[str, Any], prefix: str, problems: Problems) -> None:
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
    if precision == "64-true" and accelerator == "mps":
        problems.add(f"{prefix}precision", f"64-true is not to be had on mps; {prefix}accelerator=cpu has it")
