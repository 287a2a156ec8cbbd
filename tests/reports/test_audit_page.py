"""The audit's page, JSON and terminal table: in order, whole, safe against what stands in names."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from io import StringIO
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from markdown_it import MarkdownIt
from playwright.sync_api import Browser
from rich.console import Console

from cxrlab import figures
from cxrlab.checks import checklist, files, pictures
from cxrlab.checks.base import Case, Finding, Picture, Section, Table, Verdict
from cxrlab.datamodules import manifest as mf
from cxrlab.datamodules.films import Features
from cxrlab.datamodules.flow import Flow
from cxrlab.datamodules.measurements import Measurements
from cxrlab.reports.audit_page import write_audit
from cxrlab.reports.documents import plain
from cxrlab.reports.sections import terminal_table, worst

NASTY = "![x](/etc/passwd.png) <script>alert(1)</script> a|b *c* _d_ `e` \x1b[31m\u202e [f](javascript:g).png"


def case_of(folder: Path, name: str = "made up", synthetic: bool = False) -> Case:
    """Twelve small images on disk, one of them with a nasty name and a twin."""
    noise = np.random.default_rng(0).normal(0, 4, (12, 256, 256))
    grey = np.asarray((120 + np.linspace(-60, 60, 256) + noise).clip(0, 255), np.uint8)
    folder.mkdir(parents=True, exist_ok=True)
    names = [f"film {number}.png" for number in range(11)] + ["[a] *b*.png"]
    for image, name_of_file in zip(grey, names, strict=True):
        assert cv2.imwrite(str(folder / name_of_file), image)
    manifest = pd.DataFrame(
        {
            "path": [str(folder / one) for one in names],
            "label": [0, 1] * 6,
            "patient_id": [f"p{number}" for number in range(12)],
            "split": ["train"] * 8 + ["test"] * 4,
            "source": "made up",
            "finding": ["Normal", "COVID-19"] * 6,
            "view": "PA",
            "sha256": [f"{number:064d}" for number in range(12)],
            "film": [f"{number:064d}" for number in range(12)],
        }
    )
    manifest = mf.check(manifest, "made up")
    pairs = pd.DataFrame({"first": [0], "second": [11], "same_file": [False], "distance": [7], "inliers": [99]})
    facts = {"format": "PNG", "width": 256, "height": 256, "mode": "grey", "bits": 8, "bytes": 50_000}
    table = pd.DataFrame([{**facts, "jpeg_quality": 0, "device": "", "view": "", "guessed": False, "doubts": ""}] * 12)
    hashes = np.zeros((12, 32), np.uint8)
    measured = Measurements(grey, list(manifest["sha256"]), hashes, Features.empty(12), table, {})
    flow = Flow("made up")
    listed = pd.concat([manifest, manifest.head(2)], ignore_index=True)
    flow.start(listed, "rows of the table")
    flow.keep(listed, listed.index.to_series() < 12, "no frontal view")
    problems = {str(folder / "bad.png"): f"{folder / 'bad.png'}: the file is empty"}
    notes = ["a note with <b>tags</b>"]
    return Case(name, synthetic, "COVID-19", manifest, measured, pairs, False, False, flow, problems, notes, 3)


def text_of(folder: Path) -> str:
    return (folder / "audit.md").read_text(encoding="utf-8")


def sections_of(case: Case) -> list[Section]:
    odd = Finding("names", Verdict.FAIL, f"a file is called {NASTY}", 0.2)
    open_ = Finding("ages", Verdict.NOT_CHECKED, "no age is known")
    table = Table("Names *as found*", ("name", "count"), [(NASTY, 1), (None, 2)])
    figure = figures.confusion_matrix([[20, 0], [1, 19]], "Test")
    first = Section(
        "Names",
        [Finding("small", Verdict.WARN, "1 of 9", 0.1), odd, open_, Finding("large", Verdict.FAIL, "9 of 9", 0.9)],
        text=["Said in **Markdown**."],
        tables=[table],
        pictures=[Picture("matrix", f"caption {NASTY}", figure)],
        facts={"n": 1},
    )
    found = [first, files.check(case), pictures.check(case)]
    return [*found, checklist.check(case, found)]


@pytest.fixture(scope="module")
def audit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an audit."""
    folder = tmp_path_factory.mktemp("audit")
    case = case_of(folder / "images")
    page = write_audit(folder / "out", case, sections_of(case), 75.2, "python src/audit.py data=made_up")
    assert page == folder / "out" / "audit.html"
    return folder / "out"


