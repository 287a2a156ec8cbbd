"""The paper's training as a loop written by hand in PyTorch: as one would write it, or with cxrlab's network.

``--way plain`` is what the paper's Fig. 6 comes to without further thought. ``--way cxrlab`` takes the network, memory
settings and optimizer of cxrlab, and neither Lightning nor logging, checkpoints or a progress bar: what an epoch of
``train.py`` takes beyond it is the framework's.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

DTYPES = {"32-true": torch.float32, "bf16-mixed": torch.bfloat16}
BATCH = 32  # the paper's


def plain_network(image_size: int, dropout: Sequence[float] = (0.25, 0.25, 0.5)) -> nn.Sequential:
    """The paper's network as one would write it down from its Fig. 6."""
    side = ((image_size - 4) // 2 - 2) // 2
    return nn.Sequential(
        nn.Conv2d(3, 32, 3),
        nn.ReLU(),
        nn.Conv2d(32, 64, 3),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Dropout(dropout[0]),
        nn.Conv2d(64, 128, 3),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Dropout(dropout[1]),
        nn.Flatten(),
        nn.Linear(128 * side * side, 64),
        nn.ReLU(),
        nn.Dropout(dropout[2]),
        nn.Linear(64, 1),
    )


def train(
    network: nn.Module, optimizer: torch.optim.Optimizer, sets: list[TensorDataset], epochs: int, dtype: torch.dtype
) -> dict[str, list[float]]:
    """Trains and validates.

    Args:
        network: Images as the sets hold them to logits (N, 1).
        optimizer: Of its weights.
        sets: Training and validation images and labels.
        epochs: How many.
        dtype: Of the convolutions.

    Returns:
        ``ends``: when training began and when each epoch was over, seconds; ``losses``: of each epoch's last step.
    """
    loaders = [DataLoader(each, BATCH, shuffle=index == 0) for index, each in enumerate(sets)]
    criterion = nn.BCEWithLogitsLoss()
    ends, losses = [time.perf_counter()], []
    for _ in range(epochs):
        network.train()
        for images, labels in loaders[0]:
            optimizer.zero_grad()
            with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
                logits = network(images).squeeze(1).float()
            loss = criterion(logits, labels)
            loss.backward()
            optimizer.step()
        losses.append(float(loss.detach()))
        network.eval()
        right = 0
        with torch.no_grad(), torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
            for images, labels in loaders[1]:
                right += int(((network(images).squeeze(1) > 0) == (labels > 0.5)).sum())
        ends.append(time.perf_counter())
    return {"ends": ends, "losses": losses}


class _OfBytes(nn.Module):
    """cxrlab's network with the conversion that its datamodule makes on the way: uint8 (N, H, W, C) to floats."""

    def __init__(self, image_size: int) -> None:
        super().__init__()
        from cxrlab.datamodules import Preprocessing
        from cxrlab.models import PaperCNN

        self.network = PaperCNN(image_size)
        self.to_float = Preprocessing.create(image_size).to_float

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.network(self.to_float(images))
        return logits


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("arrays", help=".npz file with images, uint8 (n, height, width, 3), labels, and n_train")
    parser.add_argument("--way", choices=("plain", "cxrlab"), default="plain")
    parser.add_argument("--precision", choices=tuple(DTYPES), default="32-true")
    parser.add_argument("--epochs", type=int, default=20)
    options = parser.parse_args(arguments)

    torch.manual_seed(0)
    with np.load(options.arrays) as arrays:
        images, labels = torch.from_numpy(arrays["images"]), torch.from_numpy(arrays["labels"].astype(np.float32))
        cut, size = int(arrays["n_train"]), images.shape[1]
    if options.way == "plain":
        images = images.permute(0, 3, 1, 2).contiguous().float() / 255
        network: nn.Module = plain_network(size)
        optimizer = torch.optim.Adam(network.parameters(), lr=1e-3, eps=1e-7)
    else:
        from cxrlab.machine import memory

        torch.use_deterministic_algorithms(True)
        torch.utils.deterministic.fill_uninitialized_memory = False
        network = _OfBytes(size)
        optimizer = torch.optim.Adam(network.parameters(), lr=1e-3, eps=1e-7, fused=True)
        optimizer.register_step_post_hook(lambda *_: memory.keep_freed())  # when its own state is allocated
    sets = [TensorDataset(images[:cut], labels[:cut]), TensorDataset(images[cut:], labels[cut:])]
    print(json.dumps(train(network, optimizer, sets, options.epochs, DTYPES[options.precision])))


if __name__ == "__main__":
    main()
