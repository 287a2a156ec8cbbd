"""The page in a real browser: what a reader drops, sees, moves, saves and forgets; nothing leaves the machine."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, FilePayload, Locator, Route, expect
from playwright.sync_api import Page as Tab
from tests.page.conftest import Address, Serve

from cxrlab.inference import Predictor
from cxrlab.models.saliency import GradCam
from cxrlab.page import Desk

FILES = "#cxr-files"


def file(name: str, data: bytes) -> FilePayload:
    return {"name": name, "mimeType": "application/octet-stream", "buffer": data}


class Visit:
    """A tab with the page, and everything that it asked for."""

    def __init__(self, context: BrowserContext, url: str) -> None:
        self.requested: list[str] = []
        self.complaints: list[str] = []
        self.tab: Tab = context.new_page()
        self.tab.on("request", lambda request: self.requested.append(request.url))
        self.tab.on("console", lambda line: self.complaints.append(line.text) if line.type == "error" else None)
        self.tab.on("pageerror", lambda error: self.complaints.append(str(error)))
        # Playwright sees a file chooser only while somebody listens; a listener added with the key press can be late.
        self.tab.on("filechooser", lambda _: None)
        self.tab.goto(url)
        self.tab.wait_for_selector(FILES, state="attached")
        self.tab.wait_for_load_state("networkidle")  # until then gradio may put the field there anew

    @property
    def cases(self) -> Locator:
        return self.tab.locator(".case")

    def drop(self, *files: FilePayload) -> None:
        """Chooses files and waits until the last is examined."""
        self.tab.set_input_files(FILES, list(files))
        expect(self.tab.locator("#cxr-status")).to_contain_text("examined", timeout=120_000)

    def says(self, number: int = 0) -> str:
        return self.cases.nth(number).locator(".verdict strong").last.inner_text()


@contextmanager
def visiting(browser: Browser, url: str, width: int = 1280, **options: Any) -> Iterator[Visit]:
    context = browser.new_context(viewport={"width": width, "height": 900}, **options)
    visit = Visit(context, url)
    yield visit
    origins = {re.sub(r"^(\w+:(?://[^/]*)?).*", r"\1", asked) for asked in visit.requested}
    assert origins - {"data:", "blob:"} == {url.rstrip("/")}  # no request left the machine, or even this program
    assert visit.complaints == []
    context.close()


@pytest.mark.slow
def test_what_a_model_is_worth_stands_before_the_first_score(site: Address, browser: Browser) -> None:
    with visiting(browser, site.url) as visit:
        text = visit.tab.locator("body").inner_text()
        assert "Research software, not a medical device." in text
        assert "SYNTHETIC" in text
        assert text.index("What this model is worth") < text.index("Own test images") < text.index("Drop chest X-rays")
        assert "NOT CHECKED" in text
        with visit.tab.context.expect_page() as opened:
            visit.tab.get_by_role("link", name="The whole model card of tiny").click()
        opened.value.wait_for_load_state()
        assert opened.value.title() == "Model card of tiny"


def test_a_png_and_a_dicom_of_the_same_pixels(site: Address, browser: Browser, film: bytes, dicom: bytes) -> None:
    with visiting(browser, site.url) as visit:
        visit.drop(file("film.png", film), file("film.dcm", dicom))
        expect(visit.cases).to_have_count(2)
        banners = [visit.cases.nth(number).locator(".verdict").last.inner_text() for number in range(2)]
        assert banners[0] == banners[1]
        assert "Called " in banners[0]
        assert "DICOM, 96 by 96 pixels" in visit.cases.nth(1).inner_text()
        assert "Doe" not in visit.tab.content()
        rows = visit.tab.locator("#cxr-list tr")
        assert rows.nth(0).inner_text().split("\t")[1:] == rows.nth(1).inner_text().split("\t")[1:]


@pytest.mark.slow
def test_a_value_of_the_list_is_never_rounded_to_certainty(site: Address, browser: Browser, film: bytes) -> None:
    def nearly_sure(route: Route) -> None:
        response = route.fetch()
        found = response.json()
        found["predictions"][0]["probability"] = 0.99999
        route.fulfill(response=response, json=found)

    with visiting(browser, site.url) as visit:
        visit.tab.route("**/api/examine*", nearly_sure)
        visit.drop(file("film.png", film))
        expect(visit.tab.locator("#cxr-list")).to_contain_text("above 0.999")


@pytest.mark.slow
def test_what_cannot_be_used_is_told_with_its_reason(
    site: Address, browser: Browser, photograph: bytes, huge: bytes
) -> None:
    with visiting(browser, site.url) as visit:
        visit.drop(file("holiday.jpg", photograph), file("empty.png", b""), file("huge.png", huge))
        shown = visit.cases.all_inner_texts()
        assert "Refused: not scored" in shown[0]
        assert "photograph" in shown[0].lower()
        assert "The file is empty (0 bytes)" in shown[1]
        assert "10000x10000 pixels by its header, over the limit of 50,000,000" in shown[2]
        assert not any("called Positive from" in text for text in shown)
        assert visit.tab.locator(".scale").count() == 0


@pytest.mark.slow
def test_a_file_over_the_limit_is_a_sentence(site: Address, browser: Browser) -> None:
    context = browser.new_context()
    visit = Visit(context, site.url)
    visit.drop(file("large.png", bytes(5_000_000)))
    expect(visit.tab.locator("#cxr-errors")).to_contain_text("4 MB, the limit of this page")
    expect(visit.cases).to_have_count(0)
    context.close()


@pytest.mark.slow
def test_ten_files_at_once_stand_in_their_order(site: Address, browser: Browser, film: bytes, dicom: bytes) -> None:
    names = [f"film {number}.png" for number in range(10)]
    with visiting(browser, site.url) as visit:
        visit.drop(*(file(name, dicom if number % 2 else film) for number, name in enumerate(names)))
        assert visit.tab.locator(".case h3 bdi").all_inner_texts() == names
        assert visit.tab.locator("#cxr-list a").all_inner_texts() == names
        visit.drop(file("later.png", film))
        assert visit.tab.locator(".case h3 bdi").all_inner_texts() == ["later.png", *names]


@pytest.mark.slow
def test_two_visitors_do_not_see_each_other(site: Address, browser: Browser, film: bytes, photograph: bytes) -> None:
    with visiting(browser, site.url) as one, visiting(browser, site.url) as two:
        one.tab.set_input_files(FILES, [file(f"one {number}.png", film) for number in range(4)])
        two.tab.set_input_files(FILES, [file(f"two {number}.jpg", photograph) for number in range(4)])
        for visit in (one, two):
            expect(visit.tab.locator("#cxr-status")).to_contain_text("4 files examined", timeout=120_000)
        assert one.tab.locator("#cxr-list a").all_inner_texts() == [f"one {number}.png" for number in range(4)]
        assert two.tab.locator("#cxr-list a").all_inner_texts() == [f"two {number}.jpg" for number in range(4)]
        assert "two 0" not in one.tab.locator("#cxr-cases").inner_text()
        one.tab.reload()
        one.tab.wait_for_selector(FILES, state="attached")
        expect(one.cases).to_have_count(0)  # nothing was kept
        stored = "[localStorage.length, sessionStorage.length, document.cookie, indexedDB.databases ? 0 : 0]"
        assert one.tab.evaluate(stored)[2] == ""
        assert "one 0.png" not in one.tab.evaluate("JSON.stringify([{...localStorage}, {...sessionStorage}])")


@pytest.mark.slow
def test_the_map_fades_and_the_outline_goes_without_a_request(site: Address, browser: Browser, film: bytes) -> None:
    with visiting(browser, site.url) as visit:
        visit.drop(file("film.png", film))
        asked = len(visit.requested)
        heat, lungs = visit.tab.locator(".heat"), visit.tab.locator(".lungs")
        opacity = "element => getComputedStyle(element).opacity"
        assert heat.evaluate(opacity) == "0.5"
        slider = visit.tab.get_by_label("Heat map")
        slider.focus()
        for _ in range(4):
            visit.tab.keyboard.press("ArrowRight")
        assert heat.evaluate(opacity) == "0.7"
        assert visit.tab.locator(".slide output").inner_text() == "70 %"
        visit.tab.keyboard.press("Home")
        assert heat.evaluate(opacity) == "0"
        expect(lungs).to_be_visible()
        visit.tab.get_by_label("Outline of the lungs").uncheck()
        expect(lungs).to_be_hidden()
        assert len(visit.requested) == asked
        boxes = [visit.tab.locator(name).bounding_box() for name in (".film > img:first-child", ".heat")]
        assert boxes[0] == boxes[1]  # squeezed: the network saw all of the film


@pytest.mark.slow
def test_everything_can_be_done_with_the_keyboard(site: Address, browser: Browser, film: bytes) -> None:
    with visiting(browser, site.url) as visit:
        visit.tab.locator("#cxr-files").focus()
        assert visit.tab.evaluate("getComputedStyle(document.getElementById('cxr-drop')).outlineStyle") == "solid"
        with visit.tab.expect_file_chooser() as chooser:
            visit.tab.keyboard.press("Enter")
        chooser.value.set_files([file("film.png", film)])
        expect(visit.tab.locator("#cxr-status")).to_contain_text("examined", timeout=60_000)
        visit.tab.locator("#cxr-files").focus()
        reached = []
        for _ in range(12):
            visit.tab.keyboard.press("Tab")
            reached.append(visit.tab.evaluate("document.activeElement.dataset.do ?? document.activeElement.dataset.to"))
        assert [each for each in reached if each] == [
            "1",
            "table",
            "clear",
            "heat",
            "lungs",
            "enlarge",
            "save",
            "print",
            "forget",
        ]
        enlarge, shown = visit.tab.get_by_role("button", name="Enlarge"), visit.tab.locator(".film")
        before = shown.evaluate("element => element.clientWidth")
        enlarge.focus()
        visit.tab.keyboard.press("Space")
        assert enlarge.get_attribute("aria-pressed") == "true"
        assert shown.evaluate("element => element.clientWidth") > 1.5 * before
        visit.tab.locator("#cxr-list a").focus()
        visit.tab.keyboard.press("Enter")
        assert visit.tab.evaluate("document.activeElement.classList.contains('case')")
        visit.tab.get_by_role("button", name="Remove").focus()
        visit.tab.keyboard.press("Enter")
        expect(visit.cases).to_have_count(0)
        assert visit.tab.evaluate("document.activeElement.id") == "cxr-files"


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_readable_on_a_phone_and_in_the_dark(
    site: Address, browser: Browser, film: bytes, photograph: bytes, width: int, scheme: Any
) -> None:
    with visiting(browser, site.url, width, color_scheme=scheme) as visit:
        visit.drop(file("a_rather_long_name_without_any_blank_" * 3 + ".png", film), file("holiday.jpg", photograph))
        visit.tab.locator(".worth details summary").first.click()
        assert visit.tab.evaluate("document.documentElement.scrollWidth") <= width
        assert visit.tab.evaluate("parseFloat(getComputedStyle(document.querySelector('.cxr p')).fontSize)") >= 16
        for name in (".said li", ".verdict strong", ".verdict span", ".soft", ".drop span", "td", ".notice", "button"):
            assert contrast(visit.tab, name) >= 4.5, name  # WCAG 2.2 AA
        heights = visit.tab.evaluate("[...document.querySelectorAll('.cxr button')].map(each => each.offsetHeight)")
        assert min(heights) >= 44


def contrast(tab: Tab, selector: str) -> float:
    """Of a text against the first opaque background behind it, as WCAG defines it."""
    script = """selector => {
      const numbers = colour => colour.match(/[\\d.]+/g).map(Number);
      let element = document.querySelector(selector);
      const text = numbers(getComputedStyle(element).color);
      let back = [0, 0, 0, 0];
      for (; element && (back[3] ?? 1) === 0; element = element.parentElement)
        back = numbers(getComputedStyle(element).backgroundColor);
      const light = ([red, green, blue]) => [red, green, blue].map(each => each / 255)
        .map(each => each <= 0.04045 ? each / 12.92 : ((each + 0.055) / 1.055) ** 2.4)
        .reduce((sum, each, at) => sum + each * [0.2126, 0.7152, 0.0722][at], 0);
      const [one, other] = [light(text), light(back)].sort((a, b) => b - a);
      return (one + 0.05) / (other + 0.05);
    }"""
    return float(tab.evaluate(script, selector))


HOSTILE = [
    '<img src=x onerror="document.title=1">.png',
    "..\\..\\evil.png",
    "a\u202egnp.exe",
    "{{7*7}}${7*7}.png",
    "=HYPERLINK(1).png",
    "%2e%2e%2fx.png",
]


def test_hostile_names_are_text(site: Address, browser: Browser, film: bytes) -> None:
    with visiting(browser, site.url) as visit:
        title = visit.tab.title()
        visit.drop(*(file(name, film) for name in HOSTILE))
        shown = visit.tab.locator(".case h3 bdi").all_text_contents()
        assert shown == [name.replace("\u202e", "\ufffd") for name in HOSTILE]
        assert visit.tab.locator("#cxr-list a").all_text_contents() == shown
        assert visit.tab.title() == title
        assert visit.tab.locator("img[src='x']").count() == 0


@pytest.mark.slow
def test_a_script_in_an_answer_would_not_run(site: Address, browser: Browser) -> None:
    """Should escaping ever fail: the page's policy lets in no script but those that are part of it."""
    context = browser.new_context()
    visit = Visit(context, site.url)
    visit.tab.evaluate(
        """() => {
          document.body.insertAdjacentHTML("beforeend", '<img src="data:," onerror="window.harm = 1">');
          document.body.append(Object.assign(document.createElement("script"), { textContent: "window.harm = 2" }));
        }"""
    )
    visit.tab.wait_for_timeout(300)
    assert visit.tab.evaluate("window.harm") is None
    assert any("Content Security Policy" in line for line in visit.complaints)
    context.close()


