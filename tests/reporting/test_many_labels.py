"""Tables of many labels: measured together, as each would be alone."""

import dataclasses

import numpy as np
import pytest

import tensorstate_gpu as ts
from tensorstate_gpu.reporting import label_measures, many_labels
from tensorstate_gpu.reporting.layer_report import LayerReport
from tests.support.python_calls import calls_of

NUMBERS = ("entropy", "efficiency", "ceiling", "coverage", "slope", "estimate", "lower", "upper")


def of_labels(labels, inputs=40, rows=1, neurons=16, **options):
    """Labels whose inputs show eight states, with some neurons flipped; or always the same."""
    rng = np.random.default_rng(0)
    base = rng.random((8, neurons)) < 0.3
    base[0], base[1] = True, False
    made = ts.CapturePoint("layer", **options)
    made.declare(neurons)
    for start in range(0, labels * inputs, 2000):
        given = np.arange(start, min(start + 2000, labels * inputs)) % labels
        shown = np.where(given % 10 == 0, given // 10 % 3, rng.integers(0, 8, len(given)))
        flips = rng.random((len(given), rows, neurons)) < 0.03 * (given % 10 > 0)[:, None, None]
        states = ts.compress_states((base[shown][:, None] ^ flips).reshape(-1, neurons))
        made.append(states, len(given), given, given % 37 if options else None)
    return made


def check(table, made):
    grouped = made.grouped_by()
    assert table.labels == tuple(grouped)
    for label, found in zip(table.labels, table.measures, strict=True):
        counts = grouped[label].together()
        expected = LayerReport.of(str(label), counts, grouped[label].estimate("efficiency"))
        known = {name: pytest.approx(getattr(expected, name), abs=1e-11) for name in NUMBERS}
        assert {name: getattr(found, name) for name in NUMBERS} == known
        if expected.standard_error is not None:
            assert found.standard_error == pytest.approx(expected.standard_error, abs=1e-11)
        same = dataclasses.replace(
            found, **{name: getattr(expected, name) for name in (*NUMBERS, "standard_error")}
        )
        assert same == expected


@pytest.mark.parametrize(
    ("rows", "neurons", "options"),
    [(1, 16, {}), (3, 5, {}), (2, 9, {"keep": "counts", "groups": 40})],
)
def test_many_labels_have_the_measures_of_each(rows, neurons, options):
    """With upper bounds by trees, as long as these are of few labels."""
    made = of_labels(130, rows=rows, neurons=neurons, **options)
    check(ts.Run([made]).report(by_label=True).by_label[0], made)


@pytest.mark.parametrize("cells", [1, 30_000])
def test_labels_are_computed_in_parts(cells, monkeypatch):
    monkeypatch.setattr(many_labels, "MOST_CELLS", cells)
    made = of_labels(110)
    check(ts.Run([made]).report(by_label=True).by_label[0], made)


def test_more_labels_take_little_more_work(monkeypatch):
    """Labels of 40 inputs, with errors: one by one, they took thousands of calls each."""
    monkeypatch.setattr(label_measures, "MOST_TREES", 0)

    def calls(labels):
        made = of_labels(labels)
        return len(calls_of(lambda: ts.Run([made]).report(by_label=True)))

    calls(600)  # compiles kernels, as few labels need not
    assert calls(600) - calls(200) < 400 * 700
