"""The steps of a probe: check what was asked, try a model on altered images, collect what was trained again on them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from omegaconf import DictConfig

from cxrlab.config import Problems, check_names, keys_of
from cxrlab.console import command, say
from cxrlab.datamodules import manifest as mf
from cxrlab.datamodules.alterations import BATTERY, Alteration
from cxrlab.errors import CheckpointError, ConfigError, DataError, UserError, check_choice, check_range
from cxrlab.evaluation import shortcuts
from cxrlab.evaluation.estimate import Floats, Resampling
from cxrlab.evaluation.paired import patient_bootstrap_auroc_difference
from cxrlab.evaluation.shortcuts import Retrained, Tried
from cxrlab.evaluation.statistics import mean_auroc
from cxrlab.inference.scorer import TorchScorer
from cxrlab.reports.probe_page import LEAST_CENTRE, VISIBLE, Probe, SourceClassifier
from cxrlab.reports.record import find_runs, mapping, read_run
from cxrlab.reports.settings import Setting, gather
from cxrlab.runs import LoadedModel, RunFolder
from cxrlab.runs.auxiliary import load_segmenter
from cxrlab.steps import results
from cxrlab.steps.assembly import assemble_evaluation
from cxrlab.steps.overlap import images_of_model, known_to

Images = NDArray[np.uint8]
Masks = NDArray[np.bool_]

LEAST_LUNGS = 0.05
"""Share of an image: where less was found to be lungs, none were found."""


@dataclass(frozen=True)
class Plan:
    """What was asked for, checked.

    Attributes:
        alterations: The intact images first.
        asked: Whether they were typed, so that leaving one out is an error.
        saliency: The method; ``None`` for none.
    """

    alterations: list[Alteration]
    asked: bool
    saliency: Any


@dataclass(frozen=True)
class Lungs:
    """Predicted on the intact images: masks (n, height, width), whether there are any (n,), and what found them."""

    masks: Masks
    found: NDArray[np.bool_]
    words: str


@dataclass(frozen=True)
class Trials:
    """What a model made of altered images.

    Attributes:
        tried: The intact images first.
        scores: By alteration, shape (n,), probability of Positive; NaN where lungs are needed and none were found.
        not_tried: Why alterations were left out, by name.
    """

    tried: list[Tried]
    scores: dict[str, Floats]
    not_tried: dict[str, str]


def check_plan(config: DictConfig) -> Plan:
    """Checks everything of a configuration that needs no checkpoint and no data.

    Raises:
        ConfigError: Lists every problem.
    """
    problems = Problems()
    check_names(config, keys_of("probe"), problems)
    problems.raise_if_any()
    if not config.ckpt_path and not config.retrained:
        hint = "name a run folder or .ckpt file to probe, or runs with retrained='runs/…/**', or both"
        problems.add("ckpt_path", hint)
    names = ["none", *(BATTERY if config.alterations is None else config.alterations)]
    alterations: list[Alteration] = []
    with problems.guard("alterations"):
        alterations = list(dict.fromkeys(map(Alteration.parse, names)))
    with problems.guard("split"):
        check_choice("split", config.split, ("test", "val", "all"))
    for key, limits in (("resamples", (100,)), ("saliency_images", (2,)), ("seed", (0, 2**32 - 1))):
        with problems.guard(key):
            check_range(key, config[key], *limits, integer=True)
    method = problems.build(config, "saliency")
    problems.raise_if_any()
    return Plan(alterations, config.alterations is not None, method)


def find_checkpoints(ckpt_path: Any) -> list[str]:
    """The models that are meant: one run folder or file as it stands, or all that a pattern or a folder holds.

    Raises:
        ConfigError: There is none.
    """
    if not ckpt_path:
        return []
    given = [ckpt_path] if isinstance(ckpt_path, str) else [str(each) for each in ckpt_path]
    path = Path(given[0]).expanduser()
    if len(given) == 1 and (path.is_file() or (path / "config.yaml").is_file()):
        return given
    found = [str(each) for each in find_runs(given) if any((each / "checkpoints").glob("*.ckpt"))]
    if not found:
        hint = "name a run folder below runs/, a .ckpt file, or a pattern in quotes, as 'runs/control_none/**'"
        raise ConfigError(f"ckpt_path={', '.join(given)}: no run that holds weights there; {hint}")
    return found


def find_lungs(
    images: Images, known: Masks | None, lungs: str | None, alterations: Iterable[Alteration], *, asked: bool
) -> Lungs | str:
    """Finds the lungs on intact images, once for everything that needs them, or says why there are none.

    Args:
        images: Shape (n, height, width, channels), uint8.
        known: What was found on the same images before they were masked or altered for the model, shape (n, height,
            width); ``None`` where that was not done.
        lungs: A run of ``experiment=lungs``, a folder above some, or a file of weights; ``None`` goes without.
        alterations: Those of the probe.
        asked: Whether somebody typed them, so that leaving one out is an error.

    Raises:
        UserError: An alteration that was typed needs lungs, and there is nothing that finds them.
    """
    needing = [each.name for each in alterations if each.needs_lungs]
    try:
        if lungs is None:
            how = command("train", "experiment=lungs")
            raise ConfigError(f"lungs=null: nothing finds the lungs; name a run of `{how}`")
        segment = load_segmenter(lungs)
    except (ConfigError, CheckpointError) as error:
        if needing and asked:
            raise type(error)(f"alterations={', '.join(needing)}: lungs are needed; {error}") from None
        return str(error)
    masks = segment(images) if known is None else known
    return Lungs(masks, masks.mean(axis=(1, 2)) >= LEAST_LUNGS, f"{segment.path}, weights {segment.fingerprint[:12]}")


def try_alterations(
    score: Callable[[Images], Floats],
    images: Images,
    lungs: Lungs | str,
    alterations: Sequence[Alteration],
    labels: NDArray[np.int64],
    patients: NDArray[Any],
    *,
    threshold: float,
    how: Resampling,
    step: Callable[[str], None] = lambda name: None,
) -> Trials:
    """Scores images under every alteration and says what became of the scores.

    Args:
        score: Images, uint8 (n, height, width, channels), to probabilities of Positive, shape (n,).
        images: Shape (n, height, width, channels), uint8, as the model gets them.
        lungs: On them, or why they are unknown.
        alterations: The intact images first.
        labels: Shape (n,): 0 Negative, 1 Positive.
        patients: Shape (n,): one key per person.
        threshold: An image is called Positive from this score on.
        how: Of every interval.
        step: Is told which alteration is scored.
    """
    known = lungs if isinstance(lungs, Lungs) else None
    possible = [each for each in alterations if known is not None or not each.needs_lungs]
    not_tried = {each.name: f"{lungs}" for each in alterations if each not in possible}
    scores, seen = {}, {}
    for each in possible:
        step(f"scoring images: {each.words}")
        scores[each.name] = np.full(len(images), np.nan)
        rows = known.found if known is not None and each.needs_lungs else np.ones(len(images), np.bool_)
        if rows.any():
            scores[each.name][rows] = score(each.apply(images[rows], None if known is None else known.masks[rows]))
        seen[each.name] = _visible(each, known)
    step("what became of the scores")
    free = {each.name for each in possible if lung_free(each, seen[each.name])}
    wide = replace(how, confidence=shortcuts.corrected(len(free)))
    tried = []
    for each in possible:
        rows = np.isfinite(scores[each.name])
        if not rows.any():
            not_tried[each.name] = "no lungs were found on any image"
            continue
        y, after, ids = labels[rows], scores[each.name][rows], patients[rows]
        tried.append(
            Tried(
                name=each.name,
                group=each.group,
                words=each.words,
                **shortcuts.respond(y, scores["none"][rows], after, ids, threshold=threshold, how=how),
                visible=seen[each.name],
                corrected=mean_auroc(y, after, ids, wide) if each.name in free else None,
            )
        )
    return Trials(tried, scores, not_tried)


def _visible(alteration: Alteration, lungs: Lungs | None) -> float | None:
    """The mean share of the lungs' area that an alteration leaves other than black."""
    if lungs is None or not lungs.found.any():
        return None
    masks = lungs.masks[lungs.found]
    shown = alteration.apply(np.full((*masks.shape, 1), 255, np.uint8), masks)[..., 0] > 0
    return float(((masks & shown).sum(axis=(1, 2)) / masks.sum(axis=(1, 2))).mean())


