"""The steps of a matrix: train what is not there yet, score every place, remove what was trained on, count."""

from __future__ import annotations

import copy
import hashlib
import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from omegaconf import DictConfig, OmegaConf
from threadpoolctl import threadpool_limits

from cxrlab import __version__
from cxrlab.config import Problems, compose
from cxrlab.console import hushed, say
from cxrlab.datamodules import ChestXRayDataModule
from cxrlab.datamodules import manifest as mf
from cxrlab.datamodules.cache import key_of
from cxrlab.errors import ConfigError, DataError, UserError
from cxrlab.evaluation import matrix as statistics
from cxrlab.evaluation.estimate import Estimate
from cxrlab.evaluation.matrix import Answers
from cxrlab.files import file_sha256, write_csv
from cxrlab.locks import claimed
from cxrlab.models import ClassifierModule
from cxrlab.reports.matrix_page import Cell, Matrix
from cxrlab.runs import RunFolder
from cxrlab.steps import results
from cxrlab.steps.assembly import assemble, assemble_evaluation
from cxrlab.steps.edges import Edge, Edges
from cxrlab.steps.matrix_plan import Column, Plan, Row
from cxrlab.steps.overlap import Pool, chose_weights, images_of_run, pool, shared

Failure = tuple[str, str]
"""What could not be done, and why."""
Train = Callable[[DictConfig, list[str]], tuple[dict[str, Any], dict[str, Any]]]
"""``cxrlab.train.train``."""

Step = Callable[[str], None]
"""Is told what begins, see :func:`cxrlab.console.working`."""


@dataclass(frozen=True)
class Training:
    """One training that is to be there: a row under a seed."""

    row: Row
    seed: int
    config: DictConfig
    typed: list[str]
    run: RunFolder


@dataclass(frozen=True)
class Trained:
    """Weights to be tested.

    Attributes:
        seed: In words.
        trained: Rows of the images that it was trained and validated on; ``None`` where they are not known.
    """

    row: str
    seed: str
    weights: Path
    trained: pd.DataFrame | None


@dataclass(frozen=True)
class Place:
    """A column before it is scored: its configuration for ``evaluate.py``, and what its source says."""

    column: Column
    config: DictConfig
    listing: str
    facts: dict[str, Any]
    cache: Path | None


@dataclass
class Scores:
    """What was scored, by row and column: one table per seed, and whether the row was trained on this place.

    ``synthetic`` tells whether a model was trained on drawn images.
    """

    tables: dict[tuple[str, str], list[pd.DataFrame]] = field(default_factory=dict)
    internal: dict[tuple[str, str], bool] = field(default_factory=dict)
    synthetic: bool = False
    failures: list[Failure] = field(default_factory=list)


# What is to be done ---------------------------------------------------------------------------------------------------


def plan_trainings(plan: Plan) -> list[Training]:
    """Composes and checks every training, and lists its images; nothing is trained yet.

    Raises:
        UserError: A recipe is wrong, or a set is not there; names the row.
    """
    found = []
    for row in plan.rows:
        if row.data is not None:
            with _named(row.name):
                found += _trainings(plan, row, [*plan.recipe, *row.data])
    return found


def _trainings(plan: Plan, row: Row, typed: list[str]) -> list[Training]:
    composed = compose("train", typed, plan.runs / row.name)
    listing = _state(_listed(composed))
    trainings = []
    for seed in plan.seeds:
        config = copy.deepcopy(composed)
        config.seed = seed
        plain = OmegaConf.to_container(config, resolve=True)
        assert isinstance(plain, dict)
        # Named by what a training depends on: its settings and its images, not where it is written.
        kept = {key: value for key, value in plain.items() if key not in _NO_RESULT}
        run = RunFolder(plan.runs / f"{row.name}-seed{seed}-{_hash(__version__, kept, listing)}")
        config.output_dir = str(run.path)
        trainings.append(Training(row, seed, config, [*typed, f"seed={seed}"], run))
    if any(each.run.status() != "finished" for each in trainings):
        assemble(trainings[0].config)
    return trainings


def find_places(plan: Plan) -> list[Place]:
    """Lists every column's images; no pixel is read.

    Raises:
        UserError: A set is not there; names the column.
    """
    places = []
    for column in plan.columns:
        with _named(column.name):
            typed = [*column.data, "ckpt_path=none", f"split={plan.images}", f"accelerator={plan.accelerator}"]
            config = compose("evaluate", typed, plan.runs)
            config.lungs, config.trusted = plan.lungs, list(plan.trusted)
            datamodule = _listed(config)
            listing, source = _state(datamodule), datamodule.source
            facts: dict[str, Any] = {"name": column.name, "what": " ".join(column.data), "claim": source.claim}
            facts |= {"notes": list(source.notes), "synthetic": source.synthetic}
            places.append(Place(column, config, listing, facts, datamodule.cache))
    return places


