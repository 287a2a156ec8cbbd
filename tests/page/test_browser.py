"""The page in a real browser: what a reader drops, sees, moves, saves and forgets; nothing leaves the machine."""

from __future__ import annotations

import base64
import csv
import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from playwright.sync_api import Browser, BrowserContext, FilePayload, Locator, expect
from playwright.sync_api import Page as Tab
from tests.page.conftest import Address, Serve
from tests.reading.conftest import film as stored
from tests.reading.conftest import saved

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
        self.tab.wait_for_load_state("networkidle")

    @property
    def cases(self) -> Locator:
        return self.tab.locator(".case")

    def drop(self, *files: FilePayload) -> None:
        """Chooses files and waits until the last is examined."""
        self.tab.set_input_files(FILES, list(files))
        expect(self.tab.locator("#cxr-status")).to_contain_text("examined", timeout=120_000)

    @property
    def listed(self) -> Locator:
        return self.tab.locator("#cxr-list button")

    def shows(self, name: str) -> None:
        """Waits until all pixels of a film are in the viewer."""
        expect(self.tab.locator("#cxr-list [aria-current] bdi")).to_have_text(name)
        expect(self.tab.locator("#cxr-detail")).to_contain_text("All ", timeout=60_000)
        self.settle()

    def settle(self) -> None:
        """Waits until what was asked for is drawn."""
        self.tab.evaluate("() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")

    def pixels(self) -> NDArray[np.uint8]:
        """Of the canvas, shape (height, width, 3)."""
        self.settle()
        script = """() => {
          const canvas = document.getElementById("cxr-film");
          const { width, height } = canvas;
          const { data } = canvas.getContext("2d").getImageData(0, 0, width, height);
          const parts = [];
          for (let at = 0; at < data.length; at += 8192) parts.push(String.fromCharCode(...data.slice(at, at + 8192)));
          return [width, height, btoa(parts.join(""))];
        }"""
        width, height, data = self.tab.evaluate(script)
        rgba = np.frombuffer(base64.b64decode(data), np.uint8).reshape(height, width, 4)
        return np.asarray(rgba[..., :3], dtype=np.uint8)


@pytest.fixture
def maps() -> Iterator[None]:
    """Maps that grow to the right, or to the left for the model `other`: so little training leaves some empty."""

    def explained(predictor: Predictor, *_: Any) -> NDArray[np.float32]:
        ramp = np.tile(np.linspace(0, 1, 32, dtype=np.float32), (32, 1))
        return ramp[:, ::-1] if predictor.name == "other" else ramp

    with mock.patch.object(Predictor, "explain", explained):
        yield


@contextmanager
def visiting(
    browser: Browser, url: str, width: int = 1280, *, complains: bool = False, script: str = "", **options: Any
) -> Iterator[Visit]:
    """A tab, whose browser has something to complain of or not; the script runs before the page's own."""
    context = browser.new_context(viewport={"width": width, "height": 900}, **options)
    context.add_init_script(script)
    visit = Visit(context, url)
    yield visit
    origins = {re.sub(r"^(\w+:(?://[^/]*)?).*", r"\1", asked) for asked in visit.requested}
    assert origins - {"data:", "blob:"} == {url.rstrip("/")}  # no request left the machine, or even this program
    assert complains or visit.complaints == []
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
        banners = [visit.cases.nth(number).locator(".verdict").last.text_content() for number in range(2)]
        assert banners[0] == banners[1]
        assert "Called " in str(banners[0])
        assert "DICOM, 96 by 96 pixels" in str(visit.cases.nth(1).text_content())
        assert "Doe" not in visit.tab.content()
        assert (
            visit.listed.nth(0).locator(".line").all_inner_texts()
            == visit.listed.nth(1).locator(".line").all_inner_texts()
        )
        expect(visit.cases.nth(0)).to_be_visible()
        expect(visit.cases.nth(1)).to_be_hidden()


@pytest.mark.slow
def test_a_file_over_the_limit_is_a_sentence(site: Address, browser: Browser) -> None:
    with visiting(browser, site.url, complains=True) as visit:
        visit.drop(file("large.png", bytes(5_000_000)))
        expect(visit.tab.locator("#cxr-errors")).to_contain_text("4 MB, the limit of this page")
        expect(visit.cases).to_have_count(0)


