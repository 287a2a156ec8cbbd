"""Figures, drawn with matplotlib's object interface: no pyplot, no global state, safe in threads.

Every function returns a :class:`matplotlib.figure.Figure` that nothing else holds on to; :func:`save` writes it.
"""

from matplotlib.figure import Figure

from cxrlab.figures.canvas import CLASSES, save
from cxrlab.figures.curves import (
    calibration,
    confusion_matrix,
    decision_curve,
    fold_curves,
    intervals,
    learning_curves,
    precision_recall,
    roc,
    score_distribution,
    stacked_histogram,
)
from cxrlab.figures.forest import Point, Row, forest
from cxrlab.figures.heat_map import Square, heat_map
from cxrlab.figures.images import before_after, class_means, contact_sheet, image_grid
from cxrlab.figures.network import Layer, network_diagram
from cxrlab.figures.saliency import coloured, deletion_and_insertion, inside_against_area, overlay, overlays

__all__ = [
    "CLASSES",
    "Figure",
    "Layer",
    "Point",
    "Row",
    "Square",
    "before_after",
    "calibration",
    "class_means",
    "coloured",
    "confusion_matrix",
    "contact_sheet",
    "decision_curve",
    "deletion_and_insertion",
    "fold_curves",
    "forest",
    "heat_map",
    "image_grid",
    "inside_against_area",
    "intervals",
    "learning_curves",
    "network_diagram",
    "overlay",
    "overlays",
    "precision_recall",
    "roc",
    "save",
    "score_distribution",
    "stacked_histogram",
]
