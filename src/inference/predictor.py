"""A trained model in use: loaded, files judged and scored; a bad file is a row with its reason, never the end."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from torch import nn

from cxrlab.console import command, tell
from cxrlab.datamodules import Preprocessing
from cxrlab.datamodules.alterations import Alteration
from cxrlab.datamodules.manifest import NAMES
from cxrlab.datamodules.parallel import end
from cxrlab.errors import CheckpointError, ConfigError, check_range
from cxrlab.evaluation.decision import Decided
from cxrlab.evaluation.estimate import Floats
from cxrlab.inference.journal import COLUMNS, NOT_JUDGED, UNREADABLE, Prediction
from cxrlab.inference.scorer import BATCH, Scorer, TorchScorer
from cxrlab.machine.precision import AUTO, fastest
from cxrlab.models.gate import REFUSE, WARN, Gate, Judgement
from cxrlab.models.saliency import Saliency
from cxrlab.models.segmenter import Segmenter
from cxrlab.reading.image import (
    MAX_PIXELS,
    NO_RADIOGRAPH,
    ImageFacts,
    ReadImage,
    UnreadableError,
    image_of_array,
    read_image,
    read_image_bytes,
)
from cxrlab.runs.auxiliary import choose_gate, load_segmenter
from cxrlab.runs.checkpoint import load_model, read_decided

Image = NDArray[np.uint8]
Given = str | os.PathLike[str] | Image
"""An image to look at: a file, or pixels."""

LUNGS = "runs/lungs"
_LUNGS_ONLY = Alteration.parse("lungs_only")


class Model(NamedTuple):
    """What a :class:`Predictor` uses."""

    name: str  # for people: the run folder's name, or the file's
    metadata: dict[str, Any]  # as cxrlab.runs.LoadedModel has them
    fingerprint: str  # SHA-256 over all that decides what is said of an image
    scorer: Scorer
    network: nn.Module | None  # for saliency; None where the file holds none that PyTorch could differentiate
    path: Path


class Examined(NamedTuple):
    """One file, looked at; only the prediction is there where it is unreadable."""

    prediction: Prediction
    rgb: Image | None  # shape (height, width, 3), uint8
    prepared: Image | None  # what the network saw or would see, shape (height, width, channels), uint8
    facts: ImageFacts | None


class Predictor:
    """Judges and scores images with one model, exactly as its checkpoint says.

    Args:
        model: What it uses.
        gate: What judges an image before it is scored; ``None``: nothing does.
        segment: Segments lungs; needed by models that saw lungs only.

    Raises:
        CheckpointError: The model was trained on altered images, or on lungs only and there is nothing that finds them.
    """

    def __init__(self, model: Model, gate: Gate | None, segment: Segmenter | None = None) -> None:
        self.model = model
        self.name = model.name
        self.fingerprint = model.fingerprint
        self.metadata = model.metadata
        self.network = model.network
        self.preprocessing = Preprocessing.from_dict(model.metadata["preprocessing"])
        self.decided: Decided = read_decided(model.metadata, model.path)  # how scores become probabilities and calls
        self.synthetic = bool(model.metadata["data"].get("synthetic"))  # trained on drawn phantoms
        self.gate = gate
        self.segment = segment
        self._lungs_only = _lungs_only(model)
        wanted = model.metadata.get("lungs")
        if self._lungs_only and (segment is None or segment.fingerprint != wanted):
            found = "there is none" if segment is None else f"this one has {segment.fingerprint[:12]}"
            raise CheckpointError(
                f"{model.path}: it was trained on lungs that weights {str(wanted)[:12]} found, and {found}; "
                "name the run of experiment=lungs that it was trained with: lungs=…"
            )

    def warnings(self) -> list[str]:
        """What a reader has to know before the first score."""
        found = ["SYNTHETIC: it was trained on drawn phantoms and knows no patient"] if self.synthetic else []
        found += self.decided.warnings()
        if self.gate is None:
            found.append("the gate is off: whatever is given gets a score, a photograph too")
        elif not self.gate.fingerprint:
            found.append(
                "nothing checks whether an image is a frontal chest X-ray: the model has no gate; "
                f"`{command('train', 'experiment=gate')}` trains one, gate=runs/gate names it"
            )
        elif self.gate.synthetic:
            found.append(
                "the gate is SYNTHETIC: it learned frontal films from drawn phantoms, and may refuse real ones"
            )
        return found

    def predict(self, images: Given | Iterable[Given], batch_size: int = 16) -> pd.DataFrame:
        """Looks at files, or at images that are in memory.

        Args:
            images: One or several: paths, or arrays of shape (height, width) or (height, width, 3), uint8, grey or RGB;
                an array (n, height, width, 3) is n images. They may have any size.
            batch_size: Images that are scored together, at least 1.

        Returns:
            One row per image, in order, with the columns of :class:`cxrlab.inference.Prediction`; what cannot be read,
            or is refused, has no score and says why. An array's ``file`` is ``array 0`` by its place, and its
            ``sha256`` is that of its pixels.

        Raises:
            ValueError: An array of another shape or type, before anything is scored.
        """
        if isinstance(images, str | os.PathLike) or (isinstance(images, np.ndarray) and images.ndim < 4):
            images = [images]
        listed = [os.fspath(each) if isinstance(each, str | os.PathLike) else _check_array(each) for each in images]
        console = Console(stderr=True)
        rows = track(
            self.look(listed, batch_size),
            "looking at images",
            len(listed),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        table = pd.DataFrame([row.as_dict() for row, _ in rows], columns=list(COLUMNS))
        return table.astype({"score": float, "probability": float, "threshold": float})

    def look(self, images: Sequence[str | Image], batch_size: int = 16) -> Iterator[tuple[Prediction, Image | None]]:
        """Looks at files, or arrays as :meth:`predict` takes them, reading ahead in threads while the network works.

        Yields:
            In order, what is said of each, and what the network saw of it; ``None`` where it saw nothing.
        """
        check_range("batch_size", batch_size, 1, integer=True)
        waiting: deque[Future[Examined]] = deque()

        def see(number: int, image: str | Image) -> Examined:
            if isinstance(image, str):
                seen = self._see(image, partial(read_image, image))
            else:
                seen = self._see(f"array {number}", partial(image_of_array, image))
            return seen._replace(rgb=None)  # of many files, pixels in full size would fill the memory

        def in_order() -> Iterator[Examined]:
            for number, image in enumerate(images):
                waiting.append(pool.submit(see, number, image))
                if len(waiting) > batch_size:  # so many are read ahead, and no more are in memory
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()

        with ThreadPoolExecutor(os.cpu_count()) as pool:
            try:
                seen = in_order()
                while batch := list(islice(seen, batch_size)):
                    for each in self._scored(batch):
                        yield each.prediction, None if each.prediction.score is None else each.prepared
            finally:
                end(pool, waiting)

    def _see(self, name: str, read: Callable[[], ReadImage]) -> Examined:
        """An image, judged and prepared, but not scored."""
        rgb, facts, prepared = None, None, None
        try:
            rgb, sha256, facts = read()
        except UnreadableError as error:
            sha256 = error.sha256
            judgement = Judgement(REFUSE, UNREADABLE, str(error).removeprefix(f"{name}: "))  # the name stands beside it
        else:
            judgement = Judgement(NOT_JUDGED, "") if self.gate is None else self.gate([rgb])[0]
            judgement = _with_doubts(judgement, facts.doubts)
            prepared = self.prepare(rgb)
        prediction = Prediction(
            file=name,
            sha256=sha256,
            verdict=judgement.verdict,
            kind=judgement.kind,
            reason=judgement.reason,
            score=None,
            probability=None,
            label="",
            threshold=self.decided.threshold,
            model=self.fingerprint,
            gate=self.gate.fingerprint if self.gate else "",
        )
        return Examined(prediction, rgb, prepared, facts)

    def _scored(self, seen: Sequence[Examined]) -> Iterator[Examined]:
        """The same with scores, but for what was refused."""
        chosen = [each.prepared for each in seen if each.prepared is not None and each.prediction.verdict != REFUSE]
        scores = iter(self.scores(np.stack(chosen)) if chosen else ())
        for each in seen:
            if each.prediction.verdict == REFUSE:
                yield each
                continue
            score = float(next(scores))
            probability = float(self.decided.calibration([score])[0])
            label = NAMES[int(probability >= self.decided.threshold)]
            scored = replace(each.prediction, score=score, probability=probability, label=label)
            yield each._replace(prediction=scored)

    def examine(self, name: str, data: bytes | Callable[[], ReadImage], max_pixels: int = MAX_PIXELS) -> Examined:
        """Looks at one file; nothing of its name is opened.

        Args:
            name: What the file is called.
            data: All of it; or what gives the image, or raises UnreadableError.
            max_pixels: A larger image is refused before it is decoded; at most 150 million.
        """
        read = partial(read_image_bytes, name, data, max_pixels) if isinstance(data, bytes) else data
        return next(self._scored([self._see(name, read)]))

    def prepare(self, rgb: Image) -> Image:
        """An image (height, width, 3), uint8, as the network sees it, shape (height, width, channels), uint8."""
        prepared = self.preprocessing.apply(rgb)
        if not self._lungs_only or self.segment is None:
            return prepared
        masked: Image = _LUNGS_ONLY.apply(prepared[None], self.segment(prepared[None]))[0]
        return masked

    def scores(self, prepared: Image) -> Floats:
        """The network's scores, float64 (n,), in [0, 1], of prepared images (n, height, width, channels), uint8."""
        return self.model.scorer(prepared)

    def explain(self, prepared: Image, saliency: Saliency) -> NDArray[np.float32]:
        """Where the network found evidence for Positive.

        Args:
            prepared: One image as :meth:`prepare` gives it.
            saliency: How the map is made.

        Returns:
            Shape (height, width), float32, at least 0; the scale is the method's own.

        Raises:
            CheckpointError: The file holds no network that can be explained (ONNX).
            ConfigError: The method cannot explain this network.
        """
        if self.network is None:
            raise CheckpointError(
                f"{self.model.path}: maps of saliency need gradients, which this file cannot give; use the checkpoint "
                "that it was exported from, or saliency=none"
            )
        heat: NDArray[np.float32] = saliency(self.network, Preprocessing.to_float(torch.from_numpy(prepared[None])))[0]
        return heat


