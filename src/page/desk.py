"""Where files are examined: by every model, one file at a time for each, with maps and lungs where they are wanted."""

from __future__ import annotations

import threading
import unicodedata
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cxrlab.errors import CheckpointError, ConfigError, check_range
from cxrlab.inference import Examined, Prediction, Predictor
from cxrlab.models.saliency import Saliency
from cxrlab.models.segmenter import Segmenter
from cxrlab.page.pictures import lossless, shrunk
from cxrlab.reading.image import (
    MAX_PIXELS,
    GreyLevels,
    ImageFacts,
    ReadImage,
    UnreadableError,
    read_image_bytes,
    read_levels_bytes,
)

_LONGEST_NAME = 100
_LUNG_SIDE = 1024  # pixels along the longer side of what lungs are looked for in: they are large


@dataclass(frozen=True)
class Opinion:
    """What one model says of a file."""

    predictor: Predictor
    prediction: Prediction
    heat: NDArray[np.float32] | None = None  # its map, shape (height, width) as the network's image, at least 0
    no_heat: str = ""  # why there is none, a sentence; empty where there is one, or none was wanted


@dataclass(frozen=True)
class Case:
    """One file, examined by every model."""

    name: str  # sanitised for display by shown_name
    opinions: tuple[Opinion, ...]  # one per model, at least one
    rgb: NDArray[np.uint8] | None = None  # shape (height, width, 3); None where it is unreadable or was not wanted
    facts: ImageFacts | None = None  # None where it is unreadable
    lungs: NDArray[np.bool_] | None = None  # shape (height, width) of any scale; None where nobody looked
    method: str = ""  # of the maps, for people; empty without any

    @property
    def sha256(self) -> str:
        """Of the file's bytes."""
        return self.opinions[0].prediction.sha256


class Desk:
    """Examines files by their bytes.

    All that is computed of a file is bounded: decoding by time, networks and maps by the fixed size of what they see.

    Args:
        predictors: The models, at least one.
        saliency: Makes maps; ``None``: there are none.
        segment: Finds the lungs that are outlined; ``None``: nothing is outlined.
        max_megapixels: A larger image is refused by its header, in (0, 150].
        seconds: For decoding a file, and 0.25 for each megabyte of it; one that takes longer is refused.

    Raises:
        ConfigError: The method cannot explain one of the networks.
        ValueError: No model, or a limit out of its range.
    """

    def __init__(
        self,
        predictors: Sequence[Predictor],
        *,
        saliency: Saliency | None = None,
        segment: Segmenter | None = None,
        max_megapixels: float = 50,
        seconds: float = 10,
    ) -> None:
        check_range("seconds", seconds, 0, low_open=True)
        check_range("number of models", len(predictors), 1, integer=True)
        check_range("max_megapixels", max_megapixels, 0, MAX_PIXELS / 1e6, low_open=True)
        self.predictors = tuple(predictors)
        self.segment = segment
        self._saliency = saliency
        self._limits = int(max_megapixels * 1e6), seconds
        self._turns = [threading.Lock() for _ in predictors]
        for predictor in predictors:
            if saliency is not None and predictor.network is not None:
                saliency.check(predictor.network, predictor.preprocessing.shape)

    def examine(self, name: str, data: bytes, *, closely: bool = False) -> Case:
        """Examines one file; may be called from several threads, which then take turns at each model.

        Args:
            name: As the client has it; shown, and never opened.
            data: All of the file.
            closely: Whether pixels, maps and lungs are wanted, too.
        """
        name = shown_name(name)
        decoded: Future[ReadImage] = Future()  # once for all models, and in nobody's turn
        try:
            decoded.set_result(read_image_bytes(name, data, *self._limits))
        except UnreadableError as error:
            decoded.set_exception(error)
        opinions = []
        for predictor, turn in zip(self.predictors, self._turns, strict=True):
            with turn:
                examined = predictor.examine(name, decoded.result)
                opinions.append(self._opinion(predictor, examined, closely))
        image = None if decoded.exception() else decoded.result()
        if image is None or not closely:
            return Case(name, tuple(opinions), facts=image and image.facts)
        lungs = None
        # Nothing is outlined on what no model took for a chest X-ray.
        if self.segment is not None and any(opinion.prediction.score is not None for opinion in opinions):
            lungs = np.asarray(self.segment(shrunk(image.pixels, _LUNG_SIDE)[None])[0], dtype=np.bool_)
        method = self._saliency.name if self._saliency else ""
        return Case(name, tuple(opinions), image.pixels, image.facts, lungs, method)

    def film(self, data: bytes) -> tuple[bytes, GreyLevels | None]:
        """Decodes one file for a viewer, which changes brightness and contrast by itself.

        Returns:
            All its pixels as PNG, without loss, and what its grey levels mean. With levels: red and green are the upper
            and lower byte of each level, blue is the grey value that :meth:`examine` saw. Without (8 bits, or colours):
            the picture as it is.

        Raises:
            UnreadableError: As :func:`cxrlab.reading.image.read_image_bytes` does, without the name.
        """
        try:
            pixels, levels = read_levels_bytes("", data, *self._limits)
        except UnreadableError as error:
            raise UnreadableError(str(error).removeprefix(": "), error.sha256) from None
        return lossless(pixels), levels

    def _opinion(self, predictor: Predictor, examined: Examined, closely: bool) -> Opinion:
        said, heat, no_heat = examined.prediction, None, ""
        if closely and self._saliency is not None and said.score is not None and examined.prepared is not None:
            try:
                heat = predictor.explain(examined.prepared, self._saliency)
            except (ConfigError, CheckpointError) as error:  # of an ONNX file, say, which has no gradients
                no_heat = f"No map: {str(error).removeprefix(f'{predictor.model.path}: ')}."
        return Opinion(predictor, said, heat, no_heat)


def shown_name(name: str) -> str:
    """A client's file name, whatever it sent, as it may be shown: one line, no control or direction marks, not long."""
    # Category C is control, format (right-to-left marks among them), surrogate, private and unassigned; Z separators.
    seen = "".join(
        " " if each == " " else "\N{REPLACEMENT CHARACTER}" if unicodedata.category(each)[0] in "CZ" else each
        for each in name
    )
    seen = seen.strip() or "file without a name"
    half = _LONGEST_NAME // 2
    return f"{seen[:half]}…{seen[-half:]}" if len(seen) > _LONGEST_NAME else seen
