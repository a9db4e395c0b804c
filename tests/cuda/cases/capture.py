"""Capture points that receive batches from a device, or from its stand-in."""

import errno
import gc
import sys

import numpy as np
import pytest

import tensorstate_gpu as ts
from tensorstate_gpu import testing as oracle
from tensorstate_gpu._arrays.dlpack import borrow
from tensorstate_gpu._capturing.pass_marks import PassMarks
from tensorstate_gpu._capturing.pass_notes import PassNotes
from tensorstate_gpu._layers.run_counters import RunCounters
from tensorstate_gpu._process.scratch_file import ScratchFile
from tensorstate_gpu._states import spilling_counter
from tensorstate_gpu._states.packing import working_on
from tensorstate_gpu.cuda import device, host_copy
from tensorstate_gpu.cuda.narrow_table import NarrowTable
from tensorstate_gpu.cuda.table import Table
from tensorstate_gpu.cuda.wide_table import WideTable
from tests.support.samples import thinned

NEURONS = [5, 20, 64, 100]


def batches(neurons, rows=(40, 0, 8, 400), distinct=30):
    """Return packed rows of several batches, in which rows repeat."""
    rng = np.random.default_rng(neurons)
    states = rng.integers(0, 2, (distinct, neurons)).astype(np.bool_)
    states[0], states[1] = False, True
    pool = np.packbits(states, axis=1, bitorder="little")
    return [pool[rng.integers(0, distinct, number)] for number in rows]


