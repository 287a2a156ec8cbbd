"""What happens beside training: scores kept, history written, figures drawn, checkpoints and random states saved."""

from cxrlab.callbacks.checkpoints import Checkpoints
from cxrlab.callbacks.figures import TensorBoardFigures
from cxrlab.callbacks.history import History
from cxrlab.callbacks.progress import Progress
from cxrlab.callbacks.random_state import RandomState
from cxrlab.callbacks.scores import Scores

__all__ = ["Checkpoints", "History", "Progress", "RandomState", "Scores", "TensorBoardFigures"]
