"""Images sorted into one folder per class, with or without ``train``, ``val`` and ``test`` above them."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NoReturn

import pandas as pd

from cxrlab.datamodules.flow import Flow
from cxrlab.datamodules.manifest import COLUMNS, LABELS, SPLITS
from cxrlab.errors import DataError, did_you_mean
from cxrlab.reading.folders import walk
from cxrlab.reading.image import SUFFIXES

GET_ANY = "data=synthetic needs no files at all"
_ANOTHER_ROOT = "data.source.root=/path/to/images names another folder"
_ARCHIVERS_LEFTOVERS = "__MACOSX"  # macOS packs a twin of every file into it, with an image's name and no image inside


class FolderSource:
    r"""``root/<class>/…`` or ``root/<train|val|test>/<class>/…``, at any depth below the class folder.

    Args:
        root: The folder; ``~`` is expanded.
        labels: Which class folder means what: 0 Negative, 1 Positive, for example ``{NORMAL: 0, PNEUMONIA: 1}``.
        patient_pattern: A regular expression with one group, searched for in a file's name, whose group is the patient:
            ``^(\d+)_`` for ``00001280_004.png``. Without it the patients are unknown.
        name: What the manifest's ``source`` column says.
        how_to_get: One sentence for sources whose collection fixes the class folders: what helps where ``root`` or one
            of them is missing. By default the hints are those for a user's own folders and labels.
        claim: What Positive is said to mean, as a piece of text that a finding then contains; empty where nothing is
            claimed.
        synthetic: Whether a program drew the images; every result on them is then marked SYNTHETIC.

    Raises:
        ValueError: ``labels`` is no map onto both 0 and 1, or ``patient_pattern`` is no such expression.
    """

    def __init__(
        self,
        root: str,
        labels: Mapping[str, int],
        patient_pattern: str | None = None,
        name: str = "folder",
        how_to_get: str = "",
        claim: str = "",
        synthetic: bool = False,
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
        self.claim = claim
        self.synthetic = synthetic
        self.notes: list[str] = []
        self.flow = Flow(name)

    def manifest(self) -> pd.DataFrame:
        """Lists the images of every class folder.

        Raises:
            DataError: The root is missing, a class folder is missing, unknown or empty, a folder cannot be listed, or a
                file's name does not fit.
        """
        manifest = self.files()
        self.flow = Flow(self.name)
        self.flow.start(manifest, "image files listed")
        unknown = int((manifest["patient_id"] == "").sum())
        if unknown:
            self.notes.append(
                f"{self.name}: the patient of {unknown} of {len(manifest)} images is unknown, so that patients in more "
                "than one split are NOT CHECKED for those (data.source.patient_pattern reads patients from file names)"
            )
        return manifest

    def files(self) -> pd.DataFrame:
        """Lists what :meth:`manifest` does, without flow and note on patients: for sources that know more of them."""
        self.notes = []
        if not self.root.is_dir():
            raise DataError(f"{self.root.absolute()}: no such folder; {self.how_to_get or _ANOTHER_ROOT}; {GET_ANY}")
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
            raise DataError(f"{folder / unknown}: {self._unlabelled(unknown, classes)}")
        for missing in sorted(set(self.labels) - set(classes)):
            found = ", ".join(classes) or "no folder"
            hint = self.how_to_get or "add it, or change data.source.labels"
            raise DataError(f"{folder}: the class folder {missing!r} is missing; found {found}; {hint}")
        for name in classes:
            files = self._images(folder / name)
            if not files:
                kinds = ", ".join(sorted(SUFFIXES))
                raise DataError(
                    f"{folder / name}: an empty class, no image in it ({kinds}); {self.how_to_get or 'add some'}"
                )
            for file in files:
                patient = self._patient(file)
                values = (str(file.absolute()), self.labels[name], patient, split, self.name, name, "")
                yield dict(zip(COLUMNS, values, strict=True))

    def _unlabelled(self, unknown: str, classes: list[str]) -> str:
        """What to do with an unknown folder: labels that fit, since what is typed is to follow what lies on disk."""
        known = ", ".join(self.labels)
        if self.how_to_get:
            hint = f"rename this one, or move it elsewhere; {self.how_to_get}"
            return f"the class folders of {self.name} are {known}; {hint}"
        what = f"no label for this class folder; data.source.labels knows {known}"
        absent = [label for label in self.labels if label not in classes]
        meant = next((label for label in absent if did_you_mean(unknown, [label])), None)
        if meant is None:
            return f"{what}; add {unknown!r} to them as 0 or 1, or move the folder elsewhere"
        mended = ", ".join(f"{unknown if label == meant else label}: {self.labels[label]}" for label in self.labels)
        return f"{what}; did you mean '{{{mended}}}'? Otherwise rename the folder to {meant!r}"

    def _images(self, folder: Path) -> list[Path]:
        """Every image below a folder by its suffix; follows links to folders, but never up or twice into the same."""
        seen = {str(above) for above in Path(os.path.realpath(folder)).parents}
        images: list[Path] = []
        ignored = 0
        for parent, folders, names in walk(folder, _refuse, followlinks=True):
            real = os.path.realpath(parent)
            if real in seen:
                folders.clear()
                self.notes.append(f"{parent}: leads to a folder above it or listed already and was not entered")
                continue
            seen.add(real)
            folders[:] = sorted(name for name in folders if _is_wanted(name))
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
        return sorted(entry.name for entry in folder.iterdir() if entry.is_dir() and _is_wanted(entry.name))
    except OSError as error:
        _refuse(error)


def _is_wanted(folder: str) -> bool:
    return not folder.startswith(".") and folder != _ARCHIVERS_LEFTOVERS


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