def _listed(config: DictConfig) -> ChestXRayDataModule:
    problems = Problems()
    datamodule = problems.build(config, "data")
    problems.raise_if_any()
    if not isinstance(datamodule, ChestXRayDataModule):
        raise ConfigError("no set of labelled images: its data node builds something else; name another one")
    return datamodule


@contextmanager
def _named(name: str) -> Iterator[None]:
    """Says before a user's mistake which row or column it concerns."""
    try:
        yield
    except UserError as error:
        raise type(error)(f"{name}: {error}") from None


def _state(datamodule: ChestXRayDataModule) -> str:
    """Changes with the images that are listed, their files, labels, patients and splits; reads no image.

    Raises:
        DataError: Images are missing; this is checked before anything is trained.
    """
    manifest = datamodule.list_images()
    files = {path: key_of(path) for path in manifest["path"]}
    absent = [path for path, state in files.items() if state is None]
    if absent and (datamodule.on_error == "raise" or len(absent) == len(files)):
        raise DataError(
            f"{len(absent)} of {len(files)} images are not there, the first: {absent[0]}; put them there, or leave "
            'them out, which is an option of a set: sets={name: "data=… data.on_error=skip"}'
        )
    columns = manifest[["path", "label", "patient_id", "split"]].itertuples(index=False)
    lines = [f"{files[path]} {label} {patient} {split}" for path, label, patient, split in columns]
    return hashlib.sha256("\n".join(lines).encode(errors="surrogateescape")).hexdigest()


_NO_RESULT = ("output_dir", "ckpt_path", "callbacks", "logger", "paths", "tags", "print_config")


def _hash(*values: Any) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True, default=str).encode()).hexdigest()[:12]


# Training -------------------------------------------------------------------------------------------------------------


def train_all(
    plan: Plan, trainings: Sequence[Training], train: Train, step: Step
) -> tuple[list[Trained], list[Failure]]:
    """Trains what is not there, goes on with what was killed, and finds the checkpoints that were named.

    Returns:
        What can be tested, and why the rest cannot.

    Raises:
        KeyboardInterrupt: A training was interrupted; what was finished is kept.
    """
    done: list[Trained] = []
    failures: list[Failure] = []
    for row in plan.rows:
        for checkpoint in row.checkpoints:
            with _spared(f"{row.name}: {checkpoint}", failures):
                path = Path(checkpoint).expanduser()
                file = path.is_file()
                run = RunFolder(path.parent.parent) if file else RunFolder.of(path)  # a .ckpt file needs no folder
                weights = path if file else run.weights()
                done.append(Trained(row.name, "of the checkpoint", weights, _trained_on(run)))
        for training in (each for each in trainings if each.row is row):
            label = f"{row.name} seed {training.seed}"
            step(f"training {label}")
            with _spared(label, failures):
                _train(training, train, label)
                run = training.run
                done.append(Trained(row.name, str(training.seed), run.weights(), _trained_on(run)))
    return done, failures


@contextmanager
def _spared(label: str, failures: list[Failure]) -> Iterator[None]:
    """Lets a failure not cost the others: a user's mistake, or a network out of memory."""
    try:
        yield
    except (UserError, RuntimeError) as error:
        failures.append((label, str(error)))
        say(f"FAILED   {label}: {str(error).partition(chr(10))[0]}")


def _train(training: Training, train: Train, label: str) -> None:
    run = training.run
    run.path.mkdir(parents=True, exist_ok=True)
    with claimed(run.path, wait=True):
        if run.status() == "finished":
            say(f"found    {label}: {run.path}")
            return
        began = time.monotonic()
        goes_on = run.config.is_file()
        training.config.ckpt_path = str(run.path) if goes_on else None
        with hushed():  # its own lines are in the log
            metrics, _ = train(training.config, training.typed)
    if metrics["status"] == "interrupted":
        raise KeyboardInterrupt
    auroc = (metrics.get("test") or {}).get("auroc")
    result = f", AUROC on its test images {auroc}" if isinstance(auroc, Estimate) else ""
    verb = "went on" if goes_on else "trained"
    say(f"{verb:<8} {label}: {metrics['epochs']} epochs, {time.monotonic() - began:.0f} s{result}")


def _trained_on(run: RunFolder) -> pd.DataFrame | None:
    """The images that chose the weights."""
    manifest = images_of_run(run)
    return None if manifest is None else chose_weights(manifest)


