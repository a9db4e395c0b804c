"""A real Chromium, without a window, for pages that the package writes."""

import os
import shutil
from contextlib import contextmanager

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def chromium():
    """The path of a Chromium. Without one, skips; fails where .ci/run has installed one."""
    found = next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        required = "TENSORSTATE_TEST_PROGRAMS" in os.environ
        (pytest.fail if required else pytest.skip)("no Chromium: apt install chromium")
    return found


@contextmanager
def browser():
    """A browser of Playwright."""
    path = chromium()
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        # Root has no sandbox; a page must not reach any server, whatever the machine has.
        options = ["--no-sandbox", "--host-resolver-rules=MAP * ~NOTFOUND"]
        running = playwright.chromium.launch(executable_path=path, args=options)
        yield running
        running.close()
