"""A network as boxes: every layer in its place, and no text over another."""

from __future__ import annotations

from itertools import pairwise

import pytest
from matplotlib.colors import to_hex
from matplotlib.patches import FancyBboxPatch
from matplotlib.text import Annotation
from tests.figures.drawn import check_texts, drawn_texts, texts

from cxrlab import figures
from cxrlab.figures import canvas

# The paper's network, without what repeats itself.
PAPER: list[figures.Layer] = [
    ("conv2d", "Conv2D", (None, 222, 222, 32), 896),
    ("conv2d_1", "Conv2D", (None, 220, 220, 64), 18_496),
    ("max_pooling2d", "MaxPooling2D", (None, 110, 110, 64), 0),
    ("dropout", "Dropout", (None, 110, 110, 64), 0),
    ("flatten", "Flatten", (None, 774_400), 0),
    ("dense", "Dense", (None, 64), 49_561_664),
    ("dense_1", "Dense", (None, 1), 65),
]
LONG_NAMES: list[figures.Layer] = [
    ("batch_normalization_2", "BatchNormalization", (None, 1022, 1022, 256), 512),
    ("global_average_pooling2d", "GlobalAveragePooling2D", (None, 2048), 0),
    ("heads", "NonDynamicallyQuantizableLinear", (), 123_456_789),
    ("encoder.layers.encoder_layer_11.self_attention", "MultiheadAttention", (None, 197, 768), 2_362_368),
]


def test_network_diagram_of_the_papers_network() -> None:
    figure = figures.network_diagram(PAPER, "Paper's network")
    (axes,) = figure.axes
    written = [item.get_text() for item in axes.texts if item.get_text()]
    assert written[:4] == ["Conv2D", "222 x 222 x 32", "conv2d", "896 params"]
    assert written[4:8] == ["Conv2D", "220 x 220 x 64", "conv2d_1", "18,496 params"]
    assert written.count("49,561,664 params") == 1
    colours = [to_hex(box.get_edgecolor()).upper() for box in axes.patches if isinstance(box, FancyBboxPatch)]
    blue, green, grey, purple, orange = canvas.BLUE, canvas.GREEN, canvas.GREY, canvas.PURPLE, canvas.ORANGE
    assert colours == [blue, blue, green, grey, purple, orange, orange]
    assert texts(axes).endswith("convolution\npooling\ndropout\ndense\nother")
    assert figure.get_suptitle() == "Paper's network"
    assert figure.get_figwidth() == canvas.WIDTH


@pytest.mark.parametrize("rows", [PAPER, PAPER[:1], (PAPER + LONG_NAMES) * 2])
def test_network_diagram_is_laid_out(rows: list[figures.Layer]) -> None:
    """One box below the other; every text inside its own box; an arrow from each box to the next."""
    figure = figures.network_diagram(rows, "A network")
    check_texts(figure)
    (axes,) = figure.axes
    boxes = [patch.get_bbox() for patch in axes.patches if isinstance(patch, FancyBboxPatch)]
    assert len(boxes) == len(rows)
    assert all(above.y1 < below.y0 for above, below in pairwise(boxes))
    pixels = [patch.get_window_extent() for patch in axes.patches if isinstance(patch, FancyBboxPatch)]
    for item, place in drawn_texts(figure).items():
        if item in axes.texts:
            assert sum(box.x0 <= place.x0 and place.x1 <= box.x1 and box.y0 <= place.y0 and place.y1 <= box.y1
                       for box in pixels) == 1, item  # fmt: skip
    arrows = [item for item in axes.texts if isinstance(item, Annotation)]
    assert [arrow.xy[1] for arrow in arrows] == pytest.approx([box.y0 for box in boxes[1:]])
    assert [arrow.xyann[1] for arrow in arrows] == pytest.approx([box.y1 for box in boxes[:-1]])


def test_network_diagram_of_odd_rows() -> None:
    rows: list[figures.Layer] = [
        ("a", "_DenseBlock", (), 0),
        ("b", "Conv2dNormActivation", (None, None, 7), 5),
        ("c", "Linear", (None, 3), 1),
    ]
    (axes,) = figures.network_diagram(rows, "$5").axes
    written = [item.get_text() for item in axes.texts]
    assert "no tensor" in written
    assert "? x 7" in written
    assert texts(axes).endswith("convolution\ndense\nother")
    with pytest.raises(ValueError, match="rows must hold at least one layer"):
        figures.network_diagram([], "nothing")