def lung_free(alteration: Alteration, visible: float | None = None) -> bool:
    """Whether an input counts as one without lungs, of whose area a share is ``visible`` (``None``: nobody knows)."""
    if alteration.group != "lungs removed" or alteration.kind == "background_only":
        return False  # the outline of what turned black is that of the lungs, and disease moves it
    if visible is not None:
        return visible <= VISIBLE
    return alteration.needs_lungs or alteration.amount >= LEAST_CENTRE


def samples(
    images: Images, lungs: Lungs | str, trials: Trials, labels: NDArray[np.int64]
) -> list[tuple[str, NDArray[np.uint8]]]:
    """What was done, and a Negative and a Positive image after it, for every alteration that was tried."""
    known = lungs if isinstance(lungs, Lungs) else None
    able = np.ones(len(images), np.bool_) if known is None else known.found
    rows = [int(np.flatnonzero(of & able if (of & able).any() else of)[0]) for of in (labels == 0, labels == 1)]
    masks = None if known is None else known.masks[rows]
    done = (Alteration.parse(tried.name) for tried in trials.tried)
    return [(each.words, each.apply(images[rows], masks)) for each in done]


# What was trained again ---------------------------------------------------------------------------------------------


def collect_retrained(runs: str | Sequence[str], how: Resampling) -> tuple[list[Retrained], list[Setting]]:
    """Groups finished runs (folders, folders above some, or patterns) by the alteration of their images.

    Returns:
        One line per alteration, in the order of the battery; and the runs behind each.

    Raises:
        DataError: There are no runs, or their images, labels or splits are not the same.
        ConfigError: They differ in more than the alteration and the seed.
    """
    gathered = gather(runs, key="retrained")
    for folder, reason in gathered.left_out:
        say(f"left out {folder}: {reason}")
    settings: dict[str, Setting] = {}
    for setting in gathered.settings:
        name = str(mapping(setting.runs[0].config.get("data")).get("alter", "none"))
        if name in settings:
            both = f"{settings[name].name} and {setting.name}"
            raise ConfigError(f"retrained: the runs of data.alter={name} differ in more than their seeds ({both})")
        settings[name] = setting
    _check_same_data(settings)
    altered = [Alteration.parse(name) for name in sorted(settings, key=[*BATTERY, *settings].index)]
    wide = replace(how, confidence=shortcuts.corrected(sum(map(lung_free, altered))))
    intact = settings.get("none")
    lines = []
    for each in altered:
        setting = settings[each.name]
        y, ids, scores = setting.labels, setting.people, setting.scores
        difference = None
        if intact is not None:
            difference = patient_bootstrap_auroc_difference(y, scores, intact.scores, ids, how)
        lines.append(
            Retrained(
                name=each.name,
                group=each.group,
                words=each.words,
                n=int(y.size),
                n_patients=int(np.unique(ids).size),
                right=tuple(int(right) for right in setting.right(scores).sum(axis=1)),
                auroc=mean_auroc(y, scores, ids, how),
                difference=difference,
                corrected=mean_auroc(y, scores, ids, wide) if lung_free(each) else None,
            )
        )
    return lines, [settings[each.name] for each in altered]


