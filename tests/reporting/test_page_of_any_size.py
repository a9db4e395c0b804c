"""The page of a report on a phone, in the dark, and on paper."""

import io
import itertools

import numpy as np
import pytest
from PIL import Image

import tensorstate_gpu as ts
from tests.support.hostile_page import PHONE, captured, open_layer
from tests.support.points import point_of_bits


def test_a_phone_in_the_dark(opened, address):
    page = opened(address, viewport=PHONE, color_scheme="dark")
    open_layer(page, 3)
    assert page.evaluate("document.documentElement.scrollWidth") == PHONE["width"]
    assert 0 < widest_label(page) <= PHONE["width"] / 3  # names leave room for the bars
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(22, 22, 22)"
    assert colour_of_labels(page) == "rgb(236, 236, 236)"
    page.emulate_media(color_scheme="light")
    assert colour_of_labels(page) == "rgb(28, 28, 28)"


def test_legends_of_a_small_phone_are_not_cut(opened, address):
    page = opened(address, viewport={"width": 320, "height": 700})
    open_layer(page, 1)
    chart = page.locator("#layer-1 .charts figure").first
    drawing = chart.locator("svg").bounding_box()
    texts = chart.locator(".role-legend-label text").all()
    assert [text.text_content() for text in texts] == ["changes", "never fires", "always fires"]
    for box in (text.bounding_box() for text in texts):
        assert box["x"] + box["width"] <= drawing["x"] + drawing["width"]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_shadow_shows_where_columns_are_hidden(opened, address, scheme):
    """Else a table that ends between two columns looks whole."""
    page = opened(address, viewport=PHONE, color_scheme=scheme)
    table = page.locator(".scrolled").first

    def sides():  # in the padding above the headings
        picture = Image.open(io.BytesIO(table.screenshot())).convert("L")
        return picture.getpixel((0, 2)), picture.getpixel((picture.width - 1, 2))

    def scroll_to(place):
        table.evaluate(f"table => table.scrollTo({place}, 0)")
        page.evaluate("new Promise(requestAnimationFrame)")

    bare = 255 if scheme == "light" else 22
    left, right = sides()
    assert left == bare
    assert abs(right - bare) > 30
    scroll_to(100)
    assert min(abs(side - bare) for side in sides()) > 30
    scroll_to(10_000)
    left, right = sides()
    assert abs(left - bare) > 30
    assert right == bare


def test_names_of_labels_do_not_overlap_on_a_phone(opened, tmp_path):
    rng = np.random.default_rng(0)
    labels = ["a label as long as a sentence", *(f"class {number}" for number in range(19))]
    point = point_of_bits("hidden", rng.random((400, 6)) < 0.3, labels * 20)
    ts.Run([point]).report(by_label=True).to_html(tmp_path / "labels.html")
    page = opened((tmp_path / "labels.html").as_uri(), viewport=PHONE)
    chart = page.locator('[data-chart="divergences"]')
    chart.scroll_into_view_if_needed()
    page.wait_for_selector('[data-chart="divergences"] svg')
    for number, (place, size) in enumerate((("x", "width"), ("y", "height"))):
        names = chart.locator(".role-axis").nth(number).locator("text:not([opacity='0'])").all()
        assert len(names) > 3
        for one, other in itertools.pairwise(name.bounding_box() for name in names):
            assert one[place] + one[size] <= other[place] + 3  # of boxes, which letters do not fill


def test_a_long_name_leaves_room_for_what_is_said_of_it(opened, tmp_path):
    bits = np.zeros((10, 3), bool)
    ts.Run([captured("a" * 300, bits)]).report().to_html(tmp_path / "long.html")
    page = opened((tmp_path / "long.html").as_uri())
    told = page.locator("dl.summary dd").first
    assert told.inner_text() == "never fires"
    assert told.bounding_box()["width"] > 600


def widest_label(page):
    labels = page.locator('[data-chart="efficiency"] .role-axis-label text')
    return max(label.bounding_box()["width"] for label in labels.all())


def colour_of_labels(page):
    labels = page.locator('[data-chart="efficiency"] .role-axis-label text')
    return labels.first.evaluate("label => getComputedStyle(label).fill")


def test_paper_has_all_panels_with_their_charts(opened, address):
    """What the browser prints is what a listener sees that runs after the page's own."""
    page = opened(address, color_scheme="dark")
    for number in (1, 2):
        open_layer(page, number)
    panels = "[...document.querySelectorAll('details.layer')]"
    charts = f"{panels}.map(panel => panel.open ? panel.querySelectorAll('svg').length : 0)"
    assert page.evaluate(charts) == [4, 4, 0]
    page.evaluate(f"addEventListener('beforeprint', () => {{ window.printed = {charts} }})")
    page.pdf()
    assert page.evaluate("printed") == [4, 4, 4]
    assert page.evaluate(charts) == [4, 4, 0]  # as it was
    page.emulate_media(media="print")
    assert colour_of_labels(page) == "rgb(28, 28, 28)"
