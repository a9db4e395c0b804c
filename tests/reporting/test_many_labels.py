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


@pytest.mark.parametrize("labels", [30, 130])
def test_trees_that_take_long_together_are_left_out(labels, monkeypatch):
    """Too wide to be made together: 150 labels with 1,000 neurons took 42 seconds."""

    def measures():
        return ts.Run([made]).report(by_label=True).by_label[0].measures

    made = of_labels(labels, rows=3, neurons=24)
    with_trees = measures()
    monkeypatch.setattr("tensorstate_gpu._states.histogram_pairs.MOST_CELLS", 0)
    monkeypatch.setattr("tensorstate_gpu.information.many_samples.SMALL_CELLS", 0)
    alone = measures()
    for found, one in zip(alone, with_trees, strict=True):
        assert found.upper == pytest.approx(one.upper, abs=1e-11)
    monkeypatch.setattr(many_labels, "MOST_PAIRS_OF_WORDS", 2**20)
    without = measures()
    pairs = [*zip(with_trees, without, strict=True)]
    assert sum(one.upper < other.upper for one, other in pairs) > labels / 3
    for one, other in pairs:
        assert one.upper <= other.upper + 1e-11
        assert (other.lower, other.quality) == (pytest.approx(one.lower, abs=1e-11), one.quality)


def test_more_labels_take_little_more_work_with_trees():
    def calls(labels):
        made = of_labels(labels)
        return len(calls_of(lambda: ts.Run([made]).report(by_label=True)))

    calls(600)  # compiles kernels, as few labels need not
    assert calls(600) - calls(200) < 400 * 150


def test_more_labels_take_little_more_work(monkeypatch):
    """Labels of 40 inputs, with errors: one by one, or with an object a group, it is hundreds."""
    monkeypatch.setattr(label_measures, "MOST_TREES", 0)

    def calls(labels):
        made = of_labels(labels)
        return len(calls_of(lambda: ts.Run([made]).report(by_label=True)))

    calls(600)  # compiles kernels, as few labels need not
    assert calls(600) - calls(200) < 400 * 150
