"""The figures of a run's report, and the images behind it, read again from where the manifest found them.

A run folder holds no patient's image until a report of it is drawn; images that have moved or changed since are said to
be missing, and nothing else fails.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from cxrlab import figures
from cxrlab.datamodules import manifest as mf
from cxrlab.datamodules.alterations import Alteration
from cxrlab.datamodules.preprocessing import Preprocessing
from cxrlab.errors import DataError
from cxrlab.reading.image import read_image
from cxrlab.reports.cautions import known
from cxrlab.reports.markdown import NAMES, Markdown, plain
from cxrlab.reports.paper import figure_name
from cxrlab.reports.record import EVALUATED, SPLITS, RunRecord

_FIRST = ("accuracy", "sensitivity", "specificity", "auroc")  # whose intervals are drawn on top
_SAMPLES = 2  # of each class
_WORST = 8


def drawn(record: RunRecord, figure: figures.Figure, name: str, caption: str) -> Markdown:
    """Saves a figure into the run folder, as ``figures/<name>.png``; returns what shows it."""
    path = f"figures/{name}.png"
    figures.save(figure, record.folder / path)
    return Markdown(f"![{plain(caption)}]({path})")


def charts(record: RunRecord) -> dict[str, Markdown]:
    """Draws what the files allow: ``curves``, and those of each split by its name and theirs, ``test_roc``."""
    found = {}
    if record.history is not None:
        title = f"{record.mark}Learning curves"
        name = "validation (= test images)" if record.val_is_test else "validation"
        figure = figures.learning_curves(record.history, title=title, validation=name)
        found["curves"] = drawn(record, figure, "learning_curves", title + figure_name(record, "Fig. 7 and 8"))
    for split in EVALUATED:
        section, rows = record.section(split), record.scored(split)
        if section is None:
            continue
        title = f"{record.mark}{SPLITS[split]}"
        own = {
            "intervals": figures.intervals({NAMES[name]: section[name] for name in _FIRST}, title),
            "confusion_matrix": figures.confusion_matrix(section["confusion_matrix"], f"{title}: confusion matrix"),
        }
        if rows is not None and len(rows):
            y, s = rows["label"].to_numpy(dtype=np.int64), rows["score"].to_numpy(dtype=np.float64)
            threshold = float(section["threshold"])
            own["roc"] = figures.roc(y, s, section["auroc"], f"{title}: ROC")
            own["precision_recall"] = figures.precision_recall(y, s, section["ap"], f"{title}: precision-recall")
            own["calibration"] = figures.calibration(y, s, f"{title}: calibration")
            own["scores"] = figures.score_distribution(y, s, threshold, f"{title}: scores by true label")
        for name, figure in own.items():
            caption = f"{title}: {'ROC' if name == 'roc' else name.replace('_', ' ')}"
            caption += figure_name(record, "Fig. 9") if name == "confusion_matrix" else ""
            found[f"{split}_{name}"] = drawn(record, figure, f"{split}_{name}", caption)
    return found


def samples(record: RunRecord) -> Markdown:
    """Training images of either class as their files have them and as the network sees them (the paper's Fig. 1, 3)."""
    train = record.rows("train")
    which, among = ("Training images", train) if len(train) else ("Images", record.manifest)
    rows = pd.concat([among[among["label"] == label].head(_SAMPLES) for label in (0, 1)])
    originals, reason = _originals(rows)
    if originals is None:
        return plain(f"No sample images: {reason}.")
    seen, note = _as_seen(record, originals)
    captions = [f"{mf.NAMES[bool(row.label == 1)]}\n{Path(str(row.path)).name}" for row in rows.itertuples()]
    title = f"{record.mark}{which} as stored, and as the network sees them{note}"
    figure = figures.before_after(originals, seen, captions, title)
    return drawn(record, figure, "samples", title + figure_name(record, "Fig. 1 and 3"))


def mistakes(record: RunRecord, split: str, threshold: float) -> Markdown:
    """The wrong calls, worst first; where all are right, those nearest to the threshold."""
    rows = record.scored(split)
    if rows is None or not len(rows):
        return Markdown("No image to show: predictions.csv is absent or empty.")
    distance = (rows["score"] - threshold).abs()
    wrong = (rows["score"] >= threshold) != (rows["label"] == 1)
    if wrong.any():
        shown = rows.loc[distance[wrong].sort_values(ascending=False, kind="stable").index[:_WORST]]
        title = f"{record.mark}Worst mistakes: {len(shown)} of {int(wrong.sum())} wrong {split} images"
    else:
        shown = rows.loc[distance.sort_values(kind="stable").index[: _WORST // 2]]
        title = f"{record.mark}No {split} image was called wrongly; the {len(shown)} nearest to the threshold"
    originals, reason = _originals(shown)
    if originals is None:
        return plain(f"{title}. Not shown: {reason}.")
    images, note = _as_seen(record, originals)
    captions = [
        f"{mf.NAMES[bool(row['label'] == 1)]}, score {row['score']:.3f}\n{known(row.get('finding'))}\n"
        f"patient {known(row['patient_id'])}"
        for _, row in shown.iterrows()
    ]
    return drawn(record, figures.image_grid(images, captions), "mistakes", title + note)


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
    alteration = Alteration.parse(record.data.get("alter", "none"))
    if record.data.get("mask") or alteration.needs_lungs or alteration.kind in ("shuffle", "histogram"):
        return images, f" (before {changed_by(record)})"
    return alteration.apply(images), ""


def changed_by(record: RunRecord) -> str:
    """The options that changed images after they were read, as typed; empty where none did."""
    data = record.data
    return ", ".join(f"data.{key}={data[key]}" for key in ("mask", "alter") if data.get(key) not in (None, "none"))


def preprocessing(record: RunRecord) -> Preprocessing:
    """How the run prepared its images."""
    defaults = {"image_size": 224, "channels": 3, "fit": "squeeze", "contrast": "none", "border": 0.0}
    return Preprocessing.create(*(record.data.get(key, default) for key, default in defaults.items()))
