"""progress= of all that counts: the total, where nothing is left to do, and what is no function."""

import numpy as np
import pytest

import tensorstate_gpu as ts
from tensorstate_gpu import store
from tensorstate_gpu.store.commit_progress import CommitProgress
from tests.support.points import new_point, rows_of

ROWS = rows_of(3000, neurons=24)
LABELS = np.arange(3000) % 5


@pytest.fixture(params=["states", "counts"])
def layer(request, tmp_path):
    """A stored layer with labels, in many chunks."""
    with ts.Store(tmp_path / "run.zarr", "x", chunk_bytes=1000) as run:
        groups = 8 if request.param == "counts" else None
        point = new_point(run, "layer", neurons=24, keep=request.param, groups=groups)
        point.append(ROWS, 3000, LABELS)
    return ts.Store(tmp_path / "run.zarr")["layer"]


@pytest.fixture
def told():
    return []


@pytest.fixture
def progress(told):
    def show(done, total):
        assert 0 <= done / total <= 1  # which a bar computes
        told.append((done, total))

    return show


@pytest.mark.parametrize(
    "read",
    ["counted", "counts_by", "grouped", "grouped_by", "counted_groups", "counted_groups_by"],
)
def test_rows_are_told_with_their_total(read, layer, told, progress):
    for _ in range(2):  # it may be remembered
        told.clear()
        getattr(layer, read)(progress=progress)
        assert told == sorted(told)
        assert told[-1] == (3000, 3000)
    if read in ("counts_by", "grouped_by") and not layer.keeps_counts:  # which is counted each time
        assert len(told) > 5


@pytest.mark.parametrize("by_label", [False, True])
def test_a_report_tells_of_all_layers(by_label, layer, tmp_path, told, progress):
    run = ts.Store(tmp_path / "run.zarr")
    found = run.report(by_label=by_label, progress=progress)
    assert told == sorted(told)
    assert told[-1] == (6000, 6000) if by_label else (3000, 3000)
    assert str(found) == str(run.report(by_label=by_label))


@pytest.mark.parametrize("read", ["counted", "histogram", "counted_groups", "grouped"])
def test_what_is_remembered_is_told_once(read, layer, told, progress):
    getattr(layer, read)()
    getattr(layer, read)(progress=progress)
    assert told == [(3000, 3000)]


def test_remembered_counts_that_are_written_are_one_half(layer, tmp_path, told, progress):
    layer.histogram()
    layer.histogram(to=tmp_path / "counts", progress=progress)
    assert told[0] == (3000, 6000)
    assert told[-1] == (6000, 6000)


def test_an_array_is_counted_and_written(layer, tmp_path, told, progress):
    for number, states in enumerate([ROWS, layer]):
        told.clear()
        counts = ts.count_states(states, 24, to=tmp_path / f"{number}", progress=progress)
        assert told == sorted(told)
        assert (3000, 6000) in told
        assert told[-1] == (6000, 6000)
        assert counts.load() == ts.count_states(ROWS, 24)
    for wrong in ({}, {"size": 9}):
        with pytest.raises(TypeError, match="progress"):
            ts.count_states(ROWS, progress=progress, **wrong)


def test_a_task_that_runs_again_says_that_all_is_done(tmp_path, told, progress):
    for _ in range(2):
        told.clear()
        ts.count_part(ROWS, 0, 3, tmp_path / "part", progress=progress)
        assert told[-1] == (2000, 2000)
    assert len(told) == 1
    paths = [tmp_path / "whole"]
    ts.count_states(ROWS, to=paths[0])
    for _ in range(2):
        told.clear()
        store.merge_range(paths, 0, 2, tmp_path / "ranges", progress=progress)
        assert told[-1][0] == told[-1][1]


def test_nothing_at_all_is_done(tmp_path, told, progress):
    empty = ts.count_part(ROWS[:2], 0, 3, tmp_path / "part", progress=progress)
    assert len(empty) == 0
    assert told == [(1, 1)]
    told.clear()
    empty.save(tmp_path / "saved", progress=progress)
    assert told == [(1, 1)]
    told.clear()
    with CommitProgress(progress).writing(0):  # everything was taken back
        assert not told


def test_no_function_is_told_before_anything_is_done(layer, tmp_path):
    counts = layer.histogram(to=tmp_path / "counts")
    captured = new_point(neurons=24)
    captured.append(ROWS, 3000)
    for work in (
        layer.histogram,
        layer.counted,
        layer.grouped,
        layer.counted_groups_by,
        lambda progress: layer.histogram(to=tmp_path / "new", progress=progress),
        lambda progress: counts.save(tmp_path / "new", progress=progress),
        lambda progress: ts.count_states(ROWS, to=tmp_path / "new", progress=progress),
        lambda progress: ts.count_part(ROWS, 0, 1, tmp_path / "new/part", progress=progress),
        lambda progress: store.merge_range(
            [tmp_path / "counts"], 0, 1, tmp_path / "new", progress=progress
        ),
        lambda progress: store.merge_counts(
            [tmp_path / "counts"], tmp_path / "new", progress=progress
        ),
        lambda progress: ts.Store(tmp_path / "run.zarr").verify(progress),
        lambda progress: ts.Store(tmp_path / "run.zarr").to_zip(tmp_path / "z", progress=progress),
        lambda progress: ts.open_stores([tmp_path / "run.zarr"]).verify(progress),
        lambda progress: ts.Run([captured]).save(tmp_path / "new", progress=progress),
        lambda progress: ts.Store(tmp_path / "run.zarr", progress=progress),
        lambda progress: ts.Store(tmp_path / "run.zarr").report(progress=progress),
        lambda progress: ts.Run([captured]).report(progress=progress),
    ):
        with pytest.raises(TypeError, match="progress must be callable, got int"):
            work(progress=1)
    assert sorted(each.name for each in tmp_path.iterdir()) == ["counts", "run.zarr"]
