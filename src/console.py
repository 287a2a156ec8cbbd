"""The terminal and the log, as ways out: every word that a person reads there passes through this module.

File names, column names, findings and whatever a checkpoint says were written by others. None of it may move a cursor,
set a title, fill a clipboard or begin a line of its own. It is cleaned here, where it leaves; nothing else prints.
"""

from __future__ import annotations

import logging
import os
import re
import shlex
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from types import TracebackType
from typing import Any

from rich import get_console
from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskProgressColumn, TextColumn, TimeElapsedColumn
from rich.segment import Segment
from rich.text import Text
from rich.tree import Tree

DISCLAIMER = "Research software, not a medical device."
"""Said on every surface."""
LONGEST_LINE = 4000
"""Characters of a line that are shown: more is no sentence."""
_BARE = re.compile(r"[\w@%+=:,./…-]+")
"""What needs no quotes in a shell; an ellipsis stands for what is to be filled in."""
_PLAIN = re.compile(r"(?!(?:null|true|false|nan|inf)$)[A-Za-z_/.][\w/.@%+-]*", re.IGNORECASE | re.ASCII)
"""A text that Hydra reads as it is, without quotes."""

_SILENCE = 5.0
"""Seconds after which long work says where it is."""
_HUSHED: ContextVar[bool] = ContextVar("hushed", default=False)
_log = logging.getLogger("cxrlab")


def printable(text: str) -> str:
    r"""Text with control, direction and other invisible characters spelt out (``\x1b``); line breaks and tabs stay."""
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() or each in "\n\t\xa0" else _spelt(each) for each in text)


def _spelt(character: str) -> str:
    return " " if character.isspace() and character > "\xa0" else character.encode("unicode_escape").decode()


def one_line(text: object) -> str:
    """Text as a part of a line: without line breaks, see :func:`printable`."""
    return printable(" ".join(str(text).split()))


def as_lines(text: str) -> str:
    """Text as it is printed: only its first line begins at the margin, and none is longer than a sentence can be.

    A line break in a file's name can so never begin what looks like a line of the program's own.
    """
    first, *rest = (_cut(line) for line in printable(text).split("\n"))
    return "\n".join([first, *(line if line.startswith("  ") or not line else f"  {line}" for line in rest)])


def _cut(line: str) -> str:
    return line if len(line) <= LONGEST_LINE else f"{line[:LONGEST_LINE]}… ({len(line)} characters)"


@contextmanager
def hushed() -> Iterator[None]:
    """Keeps what is said and shown in this block for the log: it is a part of something larger, which speaks for it."""
    token = _HUSHED.set(True)
    try:
        yield
    finally:
        _HUSHED.reset(token)


def say(*lines: str, console: Console | None = None, loud: bool = False) -> None:
    """Prints lines (no wrapping, no markup) above any progress bar, at once, and adds them to the log.

    Args:
        lines: Of the program; a line break within one of them is somebody's data, see :func:`as_lines`.
        console: Where to print, Rich's own by default.
        loud: Whether to print them although they are :func:`hushed`.
    """
    console = console or get_console()
    text = "\n".join(map(as_lines, lines))
    if loud or not _HUSHED.get():
        console.print(text, soft_wrap=True, highlight=False, markup=False, emoji=False)
        console.file.flush()  # whoever follows a log file sees an epoch when it is over
    for line in text.splitlines():
        _log.info("%s", line)


def tell(text: str, *, error: bool = False) -> None:
    """Prints lines past Rich and the log, which a process of a sweep may have silenced: to stderr if it is an error."""
    print(as_lines(text), file=sys.stderr if error else sys.stdout, flush=True)


def show(renderable: RenderableType, console: Console | None = None) -> None:
    """Prints a table; what stands in square brackets in its cells is text, not Rich's markup."""
    if not _HUSHED.get():
        (console or get_console()).print(Clean(renderable), markup=False, emoji=False)


def time_bar(total: float) -> Progress:
    """A bar that is gone when it is over; its one task has a ``description``, ``completed`` and the text ``left``.

    Args:
        total: What ``completed`` is at the end.
    """
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[left]}", markup=False),
    )
    bar = Progress(*columns, console=get_console(), transient=True)
    bar.add_task("", total=total, left="")
    return bar


@contextmanager
def working(doing: str, steps: int) -> Iterator[Callable[[str], None]]:
    """Says how far long work is: on a terminal with a bar that moves, elsewhere with a line where nothing was said.

    Elsewhere a step is named again every five seconds, and after a minute every thirty, so that a log stays short.

    Args:
        doing: What is done, as the first word of each line.
        steps: How many there are.

    Yields:
        Called with a step's name when it begins.
    """
    work = _Work(doing, steps)
    console = get_console()
    if console.is_terminal and not console.quiet:
        with time_bar(steps) as bar:

            def show_step(name: str) -> None:
                work.begin(name)
                words = f"{doing}: {one_line(name)}"
                bar.update(bar.task_ids[0], description=words, completed=work.done, left=work.left())

            yield show_step
        return
    over = threading.Event()
    thread = threading.Thread(target=work.repeat, args=(over,), daemon=True)
    thread.start()
    try:
        yield work.begin
    finally:
        over.set()
        thread.join()


