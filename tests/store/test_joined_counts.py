"""Several stores that keep counts, read as one."""

import pickle

import numpy as np
import pytest

import tensorstate_gpu as ts
from tensorstate_gpu.errors import RowsNotKept, StoresDisagree
from tensorstate_gpu.reporting import label_table
from tests.support.points import new_point, rows_of
from tests.support.runs_on_disk import BUDGET, small_runs  # noqa: F401

ROWS = rows_of(3000, neurons=12)
LABELS = np.arange(3000) // 7 % 5
UNITS = np.arange(3000) // 2


def write(folder, *, keep="counts", labelled=False, groups=None, parts=3):
    """Write stores that have other labels first, and so other numbers of labels."""
    for number in range(parts):
        with ts.Store(folder / f"{number}.zarr", "x", commit_seconds=None) as store:
            point = new_point(store, neurons=12, keep=keep, groups=groups)
            for first in range(1000 * number, 1000 * number + 1000, 250):
                each = slice(first, first + 250)
                notes = (LABELS[each][::-1], UNITS[each]) if labelled else ()
                point.append(ROWS[each][::-1] if labelled else ROWS[each], 250, *notes)
                store.commit()


def rows_point(*, labelled):
    point = new_point(None, neurons=12)
    for first in range(0, 3000, 250):
        each = slice(first, first + 250)
        notes = (LABELS[each][::-1], UNITS[each]) if labelled else ()
        point.append(ROWS[each][::-1] if labelled else ROWS[each], 250, *notes)
    return point


def test_counts_are_those_of_all_stores(tmp_path):
    write(tmp_path)
    every, whole = ts.open_stores(tmp_path / "*.zarr"), rows_point(labelled=False)
    layer = every["layer"]
    assert layer.histogram() == whole.histogram() == ts.count_states(ROWS, 12)
    assert layer.entropy() == whole.entropy()
    assert (len(layer), layer.instance_count, layer.states_per_instance()) == (3000, 3000, 1)
    assert layer.histogram(to=tmp_path / "counts").load() == whole.histogram()
    assert pickle.loads(pickle.dumps(every))["layer"].histogram() == whole.histogram()
    assert every.report().layers[0].entropy == whole.entropy()
    assert every.info()["layers"][0]["rows"] == 3000
    assert every.verify().good


def test_labels_and_groups(tmp_path):
    write(tmp_path, labelled=True, groups=4)
    layer, whole = ts.open_stores(tmp_path / "*.zarr")["layer"], rows_point(labelled=True)
    assert layer.counts_by() == whole.counts_by()
    assert layer.grouped() == whole.grouped(4)
    assert layer.grouped_by() == whole.grouped_by(groups=4)
    assert layer.estimate() == whole.grouped(4).estimate()
    assert label_table.LabelTable.of_layer(layer).labels == tuple(range(5))
    assert layer.histogram() == whole.histogram()


@pytest.mark.usefixtures("small_runs")
@pytest.mark.parametrize("labelled", [False, True])
def test_more_than_memory(labelled, tmp_path, monkeypatch):
    write(tmp_path, labelled=labelled, groups=4)
    whole = rows_point(labelled=labelled)
    by_label = whole.counts_by() if labelled else None
    histogram = whole.histogram()
    layer = ts.open_stores(tmp_path / "*.zarr")["layer"]
    monkeypatch.setattr("tensorstate_gpu._process.memory_limit.LEAST", 1)
    ts.set_memory_limit(BUDGET // 2)
    assert isinstance(layer.counted_groups(), ts.StoredGroups)
    assert layer.estimate().plugin == histogram.entropy()
    if by_label is not None:
        found = layer.counted_by()
        assert {label: each.load() for label, each in found.items()} == by_label
    assert layer.counted().entropy() == histogram.entropy()


def test_nothing_is_copied_to_add_counts_up(tmp_path, monkeypatch):
    write(tmp_path)
    layer = ts.open_stores(tmp_path / "*.zarr")["layer"]
    monkeypatch.setattr("tensorstate_gpu._process.memory_limit.LEAST", 1)
    ts.set_memory_limit(1 << 14)
    monkeypatch.setattr(ts._states.external_counter.ScratchRun, "of", None)
    counts = layer.counted()
    ts.set_memory_limit(None)
    assert isinstance(counts, ts.StoredCounts)
    assert counts.load() == ts.count_states(ROWS, 12)


def test_what_needs_rows_says_so(tmp_path):
    write(tmp_path, labelled=True)
    layer = ts.open_stores(tmp_path / "*.zarr")["layer"]
    for read in (lambda: layer[:3], layer.chunks, layer.labels, lambda: layer.histogram([0])):
        with pytest.raises(RowsNotKept, match=r"keeps? counts only"):
            read()


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"keep": "states"}, "layer: keep: counts in .*0.zarr, states in"),
        ({"groups": 4}, "layer: groups: None in .*0.zarr, 4 in"),
        ({"labelled": True}, "layer: labels: none in .*0.zarr, integers in"),
    ],
)
def test_stores_that_differ_are_refused(other, message, tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    write(tmp_path / "a", parts=1)
    write(tmp_path / "b", parts=1, **other)
    with pytest.raises(StoresDisagree, match=message):
        ts.open_stores([tmp_path / "a" / "0.zarr", tmp_path / "b" / "0.zarr"])


def test_labels_of_another_kind_are_refused(tmp_path):
    for name, labels in {"a": [0, 1], "b": ["x", "x"], "c": [7, 1]}.items():
        with ts.Store(tmp_path / name, "x") as store:
            new_point(store, neurons=12, keep="counts").append(ROWS[:2], 2, labels)
    joined = ts.open_stores([tmp_path / "a", tmp_path / "c"])["layer"]
    assert {label: each.total for label, each in joined.counts_by().items()} == {0: 1, 1: 2, 7: 1}
    with pytest.raises(StoresDisagree, match=r"layer: labels: integers in .*a, strings in .*b"):
        ts.open_stores([tmp_path / "a", tmp_path / "b"])
