"""Reports: what run folders hold, as pages for people. Built from files alone; no network is run here."""

from cxrlab.reports.run_report import write_report

__all__ = ["write_report"]
