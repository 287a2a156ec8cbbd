"""What happens beside training: history written, figures drawn, checkpoints and random states saved."""

from cxrlab.callbacks.checkpoints import Checkpoints
from cxrlab.callbacks.divergence import Divergence
from cxrlab.callbacks.figures import TensorBoardFigures
from cxrlab.callbacks.history import History
from cxrlab.callbacks.keep_memory import KeepMemory
from cxrlab.callbacks.progress import Progress, TrainingBar
from cxrlab.callbacks.random_state import RandomState
from cxrlab.callbacks.termination import Termination

__all__ = [
    "Checkpoints",
    "Divergence",
    "History",
    "KeepMemory",
    "Progress",
    "RandomState",
    "TensorBoardFigures",
    "Termination",
    "TrainingBar",
]
