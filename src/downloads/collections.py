"""What can be had: public collections, where they are, under which terms, and which files of an archive are theirs."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from cxrlab.errors import DataError


@dataclass(frozen=True)
class Collection:
    """A public collection and where it is to be had."""

    name: str  # as in data=…
    source: str  # the class of cxrlab.datamodules that reads it
    title: str
    folder: str  # what its folder is called, below which the source looks for it
    needed: tuple[str, ...]  # files and folders that lie directly in it; all of them, or it is another set
    page: str  # where a person finds it
    licence: str  # in the words of whoever publishes it
    size: str  # images and bytes, where known
    cite: tuple[str, ...]  # what a publication has to cite
    optional: tuple[str, ...] = ()  # others that are unpacked with what is needed
    archive: str = ""  # URL of a ZIP archive; empty where Kaggle has it
    kaggle: str = ""  # the handle there; empty where it is not from there

    @property
    def by_hand(self) -> str:
        """What helps where the network does not, as a sentence."""
        return (
            f"Or get its ZIP archive from {self.page} with a browser and type "
            f"data={self.name} url=/path/to/the/archive.zip"
        )

    def choose(self, names: Iterable[str], where: str) -> dict[str, str]:
        """Which files are the collection's own.

        They lie below the folder with everything that is needed: of several the one with the most files, then the
        least deep. Nothing hidden is taken.

        Args:
            names: Of all files, with ``/`` between the folders.
            where: What holds them, for the message.

        Returns:
            Names of its files by their path in the collection.

        Raises:
            DataError: No folder holds all that is needed.
        """
        parts = (*self.needed, *self.optional)
        below: dict[str, dict[str, str]] = {}  # by folder, its needed and optional files
        for name in names:
            steps = name.split("/")
            for depth, step in enumerate(steps):
                if step in parts:
                    below.setdefault("/".join(steps[:depth]), {})["/".join(steps[depth:])] = name
        found = [
            folder for folder, files in below.items() if {path.split("/")[0] for path in files}.issuperset(self.needed)
        ]
        if not found:
            needed = ", ".join(self.needed)
            raise DataError(f"{where}: not {self.title}: no folder in it holds {needed}; look for another copy")
        best = min(found, key=lambda folder: (-len(below[folder]), len(folder.split("/")) if folder else 0, folder))
        return {path: name for path, name in below[best].items() if "/." not in path}


_COHEN = "Cohen et al., COVID-19 Image Data Collection, arXiv:2003.11597 and arXiv:2006.11988"
_KERMANY = "Kermany et al., Cell 172 (2018) 1122-1131, doi:10.1016/j.cell.2018.02.010; data: doi:10.17632/rscbjbr9sj"
_NIH = "Wang et al., ChestX-ray8, CVPR 2017, arXiv:1705.02315 (films of NIH ChestX-ray)"
_OZTURK = "Ozturk et al., Comput. Biol. Med. 121 (2020) 103792, doi:10.1016/j.compbiomed.2020.103792"
_ACTUALMED = "https://github.com/agchung/Actualmed-COVID-chestxray-dataset"
_COHEN_TERMS = "per image in metadata.csv (many CC BY-NC-SA, many unstated); code and metadata CC BY-NC-SA 4.0"

COLLECTIONS = {
    each.name: each
    for each in (
        Collection(
            name="paper",
            source="PaperSource",
            title="the paper's set: COVID-19 and other films against films of children",
            folder="xray_dataset_covid19",
            needed=("train", "test"),
            kaggle="khoongweihao/covid19-xray-dataset-train-test-sets",
            page="https://www.kaggle.com/datasets/khoongweihao/covid19-xray-dataset-train-test-sets",
            licence=f"see its page; the positives are Cohen's: {_COHEN_TERMS}; the negatives Kermany's: CC BY 4.0",
            size="188 images",
            cite=(_COHEN, _KERMANY),
        ),
        Collection(
            name="kermany",
            source="KermanySource",
            title="chest-xray-pneumonia: children with and without pneumonia",
            folder="chest_xray",
            needed=("train", "test"),
            optional=("val",),
            kaggle="paultimothymooney/chest-xray-pneumonia",
            page="https://www.kaggle.com/datasets/paultimothymooney/chest-xray-pneumonia",
            licence="CC BY 4.0",
            size="5,856 images, about 1.2 GB; Kaggle's archive holds everything twice",
            cite=(_KERMANY,),
        ),
        Collection(
            name="cohen",
            source="CohenSource",
            title="COVID-19 image data collection",
            folder="covid-chestxray-dataset",
            needed=("metadata.csv", "images"),
            optional=("annotations", "README.md", "SCHEMA.md"),
            archive="https://github.com/ieee8023/covid-chestxray-dataset/archive/HEAD.zip",
            page="https://github.com/ieee8023/covid-chestxray-dataset",
            licence=_COHEN_TERMS,
            size="more than 700 images, several hundred MB (the server tells no size beforehand)",
            cite=(_COHEN,),
        ),
        Collection(
            name="darkcovidnet",
            source="DarkCovidNetSource",
            title="the images behind DarkCovidNet",
            folder="darkcovidnet",
            needed=("Covid-19", "No_findings", "Pneumonia"),
            archive="https://github.com/muhammedtalo/COVID-19/archive/HEAD.zip",
            page="https://github.com/muhammedtalo/COVID-19",
            licence=f"see its page; COVID-19 films are Cohen's: {_COHEN_TERMS}; others NIH's: free with attribution",
            size="1,125 images, several hundred MB (the server tells no size beforehand)",
            cite=(_OZTURK, _COHEN, _NIH),
        ),
        Collection(
            name="actualmed",
            source="ActualmedSource",
            title="Actualmed COVID-19 chest X-rays",
            folder="Actualmed-COVID-chestxray-dataset",
            needed=("metadata.csv", "images"),
            optional=("README.md",),
            archive=f"{_ACTUALMED}/archive/HEAD.zip",
            page=_ACTUALMED,
            licence="no licence file; its README speaks of research use",
            size="238 images, about 1 GB (the server tells no size beforehand)",
            cite=(f"Actualmed COVID-19 Chest X-ray Dataset Initiative, {_ACTUALMED}",),
        ),
    )
}
"""Every collection that can be had, by its name."""
