"""Links in the files of the repository point to something. Those of docs/ on the site: `make docs-site`."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FILES = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob(".github/**/*.md")]
MADE = {ROOT / "docs/reference/configuration.md", ROOT / "docs/reference/programs.md"}  # when the site is built


def anchors(text: str) -> set[str]:
    """The anchor of each heading, as GitHub makes it."""
    headings = re.findall(r"^#+ (.+)$", re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_links_point_to_files_and_headings(file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    for target, anchor in re.findall(r"\]\(([^)#:\s]*)(?:#([^)\s]+))?\)", text):
        there = (file.parent / target).resolve() if target else file
        assert there.exists() or there in MADE, f"({target})"
        if anchor:
            assert anchor in anchors(there.read_text(encoding="utf-8")), f"({target}#{anchor})"
