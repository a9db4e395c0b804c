"""Draws docs/figures/page.png: the first screen of the demo's page, from its title to its table.

After ``make demo``: ``python docs/page_picture.py build/demo.html``, with Chromium and playwright.
"""

import shutil
import sys
from pathlib import Path

from playwright.sync_api import sync_playwright

PICTURE = Path(__file__).with_name("figures") / "page.png"
WIDTH, MARGIN = 1100, 16  # pixels


def main(page_of_demo: str) -> None:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox"]
        )
        page = browser.new_page(viewport={"width": WIDTH, "height": 800})
        page.goto(Path(page_of_demo).resolve().as_uri())
        page.wait_for_selector("html[data-ready=yes]")
        table = page.locator("table").first.bounding_box()
        assert table is not None
        height = table["y"] + table["height"] + MARGIN
        page.screenshot(
            path=PICTURE,
            full_page=True,
            clip={"x": 0, "y": 0, "width": WIDTH, "height": height},
        )
        browser.close()


if __name__ == "__main__":
    main(sys.argv[1])