def test_the_most_serious_comes_first(audit: Path) -> None:
    text = text_of(audit)
    top, verdicts = text.split("## Verdicts")[0], text.split("## ")[1]
    assert top.startswith("# Audit of made up\n\n**FAIL**: ")
    assert "because 9 of 9." in top.splitlines()[2]
    assert "12 images of 12 patients (train 8, test 4); 1 file could not be read. Positive is said to" in top
    rows = re.findall(r"^\| \*{0,2}(FAIL|WARN|NOT CHECKED|PASS)\*{0,2} \| .*? \| \[(.*?)\]\(#", verdicts, re.MULTILINE)
    assert rows[:2] == [("FAIL", "large"), ("FAIL", "names")]
    ranks = [list(Verdict).index(Verdict(verdict)) for verdict, _ in rows]
    assert ranks == sorted(ranks)
    assert verdicts.index("<summary>") < verdicts.index("| PASS |")  # only what passed is folded
    assert verdicts.index("<summary>") > verdicts.index("| NOT CHECKED |")
    headings = ["Verdicts", "Flow of cases", "Names: FAIL", "Files: WARN", "Pictures", "Check-list", "How to repeat it"]
    assert re.findall(r"^## (.*)$", text, re.MULTILINE) == headings


def test_the_top_answers_in_pictures_and_links(audit: Path) -> None:
    text = text_of(audit)
    top = text.split("## Verdicts")[0]
    assert re.findall(r"\]\((figures/.*?)\)", top) == ["figures/matrix.png", "figures/class_means.png"]
    assert text.count("(figures/matrix.png)") == 1  # a picture of the top is not shown again
    anchors = set(re.findall(r"\]\(#(.*?)\)", text))
    assert {"names-fail", "files-warn", "flow-of-cases"} <= anchors
    page = (audit / "audit.html").read_text(encoding="utf-8")
    assert all(f'id="{anchor}"' in page for anchor in anchors)


def test_a_section_may_answer_in_its_own_words_and_not_twice(tmp_path: Path) -> None:
    first = Section("A", [Finding("a", Verdict.FAIL, "Told. Once.", 1.0)])
    other = Section("B", [Finding("b", Verdict.WARN, "Of less weight.")])
    third = Section("C", [Finding("c", Verdict.PASS, "Nothing.")], answer="C has an answer.")
    fourth = Section("D", [Finding("d", Verdict.FAIL, "DICOM headers fail.", 0.5)])
    write_audit(tmp_path, case_of(tmp_path / "images"), [first, other, third, fourth], 1.0)
    top = text_of(tmp_path).split("## Verdicts")[0]
    assert "because told. Once." in top
    assert "- C has an answer. ([C: PASS](#c-pass))\n- DICOM headers fail. ([D: FAIL](#d-fail))" in top
    assert "Of less weight" not in top


def test_the_flow_adds_up_or_says_that_it_does_not(audit: Path, tmp_path: Path) -> None:
    text = text_of(audit)
    assert "2 images of those listed were removed. The flow adds up to the 12 images that were audited." in text
    assert "| made up | no frontal view | 2 | 12 | 12 |" in text
    assert "| made up | rows of the table | 0 | 14 | 12 |" in text
    case = case_of(tmp_path / "images")
    case.flow.steps.pop()
    write_audit(tmp_path, case, [], 0.5)
    text = text_of(tmp_path)
    assert "The last line counts 14 images, and 12 were audited; 1 file could not be read." in text
    assert text.startswith("# Audit of made up\n\n**NOT CHECKED**: ")
    assert "Nothing was checked" in text


def test_json_holds_the_same(audit: Path) -> None:
    found = json.loads((audit / "audit.json").read_text(encoding="utf-8"))
    assert (found["schema"], found["name"], found["verdict"], found["seed"]) == (1, "made up", "FAIL", 3)
    assert found["counts"]["FAIL"] == 2
    assert sum(found["counts"].values()) == len(found["verdicts"])
    first = {"verdict": "FAIL", "check": "large", "evidence": "9 of 9", "weight": 0.9, "section": "Names"}
    assert found["verdicts"][0] == first
    assert [section["title"] for section in found["sections"]] == ["Names", "Files", "Pictures", "Check-list"]
    assert found["sections"][0]["facts"] == {"n": 1}
    for section in found["sections"]:
        for picture in section["pictures"]:
            assert (audit / picture["file"]).is_file()
    step = {"source": "made up", "step": "no frontal view", "removed": 2, "images": 12, "patients": 12}
    assert found["flow"][1] == step
    assert found["splits"] == {"train": 8, "test": 4}
    assert len(found["fingerprint"]) == 64
    assert {"Python", "cxrlab", "numpy"} <= set(found["versions"])


def test_a_drawn_data_set_is_marked(tmp_path: Path) -> None:
    page = write_audit(tmp_path, case_of(tmp_path / "images", synthetic=True), [], 0.5)
    told = "# SYNTHETIC: Audit of made up\n\n**SYNTHETIC: the images were drawn by a program."
    assert text_of(tmp_path).startswith(told)
    assert "<title>SYNTHETIC: Audit of made up</title>" in page.read_text(encoding="utf-8")


def test_pictures_of_one_name_are_refused(tmp_path: Path) -> None:
    figure = figures.confusion_matrix([[1, 0], [0, 1]], "Test")
    section = Section("A", [], pictures=[Picture("same", "", figure), Picture("same", "", figure)])
    with pytest.raises(ValueError, match="two pictures are called 'same'"):
        write_audit(tmp_path, case_of(tmp_path / "images"), [section], 1.0)


