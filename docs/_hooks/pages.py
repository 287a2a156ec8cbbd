"""Hooks of ``mkdocs build``: the pages that are made from ``conf/``, and links that leave ``docs/``."""

from __future__ import annotations

import posixpath
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

from conf_comments import Described, Key, read
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

REPOSITORY = Path(__file__).parents[2]
CONF = REPOSITORY / "conf"
FROM_THE_ROOT = {"CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md", "SECURITY.md": "security.md"}
"""File of the repository that is a page of the site, and what it is called there."""

_LINK = re.compile(r"\]\((?P<target>[^)#:\s]+)(?P<anchor>#[^)\s]*)?\)")


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

    return _LINK.sub(turned, markdown)


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
    yield "Choose an option with `group=option`. Change a key with `group.key=value`."
    yield "`python train.py --cfg job` prints the configuration that your command composes."
    yield "The keys of a program that belong to no group are on the page [Programs](programs.md)."
    for group in _groups():
        yield from ("", f"## {group}", "")
        for file in sorted((CONF / group).glob("*.yaml"), key=lambda file: (not file.stem.startswith("_"), file.stem)):
            text = file.read_text(encoding="utf-8")
            shared = file.stem.startswith("_")
            yield from (f"### Shared keys of {group}" if shared else f"### {group}={file.stem}", "")
            yield from _described(read(text), "" if "@package _global_" in text else f"{group.replace('/', '.')}.")


def _groups() -> list[str]:
    """Those of a training in the order of conf/train.yaml, each before the groups inside of it; then all others."""
    first = [choice.split("=")[0] for choice in read((CONF / "train.yaml").read_text(encoding="utf-8")).chooses]
    found = {file.parent.relative_to(CONF).as_posix() for file in CONF.rglob("*.yaml")} - {"."}
    wanted = (group for group in found if not group.startswith("hydra"))
    return sorted(wanted, key=lambda group: (first.index(top) if (top := group.split("/")[0]) in first else 99, group))


def _programs() -> Iterator[str]:
    yield "# Programs"
    yield ""
    yield "Each program runs from a clone (`python src/audit.py …`) or from anywhere (`cxrlab-audit …`)."
    yield "`--help` prints its groups and keys. This page is made from `conf/` when the site is built."
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    for script in project["scripts"]:
        name = script.removeprefix("cxrlab-")
        file = CONF / f"{name}.yaml"
        if not file.is_file():
            continue
        yield from ("", f"## {script}", "")
        described = read(file.read_text(encoding="utf-8"))
        if described.usage:
            yield from ("```text", described.usage.removeprefix("cxrlab: "), "```", "")
            described.about = ""
        yield from _described(described, "")


def _described(described: Described, prefix: str) -> Iterator[str]:
    if described.about:
        yield from (_escaped(described.about), "")
    chosen = [f"`{choice}`" for choice in described.chooses if not choice.endswith("=null")]
    empty = [f"`{choice.removesuffix('=null')}`" for choice in described.chooses if choice.endswith("=null")]
    if chosen:
        yield from (f"Chosen by default: {', '.join(chosen)}.", "")
    if empty:
        yield from (f"Takes these groups, too, and chooses nothing by default: {', '.join(empty)}.", "")
    if described.varies:
        varied = (f"`{key}={values}`" for key, values in described.varies.items())
        yield from (f"Is a sweep over {', '.join(varied)}.", "")
    for number, key in enumerate(described.keys):
        if number == 0 or key.heading:
            yield from ("", f"*{_escaped(key.heading)}*", "") if key.heading else ("",)
            yield from ("| key | default | meaning |", "|---|---|---|")
        yield _row(key, prefix)
    if described.keys:
        yield ""


def _row(key: Key, prefix: str) -> str:
    default = key.default.replace("|", r"\|")
    comment = _escaped(key.comment).replace("|", r"\|")
    return f"| `{prefix}{key.name}` | {f'`{default}`' if default else ''} | {comment} |"


def _escaped(text: str) -> str:
    """Text in which no character but a backtick means anything to Markdown."""
    parts = text.split("`")
    parts[::2] = [re.sub(r"([\\*_\[\]<>])", r"\\\1", part) for part in parts[::2]]
    return "`".join(parts)
