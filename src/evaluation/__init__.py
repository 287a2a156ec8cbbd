"""Statistics of a classifier: metrics with intervals, calibration, trivial baselines, tests.

Nothing here imports torch, Lightning, models or datamodules. Unless a docstring says otherwise,

- ``labels`` has shape (n,): 0 is Negative, 1 is Positive;
- ``scores`` has shape (n,): the probability of Positive, in [0, 1];
- ``patients`` has shape (n,): a text or whole number for each image; an image whose patient is unknown has its own;
- ``confidence`` is the coverage of an interval, in (0, 1), and ``how`` says how the interval is made;
- a wrong argument raises a ``ValueError`` that names it, what was expected and what was found.
"""

from cxrlab.evaluation.statistics import METRICS, summarise

__all__ = ["METRICS", "summarise"]
