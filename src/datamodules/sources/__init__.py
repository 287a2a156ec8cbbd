"""Sources: small classes that turn what lies on disk into a manifest, one per kind of collection."""

from cxrlab.datamodules.sources.base import Source
from cxrlab.datamodules.sources.folder import FolderSource
from cxrlab.datamodules.sources.paper import PaperSource
from cxrlab.datamodules.sources.synthetic import SyntheticSource

__all__ = ["FolderSource", "PaperSource", "Source", "SyntheticSource"]
