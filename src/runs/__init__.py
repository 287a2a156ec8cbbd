"""Run folders: what a run leaves behind, and how it is found, continued and loaded again."""

from cxrlab.runs.checkpoint import (
    AtomicCheckpointIO,
    LoadedModel,
    load_checkpoint,
    load_model,
)
from cxrlab.runs.folder import RunFolder

__all__ = ["AtomicCheckpointIO", "LoadedModel", "RunFolder", "load_checkpoint", "load_model"]
