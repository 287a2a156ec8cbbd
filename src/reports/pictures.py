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
from cxrlab.datamodules.alterations import Alteration
from cxrlab.datamodules.preprocessing import Preprocessing
from cxrlab.errors import DataError
from cxrlab.reading.image import read_image
from cxrlab.reports.facts import known
from cxrlab.reports.markdown import Markdown, plain
from cxrlab.reports.paper import figure_name
from cxrlab.reports.record import RunRecord, mapping

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

    @property
    def markdown(self) -> Markdown:
        """A link to the figure, or the reason in words."""
        return Markdown(f"![{plain(self.text)}]({self.path})") if self.path else plain(self.text)


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
    return drawn(record, figure, "samples", title + figure_name(record, "Fig. 1 and 3"))


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
    return drawn(record, figures.image_grid(images, captions), "mistakes", title + note)


def _caption(row: pd.Series[Any]) -> str:
    finding = known(row.get("finding"))
    return f"{_label(row['label'])}, score {row['score']:.3f}\n{finding}\npatient {known(row['patient_id'])}"


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
    prepared = preprocessing(record)
    images = np.stack([prepared.apply(image) for image in originals])
    data = mapping(record.config.get("data"))
    alteration = Alteration.parse(data.get("alter", "none"))
    if data.get("mask") or alteration.needs_lungs or alteration.kind in ("shuffle", "histogram"):
        return images, f" (before {changed_by(record)})"
    return alteration.apply(images), ""


def changed_by(record: RunRecord) -> str:
    """The options that changed images after they were read, as typed; empty where none did."""
    data = mapping(record.config.get("data"))
    return ", ".join(f"data.{key}={data[key]}" for key in ("mask", "alter") if data.get(key) not in (None, "none"))


def preprocessing(record: RunRecord) -> Preprocessing:
    """How the run prepared its images."""
    data = mapping(record.config.get("data"))
    size, channels = data.get("image_size", 224), data.get("channels", 3)
    return Preprocessing.create(
        size, channels, data.get("fit", "squeeze"), data.get("contrast", "none"), data.get("border", 0.0)
    )


def drawn(record: RunRecord, figure: figures.Figure, name: str, text: str) -> Picture:
    """Saves a figure into the run folder.

    Args:
        record: The run.
        figure: As drawn.
        name: Of the file, without ending.
        text: Its caption.
    """
    path = f"figures/{name}.png"
    figures.save(figure, record.folder / path)
    return Picture(path, text)
