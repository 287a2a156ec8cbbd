"""What ``conf/`` says about itself: every key with its default and its comment, for ``--help`` and for the docs.

The comments are the documentation. They are read from the text of the files, since YAML drops them; nothing is composed
here, and nothing large is imported.
"""

from __future__ import annotations

import importlib.resources
import re
import shutil
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from cxrlab.config.plugins import variants
from cxrlab.errors import ConfigError, did_you_mean

_UNSAID = ("defaults", "hydra", "_target_", "_partial_")
_COLUMN = 34  # where comments begin; a longer key has its comment on the next line


@dataclass(frozen=True)
class Key:
    """One key of a file of ``conf/``.

    Attributes:
        name: Dotted, as it is typed.
        default: As the file has it.
        comment: What stands behind it or above it; empty where nothing does.
        section: The comment above a block of keys.
    """

    name: str
    default: str
    comment: str
    section: str = ""


@dataclass(frozen=True)
class Option:
    """An option of a group, or the file of a program.

    Attributes:
        group: ``model``, ``data/source``; empty for a program.
        name: Of the file, without suffix.
        comment: The lines at the file's top.
        target: The class it configures; empty where it names none.
        keys: What can be set where it is chosen, those of the files that it builds on included.
        chosen: Options of groups, by group, that it chooses.
        header: What a program says of itself at the top of ``--help``.
        swept: What an option that is a sweep varies: values, comma-separated, by key.
    """

    group: str
    name: str
    comment: str
    target: str
    keys: tuple[Key, ...]
    chosen: dict[str, str | None]
    header: str = ""
    swept: dict[str, str] = field(default_factory=dict)


class Conf:
    """The files of ``conf/``, and those of a user's own folder over them.

    Args:
        above: Folders as of ``--config-dir``.
    """

    def __init__(self, above: Sequence[str | Path] = ()) -> None:
        own = Path(str(importlib.resources.files("cxrlab.conf")))
        self.folders = [*map(Path, above), own]
        self.variants = _texts(variants())

    def options(self, group: str) -> list[str]:
        """The names of a group's options, without those that are parts of others."""
        found = {path.stem for folder in self.folders for path in (folder / group).glob("*.yaml")}
        found |= {name for of, name in self.variants if of == group}
        return sorted(name for name in found if not name.startswith("_"))

    def groups(self) -> list[str]:
        """The names of all groups but Hydra's own, those within others included."""
        found = {each.relative_to(folder).as_posix() for folder in self.folders for each in folder.rglob("*/")}
        return sorted(name for name in found if not name.startswith(("hydra", ".", "__")) and self.options(name))

    def subgroups(self, group: str) -> list[str]:
        """Groups within a group: ``data/source``."""
        parts = {path.name for folder in self.folders for path in (folder / group).glob("*/")}
        return [f"{group}/{name}" for name in sorted(parts) if self.options(f"{group}/{name}")]

    def program(self, name: str) -> Option:
        """A program's own file: its keys, and the groups it takes with their defaults."""
        return self.option("", name)

    def option(self, group: str, name: str) -> Option:
        """Reads an option with what it builds on.

        Raises:
            ConfigError: There is no such option.
        """
        for folder in self.folders:
            path = folder / group / f"{name}.yaml"
            if path.is_file():
                return self._read(path.read_text(encoding="utf-8"), group, name)
        if (group, name) in self.variants:
            return self._read(self.variants[group, name], group, name)
        known = self.options(group)
        raise ConfigError(f"{group}={name}: no such option; there are {', '.join(known)}{did_you_mean(name, known)}")

    def _read(self, text: str, group: str, name: str) -> Option:
        values = yaml.safe_load(text) or {}
        everywhere = "@package _global_" in text
        place = "" if everywhere or not group else f"{group.replace('/', '.')}."
        keys = {f"{place}{each.name}": replace(each, name=f"{place}{each.name}") for each in _keys(text)}
        chosen: dict[str, str | None] = {}
        target = str(values.get("_target_", ""))
        for each in values.get("defaults", ()):
            entry = {each: None} if isinstance(each, str) else each
            for word, option in entry.items():
                if word.startswith("override ") or (not group and word not in ("_self_", "hydra")):
                    chosen[word.removeprefix("override ").lstrip("/")] = option
                elif group and word != "_self_":
                    below = self._built_on(group, word, option)
                    keys = _over(below.keys, keys)
                    target = target or (below.target if below.group == group else "")
        of_hydra = values.get("hydra") or {}
        header = (of_hydra.get("help") or {}).get("header", "")
        swept = (of_hydra.get("sweeper") or {}).get("params") or {}
        shown = tuple(each for each in keys.values() if not each.name.startswith("hydra."))
        return Option(group, name, _top(text), target, shown, chosen, str(header), swept)

    def _built_on(self, group: str, word: str, option: str | None) -> Option:
        """What one line of a file's defaults brings: ``- torchvision``, ``- source: paper``, ``- a@b: c``."""
        if option is None:
            return self.option(group, word)
        sub, _, where = word.partition("@")
        found = self.option(f"{group}/{sub}", option)
        inside = f"{group}/{sub}".replace("/", ".") + "."
        place = f"{group.replace('/', '.')}.{where or sub}."
        return replace(
            found, keys=tuple(replace(key, name=place + key.name.removeprefix(inside)) for key in found.keys)
        )