class _Work:
    """The clock of :func:`working`."""

    def __init__(self, doing: str, steps: int) -> None:
        self.doing, self.steps = doing, steps
        self.name, self.done = "", -1
        self.began = self.said = time.monotonic()

    def begin(self, name: str) -> None:
        self.name, self.done = name, min(self.done + 1, self.steps)

    def left(self) -> str:
        """By the pace so far; nothing before a step is over."""
        seconds = time.monotonic() - self.began
        return f"about {duration(seconds / self.done * (self.steps - self.done))} left" if self.done > 0 else ""

    def repeat(self, over: threading.Event) -> None:
        """Says the step again and again until the work is over."""
        while not over.wait(_SILENCE if time.monotonic() - self.began < 12 * _SILENCE else 6 * _SILENCE):
            parts = [f"{self.doing:<8} {self.name}", f"{max(0, self.done)} of {self.steps} steps done"]
            say(", ".join([*parts, *filter(None, [self.left()])]), loud=True)


def duration(seconds: float) -> str:
    """``40 s``, ``25 min`` or ``3.5 h``."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    return f"{round(seconds / 60)} min" if seconds < 90 * 60 else f"{seconds / 3600:.1f} h"


class Clean:
    """What Rich draws, with every piece of text made printable; Rich's own colours and lines stay.

    Args:
        renderable: A table, a group, a text.
    """

    def __init__(self, renderable: RenderableType) -> None:
        self.renderable = renderable

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        for segment in console.render(self.renderable, options.update(markup=False)):
            yield segment if segment.control else Segment(printable(segment.text), segment.style)


def as_tree(name: str, values: Any) -> Tree:
    """Plain values as a tree: mappings, and lists of these, are branches.

    Args:
        name: Of its root.
        values: A mapping or a list.
    """
    tree = Tree(Text(name))
    for key, value in values.items() if isinstance(values, dict) else enumerate(values):
        inside = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
        branches = isinstance(value, dict) or any(isinstance(each, dict) for each in inside)
        tree.add(as_tree(str(key), value) if branches else Text(f"{key}: {value}"))
    return tree


class LogFormatter(logging.Formatter):
    """Formats a record of any library for a log file or a terminal, see :func:`as_lines`."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as text."""
        return as_lines(super().format(record))


def guard_terminal() -> None:
    """Cleans what Python prints by itself in this process: tracebacks, warnings, and records that have no handler."""
    sys.excepthook = _print_traceback
    warnings.formatwarning = _warning
    if logging.lastResort is not None:
        logging.lastResort.setFormatter(LogFormatter())


def _print_traceback(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    print(printable("".join(traceback.format_exception(kind, error, trace))), end="", file=sys.stderr)


def _warning(message: Any, category: type[Warning], filename: str, lineno: int, line: str | None = None) -> str:
    return f"{as_lines(f'{filename}:{lineno}: {category.__name__}: {message}')}\n"


def short(path: Path) -> str:
    """A path as a person would type it: relative to the current folder, where it lies below."""
    relative = os.path.relpath(path)
    return str(path) if relative.startswith("..") else relative


def command(program: str, *words: str, **values: object) -> str:
    """A command that can be pasted into the shell in which this one was typed.

    Args:
        program: ``train``, ``predict`` …, in the form that was typed: a verb, a console script, or a file.
        words: Overrides as they are typed, after those of ``values``.
        values: Overrides by key, of which the values are taken literally, quoted for Hydra and for the shell.
    """
    typed = Path(sys.argv[0] if sys.argv else "")
    if _is_ours(typed):
        script = Path(f"{program}.py") if program == "train" and Path("train.py").is_file() else None
        program = f"python {quoted(short(script or Path(__file__).parent / f'{program}.py'))}"
    else:
        program = f"cxrlab {program}" if typed.name.startswith("cxrlab ") else f"cxrlab-{program}"
    return " ".join([program, *(override(key, value) for key, value in values.items()), *map(quoted, words)])


def override(key: str, value: object) -> str:
    """An option as it is typed: a text taken literally, a list of texts, or a mapping onto texts."""
    if isinstance(value, Mapping):
        text = f"{{{', '.join(f'{name}: {literal(each)}' for name, each in value.items())}}}"
    else:
        text = f"[{', '.join(map(literal, value))}]" if isinstance(value, list | tuple) else literal(value)
    return quoted(f"{key}={text}")


def key_of(typed: str) -> str:
    """The key of an override as it is typed: ``model.dropout`` of ``+model.dropout=0.1``."""
    return typed.lstrip("+~").partition("=")[0]


def typed() -> str:
    """The command of this process, as it can be typed again."""
    script = Path(sys.argv[0])
    if _is_ours(script):
        return command(script.stem, *sys.argv[1:])
    verb = re.fullmatch(r"cxrlab[- ]([a-z]+)", script.name)
    if verb and (Path(__file__).parent / f"{verb[1]}.py").is_file():
        return command(verb[1], *sys.argv[1:])
    return shlex.join(["python", script.name, *sys.argv[1:]])


def _is_ours(typed: Path) -> bool:
    """Whether what was typed is the file of one of our programs, and not another one's of the same name."""
    folder = Path(__file__).resolve().parent
    if typed.suffix != ".py" or not typed.stem.isalpha() or not (folder / typed.name).is_file():
        return False
    # Where it does not exist, the current folder is another one by now.
    return not typed.exists() or typed.resolve() in (folder / typed.name, folder.parent / "train.py")


def literal(value: object) -> str:
    """A text as a value that Hydra and OmegaConf hand on as it is."""
    text = str(value)
    if _PLAIN.fullmatch(text) or text == "…":
        return text
    # A backslash is itself, except before what it would escape.
    text = re.sub(r'(\\*)("|\$\{)', r"\1\1\\\2", text)
    text = re.sub(r"(\\+)$", r"\1\1", text)
    return f'"{text}"'


def quoted(word: str) -> str:
    """A word as a shell takes it."""
    return word if _BARE.fullmatch(word) else shlex.quote(word)
