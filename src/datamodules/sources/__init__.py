"""Sources: small classes that turn what lies on disk into a manifest, one per kind of collection."""

from cxrlab.datamodules.sources.actualmed import ActualmedSource as ActualmedSource
from cxrlab.datamodules.sources.base import Source as Source
from cxrlab.datamodules.sources.cohen import CohenSource as CohenSource
from cxrlab.datamodules.sources.concat import ConcatSource as ConcatSource
from cxrlab.datamodules.sources.darkcovidnet import DarkCovidNetSource as DarkCovidNetSource
from cxrlab.datamodules.sources.folder import FolderSource as FolderSource
from cxrlab.datamodules.sources.kermany import KermanySource as KermanySource
from cxrlab.datamodules.sources.paper import PaperSource as PaperSource
from cxrlab.datamodules.sources.synthetic import SyntheticSource as SyntheticSource
from cxrlab.datamodules.sources.table import ManifestSource as ManifestSource
from cxrlab.datamodules.sources.which_collection import WhichCollectionSource as WhichCollectionSource
