"""Draws docs/figures/page.png and page_dark.png: the demo's page, from title to first charts.

After ``make demo``: ``python docs/page_picture.py build/demo.html``, with Chromium and playwright.
"""

import io
import shutil
import sys
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, sync_playwright

FIGURES = Path(__file__).with_name("figures")
PICTURES = {"light": FIGURES / "page.png", "dark": FIGURES / "page_dark.png"}
WIDTH, MARGIN = 1100, 16  # pixels
PIXELS = 1.5  # of the picture for each of the page: sharp also on screens of many pixels
COLOURS = 256  # no channel is off by more than 7 of 255, at a third of the bytes


def main(page_of_demo: str) -> None:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox"]
        )
        for scheme, path in PICTURES.items():
            taken = picture(browser, Path(page_of_demo).resolve().as_uri(), scheme)
            colours = Image.open(io.BytesIO(taken)).convert("RGB")
            few = colours.quantize(COLOURS, Image.Quantize.MAXCOVERAGE)
            few.save(path, optimize=True)
        browser.close()


def picture(browser: Browser, address: str, scheme: str) -> bytes:
    """Return the PNG of a page without its table, which the README prints below the picture."""
    page = browser.new_page(
        viewport={"width": WIDTH, "height": 800}, color_scheme=scheme, device_scale_factor=PIXELS
    )
    page.goto(address)
    page.wait_for_selector("html[data-ready=yes]")
    page.add_style_tag(content=".scrolled { display: none }")
    chart = page.locator(".charts figure").first.bounding_box()
    assert chart is not None
    height = chart["y"] + chart["height"] + MARGIN
    return page.screenshot(full_page=True, clip={"x": 0, "y": 0, "width": WIDTH, "height": height})


if __name__ == "__main__":
    main(sys.argv[1])
