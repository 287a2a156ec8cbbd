"""A trained model on a page for the reading room: ``python src/app.py ckpt_path=runs/…``."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from omegaconf import DictConfig, ListConfig

from cxrlab.config import Problems, check_names, keys_of
from cxrlab.console import say
from cxrlab.entry import command_line
from cxrlab.errors import check_choice, check_range
from cxrlab.imports import check_installed, quick_imports

if TYPE_CHECKING:
    from cxrlab.page import Desk


def app(config: DictConfig, overrides: Sequence[str] = ()) -> None:
    """Shows the page until Ctrl-C or SIGTERM.

    Args:
        config: As composed from ``conf/app.yaml``.
        overrides: What was typed; not needed here.

    Raises:
        UserError: The configuration is wrong, the extra ``app`` is not installed, the address is taken, or a model
            cannot be used.
    """
    _check(config)
    for library in ("starlette", "uvicorn"):
        check_installed(library, "the page")
    with quick_imports():  # not above: they take seconds, and --help or a misspelt option needs none of them
        from cxrlab.page import Page, open_socket
        from cxrlab.page.server import address, is_local

    listening = open_socket(config.host, config.port)
    try:
        desk = open_desk(config)
        page = Page(desk, host=config.host, max_upload_mb=config.max_upload_mb, max_waiting=config.max_waiting)
    except BaseException:
        listening.close()
        raise
    for predictor in desk.predictors:
        for warning in predictor.warnings():
            say(f"warning  {predictor.name}: {warning}")
    if not is_local(config.host):
        say(f"warning  host={config.host}: whoever reaches this machine can use the page; nothing is encrypted")
    where = address(config.host, listening)

    def ready() -> None:
        say(f"page     {where} (Ctrl-C ends it)")
        if config.open_browser:
            import webbrowser

            webbrowser.open(where)

    with contextlib.suppress(KeyboardInterrupt):  # Ctrl-C is the normal way to stop the server
        page.serve(listening, ready)
    say("ended    nothing was kept")


def open_desk(config: DictConfig) -> Desk:
    """Loads what the configuration names, as for :func:`app`.

    Raises:
        UserError: Something cannot be loaded, or the method cannot explain a network.
    """
    from cxrlab.inference import load
    from cxrlab.inference.predictor import LUNGS
    from cxrlab.page import Desk

    given = {name: config[name] for name in ("gate", "trusted", "accelerator", "precision")}
    predictors = [load(path, lungs=config.lungs or LUNGS, **given) for path in _paths(config)]
    segment = None
    if config.lungs is not None:
        from cxrlab.runs.auxiliary import load_segmenter  # its library takes seconds to import, and few pages need it

        segment = load_segmenter(str(config.lungs))
    problems = Problems()
    saliency = problems.build(config, "saliency")
    problems.raise_if_any()
    return Desk(predictors, saliency=saliency, segment=segment, max_megapixels=config.max_megapixels)


def _paths(config: DictConfig) -> list[str]:
    given = config.ckpt_path
    return [str(path) for path in given] if isinstance(given, ListConfig) else [str(given)]


def _check(config: DictConfig) -> None:
    """Finds every mistake before anything is loaded."""
    problems = Problems()
    check_names(config, keys_of("app"), problems)
    problems.raise_if_any()
    with problems.guard("ckpt_path"):
        check_range("number of models", len(_paths(config)), 1, 8, integer=True)
    for key, low, high, whole in (
        ("port", 0, 65535, True),
        ("max_upload_mb", 0, 1000, False),
        ("max_megapixels", 0, 150, False),
        ("max_waiting", 1, 1000, True),
    ):
        with problems.guard(key):
            check_range(key, config[key], low, high, low_open=key.startswith("max_") and low == 0, integer=whole)
    with problems.guard("accelerator"):
        check_choice("accelerator", config.accelerator, ("auto", "cpu", "gpu", "mps"))
    with problems.guard("open_browser"):
        check_choice("open_browser", config.open_browser, (True, False))
    problems.raise_if_any()


def main() -> None:
    """The command line."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C
    command_line("app", app)
    sys.stdout.flush()
    os._exit(0)  # Python would wait for a network that is at work, which nothing interrupts, and tidies up for seconds


if __name__ == "__main__":
    main()
