"""The page of a report in a real Chromium: what it draws, what it loads, how it is used."""

import dataclasses
import re

import numpy as np
import pytest

import tensorstate_gpu as ts
from tensorstate_gpu.neurons.synchrony import correlations_of
from tensorstate_gpu.reporting.page import chart_data
from tests.support.hostile_page import HOSTILE, LONG, PHONE, SLOW, captured, open_layer
from tests.support.points import new_point


def test_charts_and_names(opened, address):
    page = opened(address)
    assert page.title() == HOSTILE
    bars = page.locator('[data-chart="efficiency"] svg .mark-rect path')
    opacities = [float(bar.get_attribute("fill-opacity")) for bar in bars.all()]
    assert opacities == [1, 0.15, 0.15]  # good, and twice bounds only
    open_layer(page, 2)
    assert page.locator("#layer-2 summary").inner_text().startswith(HOSTILE)
    charts = page.locator("#layer-2 .charts figure")
    assert [charts.nth(i).locator("svg").count() for i in range(charts.count())] == [1, 1, 1, 1]
    assert charts.nth(0).locator(".mark-symbol path").count() >= 40
    assert charts.nth(3).locator(".mark-rect path").count() >= 40 * 40
    for chart in charts.all():
        assert chart.locator("svg").bounding_box()["width"] <= chart.bounding_box()["width"] + 1


def test_sorting_by_pointer_and_keyboard(opened, address, report):
    page = opened(address)
    table = page.locator("table.sortable").first
    entropy = table.locator("thead th", has_text="entropy")

    def shown():
        return entropy.get_attribute("aria-sort"), [
            float(cell.removesuffix(" bits"))
            for cell in table.locator("tbody tr td:nth-child(6)").all_inner_texts()
        ]

    values = [round(layer.entropy, 3) for layer in report.layers]
    assert shown() == ("none", values)
    entropy.locator("button").click()
    assert shown() == ("ascending", sorted(values))
    entropy.locator("button").press("Enter")
    assert shown() == ("descending", sorted(values, reverse=True))
    page.keyboard.press("Tab")  # to the next heading
    page.keyboard.press("Space")
    assert entropy.get_attribute("aria-sort") == "none"
    assert table.locator('thead th[aria-sort="ascending"]').inner_text().startswith("efficiency")


def test_names_are_sorted_by_the_numbers_in_them(opened, tmp_path):
    points = [new_point(name=name) for name in ("4.10.conv", "4.9.conv", "4.9", "4.10")]
    for point in points:
        point.append(np.zeros((3, 2), np.uint8), 3, [10, -1, -2])
    path = tmp_path / "names.html"
    ts.Run(points).report(by_label=True).to_html(path)
    page = opened(path.as_uri())
    for number, expected in enumerate((["4.9", "4.9.conv", "4.10", "4.10.conv"], [-2, -1, 10])):
        table = page.locator("table.sortable").nth(number)
        table.locator("thead button").first.click()
        shown = table.get_by_role("rowheader").all_inner_texts()
        assert shown == [*map(str, expected)]


def test_bars_of_many_neurons_begin_at_zero(opened, tmp_path, monkeypatch):
    monkeypatch.setattr(chart_data, "MOST_NEURONS", 8)
    bits = np.arange(1000)[:, None] < np.array([0, 0, 0, 101, 102, 501, 1000, 1000, 1000])
    path = tmp_path / "many.html"
    ts.Run([captured("many", bits)]).report().to_html(path)
    page = opened(path.as_uri())
    open_layer(page, 1)
    chart = page.locator("#layer-1 figure", has_text="How many neurons")
    boxes = [bar.bounding_box() for bar in chart.locator(".mark-rect.role-mark path").all()]
    base = max(box["y"] + box["height"] for box in boxes)
    assert [box["y"] + box["height"] for box in boxes] == pytest.approx([base] * 4, abs=1)
    height = max(box["height"] for box in boxes) / 3
    neurons = sorted(round(box["height"] / height, 1) for box in boxes)
    assert neurons == [1, 2, 3, 3]  # that fire in 50 %, 10 %, 0 %, 100 % of states