@pytest.mark.parametrize(
    "text",
    [
        "plain words, p < 0.001 & [0.912, 1], snake_case_name-1_2.png, 1/C(94, 20) = 10^-19",
        "a*b*c **d** _e_ __f__ `g` ~~h~~ ~i~ ^j^",
        "[a](b) ![c](d) [e][f] [g]: h ]unbalanced[ a] [b",
        "<b>tag</b> <http://x.y> <!-- c --> a<b> &amp; &#65; &lt;",
        "back\\slash \\* \\| a|b \\",
        "# no heading",
        "- no list",
        "1. no list",
        "> no quotation",
        "+",
    ],
)
def test_text_is_shown_as_it_is(text: str) -> None:
    parser = MarkdownIt("js-default")
    inline = parser.parseInline(plain(text))[0].children or []
    assert {token.type for token in inline} <= {"text"}
    assert "".join(token.content for token in inline) == text
    tokens = parser.parse(plain(text))
    assert [token.type for token in tokens] == ["paragraph_open", "inline", "paragraph_close"]
    cell = plain(text).replace("|", "\\|")
    tokens = parser.parse(f"| a | b |\n|---|---|\n| {cell} | 2 |\n")
    cells = ["".join(child.content for child in token.children or []) for token in tokens if token.type == "inline"]
    assert cells == ["a", "b", text, "2"]
    picture = parser.parseInline(f"![{plain(text)}](figures/a.png)")[0].children or []
    assert [token.type for token in picture] == ["image"]


def test_common_text_is_not_escaped() -> None:
    common = "PNG: 12 of 94 (p < 0.001), AUROC 0.97 [0.95, 0.99]; a_b_c.jpg (1).png, x-ray_US.jpg"
    assert plain(common) == common
    assert plain("a\nb\tc\x1b[0m]") == r"a b c\\x1b[0m]"


def test_names_bring_nothing_into_the_page(audit: Path) -> None:
    page = (audit / "audit.html").read_text(encoding="utf-8")
    assert not [each for each in ("<script", "<b>", 'href="javascript', "\x1b", "\u202e") if each in page]
    assert page.count("&lt;script&gt;") >= 3  # evidence, table, caption
    assert not (audit.parent / "passwd.png").exists()


def test_a_file_name_that_is_no_text(tmp_path: Path) -> None:
    section = Section("A", [Finding("names", Verdict.WARN, "film \udcff.png")], text=["\udcff"])
    write_audit(tmp_path, case_of(tmp_path / "images"), [section], 1.0)
    assert r"film \\udcff.png" in text_of(tmp_path)


def printed(sections: Sequence[Section], width: int, colour: bool = False) -> str:
    file = StringIO()
    console = Console(file=file, width=width, force_terminal=colour, color_system="standard" if colour else None)
    console.print(terminal_table(sections, "Audit of [made] up"))
    return file.getvalue()


def test_the_terminal_cuts_nothing() -> None:
    evidence = "of a very long kind " * 20 + "a" * 150
    section = Section("A", [Finding("b [red]c", Verdict.PASS, "1"), Finding("d", Verdict.FAIL, evidence + "\x1b[2J")])
    for width in (40, 80, 200):
        text = printed([section], width)
        assert max(len(line) for line in text.splitlines()) <= width
        words = text.replace("\n", " ")
        assert words.index("FAIL") < words.index("PASS")
        assert words.count("of a very long kind") + words.count("very") >= 20
        assert text.count("a" * 10) >= 3
        assert "…" not in text
        assert "\x1b" not in text
        assert "b [red]c" in text
    assert "Audit of [made] up" in text
    assert "\x1b[1;31mFAIL" in printed([section], 80, colour=True)
    assert worst([section]) == Verdict.FAIL
    assert worst([]) == Verdict.NOT_CHECKED


@pytest.mark.parametrize("width", [390, 1280])
def test_page_in_a_real_browser(audit: Path, browser: Browser, width: int) -> None:
    page = browser.new_page(viewport={"width": width, "height": 900})
    requested: list[str] = []
    page.on("request", lambda request: requested.append(request.url))
    page.goto((audit / "audit.html").as_uri())
    links = re.findall(r"^!\[", text_of(audit), re.MULTILINE)
    widths = page.evaluate("[...document.images].map(image => [image.naturalWidth, image.clientWidth])")
    assert len(widths) == len(links) == 7
    assert all(own > 100 and 100 < shown <= width for own, shown in widths)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    # The verdicts need no scrolling sideways, and are coloured.
    table = page.evaluate("(box => [box.scrollWidth, box.clientWidth])(document.querySelector('.stacked'))")
    assert table[0] <= table[1]
    assert page.inner_text("td.fail >> nth=0") == "FAIL"
    assert [url for url in requested if not url.startswith("data:")] == [(audit / "audit.html").as_uri()]
    page.close()