def load(
    ckpt_path: str | os.PathLike[str],
    *,
    gate: str | None = None,
    lungs: str = LUNGS,
    trusted: Sequence[str] = (),
    accelerator: str = "auto",
    precision: str | None = None,
    network: nn.Module | None = None,
    preprocessing: Preprocessing | None = None,
) -> Predictor:
    """Loads a trained model to use it: ``cxrlab.load("runs/…").predict(paths)``.

    Args:
        ckpt_path: A run folder, a ``.ckpt`` file, or an ``.onnx`` file of ``src/export.py``.
        gate: What judges an image before it is scored: a run of ``experiment=gate``, a folder above some, a ``.ckpt``
            file, or ``none``; ``None`` takes the one that travels in the checkpoint, and where there is none, rules
            that need no training: size, colour, blankness.
        lungs: The lung segmenter, for models that saw lungs only: a run of ``experiment=lungs`` likewise.
        trusted: Packages beside ``cxrlab.models`` whose networks a checkpoint may name.
        accelerator: ``auto``, ``cpu``, ``gpu`` or ``mps``.
        precision: ``None`` takes the precision that the model was trained with, ``auto`` measures which is faster.
        network: Gets the weights, as a copy: the network of a checkpoint that a plain ``pl.Trainer`` wrote with a
            :class:`~cxrlab.models.ClassifierModule`, which does not say what network that was; or one of your own.
        preprocessing: Of such a checkpoint, where the images came from no
            :class:`~cxrlab.datamodules.ChestXRayDataModule`, which would have written it there.

    Raises:
        CheckpointError: The model, the gate or the lung segmenter cannot be used; names the file.
        ConfigError: An ``.onnx`` file runs on the CPU in the precision that is in it, and holds its network.
    """
    path = Path(ckpt_path).expanduser()
    if path.suffix.lower() == ".onnx":
        if accelerator not in ("auto", "cpu") or precision not in (None, "32-true"):
            raise ConfigError(f"{path}: an .onnx file runs on the CPU in float32; leave out accelerator and precision")
        if network is not None or preprocessing is not None:
            raise ConfigError(f"{path}: an .onnx file holds its network; leave out network and preprocessing")
        from cxrlab.inference.onnx_file import OnnxScorer

        onnx = OnnxScorer(path)
        model, own_gate = Model(path.stem, onnx.metadata, onnx.fingerprint, onnx, None, path), onnx.gate
    else:
        loaded = load_model(path, trusted, network, preprocessing)
        if precision is None:
            precision = loaded.metadata["config"].get("trainer", {}).get("precision")
        if precision is None:
            raise CheckpointError(f"{loaded.path}: does not say its precision; precision=32-true names one")
        if precision == AUTO:
            size = Preprocessing.from_dict(loaded.metadata["preprocessing"]).shape
            precision, reason = fastest(loaded.network, (BATCH, *size), accelerator, training=False)
            tell(f"precision=auto: {reason}", error=True)  # not where a program may read JSON
        scorer = TorchScorer(loaded.network, accelerator, precision)
        name = path.name if path.is_dir() else path.stem
        model = Model(name, loaded.metadata, loaded.fingerprint, scorer, loaded.network, loaded.path)
        own_gate = loaded.gate
    segment = load_segmenter(lungs) if _lungs_only(model) else None
    return Predictor(model, choose_gate(gate, own_gate or Gate()), segment)