def _check_same_data(settings: dict[str, Setting]) -> None:
    """Refuses runs whose training images differ, too."""
    prints: dict[str, str] = {}
    for name, setting in settings.items():
        for run in setting.runs:
            if mapping(run.config.get("data")).get("folds"):
                return  # of folds the splits differ, and gather() has compared the images
            prints.setdefault(mf.fingerprint(run.manifest), f"{run.folder} (data.alter={name})")
    if len(prints) > 1:
        listed = " and ".join([*prints.values()][:2])
        raise DataError(f"retrained: images, labels or splits are not the same in {listed}; give runs of one data set")


def read_source_classifier(folder: str, how: Resampling) -> SourceClassifier:
    """What a finished run of ``data=which_collection`` says.

    Raises:
        CheckpointError: It is no such run, or not finished.
    """
    hint = f"give a finished run of `{command('train', 'data=which_collection')}`"
    try:
        record = read_run(RunFolder.of(folder).path)
    except UserError as error:
        raise CheckpointError(f"source_classifier={folder}: {error}; {hint}") from None
    rows = record.scored("test")
    if rows is None or not len(rows):
        raise CheckpointError(f"source_classifier={folder}: it holds no predictions of test images; {hint}")
    threshold = float((record.section("test") or {}).get("threshold", 0.5))
    labels, scores, ids = rows["label"].to_numpy(), rows["score"].to_numpy(np.float64), mf.people(rows).to_numpy()
    right = int(((scores >= threshold) == (labels == 1)).sum())
    auroc = mean_auroc(labels, scores, ids, how)
    return SourceClassifier(str(record.folder), len(rows), int(np.unique(ids).size), right, auroc)


# From a configuration to what a page is made of --------------------------------------------------------------------