def record(point, rows, neurons):
    point.intake.record(rows, neurons, 1, len(rows) // 2)


def assert_captured(point, parts):
    rows = np.concatenate(parts)
    expected = oracle.count(rows)
    assert point.state_count == len(rows)
    np.testing.assert_array_equal(point.histogram().packed, expected[0])
    np.testing.assert_array_equal(point.histogram().counts, expected[1])
    if point.keep == "states":
        np.testing.assert_array_equal(point.raw_states, rows)


@pytest.mark.parametrize("neurons", NEURONS)
@pytest.mark.parametrize("keep", ["states", "counts"])
def test_capture(machine, keep, neurons):
    point = ts.CapturePoint("layer", keep=keep)
    parts = batches(neurons)
    for number, rows in enumerate(parts):
        record(point, machine.to_device(rows), neurons)
        if number != 1:  # read in between
            assert_captured(point, parts[: number + 1])
    point.reset_states()
    record(point, machine.to_device(parts[0]), neurons)
    assert_captured(point, parts[:1])


def test_rows_of_a_framework_may_be_overwritten_on_their_way(on_cuda):
    """Others are not copied on the device first."""
    torch = pytest.importorskip("torch")
    point, parts = ts.CapturePoint("layer"), batches(20, 12 * [40])
    for rows in parts:
        x = on_cuda(torch.from_numpy(rows))
        tensor = borrow(x, "rows")
        with working_on(tensor):
            record(point, device.view(tensor), 20)
        x.fill_(255)
    assert_captured(point, parts)


@pytest.mark.parametrize("keep", ["states", "counts"])
def test_a_model_that_moves_between_devices(machine, keep):
    point = ts.CapturePoint("layer", keep=keep)
    parts = [*batches(20), *batches(20)]
    for number, rows in enumerate(parts):
        record(point, machine.to_device(rows) if number % 3 else rows, 20)
    assert_captured(point, parts)


@pytest.mark.parametrize("keep", ["states", "counts"])
@pytest.mark.parametrize("kind", [int, str])
def test_labels(machine, keep, kind):
    point = ts.CapturePoint("layer", keep=keep)
    expected = {}
    for number, rows in enumerate(batches(20)):
        labels = [kind(i * i % 3) for i in range(len(rows) // 2)]
        point.labels(labels)
        record(point, machine.to_device(rows) if number else rows, 20)
        for label, pair in zip(labels, rows.reshape(len(labels), 2, 3), strict=True):
            expected.setdefault(label, []).append(pair)
    found = point.counts_by()
    assert list(found) == sorted(expected)
    for label, parts in expected.items():
        distinct, counts = oracle.count(np.concatenate(parts))
        np.testing.assert_array_equal(found[label].packed, distinct)
        np.testing.assert_array_equal(found[label].counts, counts)


@pytest.mark.parametrize("keep", ["states", "counts"])
def test_labels_units_and_masks_on_the_device(on_cuda, machine, keep):
    """As a training loop has them, next to its inputs."""
    torch = pytest.importorskip("torch")
    for copied in (machine.to_device, lambda array: on_cuda(torch.from_numpy(array))):
        points = [ts.CapturePoint("layer", keep=keep, groups=4) for _ in range(2)]
        for rows in batches(20):
            labels = np.arange(len(rows) // 2) % 3
            for point, there in zip(points, (copied, np.asarray), strict=True):
                given = there(labels), there(labels + 1)
                point.note(PassNotes.from_arguments(*given, there(labels[:, None] > 0)))
                record(point, machine.to_device(rows), 20)
        assert points[0].grouped_by() == points[1].grouped_by()


@pytest.mark.parametrize("units", [False, True])
def test_groups(machine, units):
    """Batches in either memory, with labels or not, are in the groups in which rows would be."""
    kept, counted = ts.CapturePoint("layer"), ts.CapturePoint("layer", keep="counts", groups=32)
    for number, rows in enumerate(batches(20)):
        instances = len(rows) // 2
        notes = PassNotes.from_arguments(
            [each % 3 for each in range(instances)] if number % 2 else None,
            [each // 4 for each in range(instances)] if units else None,
            None,
        )
        for point in (kept, counted):
            point.note(notes)
            record(point, machine.to_device(rows) if number else rows, 20)
    assert counted.grouped() == kept.grouped()
    assert counted.estimate() == kept.estimate()


@pytest.mark.parametrize("labelled", [True, False])
@pytest.mark.parametrize("keep", ["states", "counts"])
def test_a_broken_pass_is_taken_back(machine, keep, labelled):
    """Its rows were made on other streams, and some by the host; labels do not change that."""
    options = {"groups": 8} if keep == "counts" else {}
    marks = PassMarks()
    points = [ts.CapturePoint(name, keep=keep, **options) for name in "abc"]
    twin = ts.CapturePoint("twin", keep=keep, **options)
    for point in points:
        point.intake.begin_marks(marks)
    parts, streams = batches(20, (40, 8, 400)), []
    for number, rows in enumerate(parts):
        streams.append(machine.library.cuda.Stream())
        for place, point in enumerate([*points, twin] if number < 2 else points[:2]):
            if labelled:
                point.labels([i % 3 for i in range(len(rows) // 2)])
            with streams[-1]:
                record(point, rows if place == 1 else machine.to_device(rows), 20)
    assert marks.discard_broken_pass()
    for point in points:
        assert_captured(point, parts[:2])
        assert point.grouped() == twin.grouped()
        assert not labelled or point.counts_by() == twin.counts_by()
        point.labels(None)
        record(point, machine.to_device(parts[2]), 20)
        assert_captured(point, parts)


def test_rows_that_are_changed_after_the_call(machine):
    for keep in ("states", "counts"):
        point = ts.CapturePoint("layer", keep=keep)
        rows = batches(64)[3]
        there = machine.to_device(rows.copy())
        record(point, there, 64)
        there[:] = 0
        del there
        assert_captured(point, [rows])


def test_rows_in_flight_are_bounded(machine, monkeypatch):
    monkeypatch.setattr(sys.modules["tensorstate_gpu.cuda.transfer"], "_MOST_BYTES", 1000)
    point = ts.CapturePoint("layer")
    parts = [batches(64)[3] for _ in range(5)]
    for rows in parts:
        record(point, machine.to_device(rows), 64)
        assert point.intake.accumulator._transfers[2, 0]._bytes <= 1000 + rows.size
    assert_captured(point, parts)


def test_failing_storage_keeps_rows_in_flight(machine, monkeypatch):
    point = ts.CapturePoint("layer")
    parts = batches(64, (40, 60, 80))
    record(point, machine.to_device(parts[0]), 64)
    keeper = point.intake.accumulator._storage
    with monkeypatch.context() as patch:
        patch.setattr(keeper, "append", out_of_memory)
        with pytest.raises(MemoryError):
            point.raw_states  # noqa: B018
        refused = False
        try:
            record(point, machine.to_device(parts[1]), 64)
        except MemoryError:
            refused = True  # the first batch had arrived
    kept = parts[:1] if refused else parts[:2]
    record(point, machine.to_device(parts[2]), 64)
    assert_captured(point, [*kept, parts[2]])


def out_of_memory(*_):
    raise MemoryError("no room")


def test_rows_on_disk(machine, tmp_path):
    """All rows are stored when the capture point is deleted, without a read or flush."""
    pytest.importorskip("zarr")
    point = ts.CapturePoint("layer", tmp_path / "run.zarr")
    parts = batches(20)
    for rows in parts:
        record(point, machine.to_device(rows), 20)
    del point
    gc.collect()
    stored = ts.Store(tmp_path / "run.zarr")["layer"]
    np.testing.assert_array_equal(stored[:], np.concatenate(parts))


def test_counts_in_a_store(machine, tmp_path):
    pytest.importorskip("zarr")
    parts = batches(20)
    with ts.Store(tmp_path / "run.zarr", "x", commit_seconds=None) as store:
        point = ts.CapturePoint("layer", store, keep="counts", groups=4)
        for k, rows in enumerate(parts):
            point.labels([k] * (len(rows) // 2))
            record(point, machine.to_device(rows), 20)
            if k == 1:
                store.commit()
        assert point.histogram() == ts.count_states(np.concatenate(parts), 20)
    by_label = ts.Store(tmp_path / "run.zarr")["layer"].counts_by()
    assert by_label == {k: ts.count_states(rows, 20) for k, rows in enumerate(parts) if len(rows)}


def test_labels_of_another_type_are_left_out_before_the_transfer(machine, tmp_path):
    pytest.importorskip("zarr")
    with ts.Store(tmp_path / "run.zarr", "x") as store:
        point = ts.CapturePoint("layer", store)
        rows = batches(20)[0]
        instances = len(rows) // 2
        for labels in ([1] * instances, ["one"] * instances, [2] * instances):
            point.labels(labels)
            if isinstance(labels[0], str):
                with pytest.warns(UserWarning, match="labels in this store are integers"):
                    record(point, machine.to_device(rows), 20)
            else:
                record(point, machine.to_device(rows), 20)
    layer = ts.Store(tmp_path / "run.zarr")["layer"]
    np.testing.assert_array_equal(layer[:], np.concatenate([rows] * 3))
    with pytest.raises(ts.errors.LabelsMissing, match=f"{instances} of {3 * instances} instances"):
        layer.counts_by()


def test_commits_include_rows_in_flight_of_all_layers(machine, tmp_path):
    pytest.importorskip("zarr")
    store = ts.Store(tmp_path / "run.zarr", "x", commit_rows=1, commit_seconds=None)
    points = [ts.CapturePoint(name, store) for name in "ab"]
    for k, rows in enumerate(batches(20)):
        for point in points:
            record(point, machine.to_device(rows), 20)
        if k == 2:
            store.commit()
            committed = ts.Store(tmp_path / "run.zarr").efficiency_layers
            assert {layer.instance_count for layer in committed} == {points[0].instance_count}
        store.session.writer._background.wait()
        found = ts.Store(tmp_path / "run.zarr").efficiency_layers
        assert len({layer.instance_count for layer in found}) <= 1
    store.close()
    for point, layer in zip(points, ts.Store(tmp_path / "run.zarr").efficiency_layers, strict=True):
        np.testing.assert_array_equal(layer[:], np.concatenate(batches(20)))
        assert layer.instance_count == point.instance_count


@pytest.mark.parametrize("width", thinned([3, 8, 16], [3, 16]))
def test_counts_continue_in_host_memory(machine, width, monkeypatch):
    """Tables that never grow, and more distinct rows than fit, in one batch and in several."""
    monkeypatch.setattr(Table, "_grow_for", out_of_memory)
    monkeypatch.setattr(spilling_counter, "_LEAST_ROWS", 64)
    rng = np.random.default_rng(width)
    pool = rng.integers(0, 256, (20_000, width), np.uint8)
    pool[0], pool[1] = 0, 255
    parts = [pool[rng.integers(0, 20_000, number)] for number in (6000, 6000, 12_000)]
    point = ts.CapturePoint("layer", keep="counts")
    for rows in parts:
        record(point, machine.to_device(rows), 8 * width)
    assert_captured(point, parts)
    assert point.intake.accumulator._counters._counters[False, (2, 0)]._spilled is not None
    record(point, machine.to_device(parts[0]), 8 * width)
    assert_captured(point, [*parts, parts[0]])


@pytest.mark.parametrize("width", thinned([3, 8, 16], [3, 16]))
def test_counts_continue_if_a_table_cannot_grow(machine, width, monkeypatch):
    """What was refused continues in the host's memory too."""
    monkeypatch.setattr(NarrowTable, "_grow", out_of_memory)
    monkeypatch.setattr(WideTable, "_grow", out_of_memory)
    rows = np.random.default_rng(width).integers(0, 256, (20_000, width), np.uint8)
    point = ts.CapturePoint("layer", keep="counts")
    record(point, machine.to_device(rows[:100]), 8 * width)
    record(point, machine.to_device(rows), 8 * width)
    assert_captured(point, [rows[:100], rows])


@pytest.mark.parametrize("width", [3, 16])
def test_drained_counts_wait_until_the_host_has_memory(machine, width, monkeypatch):
    monkeypatch.setattr(Table, "_grow_for", out_of_memory)
    rows = np.random.default_rng(width).integers(0, 256, (20_000, width), np.uint8)
    point = ts.CapturePoint("layer", keep="counts")
    record(point, machine.to_device(rows[:300]), 8 * width)
    with monkeypatch.context() as patch:
        patch.setattr(spilling_counter, "_host", out_of_memory)
        record(point, machine.to_device(rows), 8 * width)
        with pytest.raises(MemoryError):
            point.counts()
    assert_captured(point, [rows[:300], rows])


@pytest.mark.parametrize("fails", [False, True])
def test_kept_counts_continue_in_files(machine, fails, tmp_path, monkeypatch):
    """What finds no room on the device becomes sorted runs, as on the CPU."""
    monkeypatch.setattr(Table, "_grow_for", out_of_memory)
    monkeypatch.setattr(RunCounters, "_budget", 1 << 16)
    parts = np.random.default_rng(0).integers(0, 256, (16, 6000, 16), np.uint8)
    counted, store = [], ts.Store(tmp_path / "run.zarr", "x", commit_seconds=None)
    point = ts.CapturePoint("layer", store, keep="counts")
    for number, part in enumerate(parts):
        with monkeypatch.context() as patch:
            if fails and number < 15:
                patch.setattr(ScratchFile, "append", no_space)
            try:
                record(point, machine.to_device(part), 128)
                counted.append(part)
            except OSError:  # of an earlier call; nothing of this batch is counted
                assert number < 15
    assert (len(counted) < 16) == fails
    (counter,) = point.intake.accumulator.kept._counters.values()
    assert counter._spilled.has_spilled
    assert_captured(point, counted)
    store.close()
    assert ts.Store(tmp_path / "run.zarr")["layer"].histogram() == point.histogram()


def no_space(*_):
    raise OSError(errno.ENOSPC, "no space left")


@pytest.mark.parametrize("width", [3, 16])
def test_a_batch_that_fits_nowhere(machine, width, monkeypatch):
    """The host counts it, or no part of it is counted; earlier counts stay."""
    monkeypatch.setattr(Table, "_grow_for", out_of_memory)
    rows = np.random.default_rng(width).integers(0, 256, (20_000, width), np.uint8)
    point = ts.CapturePoint("layer", keep="counts")
    record(point, machine.to_device(rows[:300]), 8 * width)
    counter = point.intake.accumulator._counters._counters[False, (2, 0)]._counter
    add = counter.add

    def add_unless_last(packed, weights=None):
        if np.array_equal(machine.to_host(packed[-1]), rows[-1]):
            raise MemoryError("no room")
        add(packed, weights)

    monkeypatch.setattr(counter, "add", add_unless_last)
    with monkeypatch.context() as patch:
        patch.setattr("tensorstate_gpu._layers.counters.cpu", out_of_memory)
        with pytest.raises(MemoryError):
            record(point, machine.to_device(rows), 8 * width)
    assert_captured(point, [rows[:300]])
    record(point, machine.to_device(rows), 8 * width)
    assert_captured(point, [rows[:300], rows])


@pytest.mark.parametrize("what", ["empty", "AsyncHostCopy"])
@pytest.mark.parametrize("keep", ["states", "counts"])
def test_out_of_memory_keeps_what_was_captured(machine, keep, what, monkeypatch):
    """If any allocation fails, a batch is captured completely or not at all; the next one is."""
    where = device if what == "empty" else host_copy
    for left in range(8):
        point = ts.CapturePoint("layer", keep=keep)
        parts = batches(100)
        record(point, machine.to_device(parts[0]), 100)
        assert_captured(point, parts[:1])  # nothing is in flight
        with monkeypatch.context() as patch:
            patch.setattr(where, what, fail_after(left, getattr(where, what)))
            try:
                record(point, machine.to_device(parts[3]), 100)
                kept = [parts[0], parts[3]]
            except MemoryError:
                kept = parts[:1]
        assert_captured(point, kept)
        record(point, machine.to_device(parts[2]), 100)
        assert_captured(point, [*kept, parts[2]])


def fail_after(left, function):
    calls = iter(range(1000))

    def call(*arguments):
        if next(calls) >= left:
            raise MemoryError("no room")
        return function(*arguments)

    return call
