"""cxrlab: train chest X-ray classifiers, and find out what their numbers are worth."""

__version__ = "0.1.0"