def test_the_entropy_of_a_layer_that_never_changes_is_at_the_bottom(opened, tmp_path):
    """An axis from 0 to 0 has it in the middle."""
    path = tmp_path / "constant.html"
    ts.Run([captured("constant", np.ones((50, 3), bool))]).report().to_html(path)
    page = opened(path.as_uri())
    open_layer(page, 1)
    chart = page.locator("#layer-1 figure", has_text="Entropy that fewer rows would show")
    labels = chart.locator(".role-axis-label text").all_text_contents()
    assert {"0.0", "1.0"} <= {*labels}


def test_charts_for_those_who_hear_them(opened, address, report):
    """The names in the tree that a browser gives to a screen reader have the essential numbers."""
    page = opened(address)
    for number, profile in enumerate(report.profiles, 1):
        open_layer(page, number)
        panel = page.locator(f"#layer-{number}")
        told = [chart.get_attribute("aria-label") for chart in panel.get_by_role("img").all()]
        firing, measured = profile.firing, report.layers[number - 1]
        low, high = firing.argmin(), firing.argmax()
        percent = (100 * firing / profile.states).round(2)
        assert told[0] == (
            f"Firing rate of each neuron: {len(firing)} neurons, least {percent[low]:g} % (neuron "
            f"{low}), most {percent[high]:g} % (neuron {high}); 0 never fire, 0 always fire"
        )
        assert f"{measured.entropy:.3f} bits of 640 rows" in told[1]
        added = re.search(r"the last half has added ([\d.]+) bits", told[1])
        assert float(added[1]) == pytest.approx(measured.slope, abs=0.01)
        most = profile.repetitions.counts.max()
        assert f"{measured.distinct} states, the most frequent one {most} time" in told[2]
        found = re.search(r"most together neurons (\d+) and (\d+), ([\d.-]+)", told[3])
        one, other, correlation = int(found[1]), int(found[2]), float(found[3])
        expected = correlations_of(profile.cofiring, profile.states)
        assert expected[one, other] == pytest.approx(correlation, abs=0.006)
        assert np.triu(expected, 1).max() == pytest.approx(correlation, abs=0.006)
        heard = panel.aria_snapshot()
        assert [f'img "{each}"' in heard for each in told] == [True] * 4
        assert "graphics" not in heard  # not each of hundreds of marks
    overview = page.get_by_role("img", name="Efficiency of each layer")
    assert overview.count() == 1


def test_one_of_each_is_heard_in_the_singular(opened, tmp_path):
    ts.Run([captured("one", np.ones((1, 1), bool))]).report().to_html(tmp_path / "one.html")
    page = opened((tmp_path / "one.html").as_uri())
    open_layer(page, 1)
    charts = page.locator("#layer-1").get_by_role("img").all()
    told = [chart.get_attribute("aria-label") for chart in charts]
    assert told[0].startswith("Firing rate of each neuron: 1 neuron, least 100 % (neuron 0)")
    assert "bits of 1 row, of which" in told[1]
    assert "1 state, the most frequent one 1 time, the rarest 1 time" in told[2]


def test_the_key_keeps_its_colours_where_a_system_forces_others(opened, address):
    """A chart keeps those of its bars; without them, all bars of the key would look the same."""
    page = opened(address, forced_colors="active", color_scheme="dark")
    colour = "each => getComputedStyle(each).backgroundColor"
    key = [place.evaluate(colour) for place in page.locator(".key i").all()]
    assert len({*key[:2], key[-1]}) == 3
    assert key[0] == page.locator(".meter > span").first.evaluate(colour) == "rgb(61, 155, 217)"


