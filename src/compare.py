"""Compares finished runs on the images they share: ``python src/compare.py runs='runs/…/**'``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf
from rich.table import Table

from cxrlab.config import Problems, check_names, keys_of
from cxrlab.console import command, say, show
from cxrlab.entry import command_line
from cxrlab.errors import check_choice, check_range
from cxrlab.imports import quick_imports

if TYPE_CHECKING:
    import pandas as pd

    from cxrlab.reports.comparison import Comparison


def compare(config: DictConfig, overrides: Sequence[str] = ()) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Turns run folders into one comparison.

    Args:
        config: As composed from ``conf/compare.yaml``.
        overrides: What was typed, for the record.

    Returns:
        One row per setting; and by name: ``comparison``, and ``paths``, the files that were written.

    Raises:
        UserError: The configuration is wrong, there is nothing to compare, or the runs cannot be compared.
    """
    runs, options = _checked(config)
    with quick_imports():  # not above: they take seconds, and --help or a misspelt option needs none of them
        from cxrlab.evaluation.estimate import Resampling
        from cxrlab.reports.comparison import compare_settings
        from cxrlab.reports.comparison_page import write_comparison
        from cxrlab.reports.settings import gather

    split, how = options["split"], Resampling(options["resamples"], options["seed"], options["confidence"])
    comparison = compare_settings(gather(runs, split), split, options["reference"], how)
    paths = write_comparison(comparison, Path(config.output_dir), command("compare", *overrides))
    _show(comparison, paths)
    return comparison.table, {"comparison": comparison, "paths": paths}


def _checked(config: DictConfig) -> tuple[str | list[str], dict[str, Any]]:
    """The runs and the options that a configuration names.

    Raises:
        ConfigError: Lists every problem.
    """
    problems = Problems()
    check_names(config, keys_of("compare"), problems)
    problems.raise_if_any()
    plain: dict[str, Any] = OmegaConf.to_container(config)  # type: ignore[assignment]
    runs, reference = plain["runs"], plain["reference"]
    if not _is_text(runs) and not (isinstance(runs, list) and runs and all(map(_is_text, runs))):
        problems.add("runs", f"must be a folder, a pattern, or a list of these, got {runs!r}")
    if reference is not None and not _is_text(reference):
        problems.add("reference", f"must be the name of a setting, or null for all pairs, got {reference!r}")
    with problems.guard("split"):
        check_choice("split", plain["split"], ("test", "val"))
    # As Resampling checks them, which takes seconds to import.
    with problems.guard("confidence"):
        check_range("confidence", plain["confidence"], 0.0, 1.0, low_open=True, high_open=True)
    with problems.guard("resamples"):
        check_range("resamples", plain["resamples"], 100, integer=True)
    with problems.guard("seed"):
        check_range("seed", plain["seed"], 0, integer=True)
    problems.raise_if_any()
    return runs, plain


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _show(comparison: Comparison, paths: dict[str, Path]) -> None:
    """Prints the settings, what was left out, and where everything is."""
    from cxrlab.reports.comparison_page import images_right, plain_rows, plus_minus

    table = Table(title=f"{'SYNTHETIC ' if comparison.synthetic else ''}{comparison.split} images")
    for name in ("setting", "seeds", "right", "accuracy", "AUROC"):
        table.add_column(name, overflow="fold", justify="left" if name == "setting" else "right")
    for row in plain_rows(comparison.table):
        right = images_right(row["right_min"], row["right_max"], row["images"])
        values = (plus_minus(row[f"{metric}_mean"], row[f"{metric}_sd"]) for metric in ("accuracy", "auroc"))
        table.add_row(row["setting"], str(row["seeds"]), right, *values)
    show(table)
    for folder, reason in comparison.gathered.left_out:
        say(f"left out {folder}: {reason}")
    for name, path in paths.items():
        say(f"{name:<22} {path}")


def main() -> None:
    """The command line."""
    command_line("compare", compare)


if __name__ == "__main__":
    main()
