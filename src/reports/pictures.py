"""The images behind a run, read again from where its manifest found them.

A run folder holds no patient's image until a report of it is drawn; images that have moved or changed since are said to
be missing, and nothing else fails.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from cxrlab import figures
from cxrlab.datamodules import manifest as mf
from cxrlab.datamodules.alterations import Alteration
from cxrlab.datamodules.image_rows import ImageRows
from cxrlab.datamodules.pixels import read_all
from cxrlab.datamodules.preprocessing import Preprocessing
from cxrlab.errors import DataError
from cxrlab.evaluation.baselines import trivial_scores
from cxrlab.reading.image import read_image
from cxrlab.reports.markdown import or_not_recorded, plain
from cxrlab.reports.paper import figure_name
from cxrlab.reports.record import RunRecord, mapping

BASELINES = "baselines.csv"
MOST_IMAGES = 5000
"""A report does not read more images than this again for its trivial baselines (some two minutes)."""
_SAMPLES = 2  # of each class
_WORST = 8


@dataclass(frozen=True)
class Picture:
    """A figure in the run folder, or the reason why there is none.

    Attributes:
        path: Relative to the run folder; empty where it could not be drawn.
        text: Caption, or the reason.
    """

    path: str
    text: str

    def markdown(self) -> str:
        """A link to the figure, or the reason in words."""
        return f"![{plain(self.text)}]({self.path})" if self.path else plain(self.text)


def baselines(record: RunRecord, images: ImageRows | None = None) -> tuple[pd.DataFrame | None, str]:
    """The trivial baselines' scores of the test images, from ``baselines.csv`` or from the images themselves.

    What is computed is written to ``baselines.csv``, so that comparing runs needs no image.

    Args:
        record: The run.
        images: Those of the manifest's rows as the run read them, shape (rows, height, width, channels); ``None``
            reads them again.

    Returns:
        The test rows with one column per baseline, or ``None`` and the reason why not.
    """
    if record.baselines is not None:
        return record.baselines, ""
    used = record.manifest["split"].isin(["train", "test"]).to_numpy()
    rows = record.manifest[used]
    if record.rows("train")["label"].nunique() < 2 or not len(record.rows("test")):
        reason = "the manifest holds no training images of both labels and test images"
        return None, f"{reason}; trained_on=… names the model's training" if record.evaluation else reason
    if images is None:
        pixels, reason = _read_again(record, rows)
        if pixels is None:
            return None, reason
    else:
        pixels = images.take(used)
    is_train, labels = (rows["split"] == "train").to_numpy(), rows["label"].to_numpy()
    scores = trivial_scores(pixels.take(is_train), labels[is_train], pixels.take(~is_train))
    table = rows[~is_train].assign(**scores).reset_index(drop=True)
    mf.write(table, record.folder / BASELINES)
    return table, ""


def _read_again(record: RunRecord, rows: pd.DataFrame) -> tuple[ImageRows | None, str]:
    """The preprocessed images of rows, or ``None`` and why there are none."""
    changed_by = _changed_by(record)
    if changed_by:
        return None, f"the run trained on altered images ({changed_by}), and its baselines.csv is not there"
    if len(rows) > MOST_IMAGES:
        return None, f"{len(rows)} images would have to be read again (at most {MOST_IMAGES} are)"
    pixels = read_all(list(rows["path"]), _preprocessing(record))
    changed = [path for path, old, new in zip(rows["path"], rows["sha256"], pixels.sha256, strict=True) if old != new]
    if changed:
        return None, f"{len(changed)} of {len(rows)} images are missing or changed since the run, such as {changed[0]}"
    return pixels.images, ""


def samples(record: RunRecord, mark: str) -> Picture:
    """Training images of either class as their files have them and as the network sees them (the paper's Fig. 1, 3)."""
    train = record.rows("train") if len(record.rows("train")) else record.manifest
    rows = pd.concat([train[train["label"] == label].head(_SAMPLES) for label in (0, 1)])
    originals, reason = _originals(rows)
    if originals is None:
        return Picture("", f"No sample images: {reason}.")
    seen, note = _as_seen(record, originals)
    captions = [f"{_label(row.label)}\n{Path(str(row.path)).name}" for row in rows.itertuples()]
    which = "Training images" if len(record.rows("train")) else "Images"
    title = f"{mark}{which} as stored, and as the network sees them{note}"
    figure = figures.before_after(originals, seen, captions, title)
    return _saved(record, figure, "samples", title + figure_name(record, "Fig. 1 and 3"))


def mistakes(record: RunRecord, split: str, threshold: float, mark: str) -> Picture:
    """The wrong calls, worst first; where all are right, those nearest to the threshold."""
    rows = record.scored(split)
    if rows is None or not len(rows):
        return Picture("", "No image to show: predictions.csv is absent or empty.")
    distance = (rows["score"] - threshold).abs()
    wrong = (rows["score"] >= threshold) != (rows["label"] == 1)
    if wrong.any():
        shown = rows.loc[distance[wrong].sort_values(ascending=False, kind="stable").index[:_WORST]]
        title = f"{mark}Worst mistakes: {len(shown)} of {int(wrong.sum())} wrong {split} images"
    else:
        shown = rows.loc[distance.sort_values(kind="stable").index[: _WORST // 2]]
        title = f"{mark}No {split} image was called wrongly; the {len(shown)} nearest to the threshold"
    originals, reason = _originals(shown)
    if originals is None:
        return Picture("", f"{title}. Not shown: {reason}.")
    images, note = _as_seen(record, originals)
    captions = [_caption(row) for _, row in shown.iterrows()]
    return _saved(record, figures.image_grid(images, captions), "mistakes", title + note)


def _caption(row: pd.Series[Any]) -> str:
    finding = or_not_recorded(row.get("finding"))
    return f"{_label(row['label'])}, score {row['score']:.3f}\n{finding}\npatient {or_not_recorded(row['patient_id'])}"


def _label(label: object) -> str:
    return "Positive" if label == 1 else "Negative"


def _originals(rows: pd.DataFrame) -> tuple[list[npt.NDArray[np.uint8]] | None, str]:
    """The images of rows, or ``None`` and why they cannot be shown."""
    found = []
    for row in rows.itertuples():
        try:
            image = read_image(str(row.path))
        except DataError as error:
            return None, str(error).partition(";")[0]
        if image.sha256 != getattr(row, "sha256", image.sha256):
            return None, f"{row.path} has changed since the run"
        found.append(image.pixels)
    return found, ""


def _as_seen(record: RunRecord, originals: list[npt.NDArray[np.uint8]]) -> tuple[npt.NDArray[np.uint8], str]:
    """Images as the network saw them; and, where a few images do not tell what it saw, a note to say so."""
    preprocessing = _preprocessing(record)
    images = np.stack([preprocessing.apply(image) for image in originals])
    data = mapping(record.config.get("data"))
    alteration = Alteration.parse(data.get("alter", "none"))
    if data.get("mask") or alteration.needs_lungs or alteration.kind in ("shuffle", "histogram"):
        return images, f" (before {_changed_by(record)})"
    return alteration.apply(images), ""


def _changed_by(record: RunRecord) -> str:
    """The options that changed images after they were read, as typed; empty where none did."""
    data = mapping(record.config.get("data"))
    return ", ".join(f"data.{key}={data[key]}" for key in ("mask", "alter") if data.get(key) not in (None, "none"))


def _preprocessing(record: RunRecord) -> Preprocessing:
    data = mapping(record.config.get("data"))
    size, channels = data.get("image_size", 224), data.get("channels", 3)
    return Preprocessing.create(
        size, channels, data.get("fit", "squeeze"), data.get("contrast", "none"), data.get("border", 0.0)
    )


def _saved(record: RunRecord, figure: Any, name: str, text: str) -> Picture:
    path = f"figures/{name}.png"
    figures.save(figure, record.folder / path)
    return Picture(path, text)