@pytest.mark.slow
def test_a_report_is_saved_only_when_asked_for(site: Address, browser: Browser, film: bytes, tmp_path: Path) -> None:
    with visiting(browser, site.url) as visit:
        visit.drop(file("../film.png", film))
        with visit.tab.expect_download() as download:
            visit.tab.get_by_role("button", name="Download report").click()
        assert re.fullmatch(r"report-[0-9a-f]{12}\.html", download.value.suggested_filename)
        saved = tmp_path / "report.html"
        download.value.save_as(saved)
        with visit.tab.context.expect_page() as opened:
            visit.tab.get_by_role("button", name="Open report to print").click()
        assert opened.value.title() == "Report of ../film.png"
    asked: list[str] = []
    context = browser.new_context(viewport={"width": 390, "height": 900})
    tab = context.new_page()
    tab.on("request", lambda request: asked.append(request.url))
    tab.goto(saved.as_uri())
    assert [url for url in asked if not url.startswith("data:")] == [saved.as_uri()]
    assert tab.evaluate("document.documentElement.scrollWidth") <= 390
    assert "../film.png" in tab.locator("h3").first.inner_text()
    assert tab.evaluate("[...document.images].every(image => image.naturalWidth > 30)")
    assert tab.locator("body").inner_text().count("Research software, not a medical device.") >= 2
    printed = tab.pdf(format="A4")
    assert printed.startswith(b"%PDF")
    assert len(re.findall(rb"/Type\s*/Page\b", printed)) <= 3
    context.close()


