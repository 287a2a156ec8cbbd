"""Text of others in every field that a document tells of: it is shown, and does nothing."""

from __future__ import annotations

import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from markdown_it import MarkdownIt
from markdown_it.token import Token
from tests.reports.test_run_report import Folder

from cxrlab import figures
from cxrlab.files import write_text
from cxrlab.reports import write_model_card, write_report
from cxrlab.reports.comparison import compare_settings
from cxrlab.reports.comparison_page import write_comparison
from cxrlab.reports.settings import gather

HOSTILE = (
    '<img src=x onerror=alert(1)><script>alert(2)</script> "><svg onload=alert(3)> [a](javascript:alert(4)) '
    "![b](http://127.0.0.1:9/c.png) [d]: http://e.example\n# H1\n\n- item\n| a | b |\n|---|---|\n| c | d |\n"
    "```\nfence\n``` `tick` **bold** $x_\\frac$ {{7*7}} ${oc.env:HOME} =HYPERLINK(1) \x1b[31m\x07 \u202eback &lt;b&gt; <http://f.example>"
)
"""Everything at once; the fields that are told are told by what stands in it."""
_OURS = re.compile(r"(figures/)?[\w.-]+\.(md|html|csv|json|yaml|png)|#[\w-]*|data:image/png;base64,[\w+/=]*")
_FOLD = re.compile(r"<details>\n<summary>[^<>]*</summary>\n|</details>\n?")
"""The only HTML that a document holds: it folds a part."""
_READ_BY_PROGRAMS = ("path", "split", "sha256", "film", "status", "_target_", "val", "monitor_mode", "fit", "contrast")


def planted(value: Any, key: str = "") -> Any:
    """The same, with hostile text for every text that no program reads a decision from."""
    if isinstance(value, dict):
        return {name: planted(each, name) for name, each in value.items()}
    if isinstance(value, list):
        return [planted(each, key) for each in value]
    return f"{value} {HOSTILE}" if isinstance(value, str) and key not in _READ_BY_PROGRAMS else value


def in_table(table: pd.DataFrame) -> pd.DataFrame:
    """A table with hostile text in every column of text, and in the name of a further one."""
    table = table.copy()
    for column in table.columns:
        if table[column].dtype == object and column not in _READ_BY_PROGRAMS:
            table[column] = [f"{value} {HOSTILE}" for value in table[column]]
    return table.assign(**{HOSTILE: HOSTILE, "device": HOSTILE, "licence": HOSTILE, "sex": HOSTILE})


class _Page(HTMLParser):
    """Collects what a page could do."""

    def __init__(self) -> None:
        super().__init__()
        self.bad: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        if tag in ("script", "svg", "iframe", "object", "base", "form", "embed"):
            self.bad.append(tag)
        self.bad += [name for name in found if name.startswith("on") or name == "style"]
        self.bad += [
            str(found[name]) for name in ("href", "src") if name in found and not _OURS.fullmatch(found[name] or "")
        ]


def check_html(text: str) -> None:
    page = _Page()
    page.feed(text)
    assert page.bad == []
    _check_text(text)


def check_markdown(text: str) -> None:
    """Read by a parser that lets HTML through, as hubs and editors do."""
    tokens = MarkdownIt("commonmark", {"html": True}).enable("table").parse(text.removeprefix("---\n"))
    inline = [child for token in tokens for child in token.children or []]
    found = [token.content for token in [*tokens, *inline] if token.type in ("html_block", "html_inline")]
    assert [each for each in found if not _FOLD.fullmatch(each)] == []
    targets = [
        str(token.attrGet("href") or token.attrGet("src")) for token in inline if token.type in ("link_open", "image")
    ]
    assert [target for target in targets if not _OURS.fullmatch(target)] == []
    assert not [heading for heading in _after("heading_open", tokens) if heading.content.startswith("H1")]
    assert not [line for line in _after("list_item_open", tokens, 2) if line.content == "item"]
    assert not [cell for cell in _after("td_open", tokens) if cell.content in ("a", "c")]
    assert not [token for token in inline if token.type == "text" and token.content == "bold"]
    assert not [token for token in tokens if token.type == "fence" and token.content == "fence\n"]
    _check_text(text)


def _after(kind: str, tokens: list[Token], steps: int = 1) -> list[Token]:
    return [tokens[index + steps] for index, token in enumerate(tokens) if token.type == kind]


def _check_text(text: str) -> None:
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e]", text)
    assert "{49}" not in text
    assert str(Path.home()) + " =HYPERLINK" not in text


def check_folder(folder: Path) -> list[str]:
    """Looks at every document of a folder; returns their names."""
    checks: dict[str, Callable[[str], None]] = {".md": check_markdown, ".html": check_html}
    found = [path for path in sorted(folder.rglob("*")) if path.suffix in checks]
    for path in found:
        checks[path.suffix](path.read_text(encoding="utf-8"))
    return [path.name for path in found]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Folder:
    """A run folder as somebody sent it: hostile text in every text of every file, and in its own name."""
    monkeypatch.setattr(figures, "save", lambda figure, path: write_text(path, "stub"))
    home = tmp_path / "<b>runs[x](javascript:1) `t` #"
    home.mkdir()
    folder = Folder(home)
    rows = [{"name": "c", "type": "Conv", "output_shape": [1, 2], "params": 3}]
    folder.network = planted({"model": "m", "total": 3, "text": "layers", "rows": rows})
    folder.metrics["decision"] = {"threshold": 0.5, "rule": "fixed", "calibration": None}
    for name in ("config", "environment", "metrics"):
        setattr(folder, name, planted(getattr(folder, name)))
    folder.manifest, folder.predictions = in_table(folder.manifest), in_table(folder.predictions)
    folder.write_files()
    write_text(
        folder.path / "overrides.yaml",
        "- " + repr(HOSTILE.replace("\n", " ").replace("\x1b", "").replace("\x07", "")) + "\n",
    )
    flow = pd.DataFrame([{"source": HOSTILE, "step": HOSTILE, "removed": 1, "images": 188, "patients": 2}])
    write_text(folder.path / "flow.csv", flow.to_csv(index=False))
    return folder


def test_a_report_and_a_model_card(run: Folder) -> None:
    write_report(run.path)
    write_model_card(run.path)
    assert check_folder(run.path) == ["model_card.md", "report.html", "report.md"]
    assert "onerror" in (run.path / "report.md").read_text(encoding="utf-8")


def test_a_comparison(run: Folder, tmp_path: Path) -> None:
    comparison = compare_settings(gather([str(run.path).replace("[", "[[]")], "test"))
    write_comparison(comparison, tmp_path / "out", HOSTILE)
    assert check_folder(tmp_path / "out") == ["comparison.html", "comparison.md"]
