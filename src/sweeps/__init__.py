"""Sweeps: several runs of one command. Jobs that are over are recognised, and how far a sweep is can be seen."""

from cxrlab.sweeps.view import LiveView, is_first_job, is_sweep

__all__ = ["LiveView", "is_first_job", "is_sweep"]  # what a single run needs, too; the rest needs large libraries
