"""What is said of one file, and the columns in which it is written."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any

NOT_JUDGED = "off"
UNREADABLE = "unreadable"
"""Kind of a file that is no image, or a damaged one."""


@dataclass(frozen=True)
class Prediction:
    """One row of ``predictions.csv``.

    Attributes:
        file: Path or name, as it was given; ``array 0`` for an array, by its place.
        sha256: Of the file's bytes, or of the array's; empty where they could not be read.
        verdict: The gate's, ``accept``, ``warn`` or ``refuse``; ``off`` where it was switched off.
        kind: What it looks like (``frontal``, ``lateral``, ``photograph``, …); ``unreadable`` where it is no image,
            ``no_radiograph`` where a DICOM header says so.
        reason: Why it is not simply accepted, in words; empty where it is.
        score: The network's, in [0, 1]; ``None`` where the file was refused.
        probability: The score after calibration, in [0, 1]; the score itself where nothing was calibrated.
        label: ``Positive`` where the probability is at least the threshold, else ``Negative``; empty where refused.
        threshold: In [0, 1].
        model: Fingerprint of weights, preprocessing and decision, SHA-256.
        gate: Fingerprint of the gate, SHA-256; empty where it knows rules only or was switched off.
    """

    file: str
    sha256: str
    verdict: str
    kind: str
    reason: str
    score: float | None
    probability: float | None
    label: str
    threshold: float
    model: str
    gate: str

    def as_dict(self) -> dict[str, Any]:
        """Plain values by column."""
        return asdict(self)


COLUMNS = tuple(field.name for field in fields(Prediction))
