"""The layers of a network as a table: names, output shapes and parameters, laid out like the paper's Fig. 6."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from cxrlab.models.paper_cnn import PaperCNN

MAX_LAYERS = 30  # networks with more are shown by their blocks
_KERAS = {nn.Conv2d: "Conv2D", nn.MaxPool2d: "MaxPooling2D", nn.BatchNorm2d: "BatchNormalization", nn.Linear: "Dense"}


@dataclass(frozen=True)
class LayerRow:
    """One layer; its type in Keras's words in the paper's network, its output's shape with ``None`` for the batch."""

    name: str
    type: str
    output_shape: tuple[int | None, ...]
    params: int


@dataclass(frozen=True)
class LayerTable:
    """The layers of a network in the order in which they run, and its parameters: all, and those that are trained."""

    model: str
    rows: tuple[LayerRow, ...]
    total: int
    trainable: int

    def __str__(self) -> str:
        cells = [(f"{row.name} ({row.type})", str(row.output_shape), str(row.params)) for row in self.rows]
        cells.insert(0, ("Layer (type)", "Output Shape", "Param #"))
        widths = [max(map(len, column)) + 3 for column in zip(*cells, strict=True)]
        lines = ["".join(map(str.ljust, line, widths)).rstrip() for line in cells]
        rule = "=" * sum(widths)
        lines = [f'Model: "{self.model}"', "_" * len(rule), lines[0], rule, *lines[1:], rule]
        lines += [f"Total params: {self.total:,}", f"Trainable params: {self.trainable:,}"]
        return "\n".join([*lines, f"Non-trainable params: {self.total - self.trainable:,}"])


def layer_table(network: nn.Module, input_shape: tuple[int, int, int]) -> LayerTable:
    """Lists a network's layers by running its shapes (PyTorch's meta device) through a copy without numbers.

    Layers that ``forward`` does not call as modules have no row but count in the totals. Outputs with four sides are
    taken to be (N, C, H, W) and printed channels last, those of Swin, which works channels last, the other way round.
    Raises whatever the network raises for images of ``input_shape`` (channels, height, width).
    """
    shadow = inside = copy.deepcopy(network).to("meta").eval()
    while len(children := list(inside.children())) == 1 and list(children[0].children()):
        inside = children[0]  # mere wrappers are taken off
    layers = [(name, module) for name, module in inside.named_modules() if not list(module.children())]
    words = _KERAS if isinstance(network, PaperCNN) else {}
    rows: dict[str, LayerRow] = {}
    for name, module in layers if len(layers) <= MAX_LAYERS else _blocks(inside):

        def note(module: nn.Module, _: Any, output: Any, name: str = name) -> None:
            while isinstance(output, tuple | list) and output:
                output = output[0]
            sides = (None, *output.shape[1:]) if isinstance(output, torch.Tensor) else ()
            shape = (None, *sides[2:], sides[1]) if len(sides) == 4 else sides
            kind = next((word for base, word in words.items() if isinstance(module, base)), type(module).__name__)
            # The first call counts: Keras, too, lists a layer that is used again only once.
            rows.setdefault(name, LayerRow(name, kind, shape, sum(map(torch.numel, module.parameters()))))

        module.register_forward_hook(note)
    dtype = next((weight.dtype for weight in network.parameters() if weight.is_floating_point()), torch.float32)
    with torch.no_grad():
        shadow(torch.zeros(1, *input_shape, device="meta", dtype=dtype))
    total = sum(map(torch.numel, network.parameters()))
    trainable = sum(weight.numel() for weight in network.parameters() if weight.requires_grad)
    return LayerTable(type(network).__name__, tuple(rows.values()), total, trainable)


def _blocks(network: nn.Module, prefix: str = "") -> Iterator[tuple[str, nn.Module]]:
    """The direct children; a list of modules, which cannot be called, is replaced by its items."""
    for name, child in network.named_children():
        many = isinstance(child, nn.ModuleList | nn.ModuleDict)
        yield from _blocks(child, f"{prefix}{name}.") if many else [(prefix + name, child)]
