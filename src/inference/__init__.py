"""A trained model in use: which files, whether they may be scored, what is said of each."""

from cxrlab.inference.inputs import Listed, list_inputs
from cxrlab.inference.journal import COLUMNS, Prediction
from cxrlab.inference.predictor import Examined, Predictor, load

__all__ = ["COLUMNS", "Examined", "Listed", "Prediction", "Predictor", "list_inputs", "load"]
