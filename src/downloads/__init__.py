"""Public collections: what can be had, and getting it fetched, checked, unpacked safely and moved into place whole."""

from cxrlab.downloads.collections import COLLECTIONS, Collection
from cxrlab.downloads.getting import download

__all__ = ["COLLECTIONS", "Collection", "download"]