@pytest.mark.slow
def test_two_visitors_do_not_see_each_other(site: Address, browser: Browser, film: bytes, photograph: bytes) -> None:
    with visiting(browser, site.url) as one, visiting(browser, site.url) as two:
        one.tab.set_input_files(FILES, [file(f"one {number}.png", film) for number in range(4)])
        two.tab.set_input_files(FILES, [file(f"two {number}.jpg", photograph) for number in range(4)])
        for visit in (one, two):
            expect(visit.tab.locator("#cxr-status")).to_contain_text("4 files examined", timeout=120_000)
        assert one.listed.locator("bdi").all_inner_texts() == [f"one {number}.png" for number in range(4)]
        assert two.listed.locator("bdi").all_inner_texts() == [f"two {number}.jpg" for number in range(4)]
        assert "two 0" not in one.tab.locator("#cxr-cases").inner_text()
        one.tab.reload()
        one.tab.wait_for_selector(FILES, state="attached")
        expect(one.cases).to_have_count(0)  # nothing was kept
        stored = "[localStorage.length, sessionStorage.length, document.cookie, indexedDB.databases ? 0 : 0]"
        assert one.tab.evaluate(stored)[2] == ""
        assert "one 0.png" not in one.tab.evaluate("JSON.stringify([{...localStorage}, {...sessionStorage}])")


@pytest.mark.slow
@pytest.mark.usefixtures("maps")
def test_the_map_fades_and_the_outline_goes_without_a_request(site: Address, browser: Browser, film: bytes) -> None:
    with visiting(browser, site.url) as visit:
        visit.drop(file("film.png", film))
        visit.shows("film.png")
        asked = len(visit.requested)

        def colours() -> int:
            """Pixels that are not grey."""
            return int((np.ptp(visit.pixels(), axis=-1) > 8).sum())

        over = colours()
        visit.tab.get_by_label("Strength").focus()
        visit.tab.keyboard.press("Home")
        assert visit.tab.locator("#cxr-slide output").inner_text() == "0 %"
        outline = colours()
        assert over > 10 * outline > 0
        visit.tab.get_by_label("Outline of the lungs").uncheck()
        assert colours() == 0
        visit.tab.keyboard.press("l")
        assert colours() == outline
        visit.tab.get_by_label("Strength").focus()
        visit.tab.keyboard.press("End")
        assert colours() >= over
        assert len(visit.requested) == asked


