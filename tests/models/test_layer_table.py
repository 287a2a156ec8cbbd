"""The layer table equals the paper's Fig. 6."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from cxrlab.models import PaperCNN, TorchvisionNet
from cxrlab.models.layer_table import LayerRow, layer_table

# paper.txt, "Model: sequential"; the two pooling rows there hold a stray blank from the scan.
FIG_6 = """
conv2d (Conv2D)	(None, 222, 222, 32)	896
conv2d_1 (Conv2D)	(None, 220, 220, 64)	18496
max_pooling2d (MaxPooling2D)	(None, 110, 110, 64)	0
dropout (Dropout)	(None, 110, 110, 64)	0
conv2d_2 (Conv2D)	(None, 108, 108, 128)	73856
max_pooling2d_1 (MaxPooling2D)	(None, 54, 54, 128)	0
dropout_1 (Dropout)	(None, 54, 54, 128)	0
flatten (Flatten)	(None, 373248)	0
dense (Dense)	(None, 64)	23887936
dropout_2 (Dropout)	(None, 64)	0
dense_1 (Dense)	(None, 1)	65
"""


def test_every_row_equals_fig_6() -> None:
    lines = str(layer_table(PaperCNN(), (3, 224, 224))).splitlines()
    assert lines[0] == 'Model: "PaperCNN"'
    assert lines[2].split() == ["Layer", "(type)", "Output", "Shape", "Param", "#"]
    assert [line.split() for line in lines[4:15]] == [line.split() for line in FIG_6.strip().splitlines()]
    assert lines[-3:] == ["Total params: 23,981,249", "Trainable params: 23,981,249", "Non-trainable params: 0"]


def test_batch_norm_and_gap_have_their_rows() -> None:
    table = layer_table(PaperCNN(image_size=40, norm="batch", head="gap"), (3, 40, 40))
    types = {row.name: row.type for row in table.rows}
    assert types["batch_normalization_2"] == "BatchNormalization"
    assert types["global_average_pooling2d"] == "GlobalAveragePooling2D"


def test_network_is_left_as_it_was() -> None:
    network = PaperCNN(image_size=40, filters=[2, 2, 2], dense_units=2).train()
    network.conv2d.weight.requires_grad_(False)
    before = {name: weight.clone() for name, weight in network.state_dict().items()}
    table = layer_table(network, (3, 40, 40))
    assert network.training
    assert network.conv2d.weight.device.type == "cpu"
    assert not any(module._forward_hooks for module in network.modules())
    assert all(torch.equal(before[name], weight) for name, weight in network.state_dict().items())
    assert table.total - table.trainable == 2 * 3 * 9
    assert "Non-trainable params: 54" in str(table)


def test_deep_networks_are_shown_by_their_blocks_also_those_of_module_lists() -> None:
    with torch.device("meta"):
        table = layer_table(TorchvisionNet("resnet18"), (3, 224, 224))
        of_lists = layer_table(TorchvisionNet("maxvit_t"), (3, 224, 224))
    names = "conv1 bn1 relu maxpool layer1 layer2 layer3 layer4 avgpool fc"
    assert [row.name for row in table.rows] == names.split()
    assert table.rows[4] == LayerRow("layer1", "Sequential", (None, 56, 56, 64), 147_968)
    assert sum(row.params for row in table.rows) == table.total == 11_177_025
    names = "stem blocks.0 blocks.1 blocks.2 blocks.3 classifier"
    assert [row.name for row in of_lists.rows] == names.split()
    assert sum(row.params for row in of_lists.rows) == of_lists.total


def test_a_layer_used_twice_has_one_row_and_tuples_show_their_first_tensor() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.mix = nn.Linear(4, 4)
            self.memory = nn.LSTM(4, 2, batch_first=True)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            output: torch.Tensor = self.memory(self.mix(self.mix(x.flatten(2))))[0]
            return output

    rows = layer_table(Twice(), (3, 2, 2)).rows
    assert rows == (LayerRow("mix", "Linear", (None, 3, 4), 20), LayerRow("memory", "LSTM", (None, 3, 2), 64))


def test_wrong_input_shape_is_the_networks_own_error() -> None:
    with pytest.raises(ValueError, match=r"built for images of shape \(3, 40, 40\), got \(3, 50, 50\)"):
        layer_table(PaperCNN(image_size=40), (3, 50, 50))
