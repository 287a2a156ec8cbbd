"""Before a score: is this a frontal chest X-ray at all? Rules that need no weights, then a small trained network."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from cxrlab.console import command
from cxrlab.errors import check_range
from cxrlab.models.gate_net import GateNet
from cxrlab.models.segmenter import weights_fingerprint
from cxrlab.thumbnails import luma, square, thumbnail

ACCEPT, WARN, REFUSE = "accept", "warn", "refuse"
VERDICTS = (ACCEPT, WARN, REFUSE)

FRONTAL = "frontal"
KINDS = (
    FRONTAL,
    "lateral",
    "ct",
    "photograph",
    "document",
    "pattern",
    "inverted",
    "turned_90",
    "turned_180",
    "turned_270",
)
"""What the network tells apart; ``turned_90`` is a frontal film turned by 90 degrees clockwise."""
NAMES = {
    FRONTAL: "a frontal chest film",
    "lateral": "a lateral view",
    "ct": "a CT slice",
    "photograph": "a photograph",
    "document": "a page, a plot or a screen",
    "pattern": "noise or a pattern",
    "inverted": "an inverted film",
    "turned_90": "a film turned by 90 degrees clockwise",
    "turned_180": "a film that is upside down",
    "turned_270": "a film turned by 90 degrees counter-clockwise",
}
"""What people call each kind."""
FORMAT = 1
"""Version of the entry ``gate`` of a checkpoint."""

SMALLEST = 64
"""Pixels of the shorter side below which an image is too small; the smallest of 1,398 public films had 104."""
_BLANK = 8.0  # grey levels between the 2nd and the 98th percentile; the palest of those films had 53
_COLOURFUL = 12.0  # levels of Cb and Cr by which a pixel is off the tint of its grey level
_COLOURED = 0.10  # share of such pixels; of those films 0.025 at most, of colour photographs 0.2 as a rule

_BATCH = 64  # images at a time
_REASONS = {
    "lateral": "looks like a lateral (side) view; use the frontal film (PA or AP) of the same study",
    "ct": "looks more like a CT slice than like a chest X-ray; use a frontal film (PA or AP)",
    "photograph": "looks more like a photograph than like a chest X-ray; use the film itself, as its viewer exports it",
    "document": "looks more like a page, a plot or a screen than like a chest X-ray; export the film alone",
    "pattern": "looks more like a pattern than like a chest X-ray; open the file, and export it again if it is a film",
    "inverted": "looks inverted (bone dark, air bright); invert its grey levels and try again",
    "turned_90": "looks turned by 90 degrees clockwise; turn it back (counter-clockwise) and try again",
    "turned_180": "looks upside down; turn it by 180 degrees and try again",
    "turned_270": "looks turned by 90 degrees counter-clockwise; turn it back (clockwise) and try again",
    FRONTAL: "does not look enough like a frontal chest film; look at it, and export it again if it is one",
}
_COLOUR_REASON = "looks like a colour photograph and not like an X-ray; use the film itself, as its viewer exports it"


def how_to_train() -> str:
    """The command that trains a gate, as the one of this process was typed."""
    return f"`{command('train', 'experiment=gate')}` trains one, gate=runs/gate then names it"


@dataclass(frozen=True)
class Judgement:
    """What a gate says of one image.

    Attributes:
        verdict: ``accept``, ``warn`` (scored, with doubt) or ``refuse`` (not scored).
        kind: What it looks like: one of :data:`KINDS`, or ``blank``, ``too_small``, ``unknown`` (nothing looked).
        reason: A sentence for people with what to do next; empty where it is accepted.
        frontal: Probability of a frontal film the right way up, in [0, 1]; ``None`` where no network looked at it.
    """

    verdict: str
    kind: str
    reason: str = ""
    frontal: float | None = None


@dataclass(frozen=True)
class Limits:
    """Between which probabilities of a frontal film the gate is in doubt.

    Attributes:
        refuse_below: In [0, 1]: refused below it.
        accept_from: In [0, 1], at least ``refuse_below``: accepted from it on.

    Raises:
        ValueError: Out of range, or in the wrong order.
    """

    refuse_below: float
    accept_from: float

    def __post_init__(self) -> None:
        check_range("refuse_below", self.refuse_below, 0, 1)
        check_range("accept_from", self.accept_from, self.refuse_below, 1)
        for name in ("refuse_below", "accept_from"):  # 0 is 0.0, for the fingerprint too
            object.__setattr__(self, name, float(getattr(self, name)))

    def verdict(self, frontal: float) -> str:
        """What becomes of an image with this probability of a frontal film."""
        if frontal < self.refuse_below:
            return REFUSE
        return ACCEPT if frontal >= self.accept_from else WARN


class Gate:
    """Judges images: rules first, then a small network; without one it knows the rules only, and says so.

    Args:
        network: A trained :class:`GateNet` with one logit for each of :data:`KINDS`; ``None``: rules only.
        size: Pixels of the network's square, 32 to 256.
        limits: Of the verdict; needed with a network.
        held_out: What was measured on people held out, plain values; see docs/gate.md.
        trained_on: Names of the collections it has learned from.
        synthetic: Whether all of its films were drawn.

    Attributes:
        fingerprint: SHA-256 of weights and limits; empty without a network.

    Raises:
        ValueError: An argument is out of range.
    """

    fingerprint: str = ""

    def __init__(
        self,
        network: GateNet | None = None,
        size: int = 64,
        limits: Limits | None = None,
        held_out: Mapping[str, Any] | None = None,
        trained_on: Sequence[str] = (),
        synthetic: bool = False,
    ) -> None:
        check_range("size", size, 32, 256, integer=True)
        if (network is None) != (limits is None):
            raise ValueError("network and limits go together: give both or neither")
        if network is not None and network.kinds != len(KINDS):
            raise ValueError(f"the network must tell {len(KINDS)} kinds apart, got {network.kinds}")
        self.network = None if network is None else network.requires_grad_(False).eval()
        self.size = int(size)
        self.limits = limits
        self.held_out: dict[str, Any] = dict(held_out or {})
        self.trained_on = tuple(trained_on)
        self.synthetic = synthetic
        if network is not None:
            text = f"{weights_fingerprint(network.state_dict())} {size} {limits}"
            self.fingerprint = hashlib.sha256(text.encode()).hexdigest()

    def __call__(self, images: Sequence[NDArray[np.uint8]]) -> list[Judgement]:
        """Judges images.

        Args:
            images: Each of shape (height, width, 3), uint8, of any size.

        Returns:
            One judgement for each.

        Raises:
            ValueError: Another type or shape.
        """
        judgements: list[Judgement] = []
        for start in range(0, len(images), _BATCH):
            batch = images[start : start + _BATCH]
            small = [thumbnail(image) for image in batch]
            ruled = [rule(each, min(image.shape[:2])) for each, image in zip(small, batch, strict=True)]
            scores = self.probabilities(small)
            judgements += [found or self.judge(row) for found, row in zip(ruled, scores, strict=True)]
        return judgements

    def probabilities(self, thumbnails: Sequence[NDArray[np.uint8]]) -> NDArray[np.float64]:
        """Probability of each of :data:`KINDS`, shape (n, 10), for thumbnails (h, w, 3); NaN without a network."""
        scores = np.full((len(thumbnails), len(KINDS)), np.nan)
        if self.network is None or not len(thumbnails):
            return scores
        device = next(self.network.parameters()).device
        for start in range(0, len(thumbnails), _BATCH):
            batch = [square(luma(each), self.size) for each in thumbnails[start : start + _BATCH]]
            with torch.inference_mode():
                logits: Tensor = self.network(torch.from_numpy(np.stack(batch))[:, None].to(device))
            scores[start : start + _BATCH] = logits.double().softmax(1).cpu().numpy()
        return scores

    def judge(self, scores: NDArray[np.float64]) -> Judgement:
        """The judgement that follows from the probabilities (10,) of one image which no rule refused."""
        if self.limits is None:
            return Judgement(
                WARN,
                "unknown",
                f"nothing checked whether this is a frontal chest film: there is no trained gate; {how_to_train()}",
            )
        return judged(scores, self.limits)

    @property
    def measured(self) -> str:
        """What was measured on people held out, in a sentence or two; empty where nothing was, or it cannot be read."""
        try:
            refused, accepted = self.held_out["false_refusal"], self.held_out["false_acceptance"]
            told = f"refused {_share(refused)} frontal chest films, accepted {_share(accepted)} other pictures"
        except (KeyError, TypeError, ValueError):  # of an untrusted file
            return ""
        mark = "SYNTHETIC (drawn phantoms, no patients): " if self.synthetic else ""
        unseen = "collections and people" if self.held_out.get("left_out") else "people"
        return f"{mark}on {unseen} held out, with 95 % intervals, it {told}"

    def as_entry(self) -> dict[str, Any]:
        """Tensors and plain values, as a checkpoint holds them under ``gate``; empty without a network."""
        if self.network is None or self.limits is None:
            return {}
        return {
            "format": FORMAT,
            "kinds": list(KINDS),
            "image_size": self.size,
            "channels": list(self.network.channels),
            "limits": {"refuse_below": self.limits.refuse_below, "accept_from": self.limits.accept_from},
            "state_dict": {name: value.detach().cpu().clone() for name, value in self.network.state_dict().items()},
            "held_out": self.held_out,
            "sources": list(self.trained_on),
            "synthetic": self.synthetic,
        }

    @classmethod
    def from_entry(cls, entry: Mapping[str, Any]) -> Gate:
        """Rebuilds what :meth:`as_entry` gave; the entry is untrusted.

        Raises:
            ValueError: Says what is wrong with it.
        """
        if not isinstance(entry, Mapping):
            raise ValueError(f"gate: must be a table of values, got {type(entry).__name__}")
        if not entry:
            return cls()
        try:
            return cls._rebuilt(entry)
        except KeyError as error:
            raise ValueError(f"gate: {error.args[0]!r} is missing; {how_to_train()}") from None
        except (ValueError, TypeError, AttributeError, RuntimeError) as error:
            reason = " ".join(str(error).split())[:200]
            raise ValueError(f"gate: cannot be used ({reason}); {how_to_train()}") from None

    @classmethod
    def _rebuilt(cls, entry: Mapping[str, Any]) -> Gate:
        if entry["format"] != FORMAT:
            raise ValueError(f"its format must be {FORMAT}, got {repr(entry['format'])[:20]}")
        if entry["kinds"] != list(KINDS):
            raise ValueError("its kinds of pictures are others than this version knows")
        check_range("image_size", entry["image_size"], 32, 256, integer=True)
        limits = Limits(float(entry["limits"]["refuse_below"]), float(entry["limits"]["accept_from"]))
        channels = entry["channels"]
        if not isinstance(channels, list):
            raise ValueError("channels must be a list")
        with torch.device("meta"):  # an untrusted file cannot claim memory by the size that it states
            network = GateNet(len(KINDS), channels)
        network.load_state_dict(_checked_weights(entry["state_dict"], network), assign=True)
        held_out, sources, synthetic = entry["held_out"], entry["sources"], entry["synthetic"]
        if not isinstance(held_out, dict) or not isinstance(sources, list) or not isinstance(synthetic, bool):
            raise ValueError("held_out must be a table, sources a list, and synthetic true or false")
        _check_plain([held_out, sources])
        return cls(network, entry["image_size"], limits, held_out, [str(source) for source in sources], synthetic)


def rule(small: NDArray[np.uint8], shorter_side: int) -> Judgement | None:
    """What can be refused without weights: too small, blank, a colour photograph.

    Args:
        small: The image's :func:`cxrlab.thumbnails.thumbnail`, shape (h, w, 3), uint8.
        shorter_side: Of the image itself, pixels.

    Returns:
        A refusal, or ``None``.
    """
    if shorter_side < SMALLEST:
        reason = f"is too small ({shorter_side} pixels on its shorter side, {SMALLEST} are needed); export it larger"
        return Judgement(REFUSE, "too_small", reason)
    low, high = np.percentile(luma(small), [2, 98])
    if high - low < _BLANK:
        return Judgement(REFUSE, "blank", "is blank: nearly all of it has one grey level; export it again")
    if colourfulness(small) > _COLOURED:
        return Judgement(REFUSE, "photograph", _COLOUR_REASON)
    return None


def colourfulness(small: NDArray[np.uint8]) -> float:
    """Share of pixels whose colour is not that of their grey level, in [0, 1].

    A film that was photographed, or stored with a tint, has one colour for each grey level, and however strong it is
    that is no sign of a photograph. So chroma is first explained by a second-order polynomial of the luma; counted are
    pixels that lie more than 12 levels of (Cb, Cr) off it. Coloured letters and arrows cover a few per cent.

    Args:
        small: A thumbnail, shape (h, w, 3), uint8.
    """
    colours = np.asarray(cv2.cvtColor(np.ascontiguousarray(small), cv2.COLOR_RGB2YCrCb), np.float64).reshape(-1, 3)
    chroma = colours[:, 1:] - 128
    if not chroma.any():
        return 0.0
    grey = colours[:, 0] / 255
    terms = np.stack([np.ones_like(grey), grey, grey * grey], axis=1)
    explained = terms @ np.linalg.lstsq(terms, chroma, rcond=None)[0]
    return float((np.linalg.norm(chroma - explained, axis=1) > _COLOURFUL).mean())


def judged(scores: NDArray[np.float64], limits: Limits) -> Judgement:
    """The judgement of one image by its probabilities, shape (10,), in the order of :data:`KINDS`."""
    frontal = float(scores[0])
    verdict = limits.verdict(frontal)
    if verdict == ACCEPT:
        return Judgement(ACCEPT, FRONTAL, "", frontal)
    likeliest = KINDS[int(np.argmax(scores))]
    other = KINDS[1 + int(np.argmax(scores[1:]))]
    if verdict == REFUSE:
        return Judgement(REFUSE, likeliest, _REASONS[likeliest], frontal)
    doubt = f"may be {NAMES[other]} ({100 * (1 - frontal):.0f} % doubt that it is a frontal chest film)"
    return Judgement(WARN, likeliest, f"{doubt}; look at the image before you trust its score", frontal)


def _share(estimate: Mapping[str, Any]) -> str:
    """``1 of 1,242 (0.08 % [0.00, 0.25])``."""
    value, low, high = (100 * float(estimate[name]) for name in ("value", "low", "high"))
    n = int(estimate["n"])
    return f"{round(value / 100 * n):,} of {n:,} ({value:.2f} % [{low:.2f}, {high:.2f}])"


def _checked_weights(state: Any, network: nn.Module) -> dict[str, Tensor]:
    """Weights of exactly the network's names, shapes and types, finite, in memory of their own."""
    wanted = network.state_dict()
    if not isinstance(state, Mapping) or set(state) != set(wanted):
        raise ValueError("state_dict holds other weights than its channels say")
    for name, value in state.items():
        like = wanted[name]
        if not isinstance(value, Tensor) or value.layout != torch.strided or value.device.type != "cpu":
            raise ValueError(f"{name} must be a plain tensor")
        if value.dtype != like.dtype or value.shape != like.shape:
            raise ValueError(f"{name} must be {like.dtype} {tuple(like.shape)}, got {value.dtype} {tuple(value.shape)}")
        if not bool(torch.isfinite(value).all()):
            raise ValueError(f"{name} must be finite")
    return {name: value.detach().clone(memory_format=torch.contiguous_format) for name, value in state.items()}


def _check_plain(value: Any, depth: int = 6) -> int:
    """Counts plain values inside, of which a page shows some; refuses anything else, and too many."""
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError("held_out must hold finite numbers")
    if isinstance(value, bool | int | float | None):
        return 1
    if isinstance(value, str) and len(value) <= 1000:
        return 1
    if not isinstance(value, dict | list) or not depth:
        raise ValueError("held_out must hold plain values only")
    inside = [*value, *value.values()] if isinstance(value, dict) else value
    if len(inside) > 2000 or (count := 1 + sum(_check_plain(each, depth - 1) for each in inside)) > 5000:
        raise ValueError("held_out must hold at most 5000 values")
    return count