@pytest.mark.slow
@pytest.mark.usefixtures("maps")
def test_a_film_stands_beside_its_map_and_moves_with_it(site: Address, browser: Browser, film: bytes) -> None:
    with visiting(browser, site.url) as visit:
        visit.drop(file("film.png", film))
        visit.shows("film.png")
        visit.tab.keyboard.press("l")
        visit.tab.keyboard.press("m")
        assert visit.tab.get_by_label("beside").is_checked()
        for _ in range(2):
            seen = visit.pixels()
            left, right = np.hsplit(seen[:, : seen.shape[1] // 2 * 2], 2)
            assert np.ptp(left, axis=-1).max() == 0
            assert np.ptp(right, axis=-1).max() > 50
            lit = left.any(axis=(0, 2)), right.any(axis=(0, 2))  # both films begin and end in the same columns
            assert np.abs(np.flatnonzero(lit[0])[[0, -1]] - np.flatnonzero(lit[1])[[0, -1]]).max() <= 2
            visit.tab.keyboard.press("+")
        visit.tab.keyboard.press("m")
        assert np.ptp(visit.pixels(), axis=-1).max() == 0


@pytest.mark.slow
def test_everything_can_be_done_with_the_keyboard(site: Address, browser: Browser, film: bytes) -> None:
    with visiting(browser, site.url) as visit:
        visit.tab.locator("#cxr-files").focus()
        assert visit.tab.evaluate("getComputedStyle(document.getElementById('cxr-drop')).outlineStyle") == "solid"
        with visit.tab.expect_file_chooser() as chooser:
            visit.tab.keyboard.press("Enter")
        chooser.value.set_files([file("film.png", film)])
        expect(visit.tab.locator("#cxr-status")).to_contain_text("examined", timeout=60_000)
        visit.shows("film.png")
        visit.tab.locator("#cxr-files").focus()
        reached = []
        name = "(({ dataset, id, value, type }) => dataset.do ?? (id || (type === 'radio' ? value : type)))"
        for _ in range(22):
            visit.tab.keyboard.press("Tab")
            reached.append(visit.tab.evaluate(f"{name}(document.activeElement)"))
        assert reached == [
            *("button", "table", "clear"),
            *("cxr-film", "previous", "next", "out", "in", "fit", "actual", "invert", "keys"),
            *("cxr-centre", "cxr-width", "asfile", "windowing", "over", "cxr-heat", "checkbox"),
            *("save", "print", "forget"),
        ]
        visit.tab.keyboard.press("?")
        expect(visit.tab.get_by_role("dialog")).to_be_visible()
        visit.tab.get_by_label("Single keys do this").uncheck()  # for those whose software types letters (WCAG 2.1.4)
        visit.tab.keyboard.press("Escape")
        visit.tab.keyboard.press("m")
        assert visit.tab.get_by_label("over").is_checked()
        visit.tab.get_by_role("button", name="Remove").focus()
        visit.tab.keyboard.press("Enter")
        expect(visit.cases).to_have_count(0)
        assert visit.tab.evaluate("document.activeElement.id") == "cxr-files"


@pytest.mark.slow
def test_ten_films_are_gone_through_by_keyboard(
    site: Address, browser: Browser, film: bytes, photograph: bytes
) -> None:
    with visiting(browser, site.url) as visit:
        visit.tab.evaluate(
            """() => {
              window.told = [];
              new MutationObserver(() => window.told.push(document.getElementById("cxr-status").textContent))
                .observe(document.getElementById("cxr-status"), { childList: true });
            }"""
        )
        names = [f"film {number}.png" for number in range(8)]
        visit.drop(*(file(name, film) for name in names), file("holiday.jpg", photograph), file("empty.png", b""))
        told = visit.tab.evaluate("window.told")
        assert told[0] == "Examining 1 of 10 …"
        assert any(re.fullmatch(r"Examining 3 of 10 … About \d+ (s|min) left\..*", text) for text in told)
        current = visit.tab.locator("#cxr-list [aria-current] bdi")
        for name in [*names[1:], "holiday.jpg", "empty.png", "empty.png"]:
            visit.tab.keyboard.press("j")
            expect(current).to_have_text(name)
            expect(visit.tab.locator(".case:not([hidden]) h2 bdi")).to_have_text(name)
        expect(visit.tab.locator("#cxr-detail")).to_contain_text("no picture")
        expect(visit.tab.locator("#cxr-film")).to_be_hidden()
        assert "Cannot be read" in visit.listed.nth(9).inner_text()
        assert "Refused" in visit.listed.nth(8).inner_text()
        assert all(row.locator("svg.sign").count() for row in visit.listed.all())
        visit.tab.keyboard.press("k")
        visit.shows("holiday.jpg")
        assert np.ptp(visit.pixels(), axis=-1).max() > 50  # a photograph keeps its colours
        visit.listed.nth(3).focus()
        visit.tab.keyboard.press("Enter")
        visit.tab.keyboard.press("ArrowUp")
        expect(current).to_have_text("film 2.png")
        assert visit.tab.evaluate("document.activeElement.firstElementChild.textContent") == "film 2.png"
        listed = [*names, "holiday.jpg", "empty.png"]
        assert (
            visit.listed.locator("bdi").all_inner_texts() == visit.cases.locator("h2 bdi").all_text_contents() == listed
        )
        visit.tab.set_input_files(FILES, [file("later.png", film)])
        expect(visit.listed).to_have_count(11, timeout=60_000)
        assert visit.listed.locator("bdi").all_inner_texts() == ["later.png", *listed]


@pytest.mark.slow
def test_zoom_pan_window_and_invert_change_what_is_seen(site: Address, browser: Browser, film: bytes) -> None:
    with visiting(browser, site.url) as visit:
        visit.drop(file("film.png", film))
        visit.shows("film.png")
        visit.tab.keyboard.press("l")
        visit.tab.get_by_label("off").check()
        whole = visit.pixels()
        grey = np.asarray(cv2.imdecode(np.frombuffer(film, np.uint8), cv2.IMREAD_GRAYSCALE))
        assert sorted(np.unique(whole)) == sorted({0, *np.unique(grey)})  # enlarged a lot, and nothing is mixed
        visit.tab.keyboard.press("i")
        inside = whole[10:-10, whole.shape[1] // 2]
        assert (visit.pixels()[10:-10, whole.shape[1] // 2] == 255 - inside).all()
        visit.tab.keyboard.press("i")
        for keys in ("+", "[", ".", "]]]"):
            before = visit.pixels()
            visit.tab.keyboard.type(keys)
            assert (visit.pixels() != before).any(), keys
        visit.tab.keyboard.press("0")
        visit.tab.keyboard.press("r")
        assert (visit.pixels() == whole).all()
        box = visit.tab.locator("#cxr-film").bounding_box()
        assert box
        middle = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
        visit.tab.mouse.move(*middle)
        visit.tab.mouse.wheel(0, -500)
        zoomed = visit.pixels()
        assert (zoomed != whole).any()
        visit.tab.mouse.down()
        visit.tab.mouse.move(middle[0] + 60, middle[1] + 20)
        visit.tab.mouse.up()
        moved = visit.pixels()
        assert (moved[20:, 60:] == zoomed[:-20, :-60]).mean() > 0.95
        visit.tab.mouse.down(button="right")
        visit.tab.mouse.move(middle[0] + 160, middle[1])
        visit.tab.mouse.up(button="right")
        assert float(visit.tab.get_by_label("width", exact=True).input_value()) > 300
        visit.tab.get_by_label("Window centre").fill("60")
        visit.tab.get_by_label("width", exact=True).fill("1")
        assert set(np.unique(visit.pixels())) == {0, 255}


@pytest.mark.slow
def test_two_fingers_zoom_and_one_moves_what_was_zoomed(site: Address, browser: Browser, film: bytes) -> None:
    with visiting(browser, site.url, 390, has_touch=True) as visit:
        visit.drop(file("film.png", film))
        visit.shows("film.png")
        visit.tab.locator("#cxr-film").scroll_into_view_if_needed()
        box = visit.tab.locator("#cxr-film").bounding_box()
        assert box
        across, down = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
        session = visit.tab.context.new_cdp_session(visit.tab)

        def touch(kind: str, *places: tuple[float, float]) -> None:
            points = [{"x": across + x, "y": down + y, "id": number} for number, (x, y) in enumerate(places)]
            session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

        zoom = "parseInt(document.getElementById('cxr-zoom').textContent)"
        before = visit.tab.evaluate(zoom)
        touch("touchStart", (-20, 0), (20, 0))
        for reach in range(25, 65, 5):
            touch("touchMove", (-reach, 0), (reach, 0))
        touch("touchEnd")
        visit.settle()
        assert 2 < visit.tab.evaluate(zoom) / before < 4
        zoomed = visit.pixels()
        touch("touchStart", (0, 0))
        for reach in range(0, 45, 5):
            touch("touchMove", (0, reach))
        touch("touchEnd")
        assert (visit.pixels() != zoomed).mean() > 0.2


@pytest.mark.slow
def test_a_browser_that_would_show_noise_is_told_of(site: Address, browser: Browser) -> None:
    noise = """{
      const { prototype } = OffscreenCanvasRenderingContext2D;
      const read = prototype.getImageData;
      prototype.getImageData = function (...place) {
        const image = read.apply(this, place);
        image.data[40] ^= 1;
        return image;
      };
    }"""
    with visiting(browser, site.url, script=noise) as visit:
        expect(visit.tab.locator(".top")).to_contain_text("This browser changes pixels")
    with visiting(browser, site.url) as visit:
        expect(visit.tab.locator(".top")).not_to_contain_text("This browser")


@pytest.mark.slow
def test_a_film_whose_pixels_do_not_come_is_shown_smaller(site: Address, browser: Browser, film: bytes) -> None:
    with visiting(browser, site.url, complains=True) as visit:
        visit.tab.route("**/api/film", lambda route: route.fulfill(status=500, json={"error": "made up"}))
        visit.drop(file("film.png", film))
        expect(visit.tab.locator("#cxr-detail")).to_contain_text("Only a smaller picture")
        assert len(np.unique(visit.pixels())) > 50


@pytest.mark.slow
def test_a_window_is_kept_while_other_films_are_looked_at(site: Address, browser: Browser, dicom: bytes) -> None:
    """Pixels of a few films are kept, and asked for again; what was chosen for them stays."""
    with visiting(browser, site.url) as visit:
        visit.drop(*(file(f"{number}.dcm", dicom) for number in range(6)))
        visit.shows("0.dcm")
        visit.tab.get_by_label("Window centre").fill("77")
        visit.tab.get_by_label("Window centre").blur()
        before = visit.pixels()
        for number in range(1, 6):
            visit.tab.keyboard.press("j")
            visit.shows(f"{number}.dcm")
            assert visit.tab.get_by_label("Window centre").input_value() == "128"
        asked = sum(url.endswith("/api/film") for url in visit.requested)
        assert asked == 6
        visit.listed.nth(0).click()
        expect(visit.tab.get_by_label("Window centre")).to_have_value("77")
        assert (visit.pixels() == before).all()
        assert sum(url.endswith("/api/film") for url in visit.requested) == asked + 1


def deep_dicom(side: int = 3000) -> tuple[bytes, NDArray[np.uint16]]:
    """12 bits, MONOCHROME1, with a slope, an intercept and a window that shows half of the values."""
    across, down = np.meshgrid(np.arange(side), np.arange(side))
    values = ((across + down) % 4096).astype(np.uint16)
    meaning = {"RescaleSlope": 2, "RescaleIntercept": -1000, "WindowCenter": 3000, "WindowWidth": 4096}
    return saved(stored(values, "MONOCHROME1", 12, **meaning)), values


@pytest.mark.slow
def test_a_large_dicom_is_shown_with_all_its_pixels_and_values(
    serve: Serve, browser: Browser, predictor: Predictor
) -> None:
    data, values = deep_dicom()
    with serve(Desk([predictor])) as site, visiting(browser, site.url) as visit:
        visit.drop(file("large.dcm", data))
        visit.shows("large.dcm")
        assert (
            visit.tab.locator("#cxr-detail").inner_text().endswith("3000 x 3000 pixels, with the values of the file.")
        )
        assert visit.tab.get_by_label("Window centre").input_value() == "3000"
        assert visit.tab.get_by_label("width", exact=True).input_value() == "4096"
        visit.tab.keyboard.press("1")  # one pixel of the film for each of the screen

        def expected(centre: float, width: float, values: NDArray[Any]) -> NDArray[Any]:
            share = ((2.0 * values - 1000 - (centre - 0.5)) / (width - 1) + 0.5).clip(0, 1)
            return np.round(255 * (1 - share))

        seen = visit.pixels()[..., 0].astype(int)
        height, width = seen.shape
        top, left = (3000 - height) // 2, (3000 - width) // 2
        part = values[top : top + height, left : left + width]
        assert np.abs(seen - expected(3000, 4096, part)).max() <= 1
        visit.tab.get_by_label("Window centre").fill("4500")
        visit.tab.get_by_label("width", exact=True).fill("600")
        assert np.abs(visit.pixels()[..., 0].astype(int) - expected(4500, 600, part)).max() <= 1
        assert len(np.unique(visit.pixels())) == 256  # 8 bits of the picture before would leave a fraction of them


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_readable_on_a_phone_and_in_the_dark(
    site: Address, browser: Browser, film: bytes, photograph: bytes, width: int, scheme: Any
) -> None:
    with visiting(browser, site.url, width, color_scheme=scheme, has_touch=width == 390) as visit:
        visit.drop(file("a_rather_long_name_without_any_blank_" * 3 + ".png", film), file("holiday.jpg", photograph))
        visit.tab.locator("#cxr-worth > summary").click()
        visit.tab.locator(".worth details summary").first.click()
        assert visit.tab.evaluate("document.documentElement.scrollWidth") <= width
        assert visit.tab.evaluate("parseFloat(getComputedStyle(document.querySelector('.cxr p')).fontSize)") >= 16
        for name in (
            *(".said li", ".verdict strong", ".verdict span", ".soft", ".drop span", "td", ".notice", ".tools button"),
            *("#cxr-list button", "#cxr-list .line", "#cxr-list .line .sign", ".tools label", ".scale text"),
            *("h1", ".chip"),
        ):
            assert contrast(visit.tab, name) >= 4.5, name  # WCAG 2.2 AA
        visible = "[...document.querySelectorAll('button')].filter(each => each.offsetHeight)"
        heights = visit.tab.evaluate(f"{visible}.map(each => each.offsetHeight)")
        assert min(heights) >= (44 if width == 390 else 32)  # of a mouse, 24 are asked for (WCAG 2.2, 2.5.8)
        film_, listed = (visit.tab.locator(f"#cxr-{name}").bounding_box() for name in ("film", "list"))
        assert film_
        assert listed
        if width == 390:
            assert film_["y"] + film_["height"] < listed["y"]
        else:
            assert listed["x"] + listed["width"] < film_["x"]
            assert film_["width"] > 600


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
        shown = visit.tab.locator(".case h2 bdi").all_text_contents()
        assert shown == [name.replace("\u202e", "\ufffd") for name in HOSTILE]
        assert visit.listed.locator("bdi").all_text_contents() == shown
        assert visit.tab.title() == title
        assert visit.tab.locator("img[src='x']").count() == 0


@pytest.mark.slow
def test_a_script_in_an_answer_would_not_run(site: Address, browser: Browser) -> None:
    """Should escaping ever fail: the page's policy lets in no script but those that are part of it."""
    with visiting(browser, site.url, complains=True) as visit:
        visit.tab.evaluate(
            """() => {
              document.body.insertAdjacentHTML("beforeend", '<img src="data:," onerror="window.harm = 1">');
              document.body.append(Object.assign(document.createElement("script"), { textContent: "window.harm = 2" }));
            }"""
        )
        visit.tab.wait_for_timeout(300)
        assert visit.tab.evaluate("window.harm") is None
        assert any("Content Security Policy" in line for line in visit.complaints)


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
        expect(opened.value).to_have_title("Report of ../film.png")
        assert opened.value.evaluate("getComputedStyle(document.querySelector('.notice')).borderLeftWidth") == "4px"
        expect(opened.value.locator("svg.film")).to_have_count(2)
    asked: list[str] = []
    context = browser.new_context(viewport={"width": 390, "height": 900})
    tab = context.new_page()
    tab.on("request", lambda request: asked.append(request.url))
    tab.goto(saved.as_uri())
    assert [url for url in asked if not url.startswith("data:")] == [saved.as_uri()]
    assert tab.evaluate("document.documentElement.scrollWidth") <= 390
    assert "../film.png" in tab.locator("h2").first.inner_text()
    assert tab.evaluate(
        "[...document.querySelectorAll('svg.film')].every(film => film.getBoundingClientRect().width > 200)"
    )
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
        visit.tab.get_by_role("button", name="Clear session").click()
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
        expect(visit.tab.locator(".case h2 bdi")).to_have_text("dropped.png", timeout=60_000)


@pytest.mark.slow
@pytest.mark.usefixtures("maps")
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
        visit.shows("film.png")
        first = visit.pixels()
        assert visit.tab.get_by_label("Map of").locator("option").all_inner_texts() == ["tiny", "other"]
        visit.tab.get_by_label("Map of").select_option("other")
        assert (visit.pixels() != first).any()
        assert ["(tiny)" in text for text in visit.listed.locator(".line").all_inner_texts()][:2] == [True, False]


@pytest.mark.slow
def test_busy_is_said_and_the_file_waits_for_its_turn(site: Address, browser: Browser, film: bytes) -> None:
    with visiting(browser, site.url, complains=True) as visit:
        busy: Any = {"status": 503, "headers": {"retry-after": "1"}, "json": {"error": "1 files wait already"}}
        visit.tab.route("**/api/examine*", lambda route: route.fulfill(**busy), times=1)
        visit.tab.set_input_files(FILES, [file("film.png", film)])
        expect(visit.tab.locator("#cxr-status")).to_contain_text("waits for its turn")
        expect(visit.cases).to_have_count(1, timeout=60_000)


@pytest.mark.slow
def test_a_program_that_has_ended_is_told(serve: Serve, browser: Browser, predictor: Predictor, film: bytes) -> None:
    context = browser.new_context()
    with serve(Desk([predictor])) as site:
        visit = Visit(context, site.url)
    visit.tab.set_input_files(FILES, [file("film.png", film)])
    expect(visit.tab.locator("#cxr-errors")).to_contain_text("the program has ended")
    context.close()
