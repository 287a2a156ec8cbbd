"""The paper's training as one would write it in Keras, from files to predictions; needs neither torch nor cxrlab."""

from __future__ import annotations

import argparse
import csv
import json
import os
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
from keras import layers


def network(size: int) -> keras.Model:
    """The paper's Fig. 6."""
    return keras.Sequential(
        [
            layers.Input((size, size, 3)),
            layers.Conv2D(32, 3, activation="relu"),
            layers.Conv2D(64, 3, activation="relu"),
            layers.MaxPooling2D(),
            layers.Dropout(0.25),
            layers.Conv2D(128, 3, activation="relu"),
            layers.MaxPooling2D(),
            layers.Dropout(0.25),
            layers.Flatten(),
            layers.Dense(64, activation="relu"),
            layers.Dropout(0.5),
            layers.Dense(1, activation="sigmoid", dtype="float32"),
        ]
    )


class Clock(keras.callbacks.Callback):
    """Notes when training began and when each epoch was over."""

    def __init__(self) -> None:
        super().__init__()
        self.ends: list[float] = []

    def on_train_begin(self, logs: object = None) -> None:
        self.ends.append(time.perf_counter())

    def on_epoch_end(self, epoch: int, logs: object = None) -> None:
        self.ends.append(time.perf_counter())


def read(manifest: Path, size: int) -> tuple[np.ndarray, np.ndarray, int]:
    """The images of a manifest as the paper reads them: OpenCV, BGR to RGB, resized; training images first."""
    import cv2

    with manifest.open(encoding="utf-8", newline="") as file:
        rows = sorted(csv.DictReader(file), key=lambda row: row["split"] != "train")
    images = [cv2.resize(cv2.cvtColor(cv2.imread(row["path"]), cv2.COLOR_BGR2RGB), (size, size)) for row in rows]
    labels = np.array([float(row["label"]) for row in rows], np.float32)
    return np.stack(images), labels, sum(row["split"] == "train" for row in rows)


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path, help="an .npz file as in plain_torch.py, or a run's manifest.csv")
    parser.add_argument("--precision", choices=("32-true", "bf16-mixed"), default="32-true")
    parser.add_argument("--epochs", type=int, default=20)
    options = parser.parse_args(arguments)

    keras.utils.set_random_seed(0)
    if options.precision == "bf16-mixed":
        keras.mixed_precision.set_global_policy("mixed_bfloat16")
    if options.data.suffix == ".npz":
        with np.load(options.data) as arrays:
            images, labels, cut = arrays["images"], arrays["labels"].astype(np.float32), int(arrays["n_train"])
    else:
        images, labels, cut = read(options.data, 224)
    images = images.astype(np.float32) / 255
    model = network(images.shape[1])
    model.compile(optimizer="adam", loss="binary_crossentropy", metrics=["accuracy"])
    clock = Clock()
    test = (images[cut:], labels[cut:])
    model.fit(images[:cut], labels[:cut], 32, options.epochs, validation_data=test, callbacks=[clock], verbose=0)
    right = int(((model.predict(test[0], verbose=0)[:, 0] >= 0.5) == (test[1] > 0.5)).sum())
    print(json.dumps({"ends": clock.ends, "right": right, "of": len(test[1]), "keras": keras.__version__}))


if __name__ == "__main__":
    main()
