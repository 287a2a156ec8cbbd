"""Takes the pictures of the page that README and docs/using_a_model.md show, in a real browser, of a drawn phantom.

    python docs/page_pictures.py ckpt_path=runs/… lungs=runs/lungs

What follows are keys of ``src/app.py``. Chromium has to be on the machine, and ``pip install 'cxrlab[app,dev]'``.
"""

from __future__ import annotations

import io
import re
import shutil
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, sync_playwright

from cxrlab.app import open_desk
from cxrlab.config import compose
from cxrlab.datamodules import SyntheticSource
from cxrlab.page import Page, open_socket
from cxrlab.page.server import address

FIGURES = Path(__file__).parent / "figures"
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
COLOURS = 128  # of a picture as it is kept: a quarter of the bytes
SIZE = 768  # pixels along a side of the phantom


def take(browser: Browser, url: str, films: Sequence[Path], folder: Path) -> list[Path]:
    """Visits a page with each of the widths and schemes that the docs show, and keeps what is seen.

    Args:
        browser: Started.
        url: Of the page.
        films: To be dropped.
        folder: For the pictures.
    """
    kept = []
    for width, scheme, part, name in (
        (1280, "light", "body", "page_1280.png"),
        (390, "light", "body", "page_390.png"),
        (1280, "dark", "#cxr-bench", "page_dark.png"),
        (1280, "light", "#cxr-bench", "page_card.png"),  # README
    ):
        context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)  # type: ignore[arg-type]
        tab = context.new_page()
        tab.goto(url)
        tab.set_input_files("#cxr-files", [str(film) for film in films])
        tab.locator("#cxr-status", has_text="examined").wait_for(timeout=300_000)
        tab.evaluate("document.activeElement.blur()")
        tab.locator("#cxr-detail", has_text=re.compile(r"All \d")).wait_for(timeout=60_000)
        seen = tab.screenshot(full_page=True) if part == "body" else tab.locator(part).first.screenshot()
        context.close()
        kept.append(folder / name)
        picture = Image.open(io.BytesIO(seen)).convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE)
        picture.save(kept[-1], optimize=True)
    return kept


def main(typed: Sequence[str]) -> None:
    """Draws a phantom, starts a page, and takes its pictures."""
    config = compose("app", ["port=0", *typed], Path())
    rows = SyntheticSource("~/.cache/cxrlab", n_train=2, n_test=8, size=SIZE, disease="consolidation").manifest()
    film = Path(rows[(rows["split"] == "test") & (rows["label"] == 1)]["path"].iloc[0])
    page, ready = Page(open_desk(config), max_upload_mb=config.max_upload_mb), threading.Event()
    listening = open_socket(config.host, config.port)
    url = address(config.host, listening)
    thread = threading.Thread(target=page.serve, args=(listening, ready.set))
    thread.start()
    try:
        ready.wait(60)
        with sync_playwright() as playwright:
            path = next(found for name in BROWSERS if (found := shutil.which(name)))
            browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
            for picture in take(browser, url, [film], FIGURES):
                print(f"{picture.name}  {picture.stat().st_size / 1000:.0f} kB")
            browser.close()
    finally:
        page.stop()
        thread.join()


if __name__ == "__main__":
    main(sys.argv[1:])
