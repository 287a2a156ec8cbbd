"""Sources: small classes that turn what lies on disk into a manifest, one per kind of collection."""

from cxrlab.datamodules.sources.actualmed import ActualmedSource
from cxrlab.datamodules.sources.base import Source
from cxrlab.datamodules.sources.cohen import CohenSource
from cxrlab.datamodules.sources.concat import ConcatSource
from cxrlab.datamodules.sources.darkcovidnet import DarkCovidNetSource
from cxrlab.datamodules.sources.folder import FolderSource
from cxrlab.datamodules.sources.kermany import KermanySource
from cxrlab.datamodules.sources.paper import PaperSource
from cxrlab.datamodules.sources.synthetic import SyntheticSource
from cxrlab.datamodules.sources.table import ManifestSource
from cxrlab.datamodules.sources.which_collection import WhichCollectionSource

__all__ = [
    "ActualmedSource",
    "CohenSource",
    "ConcatSource",
    "DarkCovidNetSource",
    "FolderSource",
    "KermanySource",
    "ManifestSource",
    "PaperSource",
    "Source",
    "SyntheticSource",
    "WhichCollectionSource",
]