def _texts(text: str) -> dict[tuple[str, str], str]:
    """Each option in a file of several, as if it were a file of its own, with the comment above it at its top."""
    lines, found = text.splitlines(), {}
    root: Any = yaml.compose(text, Loader=yaml.SafeLoader)
    for group, options in root.value:
        for name, node in options.value:
            row, comment = name.start_mark.line, ""
            while lines[row - 1].startswith("  #"):
                row -= 1
                comment = f"{lines[row].strip()}\n{comment}"
            own = textwrap.dedent(" " * node.start_mark.column + text[node.start_mark.index : node.end_mark.index])
            everywhere = "# @package _global_\n" if group.value == "experiment" else ""
            found[group.value, name.value] = everywhere + comment + own
    return found


def _over(below: Sequence[Key], own: dict[str, Key]) -> dict[str, Key]:
    """Keys of a file over those of what it builds on: its values, and its comments where it has some."""
    merged = {key.name: key for key in below}
    for name, key in own.items():
        known = merged.get(name)
        merged[name] = replace(known, default=key.default, comment=key.comment or known.comment) if known else key
    return merged


def _top(text: str) -> str:
    """The comment that a file begins with, but for Hydra's own lines."""
    lines = []
    for line in text.splitlines():
        if not line.startswith("#"):
            break
        if "@package" not in line:
            lines.append(line.removeprefix("#").strip())
    return " ".join(lines)


def _keys(text: str) -> list[Key]:
    """Every key of a file, without what only Hydra reads."""
    root = yaml.compose(text, Loader=yaml.SafeLoader)
    lines = text.splitlines()
    top = next((number for number, line in enumerate(lines) if not line.startswith("#")), len(lines))
    found: list[Key] = []
    section = ""
    for name, key, value in _leaves(root, ""):
        above = _above(lines, key.start_mark.line, top)
        block = isinstance(value, yaml.SequenceNode) and not value.flow_style
        end = key.end_mark if block else value.end_mark
        behind = _behind(lines, end.line, end.column + block)
        section = above if above and behind else section
        found.append(Key(name, _written(text, value), behind or above, section))
    return found


def _leaves(node: Any, place: str) -> Iterator[tuple[str, Any, Any]]:
    """Keys with the nodes of their names and values; a mapping that is written over several lines is gone into."""
    if not isinstance(node, yaml.MappingNode):
        return
    for key, value in node.value:
        if key.value in _UNSAID:
            continue
        name = f"{place}{key.value}"
        if isinstance(value, yaml.MappingNode) and not value.flow_style:
            yield from _leaves(value, f"{name}.")
        else:
            yield name, key, value


def _written(text: str, value: Any) -> str:
    """A value as the file has it; of a list over several lines, what its entries are."""
    if isinstance(value, yaml.SequenceNode) and not value.flow_style:
        named = (dict(map(_pair, each.value)).get("_target_", "…") for each in value.value)
        return f"[{', '.join(each.rpartition('.')[2] for each in named)}]"
    return text[value.start_mark.index : value.end_mark.index].strip()