def test_charts_that_are_drawn_when_the_reader_comes_near(opened, address):
    """Which labels are told apart, the training: with their numbers, and names as they are."""
    page = opened(address, viewport={"width": 1280, "height": 300})
    charts = page.locator('[data-chart="divergences"], [data-chart="training"]')
    assert [charts.nth(i).locator("svg").count() for i in range(4)] == [0, 0, 0, 0]
    told = []
    for chart in charts.all():
        chart.scroll_into_view_if_needed()
        chart.locator("svg").wait_for()
        told.append(chart.get_attribute("aria-label"))
    assert told[0] == (
        "Efficiency of layers in the phase train: a from 10 % at step 10 to 20 % at step 20; "
        f"{HOSTILE} from 20 % at step 10 to 40 % at step 20"
    )
    for number, label in enumerate(told[1:], 1):
        name = re.escape(HOSTILE)
        assert re.search(rf"most {name} \d and {name} \d, .*; \d of 3 pairs are not told", label)
        assert charts.nth(number).locator(".mark-rect.role-mark path").count() == 6
        axis = charts.nth(number).locator(".role-axis-label")
        labels = [f"{HOSTILE} {each}" for each in range(3)]
        assert [each.locator("text").all_text_contents() for each in axis.all()] == [labels, labels]


def test_where_a_layer_fires(opened, tmp_path):
    """The map has a square for each position, wider than high or not."""
    layers = {}
    for name, shape in {"wide": (4, 8), "high": (8, 4), "line": (6,)}.items():
        point = new_point(name=name, neurons=3)
        states = np.arange(2 * np.prod(shape), dtype=np.uint8)[:, None] % 8
        point.record(states, 3, 1, 2, spatial_shape=shape)
        layers[name] = point
    path = tmp_path / "maps.html"
    ts.Run(layers.values()).report().to_html(path)
    page = opened(path.as_uri())
    charts = [
        page.locator(f"#layer-{number} figure", has_text="Where it fires") for number in (1, 2, 3)
    ]
    for number, (positions, ratio) in enumerate([(32, 0.5), (32, 2), (6, 1 / 6)], 1):
        open_layer(page, number)
        chart = charts[number - 1]
        squares = chart.locator(".mark-rect.role-mark path")
        assert squares.count() == positions
        told = chart.get_by_role("img").get_attribute("aria-label")
        assert f"{positions} squares, least 0 % (column 0, row 0), most " in told
        assert ratio_of(squares) == pytest.approx(ratio, rel=0.05)
    page.set_viewport_size(PHONE)
    high = charts[1].locator(".mark-rect.role-mark path")
    page.wait_for_function(IS_WITHIN, arg=[high.first.element_handle(), PHONE["width"]])
    assert ratio_of(high) == pytest.approx(2, rel=0.05)


# Charts are drawn again some time after the window has changed.
IS_WITHIN = "([mark, width]) => mark.ownerSVGElement.getBoundingClientRect().right <= width"
SIDES = """marks => marks.map(mark => {
    const { left, top, right, bottom } = mark.getBoundingClientRect();
    return [left, top, right, bottom];
})"""


def ratio_of(squares):
    """The height of what squares cover, divided by its width."""
    left, top, right, bottom = zip(*squares.evaluate_all(SIDES), strict=True)  # all at one moment
    return (max(bottom) - min(top)) / (max(right) - min(left))


def test_a_link_opens_the_panel(opened, address):
    page = opened(address)
    page.get_by_role("link", name=LONG.removesuffix("_post_states")).click()
    page.wait_for_selector("#layer-3[open][data-drawn=yes]")


@pytest.mark.long
def test_fifty_layers_open_in_two_seconds(chromium, tmp_path):
    """Of processor time of the page's process: other programs may keep the page waiting."""
    rng = np.random.default_rng(0)
    one = ts.Run([captured("layer", rng.random((300, 400)) < 0.2)]).report()
    many = dataclasses.replace(one, layers=one.layers * 50, profiles=one.profiles * 50)
    many.to_html(tmp_path / "many.html")
    context = chromium.new_context()
    context.set_default_timeout(SLOW)
    page = context.new_page()
    measured = context.new_cdp_session(page)
    measured.send("Performance.enable")

    def seconds():
        found = measured.send("Performance.getMetrics")["metrics"]
        return next(each["value"] for each in found if each["name"] == "ProcessTime")

    before = seconds()
    page.goto((tmp_path / "many.html").as_uri())
    page.wait_for_selector("html[data-ready=yes]")
    page.evaluate("new Promise(requestAnimationFrame)")  # until it has been painted
    assert 0 < seconds() - before < 2
    context.close()
