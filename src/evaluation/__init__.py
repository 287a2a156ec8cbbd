"""What a classifier's numbers are worth: statistics, calibration, trivial baselines.

Nothing here knows of torch, Lightning, models or datamodules.
"""

from cxrlab.evaluation.statistics import METRICS, summarise

__all__ = ["METRICS", "summarise"]
