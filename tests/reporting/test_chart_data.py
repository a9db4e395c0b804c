"""The numbers behind the charts of a page: few, whatever was captured."""

import base64

import numpy as np

import tensorstate_gpu as ts
from tensorstate_gpu.reporting.page import chart_data
from tensorstate_gpu.reporting.page.write import page_of
from tensorstate_gpu.reporting.positions import FiringMap
from tests.support.points import point_of_bits


def test_a_map_of_the_first_input():
    """Three neurons at 2 x 3 positions: all, two, one or none of them fire."""
    shares = np.array([[1, 2, 3], [0, 0, 3]], np.float32) / 3
    counts = ts.StateCounts(np.array([[1]], np.uint8), [6], 3)
    data = chart_data.layer_data(chart_data.LayerProfile.of("layer", counts, FiringMap(shares, 1)))
    assert (data["map_width"], [*base64.b64decode(data["map"])]) == (3, [33, 67, 100, 0, 0, 100])


def test_a_training():
    """Each phase has a chart, of the layers that have changed most; steps are thinned."""
    log = {
        step: {"eval/efficiency/a/b": 0.5, "train/efficiency": 0.1, "train/entropy/0": 3.0}
        | {f"train/efficiency/{layer}": layer * step / 1e5 for layer in range(20)}
        for step in range(1000, 0, -1)
    }
    log[1001] = {"eval/efficiency/a/b": float("nan")}
    evaluated, trained = chart_data.training_data(log)
    assert (evaluated["phase"], trained["phase"], trained["layers"]) == ("eval", "train", 20)
    assert [line["layer"] for line in evaluated["lines"]] == ["a/b"]
    assert [line["layer"] for line in trained["lines"]] == [str(layer) for layer in range(8, 20)]
    points = trained["lines"][-1]["points"]
    assert (points[0], points[-1]) == ([1, 0.02], [1000, 19.0])
    assert len(points) == chart_data.MOST_POINTS
    page = page_of(
        ts.Run([point_of_bits("known", np.eye(3, dtype=bool))]).report(), "title", {}, log
    )
    assert "of the 12 of 20 layers that have changed most" in page
    assert chart_data.training_data(None) == []


def test_many_neurons_become_a_histogram(monkeypatch):
    monkeypatch.setattr(chart_data, "MOST_NEURONS", 30)
    rng = np.random.default_rng(0)
    bits = rng.random((500, 40)) < rng.random(40)
    bits[:, 0], bits[:, 1:3] = True, False
    (profile,) = ts.Run([point_of_bits("wide", bits)]).report().profiles
    data = chart_data.layer_data(profile)
    assert "rates" not in data
    assert sum(number for _, _, number, _ in data["rate_bins"]) == 40
    assert {kind: n for _, _, n, kind in data["rate_bins"][-2:]} == {
        "never fires": 2,
        "always fires": 1,
    }


def test_long_lines_are_thinned():
    counts = ts.StateCounts(
        np.arange(60_000, dtype=np.uint16).view(np.uint8).reshape(-1, 2), np.arange(1, 60_001), 16
    )
    ranks = chart_data.layer_data(chart_data.LayerProfile.of("layer", counts))["ranks"]
    assert len(ranks) <= chart_data.MOST_POINTS
    assert ranks[0] == [1, 60_000]
    assert ranks[-1] == [60_001, 1]


def test_neurons_that_fire_once_do_not_look_as_if_they_never_did():
    """The page draws a rate of 0 as "never fires", and one of 100 as "always fires"."""
    states = np.array([[0], [1], [2], [14]], np.uint8)
    counts = ts.StateCounts(states, [10**6 - 3, 1, 1, 10**7], 4)
    rates = chart_data.layer_data(chart_data.LayerProfile.of("layer", counts))["rates"]
    assert rates == [0.000009, 90.91, 90.91, 90.91]
    few = ts.StateCounts(states[:2], [1, 10**7], 4)
    rates = chart_data.layer_data(chart_data.LayerProfile.of("layer", few))["rates"]
    assert rates == [99.99999, 0, 0, 0]
