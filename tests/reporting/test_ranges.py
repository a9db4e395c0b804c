"""What reports say of how far their numbers can be trusted: coverage, ranges, quality."""

import json

import numpy as np
import pytest

import tensorstate_gpu as ts
from tests.support.points import point_of_bits, point_of_numbers


def wide_point(name="wide", rows=500, neurons=100, seed=0, **options):
    """A capture point of rows that are all different."""
    bits = np.random.default_rng(seed).random((rows, neurons)) < 0.1
    return point_of_bits(name, bits, **options)


def test_a_layer_of_too_few_states_is_marked():
    report = ts.report(
        ts.Run([wide_point(), point_of_numbers("narrow", [0, 1, 2, 3] * 125, 2)]), 0.9
    )
    wide, narrow = report.layers
    assert (wide.quality, narrow.quality, report.quality) == ("bounds only", "good", "bounds only")
    assert wide.coverage == 0
    assert wide.efficiency < wide.lower < wide.upper < 1
    assert (wide.is_at_ceiling, narrow.is_at_ceiling) == (True, False)
    lines = dict(line.split("  ", 1) for line in str(report).splitlines()[5:])
    for label, limits in (
        ("network efficiency", report.network_range),
        ("aIQ (beta 2)", report.aiq_range),
    ):
        low, high = (f"{100 * limit:.1f}" for limit in limits)
        assert lines[label].endswith(f"% (bounds only: {low} - {high} %)")
    assert lines["at the ceiling"].strip() == "wide: more states would show a higher entropy"
    assert "bounds only" in report._repr_html_()
    assert json.loads(json.dumps(report.as_dict()))["layers"][0]["quality"] == "bounds only"


def test_ranges_of_good_layers():
    run = ts.Run(
        [
            point_of_numbers("a", [0, 1, 2, 3, 0] * 400, 2),
            point_of_numbers("b", [0, 1, 0, 0, 1] * 400, 3),
        ]
    )
    report = run.report(0.9)
    assert report.quality == "good"
    low, high = report.network_range
    assert low < report.network_efficiency < high < low + 0.05
    assert f"(95 % range: {100 * low:.1f} - {100 * high:.1f} %)" in str(report)
    assert "at the ceiling" not in str(report)
    assert report.aiq_range[0] < report.aiq < report.aiq_range[1]


def test_counts_have_a_range_if_they_are_kept_by_group():
    rows, counts, grouped = (
        wide_point(rows=5000, neurons=6, **options)
        for options in ({}, {"keep": "counts"}, {"keep": "counts", "groups": 32})
    )
    whole, alone, same = (ts.Run([each]).report() for each in (rows, counts, grouped))
    assert same == whole
    assert same.quality == "good"
    assert (alone.quality, alone.network_range, alone.layers[0].lower) == ("rough", None, None)
    assert alone.layers[0].coverage == pytest.approx(same.layers[0].coverage, abs=0.01)
    assert alone.layers[0].slope == pytest.approx(same.layers[0].slope)


def test_states_of_unknown_inputs_have_no_range():
    made = wide_point(rows=50, neurons=6)
    made.record(np.zeros((100, 1), np.uint8), 6, 1, ((2, -100),))
    (layer,) = ts.Run([made]).report().layers
    assert (layer.states, layer.lower, layer.quality) == (150, None, "rough")


def test_layers_of_different_inputs_have_no_common_range():
    run = ts.Run([wide_point("a", 600), wide_point("b", 500)])
    report = run.report(include_out_of_step=True)
    assert report.network_range is None
    assert "(bounds only)" in str(report)