# Scoring --------------------------------------------------------------------------------------------------------------


def score_all(plan: Plan, trained: Sequence[Trained], places: Sequence[Place], step: Step) -> Scores:
    """Scores every place with every model; what was scored before is read."""
    scores = Scores()
    for place in places:
        last: dict[str, ChestXRayDataModule | UserError] = {}  # images of one place are read once for all seeds
        for model in trained:
            label = f"{model.row} seed {model.seed} on {place.column.name}"
            step(f"scoring {label}")
            with _spared(label, scores.failures):
                _score(plan, model, place, last, scores)
    return scores


def _score(
    plan: Plan, model: Trained, place: Place, last: dict[str, ChestXRayDataModule | UserError], scores: Scores
) -> None:
    config = copy.deepcopy(place.config)
    config.ckpt_path = str(model.weights)
    config, loaded, datamodule = assemble_evaluation(config, ())
    data = OmegaConf.to_container(config.data, resolve=True)
    lungs = getattr(datamodule.segment, "fingerprint", None)
    key = _hash(__version__, file_sha256(model.weights), data, place.listing, plan.images, lungs)
    name = f"{Path(model.row).name}-{model.seed}-on-{place.column.name}-{key}.csv".replace(" ", "_")
    file = plan.runs / "scores" / name
    if not file.is_file():
        began = time.monotonic()
        module, read = ClassifierModule(loaded.network), _read(datamodule, _hash(data, lungs), last)
        table = results.score(module, read, config.accelerator, config.precision, ("test",))["test"].predictions
        # By the calibration and threshold of the checkpoint.
        called = loaded.calibrate(table["score"].to_numpy()) >= loaded.threshold
        write_csv(file, table.assign(called=called.astype(int)))
        seconds = time.monotonic() - began
        say(f"scored   {model.row} seed {model.seed} on {place.column.name}: {len(table)} images, {seconds:.1f} s")
    pair = (model.row, place.column.name)
    scores.tables.setdefault(pair, []).append(mf.read(file))
    own = loaded.metadata["config"]["data"].get("source") == data["source"]  # type: ignore[index, call-overload]
    scores.internal[pair] = scores.internal.get(pair, True) and (own or model.row == place.column.name)
    scores.synthetic |= bool(loaded.metadata["data"].get("synthetic"))


def _read(
    datamodule: ChestXRayDataModule, images: str, last: dict[str, ChestXRayDataModule | UserError]
) -> ChestXRayDataModule:
    """Reads images, unless they are the last that were read; what cannot be read is tried once, too."""
    if images not in last:
        last.clear()
        try:
            datamodule.setup()
            last[images] = datamodule
        except UserError as error:
            last[images] = error
    found = last[images]
    if isinstance(found, UserError):
        raise found
    return found


# Counting -------------------------------------------------------------------------------------------------------------


def measure_matrix(
    plan: Plan,
    trained: Sequence[Trained],
    places: Sequence[Place],
    scores: Scores,
    failures: Sequence[Failure],
    step: Step,
) -> Matrix:
    """Removes what was trained on from every cell, and counts; ``failures`` are those of the trainings."""
    known = {row.name: _of_row(trained, row.name) for row in plan.rows}
    tables = [table for each in scores.tables.values() for table in each[:1]]
    manifests = [*tables, *(table for table in known.values() if table is not None)]
    images = pool(manifests, places[0].cache) if manifests else None
    cells: list[Cell] = []
    answers: dict[tuple[str, str], tuple[pd.Series, Answers]] = {}
    with threadpool_limits(limits=1, user_api="blas"):  # small matrices: threads would wait for one another
        if images is not None:
            edges = Edges(images, plan.how)
            for row in plan.rows:
                step(f"comparing {row.name}")
                lung_free_models = edges.train(known[row.name])
                for pair in ((row.name, column.name) for column in plan.columns):
                    if pair in scores.tables:
                        cell, answers[pair] = _cell(plan, scores, images, pair, known[row.name], lung_free_models)
                        cells.append(cell)
    reasons: dict[str, list[str]] = {}  # what failed for one reason is told in one sentence
    for label, reason in (*failures, *scores.failures):
        reasons.setdefault(reason, []).append(label)
    drops, pairs = _compared(plan, cells, answers)
    return Matrix(
        images=plan.images,
        synthetic=scores.synthetic or any(place.facts["synthetic"] for place in places),
        rows=[_row_facts(plan, row, trained, known[row.name], images) for row in plan.rows],
        columns=[place.facts for place in places],
        cells=cells,
        drops=drops,
        pairs=pairs,
        failures=[f"{', '.join(those)}: {reason.partition(chr(10))[0]}" for reason, those in reasons.items()],
        notes=_notes(cells, known),
    )


