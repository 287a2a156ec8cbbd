"""Runs the paper's network in Keras and writes down what it answers, for test_keras_parity.py.

The full network's weights take 96 MB, so they are not stored: they are drawn from a seeded NumPy generator, on Keras's
side here and on ours in the test, and a checksum tells a changed draw from a wrong network. Stored are only Keras's
answers to synthetic images, to the 40 test images of the paper's data set (names and scores, no pixels), and, for a
small configuration, the output of every layer.

Run from the repository root, with the paper's data set under $CXRLAB_DATA (default: data):

    pip install keras tensorflow-cpu opencv-python-headless
    KERAS_BACKEND=tensorflow CXRLAB_DATA=data python tests/models/make_keras_fixture.py

The stored answers are TensorFlow's, whose layers were written apart from PyTorch's (their innermost loops may both come
from oneDNN); KERAS_BACKEND=torch works as well. Nothing of cxrlab or torch is needed: a separate environment will do.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).parent
SCORES_FILE = HERE / "keras_parity.json"
LAYERS_FILE = HERE / "keras_parity_layers.npz"
SEED = 2023
SMALL_SEED = 7
SYNTHETIC_IMAGES = 6
GAIN = {"dense_1/kernel": 8.0}
OTHER_GAIN = 2.0
"""Multiples of Glorot's scale, chosen with the seeds so that the scores spread over (0, 1)."""


@dataclass(frozen=True)
class Shape:
    """The sizes that define one configuration of the paper's network."""

    height: int = 224
    width: int = 224
    channels: int = 3
    filters: tuple[int, int, int] = (32, 64, 128)
    dense_units: int = 64


FULL = Shape()
SMALL = Shape(height=24, width=20, filters=(4, 6, 8), dense_units=5)


