"""cxrlab: train chest X-ray classifiers, and find out what their numbers are worth."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cxrlab.inference import Predictor

__version__ = "0.1.0"

# albumentations asks a server for its newest version whenever it is imported; nothing here calls out unless asked to.
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")


def load(ckpt_path: str | os.PathLike[str], **options: Any) -> Predictor:
    """Loads a trained model to use it: ``cxrlab.load("runs/….ckpt").predict(paths)``.

    Args:
        ckpt_path: A run folder, a ``.ckpt`` file, or an ``.onnx`` file of ``src/export.py``.
        **options: See :func:`cxrlab.inference.loading.load`: ``gate``, ``lungs``, ``trusted``, ``accelerator``,
            ``precision``.
    """
    from cxrlab.inference import load as load_predictor  # not above: PyTorch takes seconds to import

    return load_predictor(ckpt_path, **options)
