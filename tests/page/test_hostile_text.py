"""Text of strangers in every field that the page shows: it is shown as it is, and does nothing."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import pytest
from playwright.sync_api import Browser, FilePayload, expect
from playwright.sync_api import Page as Tab
from tests.page.conftest import Address, Serve

from cxrlab.inference import Predictor
from cxrlab.models.saliency import GradCam
from cxrlab.models.segmenter import Segmenter
from cxrlab.page import Desk
from cxrlab.page.desk import Case, Opinion
from cxrlab.page.worth import Worth

TEXT = (
    '"\'></p></title></style></svg><script>window.harm = 1</script><img src=x onerror="window.harm = 2">'
    "<svg onload='window.harm = 3'><a href='javascript:window.harm=4'>&#60;b&#62; {{7*7}} {% raw %} ${7*7} \u202e\0"
)
MADE = "img, iframe, object, embed, base, b, script:not([src]), [onerror], [onload], [href^='javascript:']"
"""What the page has none of, and the text would make."""


class Stranger:
    """A predictor all of whose words are a stranger's."""

    def __init__(self, real: Predictor, name: str) -> None:
        self._real = real
        self.name = name
        self.decided = dataclasses.replace(real.decided, rule=TEXT)
        self.gate = SimpleNamespace(fingerprint=TEXT, measured=TEXT)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)


def stranger(case: Case) -> Case:
    """Two models of a stranger, who do not agree, one with doubt."""
    opinions = []
    for number, opinion in enumerate(case.opinions):
        words = dict.fromkeys(("kind", "reason", "model", "gate", "sha256"), TEXT)
        words |= {"verdict": ("warn", TEXT)[number], "label": ("Positive", TEXT)[number]}
        said = dataclasses.replace(opinion.prediction, **words)  # type: ignore[arg-type]
        predictor: Any = Stranger(opinion.predictor, f"{number}{TEXT}")
        opinions.append(Opinion(predictor, said, opinion.heat, TEXT))
    assert case.facts is not None
    texts: dict[str, Any] = dict.fromkeys(("format", "mode", "device", "view", "doubts"), TEXT)
    facts = case.facts._replace(**texts)
    return dataclasses.replace(case, opinions=tuple(opinions), facts=facts, method=TEXT)


@pytest.fixture
def site(serve: Serve, predictor: Predictor, segmenter: Segmenter) -> Iterator[Address]:
    known = Worth(TEXT, True, ((TEXT, TEXT),), ((TEXT, TEXT),), TEXT, {TEXT: TEXT}, (TEXT,), "")
    examine = Desk.examine

    def examined(desk: Desk, name: str, data: bytes, *, closely: bool = False) -> Case:
        return stranger(examine(desk, name, data, closely=closely))

    desk = Desk([predictor, predictor], saliency=GradCam(), segment=segmenter)
    with (
        mock.patch("cxrlab.page.api.worth", return_value=known),
        mock.patch.object(Desk, "examine", examined),
        serve(desk, max_upload_mb=1) as address,
    ):
        yield address


def check(tab: Tab) -> None:
    """The text is there, as it was written, and made nothing."""
    assert tab.locator(MADE).count() == 0
    assert tab.evaluate("window.harm") is None
    text = str(tab.locator("body").text_content())
    assert "<script>window.harm = 1</script>" in text
    assert "&#60;b&#62; {{7*7}} {% raw %} ${7*7}" in text
    assert "49" not in re.sub(r"[0-9a-f]{12,}|\d[\d.,]*", "", text)


@pytest.mark.slow
def test_text_of_strangers_is_shown_and_does_nothing(
    site: Address, browser: Browser, film: bytes, tmp_path: Path
) -> None:
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    tab, complaints = context.new_page(), []
    tab.on("dialog", lambda dialog: complaints.append(dialog.message))
    # The browser says that the upload of what is too large was broken off, in one way or another.
    tab.on("console", lambda line: complaints.append(line.text) if "Failed to load resource" not in line.text else None)
    tab.on("pageerror", lambda error: complaints.append(str(error)))
    tab.goto(site.url)
    check(tab)  # what the model is worth
    names = [f"{number}{TEXT[:90]}".replace("/", "_") for number in range(2)]
    files: list[FilePayload] = [
        {"name": name, "mimeType": TEXT, "buffer": data}
        for name, data in zip(names, (film, bytes(2_000_000)), strict=True)
    ]
    tab.set_input_files("#cxr-files", files)
    expect(tab.locator("#cxr-status")).to_contain_text("2 files examined", timeout=60_000)
    expect(tab.locator("#cxr-detail")).to_contain_text("All ", timeout=60_000)
    check(tab)
    assert names[1] in str(tab.locator("#cxr-errors").text_content())  # too large
    assert names[0] == tab.locator("#cxr-list bdi").text_content()
    assert names[0] in str(tab.locator("#cxr-film").get_attribute("aria-label"))
    assert "Models disagree" in tab.locator("#cxr-list").inner_text()
    tab.get_by_label("Map of").select_option(index=1)
    with tab.expect_download() as download:
        tab.get_by_role("button", name="Download report").click()
    assert re.fullmatch(r"report-[\w-]*\.html", re.sub(r"[^\w.-]", "", download.value.suggested_filename))
    download.value.save_as(tmp_path / "report.html")
    with context.expect_page() as opened:
        tab.get_by_role("button", name="Open report to print").click()
    expect(opened.value.locator("h1")).to_have_text("Report of one image")
    check(opened.value)
    saved = context.new_page()
    saved.goto((tmp_path / "report.html").as_uri())
    check(saved)
    assert complaints == []  # the policy had nothing to forbid
    context.close()
