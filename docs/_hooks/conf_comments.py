"""Reads the files of ``conf/`` with their comments, which are the documentation of every key."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

import yaml

_LEFT_OUT = ("hydra", "defaults")  # how a program runs, and what it chooses: both are described in words
_COMMENT = re.compile(r"(?P<indent>\s*)#\s?(?P<text>.*)")


@dataclass
class Key:
    """One key of a configuration file.

    Attributes:
        name: Dotted, from the top of the file: ``source.root``.
        default: As it is written in the file, interpolations included.
        comment: What stands behind it, continued lines joined by blanks.
        heading: Comment on lines of their own above it, which holds for this key and those below it.
    """

    name: str
    default: str
    comment: str = ""
    heading: str = ""


@dataclass
class Described:
    """One configuration file.

    Attributes:
        about: The comment at its top.
        chooses: Options of other groups that its ``defaults`` name, such as ``model=paper_cnn``.
        keys: Its keys in the order of the file; those below ``hydra`` are left out.
        varies: Key and values of a sweep: what ``hydra.sweeper.params`` says.
        usage: What ``--help`` of a program prints above its keys.
    """

    about: str = ""
    chooses: list[str] = field(default_factory=list)
    keys: list[Key] = field(default_factory=list)
    varies: dict[str, str] = field(default_factory=dict)
    usage: str = ""


def read(text: str) -> Described:
    """Describes a configuration file.

    Args:
        text: Its YAML.

    Raises:
        yaml.YAMLError: It is no YAML.
    """
    lines = text.splitlines()
    found = Described(about=_top(lines))
    root = yaml.compose(text, Loader=yaml.SafeLoader)
    if isinstance(root, yaml.MappingNode):
        found.keys = list(_keys(root, "", lines, _LEFT_OUT))
        content = yaml.safe_load(text)
        hydra = content.get("hydra") or {}
        found.usage = _usage(str(hydra.get("help", {}).get("template", "")))
        found.varies = {key: str(values) for key, values in hydra.get("sweeper", {}).get("params", {}).items()}
        found.chooses = [choice for choice in map(_choice, content.get("defaults", [])) if choice]
    return found


def _top(lines: list[str]) -> str:
    """The comment at the top, without Hydra's ``# @package``; a blank line or a key ends it."""
    about = []
    for line in lines:
        comment = _COMMENT.fullmatch(line)
        if comment is None:
            break
        if not comment["text"].startswith("@package"):
            about.append(comment["text"])
    return "\n".join(about)


def _keys(
    node: yaml.MappingNode, prefix: str, lines: list[str], without: tuple[str, ...] = (), heading: str = ""
) -> Iterator[Key]:
    """Its keys and those inside of them; ``heading`` stands above the first."""
    for name, value in node.value:
        if name.value in without:
            continue
        above = f"{heading} {_above(lines, name.start_mark.line)}".strip()
        heading = ""
        inside = _mappings(value)
        for place, each in inside.items():
            yield from _keys(each, f"{prefix}{name.value}{place}.", lines, heading=above)
            above = ""
        if not inside:
            yield Key(f"{prefix}{name.value}", *_default(name, value, lines), above)


def _mappings(value: yaml.Node) -> dict[str, yaml.MappingNode]:
    """The mappings that a value is or lists, by what stands behind the key's name: nothing, or ``[0]``."""
    if isinstance(value, yaml.MappingNode) and not value.flow_style:
        return {"": value}
    if isinstance(value, yaml.SequenceNode) and all(isinstance(each, yaml.MappingNode) for each in value.value):
        return {f"[{number}]": each for number, each in enumerate(value.value)}
    return {}


def _default(name: yaml.Node, value: yaml.Node, lines: list[str]) -> tuple[str, str]:
    """A value as it is written in the file, on one line, and the comment behind it."""
    row = name.start_mark.line
    block = isinstance(value, yaml.SequenceNode) and not value.flow_style
    last, end = (row, name.end_mark.column + 1) if block else (value.end_mark.line, value.end_mark.column)
    behind = _COMMENT.fullmatch(lines[last][end:])
    comment = ""
    if behind is not None:
        comment = " ".join([behind["text"], *_continued(lines, last, lines[last].index("#", end))])
    if block:
        listed = yaml.safe_load(yaml.serialize(value))
        return yaml.safe_dump(listed, default_flow_style=True, width=10**6, allow_unicode=True).strip(), comment
    written = [*lines[row:last], lines[last][:end]]
    written[0] = written[0][value.start_mark.column :]
    return " ".join(line.strip() for line in written), comment


def _continued(lines: list[str], row: int, column: int) -> Iterator[str]:
    """The lines below that go on with the comment which begins in this column."""
    for line in lines[row + 1 :]:
        comment = _COMMENT.fullmatch(line)
        if comment is None or len(comment["indent"]) != column:
            return
        yield comment["text"]


def _above(lines: list[str], row: int) -> str:
    """The comment on the lines right above, indented as the key is; the one at the top of the file is not it."""
    indent = len(lines[row]) - len(lines[row].lstrip())
    first = row
    while first:
        comment = _COMMENT.fullmatch(lines[first - 1])
        if comment is None or len(comment["indent"]) != indent:
            break
        first -= 1
    return " ".join(line.strip().removeprefix("#").strip() for line in lines[first:row]) if first else ""


def _usage(template: str) -> str:
    """What the template of ``--help`` says before the list of groups and keys."""
    kept = [line for line in template.splitlines() if not line.startswith(("Groups (", "Every key below"))]
    return "\n".join(kept).split("$", maxsplit=1)[0].strip()


def _choice(entry: str | dict[str, str | None]) -> str:
    if isinstance(entry, str):
        return "" if entry == "_self_" else entry
    (group, option), *_ = entry.items()
    group = group.removeprefix("override ").removeprefix("/")
    return "" if group == "hydra" or group.endswith("logging") else f"{group}={option or 'null'}"
