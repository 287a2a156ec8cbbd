"""Reports: what run folders hold, as pages for people. Built from files alone; no network is run here."""

from cxrlab.reports.model_card import write_model_card
from cxrlab.reports.run_report import write_report

__all__ = ["write_model_card", "write_report"]
