"""Images sorted into one folder per class, with or without ``train``, ``val`` and ``test`` above them."""

from __future__ import annotations

import fnmatch
import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

import pandas as pd

from cxrlab.console import override
from cxrlab.datamodules import spellings
from cxrlab.datamodules.manifest import COLUMNS, LABELS, SPLITS
from cxrlab.datamodules.sources.base import Source
from cxrlab.datamodules.sources.metadata import GET_ANY, is_list
from cxrlab.errors import DataError, did_you_mean
from cxrlab.reading.folders import walk
from cxrlab.reading.image import SUFFIXES

_EXCLUDE, _INCLUDE = "data.source.exclude", "data.source.include"
_ARCHIVERS_LEFTOVERS = "__MACOSX"  # macOS packs a twin of every file into it, with an image's name and no image inside
_TEXTS = """.txt .csv .tsv .json .xml .md .rst .xlsx .xls .ods .html .htm .pdf .ini .db .log .yaml .yml .url
.sha256 .md5 readme license licence citation"""
_SIDECARS = frozenset(_TEXTS.split())
"""Endings and names of files that come with images and are none; any other is asked about."""
_NO_FILM = re.compile(
    r"(^|[\W_])(\w*masks?|masked|segs?|segmentations?|segmented|annotations?|annotated|overlays?|heatmaps?|contours?|"
    r"ground[\W_]?truths?|gt|rois?|bbox(es)?|thumbnails?|thumbs?)([\W_]|\d|$)",
    re.IGNORECASE,
)
"""Names of folders, and parts of files' names, that say that these are no films."""
_IMAGES = frozenset({"image", "images", "img", "imgs", "png", "jpg", "jpeg", "dcm", "dicom", "films", "xrays", "cxr"})
_PARALLEL = 12  # so many folders, called the same below every class, are kinds of images; more are patients


@dataclass
class _Found:
    """What lies below one folder of a class: its images, and what is no image."""

    split: str
    name: str
    folder: Path
    images: list[Path] = field(default_factory=list)
    others: list[Path] = field(default_factory=list)
    counted: bool = False  # only listed to be counted: all of it is left out