def _pair(entry: tuple[Any, Any]) -> tuple[str, str]:
    return entry[0].value, str(entry[1].value)


def _behind(lines: Sequence[str], row: int, column: int) -> str:
    """The comment on a value's line, and on the lines below that begin in the same column."""
    rest = lines[row][column:] if row < len(lines) else ""
    if not rest.lstrip().startswith("#"):
        return ""
    begin = column + rest.index("#")
    comment = [rest.lstrip()]
    for line in lines[row + 1 :]:
        if not (line[:begin].strip() == "" and line[begin:].startswith("#")):
            break
        comment.append(line[begin:])
    return " ".join(each.lstrip("#").strip() for each in comment)


def _above(lines: Sequence[str], row: int, top: int) -> str:
    """The comment on the lines directly above a key, if they begin where it begins."""
    indent = len(lines[row]) - len(lines[row].lstrip())
    comment: list[str] = []
    for line in reversed(lines[top:row]):
        if not re.match(rf" {{{indent}}}#", line):
            break
        comment.insert(0, line.lstrip(" #").strip())
    return " ".join(comment)


def help_text(program: str, words: Sequence[str], above: Sequence[str] = ()) -> str:
    """What ``--help`` prints: what a program is for, its groups, and its keys with their comments.

    Args:
        program: ``train``.
        words: As typed: of a group that is chosen there, this option's keys are shown.
        above: Folders of the user's own configuration.

    Raises:
        ConfigError: An option that was typed does not exist.
    """
    conf = Conf(above)
    own = conf.program(program)
    typed = {group: option for group, _, option in (word.partition("=") for word in words)}
    width = min(shutil.get_terminal_size().columns, 140)
    lines = [own.header.rstrip(), ""]
    chosen = {group: typed.get(group, option) for group, option in own.chosen.items()}
    if chosen:
        lines += ["Groups (choose with group=option):", ""]
        for group, option in chosen.items():
            lines += _columns(group, ", ".join(_marked(conf.options(group), option)), 18, width)
            for sub in conf.subgroups(group):
                lines += _columns(sub, ", ".join(conf.options(sub)), 18, width)
        lines += ["", "  * is chosen, by default or in this command.", ""]
    lines += ["Keys (set with key=value):", "", *_shown(own.keys, width)]
    for group, name in chosen.items():
        if name not in (None, "none", "null"):
            taken = conf.option(group, str(name))
            if taken.keys or taken.chosen:
                lines += ["", *_wrapped(f"{group}={name}  {taken.comment}", width, "", "  "), ""]
                lines += [f"  {override}={value}" for override, value in taken.chosen.items()]
                lines += _shown(taken.keys, width)
    return "\n".join([*lines, "", *_wrapped(_MORE, width, "", "")])


_MORE = (
    "Hydra's options: --cfg job prints what a command is composed to, -m key=a,b,c runs several values, --config-dir "
    "FOLDER adds files of yours, --shell-completion installs completion with TAB, --hydra-help has the rest."
)


def _marked(options: Sequence[str], chosen: str | None) -> list[str]:
    return [f"*{option}" if option == chosen else option for option in options]


def _shown(keys: Sequence[Key], width: int) -> list[str]:
    lines: list[str] = []
    section = ""
    for key in keys:
        if key.section != section:
            section = key.section
            lines += [f"  # {section}"]
        lines += _columns(f"{key.name}={key.default}", key.comment, _COLUMN, width)
    return lines


def _columns(left: str, right: str, column: int, width: int) -> list[str]:
    """``left   right``, the right part wrapped below itself."""
    margin = " " * (column + 2)
    if len(left) >= column:
        return [f"  {left}", *_wrapped(right, width, margin, margin)]
    head = f"  {left:<{column}}"
    return _wrapped(right, width, head, margin) or [head.rstrip()]


def _wrapped(text: str, width: int, first: str, rest: str) -> list[str]:
    """Lines no wider than the terminal; an option is not broken at its dash."""
    return textwrap.wrap(text, width, initial_indent=first, subsequent_indent=rest, break_on_hyphens=False)
