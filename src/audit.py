"""Audits a data set: ``python src/audit.py data=paper``."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig, OmegaConf

from cxrlab.console import command, say, show, working
from cxrlab.entry import command_line
from cxrlab.errors import ConfigError
from cxrlab.files import write_text
from cxrlab.imports import quick_imports

FAILED = 2
"""Exit status of ``strict=true`` where a verdict is FAIL."""


def audit(config: DictConfig, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """Looks at a data set as a sceptical reader would, and writes down what was found.

    Args:
        config: As composed from ``conf/audit.yaml``.
        overrides: What was typed, for the record.

    Returns:
        The objects by name: ``case``, ``sections`` and ``page``, the path of ``audit.html``; their numbers are in
        ``audit.json`` beside it.

    Raises:
        UserError: The configuration is wrong, or the data set is none: no image, or a class without any.
    """
    began = time.monotonic()
    with quick_imports():  # not above: they take seconds, and --help or a misspelt option needs none of them
        from cxrlab.api import audit_case
        from cxrlab.reports.sections import terminal_table
        from cxrlab.steps.assembly import assemble_audit
        from cxrlab.steps.examine import CHECKS, open_case

    folder = Path(config.output_dir)
    if (folder / "audit.json").exists():
        raise ConfigError(f"{folder}: holds an audit already; hydra.run.dir=… chooses another folder")
    datamodule, gate = assemble_audit(config)
    say(f"auditing {datamodule.source.name}")
    with working("audit", len(CHECKS) + 3) as step:
        step("reading the images")
        case = open_case(datamodule, config.seed, gate)
        typed = {"typed": list(overrides), "config": OmegaConf.to_container(config, resolve=True)}
        write_text(folder / "settings.yaml", yaml.safe_dump(typed, allow_unicode=True, sort_keys=False))
        found = audit_case(case, folder, began, command("audit", *overrides), step)
    show(terminal_table(found.sections, f"{'SYNTHETIC: ' if case.synthetic else ''}{case.name}"))
    say(f"audit    {found.page}")
    return found._asdict()


def _job(config: DictConfig, overrides: Sequence[str]) -> None:
    sections = audit(config, overrides)["sections"]
    from cxrlab.checks import Verdict

    verdicts = {finding.verdict for section in sections for finding in section.findings}
    if config.strict and Verdict.FAIL in verdicts:
        raise SystemExit(FAILED)


def main() -> None:
    """The command line."""
    command_line("audit", _job)


if __name__ == "__main__":
    main()
