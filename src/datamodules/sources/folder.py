"""Images sorted into one folder per class, with or without ``train``, ``val`` and ``test`` above them."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NoReturn

import pandas as pd

from cxrlab.datamodules.manifest import COLUMNS, LABELS, SPLITS
from cxrlab.datamodules.reading import SUFFIXES
from cxrlab.errors import DataError, did_you_mean

GET_ANY = "data=synthetic needs no files at all"


class FolderSource:
    r"""``root/<class>/…`` or ``root/<train|val|test>/<class>/…``, at any depth below the class folder.

    Args:
        root: The folder; ``~`` is expanded.
        labels: Which class folder means what: 0 Negative, 1 Positive, for example ``{NORMAL: 0, PNEUMONIA: 1}``.
        patient_pattern: A regular expression with one group, searched for in a file's name, whose group is the patient:
            ``^(\d+)_`` for ``00001280_004.png``. Without it the patients are unknown.
        name: What the manifest's ``source`` column says.
        how_to_get: One sentence for the error that is raised where ``root`` is missing.

    Raises:
        ValueError: ``labels`` is no map onto both 0 and 1, or ``patient_pattern`` is no such expression.
    """

    synthetic = False

    def __init__(
        self,
        root: str,
        labels: Mapping[str, int],
        patient_pattern: str | None = None,
        name: str = "folder",
        how_to_get: str = "data.source.root=/path/to/images names another folder",
    ) -> None:
        meanings = list(labels.values()) if isinstance(labels, Mapping) else []
        known = list(LABELS.values())
        if any(label not in meanings for label in known) or any(label not in known for label in meanings):
            raise ValueError(f"labels must map class folders onto 0 (Negative) and 1 (Positive), both, got {labels!r}")
        self.root = Path(str(root)).expanduser()
        self.labels = {str(folder): label for folder, label in labels.items()}
        self.patient_pattern = _compile(patient_pattern)
        self.name = name
        self.how_to_get = how_to_get
        self.notes: list[str] = []

    def manifest(self) -> pd.DataFrame:
        """Lists the images of every class folder.

        Raises:
            DataError: The root is missing, a class folder is missing, unknown or empty, a folder cannot be listed, or a
                file's name does not fit.
        """
        manifest = self.files()
        unknown = int((manifest["patient_id"] == "").sum())
        if unknown:
            self.notes.append(
                f"{self.name}: the patient of {unknown} of {len(manifest)} images is unknown, so that patients in more "
                "than one split are NOT CHECKED for those (data.source.patient_pattern reads patients from file names)"
            )
        return manifest

    def files(self) -> pd.DataFrame:
        """Does what :meth:`manifest` does, but for the note on unknown patients: for sources that know more of them."""
        self.notes = []
        if not self.root.is_dir():
            raise DataError(f"{self.root.absolute()}: no such folder; {self.how_to_get}; {GET_ANY}")
        splits = [split for split in SPLITS if (self.root / split).is_dir()]
        unused = sorted(set(_folders(self.root)) - set(splits)) if splits else []
        if unused:
            used = ", ".join(splits)
            self.notes.append(f"{self.root}: beside {used}, the folder(s) {', '.join(unused)} were not used")
        rows = [row for split in splits or [""] for row in self._rows(split)]
        return pd.DataFrame(rows, columns=list(COLUMNS))

    def _rows(self, split: str) -> Iterator[dict[str, object]]:
        folder = self.root / split
        classes = _folders(folder)
        for unknown in sorted(set(classes) - set(self.labels)):
            known = ", ".join(self.labels) + did_you_mean(unknown, self.labels)
            raise DataError(f"{folder / unknown}: no label for this class folder; data.source.labels knows {known}")
        for missing in sorted(set(self.labels) - set(classes)):
            found = ", ".join(classes) or "no folder"
            hint = "add it, or change data.source.labels"
            raise DataError(f"{folder}: the class folder {missing!r} is missing; found {found}; {hint}")
        for name in classes:
            files = self._images(folder / name)
            if not files:
                kinds = ", ".join(sorted(SUFFIXES))
                raise DataError(f"{folder / name}: an empty class, no image in it ({kinds}); add some")
            for file in files:
                patient = self._patient(file)
                values = (str(file.absolute()), self.labels[name], patient, split, self.name, name, "")
                yield dict(zip(COLUMNS, values, strict=True))

    def _images(self, folder: Path) -> list[Path]:
        """Every image below a folder by its suffix; follows links to folders, but never up or twice into the same."""
        seen = {str(above) for above in Path(os.path.realpath(folder)).parents}
        images: list[Path] = []
        ignored = 0
        for parent, folders, names in os.walk(folder, onerror=_refuse, followlinks=True):
            real = os.path.realpath(parent)
            if real in seen:
                folders.clear()
                self.notes.append(f"{parent}: leads to a folder above it or listed already and was not entered")
                continue
            seen.add(real)
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            for name in sorted(name for name in names if not name.startswith(".")):
                if Path(name).suffix.lower() in SUFFIXES:
                    images.append(_writable(Path(parent, name)))
                else:
                    ignored += 1
        if ignored:
            self.notes.append(f"{folder}: {ignored} file(s) whose names are no image's were not used")
        return images

    def _patient(self, file: Path) -> str:
        if self.patient_pattern is None:
            return ""
        found = self.patient_pattern.search(file.name)
        if not found or not found[1]:
            pattern = self.patient_pattern.pattern
            raise DataError(f"{file}: data.source.patient_pattern={pattern!r} finds no patient in this name")
        return str(found[1])


def _folders(folder: Path) -> list[str]:
    try:
        return sorted(entry.name for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    except OSError as error:
        _refuse(error)


def _refuse(error: OSError) -> NoReturn:
    what = f"the folder cannot be listed ({error.strerror})"
    raise DataError(f"{error.filename}: {what}; `chmod u+rx` it, or ask its owner") from None


def _writable(file: Path) -> Path:
    try:
        str(file).encode()
    except UnicodeEncodeError:
        raise DataError(f"{str(file)!a}: the name is not UTF-8, so that no table can hold it; rename it") from None
    return file


def _compile(pattern: str | None) -> re.Pattern[str] | None:
    if pattern is None:
        return None
    try:
        compiled = re.compile(pattern)
    except (re.error, TypeError) as error:
        raise ValueError(f"patient_pattern must be a regular expression, got {pattern!r} ({error})") from None
    if compiled.groups != 1:
        raise ValueError(f"patient_pattern must have one (group), which is the patient, got {pattern!r}")
    return compiled