@pytest.mark.slow
def test_the_list_of_the_visit_is_a_table_without_formulas(site: Address, browser: Browser, film: bytes) -> None:
    with visiting(browser, site.url) as visit:
        visit.drop(file("=1+1.png", film), file('b",c.png', b""))
        with visit.tab.expect_download() as download:
            visit.tab.get_by_role("button", name="Save this list").click()
        text = Path(download.value.path()).read_text(encoding="utf-8")
        rows = list(csv.DictReader(io.StringIO(text)))
        assert [row["file"] for row in rows] == ["'=1+1.png", 'b",c.png']
        assert rows[0]["model_name"] == "tiny"
        assert rows[0]["synthetic"] == "true"
        assert float(rows[0]["score"]) == site.desk.predictors[0].examine("x", film).prediction.score
        assert (rows[1]["kind"], rows[1]["score"]) == ("unreadable", "")
        visit.tab.get_by_role("button", name="Forget this visit").click()
        expect(visit.cases).to_have_count(0)
        expect(visit.tab.locator("#cxr-visit")).to_be_hidden()


@pytest.mark.slow
def test_a_file_dropped_beside_the_field_does_not_replace_the_page(
    site: Address, browser: Browser, film: bytes
) -> None:
    with visiting(browser, site.url) as visit:
        dropped = """bytes => {
          const data = new DataTransfer();
          data.items.add(new File([new Uint8Array(bytes)], "dropped.png"));
          document.body.dispatchEvent(new DragEvent("drop", { dataTransfer: data, bubbles: true, cancelable: true }));
        }"""
        visit.tab.evaluate(dropped, list(film))
        expect(visit.tab.locator(".case h3 bdi")).to_have_text("dropped.png", timeout=60_000)


