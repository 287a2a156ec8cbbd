"""What a classifier's numbers are worth: statistics of arrays, figures of them, reports of run folders.

Nothing here knows of torch, Lightning, models or datamodules.
"""

from cxrlab.evaluation.report import markdown_table, write_report
from cxrlab.evaluation.statistics import METRICS, summarise

__all__ = ["METRICS", "markdown_table", "summarise", "write_report"]
