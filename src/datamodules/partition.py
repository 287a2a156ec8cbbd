"""From the images that could be read to training, validation and test images, and what is wrong with that."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from cxrlab.console import command
from cxrlab.datamodules import manifest as mf
from cxrlab.datamodules.flow import Flow
from cxrlab.datamodules.split import hold_out, hold_out_fold
from cxrlab.errors import DataError, check_choice, check_range
from cxrlab.words import first_few

_SHOWN = 5  # leaks, films: an error lists so many and counts the rest


@dataclass(frozen=True)
class Partition:
    """How images are spread over the splits.

    Attributes:
        val: Share of the training patients held out for validation, in (0, 1); ``"test"`` validates on the test images,
            as the paper does, and every report then says so. A source with a ``val`` split of its own keeps it.
        test: Share of the training patients held out for testing, in (0, 1), where the source has no ``test`` split;
            ``"all"`` makes every image a test image, for evaluating a model that was trained on others.
        seed: Of these draws and of the folds.
        resplit: Forget the source's splits and draw them.
        folds: Cross-validation: all images are pooled, whatever splits the source has, and spread over so many folds
            by patient, stratified by label (at least 2). ``test`` is then not used.
        fold: The fold that is the test split, in [0, ``folds``); validation images are drawn from the others.
        duplicates: Several images of one film (near-duplicates): ``keep`` (but never in two splits), ``drop`` all but
            the first, ``exclude`` every image of a film that several sources have, or ``refuse`` such films.

    Raises:
        ValueError: Names the value that is out of range.
    """

    val: float | str = 0.15
    test: float | str = 0.2
    seed: int = 0
    resplit: bool = False
    folds: int | None = None
    fold: int | None = None
    duplicates: str = "keep"

    def __post_init__(self) -> None:
        for name, value, word in (("val", self.val, "test"), ("test", self.test, "all")):
            if isinstance(value, str):
                check_choice(name, value, (word,))
            else:
                check_range(name, value, 0, 1, low_open=True, high_open=True)
        check_range("split_seed", self.seed, 0, 2**32 - 1, integer=True)
        check_choice("resplit", self.resplit, (True, False))
        check_choice("duplicates", self.duplicates, ("keep", "drop", "exclude", "refuse"))
        folds, fold = self.folds, self.fold
        if folds is None and fold is not None:
            raise ValueError(f"fold={fold} needs folds, how many there are: type data.folds=5 data.fold={fold}")
        if folds is not None:
            check_range("folds", folds, 2, integer=True)
            if self.test == "all":
                raise ValueError(
                    f"folds must be left out with test=all, which makes every image a test image, got {folds}"
                )
            if fold is None:
                all_of_them = ",".join(map(str, range(folds))) if folds <= 20 else f"0,1,…,{folds - 1}"
                raise ValueError(
                    f"folds={folds} needs fold: type data.fold=0, or -m data.fold={all_of_them} for all of them"
                )
            check_range("fold", fold, 0, folds - 1, integer=True)

    @property
    def val_is_test(self) -> bool:
        """Whether validation uses the test images."""
        return self.val == "test"

    def without_repeats(self, manifest: pd.DataFrame, flow: Flow) -> pd.DataFrame:
        """The images that are kept of films that occur several times; the manifest has ``film`` on every row."""
        if self.duplicates == "drop":
            manifest = flow.keep(manifest, ~manifest["film"].duplicated(), "another image of the same film")
        if self.duplicates == "exclude":
            manifest = flow.keep(manifest, ~_shared(manifest), "film that several sources have")
        return manifest

    def refuse_shared(self, manifest: pd.DataFrame) -> None:
        """Ends a training on sources that share films, where ``duplicates`` is ``refuse``.

        Raises:
            DataError: They do; lists the first.
        """
        shared = manifest[_shared(manifest)]
        if self.duplicates == "refuse" and len(shared):
            lines = [_named(rows) for _, rows in shared.groupby("film", sort=False)]
            hint = (
                "data.duplicates=drop keeps the first of each, data.duplicates=keep all (never in two splits); "
                f"`{command('audit')}` with the same options lists them all"
            )
            head = f"{len(lines)} film(s) are in more than one source:"
            raise DataError("\n  ".join([head, *first_few(lines, _SHOWN), hint]))

    def refuse_one_class(self, manifest: pd.DataFrame, name: str) -> None:
        """Ends a training whose images are all Negative or all Positive; an audit goes on, as does an evaluation.

        Raises:
            DataError: They are.
        """
        labels = manifest["label"].unique()
        if len(labels) == 1 and self.test != "all":
            raise DataError(
                f"{name}: all {len(manifest)} images are {mf.NAMES[labels[0]]}, and a training needs both: add "
                f"images, or look at data.source.labels and at the filters; `{command('audit')}` with the same options "
                "takes them as they are"
            )

    def draw(self, manifest: pd.DataFrame, name: str, *, train: bool = True) -> pd.DataFrame:
        """Returns a copy with a split on every row.

        Args:
            manifest: Of the images that are there, with the source's own splits.
            name: Of the source, for errors.
            train: Whether a training follows: validation images are drawn where the source has none, and every split
                needs both labels. Otherwise a test split that cannot be drawn is left out.

        Raises:
            DataError: A label has too few patients for the folds; or, where a training follows, for a draw or a split.
        """
        if self.test == "all":
            return manifest.assign(split="test")
        given = "train" if self.resplit else manifest["split"].replace("", "train")
        manifest, remedy = manifest.assign(split=given), None
        if self.folds is not None and self.fold is not None:
            manifest, remedy = hold_out_fold(manifest, self.fold, self.folds, self.seed), "type data.val=test"
        try:
            if not (manifest["split"] == "test").any():
                manifest = hold_out(manifest, float(self.test), self.seed, "test", f"data.test={self.test}")
            splits = mf.SPLITS if train and not self.val_is_test else ("train", "test")
            if "val" in splits and not (manifest["split"] == "val").any():
                manifest = hold_out(manifest, float(self.val), self.seed, "val", f"data.val={self.val}", remedy)
            hint = "add some, or let the split be drawn (data.resplit=true)"
            if self.folds is not None:
                hint = "type a smaller data.folds, or another data.split_seed"
            for split in splits:
                present = set(manifest.loc[manifest["split"] == split, "label"])
                lack = " and no ".join(label for label, number in mf.LABELS.items() if number not in present)
                if lack:
                    raise DataError(f"{name}: the {split} split holds no {lack} image; it needs both: {hint}")
        except DataError:
            if train or self.folds is not None:
                raise
            return manifest.assign(split=given)
        return manifest

    def drawn(self, own: pd.Series) -> bool:
        """Whether the test split was drawn here, given the source's own splits."""
        return self.resplit or self.folds is not None or not (own == "test").any()

    def warnings(self, own: pd.Series, manifest: pd.DataFrame, leaks: list[str], name: str) -> list[str]:
        """What could have inflated every number of a run on these splits, and where they are not the source's ``own``.

        Args:
            own: The source's own splits of the same images.
            manifest: As drawn.
            leaks: See :func:`cxrlab.datamodules.manifest.leaks`.
            name: Of the source.
        """
        found = []
        if self.val_is_test:
            found.append("validation was the test set (data.val=test): nothing here was chosen on independent images")
            unused = int((manifest["split"] == "val").sum())
            if unused:
                found.append(f"{name}: its own val split ({unused} images) is not used (data.val=test)")
        counts = {split: int((own == split).sum()) for split in mf.SPLITS}
        if any(counts.values()) and (self.folds is not None or self.resplit):
            listed = ", ".join(f"{count} {split}" for split, count in counts.items() if count)
            where = "drawn anew by patient (data.resplit=true)"
            if self.folds is not None:
                where = f"those of data.fold={self.fold} of data.folds={self.folds}"
            found.append(
                f"{name}: its own split ({listed} images) is set aside: all {len(manifest)} images are pooled, and the "
                f"test images are {where}"
            )
        if leaks:
            found.append(f"data.allow_leak=true: {len(leaks)} leak(s) between splits, the first: {leaks[0]}")
        both = manifest[manifest.groupby("film")["label"].transform("nunique") > 1]
        if len(both):
            first = _named(both[both["film"] == both["film"].iloc[0]])
            count = both["film"].nunique()
            found.append(f"{count} film(s) are labelled both Negative and Positive, the first: {first}")
        return found


def refuse_leaks(leaks: list[str], name: str) -> None:
    """Ends a training whose test images it has seen.

    Raises:
        DataError: There are leaks; lists the first.
    """
    if leaks:
        hint = (
            "mend the splits, let them be drawn anew by patient (data.resplit=true), or pass data.allow_leak=true to "
            "train all the same (every report then says so)"
        )
        raise DataError("\n  ".join([f"{name}: {len(leaks)} leak(s) between splits:", *first_few(leaks, _SHOWN), hint]))


def _shared(manifest: pd.DataFrame) -> pd.Series[bool]:
    """Whether each image is of a film that several sources have."""
    return manifest.groupby("film")["source"].transform("nunique") > 1


def _named(rows: pd.DataFrame) -> str:
    """The images of one film."""
    return " = ".join(f"{row.source}: {Path(str(row.path)).name}" for row in rows.itertuples())