def _of_row(trained: Sequence[Trained], row: str) -> pd.DataFrame | None:
    """Every image that any seed of a row was trained on; ``None`` where one of them does not know."""
    tables = [model.trained for model in trained if model.row == row]
    if not tables or any(table is None for table in tables):
        return None
    return pd.concat([table for table in tables if table is not None]).drop_duplicates("path").reset_index(drop=True)


def _cell(
    plan: Plan,
    scores: Scores,
    images: Pool,
    pair: tuple[str, str],
    known: pd.DataFrame | None,
    lung_free_models: dict[str, Edge],
) -> tuple[Cell, tuple[pd.Series, Answers]]:
    tables = scores.tables[pair]
    common = shared(images, tables[0], known)
    kept = tables[0][common.kept]
    paths = kept["path"]
    own = [table.set_index("path").loc[paths] for table in tables]
    found = Answers(
        labels=kept["label"].to_numpy() == 1,
        scores=np.stack([table["score"].to_numpy(np.float64) for table in own]),
        called=np.stack([table["called"].to_numpy() == 1 for table in own]),
        patients=images.persons(paths),
    )
    able = {} if found.undefined else lung_free_models
    edges = {name: edge.tested(paths, found, plan.how) for name, edge in able.items()}
    chosen_by = {
        name: edge["training"] for name, edge in edges.items() if edge["lung_free"] and edge["training"] is not None
    }
    counted = {"films": common.films, "patients": common.people, "removed": common.images}
    cell = Cell(
        row=pair[0],
        column=pair[1],
        internal=scores.internal[pair],
        shared={
            "images": len(tables[0]),
            **{name: None if known is None else count for name, count in counted.items()},
            "unread": common.unread,
            "checked": known is not None,
        },
        numbers=statistics.cell(found, plan.how),
        lung_free=edges,
        best=max(chosen_by, key=chosen_by.__getitem__, default=""),  # the first of equals
    )
    return cell, (paths, found)


def _compared(
    plan: Plan, cells: Sequence[Cell], answers: dict[tuple[str, str], tuple[pd.Series, Answers]]
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """What is lost between cells, and what other rows are worth on a row's own held-out images."""
    drops: list[dict[str, Any]] = []
    pairs: list[dict[str, Any]] = []
    for row in (each.name for each in plan.rows):
        # The row on its own held-out images: on the column of its name, or else on one of the same source.
        internal = [cell for cell in cells if cell.row == row and cell.internal]
        own = next((cell for cell in internal if cell.column == row), internal[0] if internal else None)
        if own is None:
            continue
        paths, inside = answers[own.row, own.column]
        for cell in (cell for cell in cells if not cell.internal):
            if cell.row == row:
                drop = statistics.drop(own.numbers["auroc"], cell.numbers["auroc"])
                drops.append({"row": row, "internal": own.column, "external": cell.column, "drop": drop})
            elif cell.column == own.column:
                others, outside = answers[cell.row, cell.column]
                both = [path for path in paths if path in set(others)]
                one = inside.take(pd.Index(paths).get_indexer(both))
                other = outside.take(pd.Index(others).get_indexer(both))
                entry = {"column": own.column, "own": row, "other": cell.row, "n": len(both)}
                pairs.append({**entry, "difference": statistics.paired(one, other, plan.how)})
    return drops, pairs


def _row_facts(
    plan: Plan, row: Row, trained: Sequence[Trained], known: pd.DataFrame | None, images: Pool | None
) -> dict[str, Any]:
    own = [model for model in trained if model.row == row.name]
    what = "trained before" if row.data is None else " ".join([*row.data, *plan.recipe])
    size = None if known is None else len(known)
    people = None if known is None or images is None else int(np.unique(images.persons(known["path"])).size)
    runs = [str(model.weights.parent.parent) for model in own]
    facts = {"name": row.name, "what": what, "seeds": [model.seed for model in own]}
    return facts | {"images": size, "patients": people, "runs": runs}


def _notes(cells: Sequence[Cell], known: dict[str, pd.DataFrame | None]) -> list[str]:
    tested = {cell.row: cell.shared["unread"] for cell in cells}
    return [
        f"{row}: on which images it was trained (manifest.csv of its run is not there), so nothing could be removed"
        for row, table in known.items()
        if table is None and row in tested
    ] + [
        f"{row}: copies and crops of {count} training images that cannot be read any more"
        for row, count in tested.items()
        if count
    ]
