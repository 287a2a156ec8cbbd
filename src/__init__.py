"""cxrlab: train chest X-ray classifiers, and find out what their numbers are worth."""

import os

__version__ = "0.1.0"

# albumentations asks a server for its newest version whenever it is imported; nothing here calls out unless asked to.
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