def probe_model(
    config: DictConfig, overrides: Sequence[str], plan: Plan, step: Callable[[str], None]
) -> tuple[Probe, pd.DataFrame, LoadedModel]:
    """Tries one model, ``ckpt_path`` being one run or file, on altered images.

    ``overrides`` serve to refuse a preprocessing other than the checkpoint's; ``step`` is told what begins,
    :func:`count_steps` times.

    Returns:
        What was found, the manifest's rows with one column of scores per alteration, and the model.

    Raises:
        UserError: The checkpoint, the data or the lung segmenter cannot be used.
    """
    step("loading the model and the images")
    config, model, datamodule = assemble_evaluation(config, overrides, "probe")
    if plan.saliency is not None:
        plan.saliency.check(model.network, datamodule.preprocessing.shape)
    datamodule.setup()
    split = "val" if config.split == "val" else "test"
    rows = datamodule.rows(split)
    table, images = datamodule.manifest.iloc[rows], datamodule.pixels[rows]
    labels, ids = table["label"].to_numpy(np.int64), mf.people(table).to_numpy()
    seen = known_to(datamodule.manifest, images_of_model(model, None), False, split, datamodule.cache)
    say(f"probing  {model.path}: {len(rows)} {config.split} images of {datamodule.source.name}")
    step("finding the lungs")
    known = None if datamodule.lungs is None else datamodule.lungs[rows]
    lungs = find_lungs(images, known, config.lungs, plan.alterations, asked=plan.asked)
    network_score = TorchScorer(model.network, config.accelerator, config.precision)

    def score(images: Images) -> Floats:
        return model.calibrate(network_score(images))

    of, how = (score, images, lungs, plan.alterations, labels, ids), Resampling(config.resamples, config.seed)
    trials = try_alterations(*of, threshold=model.threshold, how=how, step=step)
    saliency = None
    if plan.saliency is not None:
        step("measuring the saliency maps")
        from cxrlab.steps.saliency import measure  # its library takes a second to import

        some = _sample(labels, config.saliency_images, config.seed)
        masks = lungs.masks[some] if isinstance(lungs, Lungs) else None
        whose = (labels[some], trials.scores["none"][some], ids[some])
        measured = measure(model.network, plan.saliency, images[some], masks, *whose, model.threshold, config.seed)
        saliency = measured.section()
    found = Probe(
        name=datamodule.source.name,
        synthetic=datamodule.source.synthetic,
        split=config.split,
        images=len(rows),
        patients=int(np.unique(ids).size),
        fingerprint=mf.fingerprint(datamodule.manifest),
        seed=config.seed,
        ckpt=str(model.path),
        threshold=model.threshold,
        tried=trials.tried,
        not_tried=trials.not_tried,
        lungs=lungs.words if isinstance(lungs, Lungs) else "",
        without_lungs=int((~lungs.found).sum()) if isinstance(lungs, Lungs) else 0,
        saliency=saliency,
        samples=samples(images, lungs, trials, labels),
        warnings=[*datamodule.warnings, *results.overlap_warnings(seen, model.path.name)],
    )
    named = {("intact" if name == "none" else name): scores for name, scores in trials.scores.items()}
    return found, table.assign(**named), model


def _sample(labels: NDArray[np.int64], most: int, seed: int) -> NDArray[np.int64]:
    """Rows of at most so many images, half of either label where there are as many."""
    rng = np.random.default_rng(seed)
    mixed = [rng.permutation(np.flatnonzero(labels == label)) for label in (0, 1)]
    half = max(most // 2, most - min(len(each) for each in mixed))
    return np.sort(np.concatenate([each[:half] for each in mixed]))


def count_steps(plan: Plan) -> int:
    """How many steps :func:`probe_model` has, those of alterations included that need lungs where none are known."""
    return 3 + len(plan.alterations) + (plan.saliency is not None)


def add_retrained(config: DictConfig, found: Probe | None, rows: pd.DataFrame | None = None) -> Probe:
    """Adds what other runs say to what was found of a model on ``rows``, or begins with it where there is no model.

    Raises:
        UserError: The runs cannot be used.
    """
    how = Resampling(config.resamples, config.seed)
    lines, settings = collect_retrained(config.retrained, how) if config.retrained else ([], [])
    if found is None:
        runs, images = [run for setting in settings for run in setting.runs], settings[0].rows
        found = Probe(
            name=", ".join(sorted(set(images["source"]))),
            synthetic=any(run.synthetic for run in runs),
            split="test",
            images=len(images),
            patients=int(mf.people(images).nunique()),
            fingerprint=mf.fingerprint(runs[0].manifest),
            seed=config.seed,
            warnings=list(dict.fromkeys(str(each) for run in runs for each in run.metrics.get("warnings", ()))),
        )
    warnings = list(found.warnings)
    if rows is not None and settings and set(rows["sha256"]) != set(settings[0].rows["sha256"]):
        warnings.append("the runs of retrained=… were tested on other images than this model was tried on")
    other = read_source_classifier(config.source_classifier, how) if config.source_classifier else None
    return replace(found, retrained=lines, source_classifier=other, warnings=warnings)


def run_folder_of(path: Path) -> RunFolder | None:
    """The run that a checkpoint lies in; ``None`` where it lies anywhere else."""
    folder = RunFolder(path.parent.parent)
    return folder if path.parent.name == "checkpoints" and folder.config.is_file() else None