def _lungs_only(model: Model) -> bool:
    """Whether a model saw lungs only; one that was trained on altered images is refused."""
    data = model.metadata["config"].get("data", {})
    if data.get("alter") not in (None, "none"):
        raise CheckpointError(
            f"{model.path}: it was trained on altered images (data.alter={data['alter']}): an experiment's network, "
            "not for use; src/evaluate.py evaluates it"
        )
    return data.get("mask") is not None


def _check_array(image: Any) -> Image:
    if not isinstance(image, np.ndarray):
        raise ValueError(f"images must be paths or numpy arrays, got {type(image).__name__}; np.asarray(…) may do")
    if image.dtype != np.uint8 or image.ndim not in (2, 3) or image.shape[2:] not in ((), (3,)) or not image.size:
        raise ValueError(
            "an image must be an array (height, width) or (height, width, 3), uint8 from 0 (black) to 255, "
            f"got {image.dtype} of shape {image.shape}"
        )
    return image


def _with_doubts(judgement: Judgement, doubts: str) -> Judgement:
    """What the gate says, with what the header says: that it is no radiograph refuses it, unless the gate is off."""
    if not doubts:
        return judgement
    said = f"its header says: {doubts}"
    judged = judgement.verdict not in (NOT_JUDGED, REFUSE)
    if judged and NO_RADIOGRAPH in doubts:
        return Judgement(REFUSE, "no_radiograph", f"{said}; leave it out, or gate=none scores it all the same")
    reason = "; ".join(filter(None, [said, judgement.reason]))
    return replace(judgement, verdict=WARN if judged else judgement.verdict, reason=reason)
