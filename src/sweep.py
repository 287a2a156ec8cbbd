"""Shows how far a sweep is: ``python src/sweep.py sweep=runs/seeds watch=true``."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from cxrlab.config import Problems, check_names, keys_of
from cxrlab.console import command
from cxrlab.entry import command_line
from cxrlab.errors import ConfigError, check_choice, check_range
from cxrlab.imports import quick_imports

if TYPE_CHECKING:
    from rich.console import RenderableType

    from cxrlab.sweeps.state import Sweep


def sweep(config: DictConfig, overrides: Sequence[str] = ()) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Shows a sweep's jobs once, or again and again until all of them are over.

    Args:
        config: As composed from ``conf/sweep.yaml``.
        overrides: What was typed.

    Returns:
        One mapping per job that has a folder; and by name: ``sweep``, as it was at the end.

    Raises:
        UserError: The configuration is wrong, or there is no such sweep.
    """
    _check(config)
    with quick_imports():
        from rich import get_console
        from rich.live import Live

        from cxrlab.console import Clean
        from cxrlab.sweeps.state import Sweep
    folder = locate(str(config.sweep))
    state = Sweep.read(folder)
    with Live(Clean(_shown(state)), console=get_console(), auto_refresh=False, transient=False) as live:
        while config.watch and not state.is_over:
            time.sleep(config.every)
            state = Sweep.read(folder)
            live.update(Clean(_shown(state)), refresh=True)
    return [vars(job) for job in state.jobs], {"sweep": state}


def locate(given: str) -> Path:
    """The folder of a sweep, or the newest one below a folder.

    Raises:
        ConfigError: There is none.
    """
    from cxrlab.sweeps.state import NOTE

    folder = Path(given).expanduser()
    found = [folder / NOTE] if (folder / NOTE).is_file() else list(folder.rglob(NOTE))
    if not found:
        raise ConfigError(
            f"sweep={given}: no sweep, which holds {NOTE}, here or below; `{command('train', '-m', '…')}` begins one"
        )
    return max(found, key=lambda path: path.stat().st_mtime_ns).parent


def _check(config: DictConfig) -> None:
    problems = Problems()
    check_names(config, keys_of("sweep"), problems)
    with problems.guard("watch"):
        check_choice("watch", config.watch, (True, False))
    with problems.guard("every"):
        check_range("every", config.every, 1)
    problems.raise_if_any()


def _shown(state: Sweep) -> RenderableType:
    """A row per job, and a sentence."""
    from rich.console import Group
    from rich.markup import escape
    from rich.table import Table

    monitors = {job.monitor for job in state.jobs if job.monitor}
    table = Table(title=escape(str(state.folder)))
    for name in ("job", "status", "epoch", f"best {', '.join(sorted(monitors)) or 'value'}", "s"):
        table.add_column(name, justify="left" if name == "status" else "right")
    table.add_column("what is varied", overflow="fold")
    for job in state.jobs:
        epochs = f"{job.epoch}/{job.epochs}" if job.epochs else ""
        best = "" if job.best is None else f"{job.best:.4f}"
        table.add_row(str(job.number), job.status, epochs, best, f"{job.seconds:.0f}", state.varied(job))
    return Group(table, state.summary())


def main() -> None:
    """The command line."""
    command_line("sweep", sweep)


if __name__ == "__main__":
    main()
