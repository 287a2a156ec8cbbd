"""The layers of a network as a table: names, output shapes and parameters, laid out like the paper's Fig. 6."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from cxrlab.models.paper_cnn import PaperCNN

MAX_LAYERS = 30
"""Networks with more layers than this are shown by their blocks."""

_KERAS_TYPES: dict[type[nn.Module], str] = {
    nn.Conv2d: "Conv2D",
    nn.MaxPool2d: "MaxPooling2D",
    nn.BatchNorm2d: "BatchNormalization",
    nn.Linear: "Dense",
}


@dataclass(frozen=True)
class LayerRow:
    """One layer.

    Attributes:
        name: Its name in the network.
        type: Its kind: Keras's word in the paper's network, the class name elsewhere.
        output_shape: Shape of its output with ``None`` for the batch, channels last; empty if it gives no tensor.
        params: Number of its parameters.
    """

    name: str
    type: str
    output_shape: tuple[int | None, ...]
    params: int

    def cells(self) -> tuple[str, str, str]:
        """The row's text, column by column."""
        return f"{self.name} ({self.type})", str(self.output_shape), str(self.params)


@dataclass(frozen=True)
class LayerTable:
    """The layers of a network in the order in which they run.

    Attributes:
        model: Class name of the network.
        rows: Its layers, or its blocks where it has more than ``MAX_LAYERS`` layers.
        total: Number of parameters of the whole network.
        trainable: Number of those that training changes.
    """

    model: str
    rows: tuple[LayerRow, ...]
    total: int
    trainable: int

    def render(self) -> str:
        """The table as text, in the layout of Fig. 6."""
        cells = [("Layer (type)", "Output Shape", "Param #"), *(row.cells() for row in self.rows)]
        widths = [max(len(line[column]) for line in cells) + 3 for column in range(3)]
        lines = [
            "".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in cells
        ]
        rule = "=" * sum(widths)
        return "\n".join(
            [
                f'Model: "{self.model}"',
                "_" * len(rule),
                lines[0],
                rule,
                *lines[1:],
                rule,
                f"Total params: {self.total:,}",
                f"Trainable params: {self.trainable:,}",
                f"Non-trainable params: {self.total - self.trainable:,}",
            ]
        )

    def __str__(self) -> str:
        return self.render()


def layer_table(network: nn.Module, input_shape: tuple[int, int, int]) -> LayerTable:
    """Lists a network's layers by running its shapes, without its numbers, through a copy of it.

    Nothing is computed (PyTorch's meta device) and the network itself is not touched. Layers that ``forward`` does not
    call as modules have no row but count in the totals. Four-dimensional outputs are taken to be (N, C, H, W) and are
    printed channels last; a network that works channels last inside (Swin) shows these rows the other way round.

    Args:
        network: Takes a batch of images and returns a tensor.
        input_shape: Shape of one image: channels, height, width.

    Returns:
        The table.

    Raises:
        RuntimeError, ValueError: Whatever the network raises for images of this shape.
    """
    keras = isinstance(network, PaperCNN)
    shadow = _on_meta(network).eval()
    rows: dict[str, LayerRow] = {}

    def watch(name: str, module: nn.Module) -> None:
        def note(_module: nn.Module, _inputs: Any, output: Any) -> None:
            # The first call counts: Keras, too, lists a layer that is used again only once.
            rows.setdefault(name, LayerRow(name, _type_name(module, keras), _shape(output), _count(module)))

        module.register_forward_hook(note)

    for name, module in _layers(shadow):
        watch(name, module)
    with torch.no_grad():
        shadow(torch.zeros(1, *input_shape, device="meta", dtype=_dtype(shadow)))
    return LayerTable(
        model=type(network).__name__,
        rows=tuple(rows.values()),
        total=_count(network),
        trainable=sum(weight.numel() for weight in network.parameters() if weight.requires_grad),
    )


def _layers(network: nn.Module) -> list[tuple[str, nn.Module]]:
    """The modules without children, or the network's blocks where these are too many; mere wrappers are taken off."""
    children = list(network.children())
    while len(children) == 1 and list(children[0].children()):
        network = children[0]
        children = list(network.children())
    leaves = [(name, module) for name, module in network.named_modules() if not list(module.children())]
    return leaves if len(leaves) <= MAX_LAYERS else _blocks(network)


def _blocks(network: nn.Module, prefix: str = "") -> list[tuple[str, nn.Module]]:
    """The direct children; a list of modules, which cannot be called, is replaced by its items."""
    blocks: list[tuple[str, nn.Module]] = []
    for name, child in network.named_children():
        many = isinstance(child, nn.ModuleList | nn.ModuleDict)
        blocks += _blocks(child, f"{prefix}{name}.") if many else [(prefix + name, child)]
    return blocks


def _on_meta(network: nn.Module) -> nn.Module:
    """A deep copy whose tensors have shapes but no numbers; the real ones are never copied."""
    memo: dict[int, Any] = {id(buffer): buffer.to("meta") for buffer in network.buffers()}
    for weight in network.parameters():
        memo[id(weight)] = nn.Parameter(weight.detach().to("meta"), requires_grad=weight.requires_grad)
    return copy.deepcopy(network, memo)


def _type_name(module: nn.Module, keras: bool) -> str:
    for kind, name in _KERAS_TYPES.items() if keras else ():
        if isinstance(module, kind):
            return name
    return type(module).__name__


def _shape(output: Any) -> tuple[int | None, ...]:
    """The output's shape with the channels last; a tuple's first tensor stands for it."""
    while isinstance(output, tuple | list) and output:
        output = output[0]
    if not isinstance(output, Tensor):
        return ()
    _, *rest = output.shape
    return (None, *rest[1:], rest[0]) if len(rest) == 3 else (None, *rest)


def _count(module: nn.Module) -> int:
    return sum(weight.numel() for weight in module.parameters())


def _dtype(network: nn.Module) -> torch.dtype:
    return next((weight.dtype for weight in network.parameters() if weight.is_floating_point()), torch.float32)