def weight_shapes(shape: Shape) -> dict[str, tuple[int, ...]]:
    """Name and shape of every array, in the layout and order of Keras."""
    first, second, third = shape.filters
    rows, columns = (((side - 4) // 2 - 2) // 2 for side in (shape.height, shape.width))
    kernels = {
        "conv2d": (3, 3, shape.channels, first),
        "conv2d_1": (3, 3, first, second),
        "conv2d_2": (3, 3, second, third),
        "dense": (rows * columns * third, shape.dense_units),
        "dense_1": (shape.dense_units, 1),
    }
    arrays: dict[str, tuple[int, ...]] = {}
    for layer, kernel in kernels.items():
        arrays |= {f"{layer}/kernel": kernel, f"{layer}/bias": kernel[-1:]}
    return arrays


def draw_weights(shape: Shape, seed: int = SEED) -> dict[str, np.ndarray]:
    """Draws float32 weights: kernels uniform at a multiple of Glorot's scale, biases within 0.1."""
    random = np.random.default_rng(seed)
    weights: dict[str, np.ndarray] = {}
    for name, size in weight_shapes(shape).items():
        fan = math.prod(size[:-2]) * sum(size[-2:])
        limit = GAIN.get(name, OTHER_GAIN) * math.sqrt(6 / fan) if name.endswith("kernel") else 0.1
        weights[name] = (random.random(size, dtype=np.float32) * 2 - 1) * np.float32(limit)
    return weights


def draw_images(shape: Shape, count: int, seed: int = SEED) -> np.ndarray:
    """Draws mosaics of grey and coloured tiles, each image brighter than the one before: (N, H, W, C) in [0, 1]."""
    random = np.random.default_rng(seed + 1)
    tile = max(1, shape.height // 14)
    rows, columns = -(-shape.height // tile), -(-shape.width // tile)
    tiles = random.random((count, rows, columns, shape.channels), dtype=np.float32)
    mosaics = tiles.repeat(tile, axis=1).repeat(tile, axis=2)[:, : shape.height, : shape.width]
    brightness = np.linspace(0.2, 1, count, dtype=np.float32).reshape(-1, 1, 1, 1)
    return mosaics * brightness


def read_images(files: list[Path]) -> np.ndarray:
    """Reads images as the paper does: BGR to RGB, 224 x 224 bilinear, divided by 255; (N, 224, 224, 3) float32."""
    import cv2

    def read(file: Path) -> np.ndarray:
        image = cv2.imread(str(file))
        if image is None:
            raise ValueError(f"cannot read {file}")
        return cv2.resize(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), (224, 224), interpolation=cv2.INTER_LINEAR)

    return np.stack([read(file) for file in files]).astype(np.float32) / 255


def paper_test_files() -> list[Path]:
    """The 40 test images in sorted order, or none where the data set is absent."""
    folder = Path(os.environ.get("CXRLAB_DATA", "data")) / "xray_dataset_covid19" / "test"
    return sorted(file for file in folder.glob("*/*") if file.is_file())


def checksum(*arrays: np.ndarray) -> str:
    """SHA-256 over the bytes of float32 arrays."""
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(np.ascontiguousarray(array, dtype="<f4").data)
    return digest.hexdigest()


def build_keras(shape: Shape, weights: dict[str, np.ndarray]) -> Any:
    """Builds the paper's network (Fig. 6) with Keras's own layers and sets its weights."""
    import keras  # type: ignore[import-not-found, import-untyped, unused-ignore]
    from keras import layers  # type: ignore[import-not-found, import-untyped, unused-ignore]

    first, second, third = shape.filters
    model = keras.Sequential(
        [
            keras.Input((shape.height, shape.width, shape.channels)),
            layers.Conv2D(first, 3, activation="relu", name="conv2d"),
            layers.Conv2D(second, 3, activation="relu", name="conv2d_1"),
            layers.MaxPooling2D(2, name="max_pooling2d"),
            layers.Dropout(0.25, name="dropout"),
            layers.Conv2D(third, 3, activation="relu", name="conv2d_2"),
            layers.MaxPooling2D(2, name="max_pooling2d_1"),
            layers.Dropout(0.25, name="dropout_1"),
            layers.Flatten(name="flatten"),
            layers.Dense(shape.dense_units, activation="relu", name="dense"),
            layers.Dropout(0.5, name="dropout_2"),
            layers.Dense(1, activation="sigmoid", name="dense_1"),
        ],
        name="sequential",
    )
    model.set_weights(list(weights.values()))
    return model


def keras_scores(model: Any, images: np.ndarray) -> np.ndarray:
    """Keras's probabilities of class Positive: (N,)."""
    return np.asarray(model.predict(images, batch_size=8, verbose=0))[:, 0]


def keras_layers(model: Any, images: np.ndarray) -> dict[str, np.ndarray]:
    """The output of every layer by name, and the logits (the last layer without its sigmoid)."""
    import keras  # type: ignore[import-not-found, import-untyped, unused-ignore]

    layers = {layer.name: layer.output for layer in model.layers if "dropout" not in layer.name}
    outputs = keras.Model(model.inputs, layers).predict(images, verbose=0)
    outputs = {name: np.asarray(output) for name, output in outputs.items()}
    model.layers[-1].activation = keras.activations.linear
    logits = keras.Sequential([keras.Input(model.input_shape[1:]), *model.layers]).predict(images, verbose=0)
    return {**outputs, "logits": np.asarray(logits)}


def main() -> None:
    """Writes the two fixture files beside this script."""
    import keras  # type: ignore[import-not-found, import-untyped, unused-ignore]

    weights = draw_weights(FULL)
    model = build_keras(FULL, weights)
    files = paper_test_files()
    if not files:
        raise SystemExit("no xray_dataset_covid19/test under $CXRLAB_DATA (default: data)")
    real = read_images(files)
    record = {
        "made_by": f"keras {keras.__version__} on {keras.backend.backend()}, numpy {np.__version__}",
        "weights_sha256": checksum(*weights.values()),
        "synthetic_sha256": checksum(draw_images(FULL, SYNTHETIC_IMAGES)),
        "synthetic_scores": keras_scores(model, draw_images(FULL, SYNTHETIC_IMAGES)).tolist(),
        "real_sha256": checksum(real),
        "real_scores": {
            f"{file.parent.name}/{file.name}": float(score)
            for file, score in zip(files, keras_scores(model, real), strict=True)
        },
    }
    SCORES_FILE.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")

    weights, images = draw_weights(SMALL, SMALL_SEED), draw_images(SMALL, 2, SMALL_SEED)
    answers = keras_layers(build_keras(SMALL, weights), images)
    stored = {f"weights/{name}": array for name, array in weights.items()}
    stored |= {f"layers/{name}": array for name, array in answers.items()} | {"images": images}
    np.savez_compressed(LAYERS_FILE, **stored)  # type: ignore[arg-type, unused-ignore]
    for file in (SCORES_FILE, LAYERS_FILE):
        print(f"{file}: {file.stat().st_size:,} bytes, {record['made_by']}")


if __name__ == "__main__":
    main()