class FolderSource(Source):
    r"""``root/<class>/…`` or ``root/<train|val|test>/<class>/…``, at any depth below the class folder.

    Splits may have any usual name (``Train``, ``valid``, ``testing`` …). What may be no film (masks, an unknown folder,
    archives) is an error that names it, until ``include`` or ``exclude`` says what it is.

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
        include: Patterns of which an image has to match one: ``["*/images/*"]``. In a pattern ``*`` stands for any text
            and ``?`` for one letter. With a slash it is compared with the path below the root, or that of a folder in
            it; without one with the names of the file and of each folder above it.
        exclude: Patterns of files and folders that are left out, each a step of the flow: ``[masks, "*_mask.png"]``.
        label_pattern: A regular expression with one group, searched for in a file's name, whose group stands in for the
            class folder: ``_([01])\.png$`` with the labels ``{0: 0, 1: 1}``, for images in one folder.

    Raises:
        ValueError: ``labels`` is no map onto 0 and 1, a pattern is no such expression, or no list of texts.
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
        include: Sequence[str] | None = None,
        exclude: Sequence[str] | None = None,
        label_pattern: str | None = None,
    ) -> None:
        meanings = list(labels.values()) if isinstance(labels, Mapping) else []
        if not meanings or any(label not in LABELS.values() for label in meanings):
            raise ValueError(f"labels must map class folders onto 0 (Negative) and 1 (Positive), got {labels!r}")
        self.root = Path(str(root)).expanduser()
        self.labels = {str(folder): int(label) for folder, label in labels.items()}
        self.patient_pattern = _compile("patient_pattern", "the patient", patient_pattern)
        self.label_pattern = _compile("label_pattern", "the class", label_pattern)
        self.include = None if include is None else globs("include", include)
        self.exclude = globs("exclude", exclude or [])
        self.name = name
        self.how_to_get = how_to_get
        self.claim = claim
        self.synthetic = synthetic
        self.begin()

    def begin(self) -> None:
        """Forgets what an earlier listing filled."""
        super().begin()
        self._used: set[str] = set()
        self._hidden: set[str] = set()

    def manifest(self) -> pd.DataFrame:
        """Lists the images of every class folder, and notes how many patients are unknown."""
        manifest = self.files()
        unknown = int((manifest["patient_id"] == "").sum())
        if unknown:
            self.notes.append(
                f"{self.name}: the patient of {unknown} of {len(manifest)} images is unknown, so that patients in more "
                "than one split are NOT CHECKED for those (data.source.patient_pattern reads patients from file names)"
            )
        return manifest

    def files(self) -> pd.DataFrame:
        """Lists what :meth:`manifest` does, without the note on patients: for sources that know more of them."""
        self.begin()
        if not self.root.is_dir():
            hint = self.how_to_get or "data.source.root=/path/to/images names another folder"
            raise DataError(f"{self.root.absolute()}: no such folder; {hint}; {GET_ANY}")
        found = list(self._tops())
        reasons = [self._why_not(image) for each in found for image in each.images]
        rows = pd.DataFrame([row for each in found for row in self._rows(each)], columns=list(COLUMNS))
        left = self.flow.start(rows, "image files listed")
        for reason in dict.fromkeys(filter(None, reasons)):
            left = self.flow.keep(left, pd.Series(reasons)[left.index] != reason, reason)
        self._check([each for each in found if not each.counted])
        if self._hidden:
            self.notes.append(f"{self.root}: hidden folder(s) were not entered: {', '.join(sorted(self._hidden))}")
        return left.reset_index(drop=True)

    def _tops(self) -> Iterator[_Found]:
        """The folders of the classes, walked, and what is left out beside them."""
        folders, left, images = self._here(self.root)
        splits = {name: spellings.split(name) for name in folders if name not in self.labels}
        if not any(splits.values()):
            yield from self._classes("", self.root)
            return
        beside = [name for name in folders if splits.get(name) is None]
        if beside:
            there = ", ".join(name for name in folders if splits.get(name))
            raise DataError(
                f"{self.root}: beside the splits {there} there are the folder(s) {', '.join(beside)}"
                f"{did_you_mean(beside[0], SPLITS)}; rename or move them, or leave them out: "
                f"{override(_EXCLUDE, [*beside])}"
            )
        for split, count in Counter(splits.values()).items():
            if count > 1:
                both = " and ".join(name for name in folders if splits[name] == split)
                raise DataError(f"{self.root}: the folders {both} both mean the {split} split; make one folder of them")
        yield from self._left_out(self.root, left, images)
        for name in sorted(folders, key=lambda name: SPLITS.index(str(splits[name]))):
            if name != splits[name]:
                self.notes.append(f"{self.root}: the folder {name} is taken for the {splits[name]} split")
            yield from self._classes(str(splits[name]), self.root / name)

    def _classes(self, split: str, folder: Path) -> Iterator[_Found]:
        if self.label_pattern is not None:
            yield self._walked(_Found(split, "", folder))
            return
        classes, left, images = self._here(folder)
        if images and not classes and not self.how_to_get:
            raise DataError(
                f"{folder}: no class folder, but {len(images)} images, the first {images[0].name}; where the label "
                "stands in their names, type 'data.source.label_pattern=\"_([01])[.]\"' "
                "'data.source.labels={0: 0, 1: 1}'; where a table has it, use that: data=manifest data.source.path=…"
            )
        for unknown in sorted(set(classes) - set(self.labels)):
            raise DataError(f"{folder / unknown}: {self._unlabelled(unknown, classes)}")
        for missing in sorted(set(self.labels) - set(classes)):
            found = ", ".join(classes) or "no folder"
            hint = self.how_to_get or "add it, or change data.source.labels"
            raise DataError(f"{folder}: the class folder {missing!r} is missing; found {found}; {hint}")
        yield from self._left_out(folder, left, images)
        yield from (self._walked(_Found(split, name, folder / name)) for name in classes)

    def _here(self, folder: Path) -> tuple[list[str], list[str], list[Path]]:
        """What lies directly in a folder: folders, those that ``exclude`` takes away, and images."""
        folders, names = self._visible(*next(walk(folder, _refuse)))
        kept = [name for name in folders if not self._excluded(folder / name)]
        images = [folder / name for name in names if Path(name).suffix.lower() in SUFFIXES]
        return kept, [name for name in folders if name not in kept], images

    def _left_out(self, folder: Path, left: list[str], images: list[Path]) -> Iterator[_Found]:
        """What is taken away directly in a folder; images beside the folders of classes have no label."""
        stray = [image for image in images if not self._excluded(image)]
        if stray:
            raise DataError(
                f"{folder}: {len(stray)} image(s) lie beside the folders, the first {stray[0].name}; move them into "
                f"one, or leave them out: {override(_EXCLUDE, [stray[0].name])} (a pattern such as '*.png' takes all)"
            )
        yield _Found("", "", folder, images, counted=True)
        yield from (self._walked(_Found("", "", folder / name, counted=True)) for name in left)

    def _unlabelled(self, unknown: str, classes: list[str]) -> str:
        """What to do with an unknown folder: labels that fit, since what is typed is to follow what lies on disk."""
        known = ", ".join(self.labels)
        if self.how_to_get:
            hint = f"rename this one, or move it elsewhere; {self.how_to_get}"
            return f"the class folders of {self.name} are {known}; {hint}"
        what = f"no label for this class folder; data.source.labels knows {known}"
        absent = [label for label in self.labels if label not in classes]
        meant = next((label for label in absent if did_you_mean(unknown, [label])), None)
        if meant is not None:
            mended = ", ".join(f"{unknown if label == meant else label}: {self.labels[label]}" for label in self.labels)
            return f"{what}; did you mean '{{{mended}}}'? Otherwise rename the folder to {meant!r}"
        leave = f"leave it out: {override(_EXCLUDE, [unknown])}"
        if _NO_FILM.search(unknown):
            return f"a folder called so may hold no films; {leave}"
        return f"{what}; add {unknown!r} to them as 0 or 1, or {leave}"

    def _walked(self, found: _Found) -> _Found:
        """Every file below a folder; follows links to folders, but never up or twice into the same."""
        seen = {str(above) for above in Path(os.path.realpath(found.folder)).parents}
        for parent, folders, names in walk(found.folder, _refuse, followlinks=True):
            real = os.path.realpath(parent)
            if real in seen:
                folders.clear()
                self.notes.append(f"{parent}: leads to a folder above it or listed already and was not entered")
                continue
            seen.add(real)
            folders[:], files = self._visible(parent, folders, names)
            for file in (Path(parent, name) for name in files):
                try:
                    str(file).encode()
                except UnicodeEncodeError:
                    what = "the name is not UTF-8, so that no table can hold it; rename it"
                    raise DataError(f"{str(file)!a}: {what}") from None
                (found.images if file.suffix.lower() in SUFFIXES else found.others).append(file)
        return found

    def _rows(self, found: _Found) -> Iterator[tuple[object, ...]]:
        for file in found.images:
            name, patient = found.name, ""
            if not self._why_not(file):
                name = self._class(file) if self.label_pattern else name
                patient = self._patient(file) if self.patient_pattern else ""
            yield (str(file.absolute()), self.labels.get(name, 0), patient, found.split, self.name, name, "")

    def _class(self, file: Path) -> str:
        assert self.label_pattern is not None
        match = self.label_pattern.search(file.name)
        if match and match[1] in self.labels:
            return str(match[1])
        what = f"finds {match[1]!r}, which data.source.labels lacks" if match else "finds no class in this name"
        hint = f"{override(_EXCLUDE, [file.name])} leaves it out"
        raise DataError(f"{file}: data.source.label_pattern={self.label_pattern.pattern!r} {what}; {hint}")

    def _patient(self, file: Path) -> str:
        assert self.patient_pattern is not None
        match = self.patient_pattern.search(file.name)
        if match and match[1]:
            return str(match[1])
        pattern = self.patient_pattern.pattern
        raise DataError(f"{file}: data.source.patient_pattern={pattern!r} finds no patient in this name")

    def _check(self, found: list[_Found]) -> None:
        """Misspelt patterns, empty classes, files of unknown kinds, and what may be no film."""
        for each in found:
            others = [file for file in each.others if not self._excluded(file)]
            for file in others:
                if not {file.suffix.lower(), file.name.lower()} & _SIDECARS:
                    self._ask(
                        f"{file}: neither an image by its ending nor a text beside one; unpack an archive, give a "
                        "DICOM file the ending .dcm, save other formats as PNG",
                        f"*{file.suffix}" if file.suffix else file.name,
                    )
            if others:
                self.notes.append(f"{each.folder}: {len(others)} file(s) whose names are no image's were not used")
            each.images = [image for image in each.images if not self._why_not(image)]
            if not each.images:
                kinds = ", ".join(sorted(SUFFIXES))
                hint = self.how_to_get or "add some"
                raise DataError(f"{each.folder}: an empty class, no image in it ({kinds}); {hint}")
        for glob in {**self.exclude, **(self.include or {})}:
            if glob not in self._used:
                raise DataError(f"{self.root}: no file or folder matches {glob!r} of data.source.include or exclude")
        if self.include is None and not self.how_to_get:
            self._check_films(found)

    def _check_films(self, found: list[_Found]) -> None:
        """Asks about masks, and about classes whose films lie in several folders."""
        kinds: dict[Path, set[str]] = {}
        for each in found:
            for image in each.images:
                inner = image.relative_to(each.folder).parts
                for name in (*inner[:-1], image.stem):
                    if told := _NO_FILM.search(name):
                        pattern = name if name in inner else f"*{told[0]}*"
                        self._ask(f"{image}: by its name this may be no film, but a mask or a drawing", pattern)
                if len(inner) > 1:
                    kinds.setdefault(each.folder, set()).add(inner[0])
        alike = len(kinds) == len(found) > 1 and len(set(map(frozenset, kinds.values()))) == 1
        for folder, names in kinds.items():
            listed = sorted(names)
            if any(map(spellings.split, names)):
                raise DataError(f"{folder}: {', '.join(listed)} look like splits; put splits above the classes")
            if 1 < len(names) <= _PARALLEL and (alike or {name.lower() for name in names} & _IMAGES):
                raise DataError(
                    f"{folder}: films lie below {', '.join(listed)}, which may be several kinds of images; "
                    f"{override(_INCLUDE, [f'*/{listed[0]}/*'])} takes one, {override(_INCLUDE, ['*'])} all"
                )

    def _ask(self, what: str, pattern: str) -> NoReturn:
        leave = f"{override(_EXCLUDE, [pattern])} leaves such files out, {override(_INCLUDE, ['*'])} takes all"
        raise DataError(f"{what}; {self.how_to_get or leave}")

    def _visible(self, parent: str, folders: list[str], names: list[str]) -> tuple[list[str], list[str]]:
        self._hidden.update(os.path.join(parent, name) for name in folders if name.startswith("."))  # noqa: PTH118
        kept = [name for name in folders if not name.startswith(".") and name != _ARCHIVERS_LEFTOVERS]
        return kept, [name for name in names if not name.startswith(".")]

    def _excluded(self, path: Path) -> str:
        """The first pattern of ``exclude`` that a file or folder matches, empty where none does."""
        return next(iter(self._matching(path, self.exclude)), "")

    def _why_not(self, image: Path) -> str:
        """Why an image is left out, empty where it is not."""
        if glob := self._excluded(image):
            return f"data.source.exclude: {glob}"
        if self.include is None or self._matching(image, self.include):
            return ""
        return f"not in data.source.include: {', '.join(self.include)}"

    def _matching(self, path: Path, globs: Mapping[str, re.Pattern[str]]) -> list[str]:
        """The patterns that a file or folder matches."""
        parts = path.relative_to(self.root).parts
        below = ["/".join(parts[:end]) for end in range(1, len(parts) + 1)]
        found = [glob for glob, regex in globs.items() if any(map(regex.match, below if "/" in glob else parts))]
        self._used.update(found)
        return found


def _refuse(error: OSError) -> NoReturn:
    what = f"the folder cannot be listed ({error.strerror})"
    raise DataError(f"{error.filename}: {what}; `chmod u+rx` it, or ask its owner") from None


def _compile(name: str, what: str, pattern: str | None) -> re.Pattern[str] | None:
    if pattern is None:
        return None
    try:
        compiled = re.compile(pattern)
    except (re.error, TypeError) as error:
        raise ValueError(f"{name} must be a regular expression, got {pattern!r} ({error})") from None
    if compiled.groups != 1:
        raise ValueError(f"{name} must have one (group), which is {what}, got {pattern!r}")
    return compiled


def globs(name: str, patterns: Sequence[str]) -> dict[str, re.Pattern[str]]:
    """Patterns by what was typed; a leading ``**/`` says no more than ``*/`` does, since ``*`` crosses folders."""
    if not is_list(patterns) or not all(isinstance(glob, str) and glob.strip("/") for glob in patterns):
        raise ValueError(f"{name} must be a list of patterns such as [masks, '*_mask.png'], got {patterns!r}")
    return {glob: re.compile(fnmatch.translate(glob.strip("/"))) for glob in patterns}