@pytest.mark.slow
def test_several_models_are_compared(
    serve: Serve, browser: Browser, predictor: Predictor, other: Predictor, film: bytes
) -> None:
    with (
        serve(Desk([predictor, other], saliency=GradCam())) as site,
        visiting(browser, site.url) as visit,
    ):
        assert visit.tab.locator("summary", has_text="other").count() == 1
        visit.drop(file("film.png", film))
        table = visit.cases.locator("table.compare")
        assert table.locator("tbody th").all_inner_texts() == ["tiny (SYNTHETIC)", "other (SYNTHETIC)"]
        maps = visit.tab.locator(".heat")
        expect(maps.nth(0)).to_be_visible()
        expect(maps.nth(1)).to_be_hidden()
        visit.tab.get_by_label("Map of").select_option("other")
        expect(maps.nth(0)).to_be_hidden()
        expect(maps.nth(1)).to_be_visible()
        expect(visit.tab.locator(".field")).to_have_count(1)


@pytest.mark.slow
def test_busy_is_said_and_the_file_waits_for_its_turn(
    serve: Serve, browser: Browser, predictor: Predictor, film: bytes
) -> None:
    with serve(Desk([predictor]), max_waiting=1) as site:
        context = browser.new_context()
        visit = Visit(context, site.url)
        busy = [True, False]

        def answer(route: Any) -> None:
            if busy.pop(0):
                route.fulfill(status=503, headers={"retry-after": "1"}, json={"error": "1 files wait already"})
            else:
                route.continue_()

        visit.tab.route("**/api/examine*", answer)
        visit.tab.set_input_files(FILES, [file("film.png", film)])
        expect(visit.tab.locator("#cxr-status")).to_contain_text("waits for its turn")
        expect(visit.cases).to_have_count(1, timeout=60_000)
        context.close()


@pytest.mark.slow
def test_a_program_that_has_ended_is_told(serve: Serve, browser: Browser, predictor: Predictor, film: bytes) -> None:
    context = browser.new_context()
    with serve(Desk([predictor])) as site:
        visit = Visit(context, site.url)
    visit.tab.set_input_files(FILES, [file("film.png", film)])
    expect(visit.tab.locator("#cxr-errors")).to_contain_text("the program has ended")
    context.close()
