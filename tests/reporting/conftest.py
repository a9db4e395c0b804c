"""What holds for all tests of reports."""

import sys

import numpy as np
import pytest

import tensorstate_gpu as ts
from tests.support.browser import browser
from tests.support.hostile_page import HOSTILE, LOG, LONG, SLOW, captured


@pytest.fixture(autouse=True)
def no_figure_is_left_open():
    yield
    if (pyplot := sys.modules.get("matplotlib.pyplot")) is not None:
        pyplot.close("all")


@pytest.fixture(scope="module")
def report():
    rng = np.random.default_rng(0)
    return ts.Run(
        [
            captured("narrow", rng.random((640, 6)) < 0.3),
            captured(HOSTILE, rng.random((640, 40)) < 0.5),
            captured(LONG, rng.random((640, 20)) < 0.5),
        ]
    ).report(0.9, by_label=True)


@pytest.fixture(scope="module")
def address(report, tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "report.html"
    report.to_html(path, title=HOSTILE, origin={"store": "/data/" + 100 * "x"}, training=LOG)
    return path.as_uri()


@pytest.fixture(scope="module")
def chromium():
    with browser() as running:
        yield running


@pytest.fixture
def opened(chromium):
    """Opens a page; at the end of the test, it has said and loaded nothing, and asked nobody."""
    contexts, noticed = [], []

    def opens(address, **options):
        context = chromium.new_context(**options)
        contexts.append(context)
        context.set_default_timeout(SLOW)
        page = context.new_page()
        page.on("console", lambda message: noticed.append(message.text))
        page.on("pageerror", lambda error: noticed.append(str(error)))
        page.on("dialog", lambda dialog: (noticed.append(dialog.message), dialog.dismiss()))
        page.on("request", lambda request: noticed.append(request.url))
        page.goto(address)
        page.wait_for_selector("html[data-ready=yes]")
        assert noticed.pop(0) == address
        return page

    yield opens
    for context in contexts:
        context.close()
    assert noticed == []
