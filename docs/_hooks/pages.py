"""Hooks of ``mkdocs build``: the pages that are made from ``conf/``, and links that leave ``docs/``."""

from __future__ import annotations

import posixpath
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

from cxrlab.config.help import Conf, Option

REPOSITORY = Path(__file__).parents[2]
CONF = REPOSITORY / "conf"
FROM_THE_ROOT = {"CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md", "SECURITY.md": "security.md"}
"""File of the repository that is a page of the site, and what it is called there."""

_LINK = re.compile(r"\]\((?P<target>[^)#:\s]+)(?P<anchor>#[^)\s]*)?\)")

_FILE_NAME = re.compile(r"\[(?:docs/)?(?P<name>\w+)\.md\]\(")  # the text of a link; a reader of the site knows no files


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the pages that no file of ``docs/`` holds."""
    made = {"reference/configuration.md": configuration(), "reference/programs.md": programs()}
    made |= {page: (REPOSITORY / name).read_text(encoding="utf-8") for name, page in FROM_THE_ROOT.items()}
    for path, text in made.items():
        files.append(File.generated(config, path, content=text))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Turns links that work in the repository into links that work on the site."""
    here = page.file.src_uri
    folder = "" if here in FROM_THE_ROOT.values() else posixpath.join("docs", posixpath.dirname(here))

    def turned(link: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(folder, link["target"]))
        there = FROM_THE_ROOT.get(target, "index.md" if target == "README.md" else target.removeprefix("docs/"))
        return f"]({posixpath.relpath(there, posixpath.dirname(here) or '.')}{link['anchor'] or ''})"

    return _FILE_NAME.sub(lambda found: f"[{found['name'].replace('_', ' ')}](", _LINK.sub(turned, markdown))


def configuration() -> str:
    """Every key of every group of ``conf/``, in Markdown."""
    return "\n".join(_configuration())


def programs() -> str:
    """What each program does and the keys of its own, in Markdown."""
    return "\n".join(_programs())


def _configuration() -> Iterator[str]:
    yield "# Configuration keys"
    yield ""
    yield "This page is made from the files of `conf/` and their comments when the site is built."
    yield "Choose an option with `group=option`. Change a key with `key=value`."
    yield "`python train.py --cfg job` prints the configuration that your command composes."
    yield "The keys of a program that belong to no group are on the page [Programs](programs.md)."
    conf = Conf()
    for group in _groups(conf):
        yield from ("", f"## {group}", "")
        known: set[tuple[str, str]] = set()
        for file in sorted((CONF / group).glob("_*.yaml")):  # what the options of a group have in common
            shared = conf.option(group, file.stem)
            known |= {(key.name, key.default) for key in shared.keys}
            yield from (f"### Shared keys of {group}", "")
            yield from _described(shared, set())
        for name in conf.options(group):
            yield from (f"### {group}={name}", "")
            yield from _described(conf.option(group, name), known)
            if swept := conf.option(group, name).swept:
                varied = (f"`{key}={values}`" for key, values in swept.items())
                yield from (f"It is a sweep over {', '.join(varied)}.", "")


def _groups(conf: Conf) -> list[str]:
    """Those of a training in its order, each before the groups inside of it; then all others."""
    first = list(conf.program("train").chosen)
    found = {file.parent.relative_to(CONF).as_posix() for file in CONF.rglob("*.yaml")} - {"."}
    wanted = (group for group in found if not group.startswith("hydra"))
    return sorted(wanted, key=lambda group: (first.index(top) if (top := group.split("/")[0]) in first else 99, group))


def _programs() -> Iterator[str]:
    yield "# Programs"
    yield ""
    yield "Each program runs from a clone (`python src/audit.py …`) or from anywhere (`cxrlab audit …`)."
    yield "`--help` prints its groups and keys. This page is made from `conf/` when the site is built."
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    for script in project["scripts"]:
        name = script.removeprefix("cxrlab-")
        if (CONF / f"{name}.yaml").is_file():
            yield from ("", f"## {script}", "")
            yield from _described(Conf().program(name), set())


def _described(option: Option, known: set[tuple[str, str]]) -> Iterator[str]:
    """An option or program; ``known`` are names and defaults of keys that the page has already."""
    if option.header:
        yield from ("```text", option.header.removeprefix("cxrlab: ").rstrip(), "```", "")
    elif option.comment:
        yield from (_escaped(option.comment), "")
    if option.target:
        yield from (f"Builds `{option.target}`.", "")
    chosen = [f"`{group}={name}`" for group, name in option.chosen.items() if name is not None]
    empty = [f"`{group}`" for group, name in option.chosen.items() if name is None]
    if chosen:
        yield from (f"Chosen by default: {', '.join(chosen)}.", "")
    if empty:
        yield from (f"Takes these groups, too, and chooses nothing by default: {', '.join(empty)}.", "")
    keys = [key for key in option.keys if (key.name, key.default) not in known]
    section = None
    for key in keys:
        if key.section != section:
            section = key.section
            yield from ("", f"*{_escaped(section)}*", "") if section else ("",)
            yield from ("| key | default | meaning |", "|---|---|---|")
        default = key.default.replace("|", r"\|")
        comment = _escaped(key.comment).replace("|", r"\|")
        yield f"| `{key.name}` | {f'`{default}`' if default else ''} | {comment} |"
    yield ""


def _escaped(text: str) -> str:
    """Text in which no character but a backtick means anything to Markdown."""
    parts = text.split("`")
    parts[::2] = [re.sub(r"([\\*_\[\]<>])", r"\\\1", part) for part in parts[::2]]
    return "`".join(parts)
