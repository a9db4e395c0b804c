"""What notebooks show: tables with bars, which are well-formed and need no script."""

import re
from xml.etree import ElementTree

import numpy as np
import pytest

import tensorstate_gpu as ts
from tests.support.points import new_point


@pytest.fixture
def run():
    point = new_point(name="<b>", neurons=4)
    point.append(np.repeat(np.arange(4, dtype=np.uint8), 80)[:, None], 320)
    return ts.Run([point])


def shown(value):
    """The headings with their cells, of the one row; and the bars."""
    page = ElementTree.fromstring(f"<div>{value._repr_html_().replace('<br>', '<br/>')}</div>")
    headings, row = page.findall("table/tr")
    cells = {
        heading.text: cell.text for heading, cell in zip(headings, row, strict=True) if cell.text
    }
    return cells, [[*bar] for bar in page.iter("svg")]


def test_a_report_has_a_bar_for_each_layer(run):
    cells, ((all_of_it, bar, line),) = shown(run.report())
    assert cells["layer"] == "<b>"
    assert cells["efficiency"] == "50.0 %"
    assert float(bar.get("width")) == float(all_of_it.get("width")) / 2
    layer = run.report().layers[0]
    ends = [120 * layer.lower, 120 * layer.upper]
    assert [float(line.get(end)) for end in ("x1", "x2")] == pytest.approx(ends, abs=0.05)
    assert "stroke-dasharray" not in line.attrib
    assert run._repr_html_() == run.report()._repr_html_()


def test_bounds_are_dashed():
    point = new_point(name="wide", neurons=16)
    point.append(np.arange(400, dtype=np.uint16).view(np.uint8).reshape(-1, 2), 400)
    _, ((*_, line),) = shown(ts.Run([point]).report())
    assert line.get("stroke-dasharray")


def test_counts(run):
    cells, ((_, bar),) = shown(run[0].histogram())
    assert [*cells.items()] == [
        *(("states", "320"), ("distinct", "4"), ("neurons", "4")),
        *(("entropy", "2.000 bits"), ("efficiency", "50.0 %"), ("coverage", "100.0 %")),
    ]
    assert bar.get("width") == "60.0"
    assert shown(ts.StateCounts.empty(4)) == ({"states": "0", "distinct": "0", "neurons": "4"}, [])


def test_an_estimate(run):
    estimate = run[0].estimate()
    cells, _ = shown(estimate)
    assert cells["value"] == f"{estimate.value:.4g} bits"
    assert cells["95 % interval"] == f"{estimate.lower:.4g} - {estimate.upper:.4g}"
    assert cells["quality"] == "good"


def test_colours_are_those_of_the_text(run):
    for value in (run, run.report(), run[0].histogram(), run[0].estimate()):
        colours = re.findall(r'(?:fill|stroke)="([^"]*)"', value._repr_html_())
        assert {*colours} <= {"currentColor"}
