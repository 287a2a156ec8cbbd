"""Probes a trained model for shortcuts: ``python src/probe.py ckpt_path=… lungs=… saliency=hirescam``."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from omegaconf import DictConfig, OmegaConf
from rich.table import Table

from cxrlab.console import command, say, show, working
from cxrlab.entry import command_line
from cxrlab.errors import ConfigError
from cxrlab.files import write_text
from cxrlab.imports import quick_imports
from cxrlab.locks import claimed

if TYPE_CHECKING:
    from cxrlab.reports.probe_page import Probe
    from cxrlab.steps.probe import Plan


def probe(config: DictConfig, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """Says with numbers whether a model, or its recipe, needs the lungs.

    Args:
        config: As composed from ``conf/probe.yaml``.
        overrides: What was typed, for the record.

    Returns:
        The objects by name: ``probes`` and ``pages``, one per model, and for several models ``summary``.

    Raises:
        UserError: The configuration is wrong, or a checkpoint, the data or a run cannot be used.
    """
    with quick_imports():  # not above: they take seconds, and --help or a misspelt option needs none of them
        from cxrlab.reports.probe_page import sections
        from cxrlab.reports.sections import terminal_table
        from cxrlab.steps.probe import check_plan, count_steps, find_checkpoints

    plan = check_plan(config)
    folder = Path(config.output_dir)
    if any((folder / name).exists() for name in ("probe.json", "summary.json")):
        raise ConfigError(f"{folder}: holds a probe already; hydra.run.dir=… chooses another folder")
    checkpoints = find_checkpoints(config.ckpt_path)
    _record(folder, config, overrides)
    with working("probe", max(1, len(checkpoints)) * (count_steps(plan) + 2)) as step:
        if len(checkpoints) > 1:
            return _probe_each(checkpoints, config, overrides, plan, step)
        found, page = _probe_one(config, overrides, plan, step)
    show(terminal_table(sections(found), f"{'SYNTHETIC: ' if found.synthetic else ''}{found.name}"))
    for warning in found.warnings:
        say(f"WARNING  {warning}")
    say(f"probe    {page}")
    return {"probes": [found], "pages": [page]}


def _probe_one(
    config: DictConfig, overrides: Sequence[str], plan: Plan, step: Callable[[str], None]
) -> tuple[Probe, Path]:
    """Probes one model, or only collects runs, and writes the page."""
    from cxrlab.datamodules import manifest as mf
    from cxrlab.reports.model_card import is_trained, write_model_card
    from cxrlab.reports.probe_page import write_probe
    from cxrlab.steps.probe import add_retrained, find_checkpoints, probe_model, run_folder_of

    began = time.monotonic()
    folder = Path(config.output_dir)
    found, scores, run = None, None, None
    if config.ckpt_path:
        config.ckpt_path = find_checkpoints(config.ckpt_path)[0]
        found, scores, model = probe_model(config, overrides, plan, step)
        mf.write(scores, folder / "scores.csv")
        run = run_folder_of(model.path)
    step("reading other runs")
    found = add_retrained(config, found, scores)
    step("writing the page")
    page = write_probe(folder, found, time.monotonic() - began, command("probe", *overrides))
    if run is not None:
        try:
            with claimed(run.path):
                write_text(run.path / "probe.json", (folder / "probe.json").read_text(encoding="utf-8"))
                if is_trained(run.path):
                    write_model_card(run.path)
        except (OSError, ConfigError) as error:
            say(f"WARNING  no copy of probe.json for the model card of {run.path}: {error}")
    return found, page


def _probe_each(
    checkpoints: Sequence[str],
    config: DictConfig,
    overrides: Sequence[str],
    plan: Plan,
    step: Callable[[str], None],
) -> dict[str, Any]:
    """Probes several models, each into a folder of its own, and puts them into one table."""
    from cxrlab.reports.probe_page import summarise_probes, write_summary

    rest = [each for each in overrides if not each.startswith("ckpt_path=")]
    found, pages = [], []
    for number, checkpoint in enumerate(checkpoints):
        own = OmegaConf.create(OmegaConf.to_container(config, resolve=True))
        assert isinstance(own, DictConfig)
        own.ckpt_path = checkpoint
        own.output_dir = str(Path(config.output_dir) / f"{number}_{Path(checkpoint).name}")
        one, page = _probe_one(own, [f"ckpt_path={checkpoint}", *rest], plan, step)
        found.append(one)
        pages.append(page)
    by_folder = {str(page.parent): json.loads((page.parent / "probe.json").read_text()) for page in pages}
    summary = summarise_probes(by_folder, command("probe", *overrides))
    page = write_summary(Path(config.output_dir), summary)
    _show(summary)
    say(f"summary  {page}")
    return {"probes": found, "pages": pages, "summary": summary}


def _show(summary: dict[str, Any]) -> None:
    """Prints how often each verdict was given, and what was left of the AUROC."""
    from cxrlab.reports.probe_page import summary_tables

    for each in summary_tables(summary):
        table = Table(title=f"{'SYNTHETIC: ' if summary['synthetic'] else ''}{each.caption}")
        for name in each.header:
            table.add_column(name, overflow="fold")
        for row in each.rows:
            table.add_row(*map(str, row))
        show(table)


def _record(folder: Path, config: DictConfig, overrides: Sequence[str]) -> None:
    """Writes what is to be done before it is done."""
    typed = {"typed": list(overrides), "config": OmegaConf.to_container(config, resolve=True)}
    write_text(folder / "settings.yaml", yaml.safe_dump(typed, allow_unicode=True, sort_keys=False))


def main() -> None:
    """The command line."""
    command_line("probe", probe)


if __name__ == "__main__":
    main()
