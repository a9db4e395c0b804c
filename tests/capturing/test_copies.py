"""Copies and pickles of capture points, runs and stores: they have what was captured."""

import copy
import multiprocessing
import pickle
import threading

import numba
import numpy as np
import pytest

import tensorstate_gpu as ts
from tests.support.copies import COPIES, copies
from tests.support.points import new_point, rows_of

ROWS = rows_of(50)
LABELS = np.arange(25) % 3


ways = copies()


def filled(where=None, name="layer", **options):
    """A point with two batches, whose instances have one state and three."""
    point = new_point(where, name, **options)
    point.append(ROWS[:20], 20, LABELS[:20])
    point.append(ROWS[20:35], 5, LABELS[20:])
    return point


def check_same(twin, point):
    assert type(twin) is type(point)
    assert (twin.name, twin.keep, twin.threshold) == (point.name, point.keep, point.threshold)
    assert (twin.axis, twin.neurons, twin.neuron_axis) == (1, 16, point.neuron_axis)
    assert (twin.state_count, twin.instance_count) == (35, 25)
    assert twin.histogram() == point.histogram()
    assert twin.counts_by() == point.counts_by()
    assert twin.attributes() == point.attributes()
    if point.keep == "states":
        np.testing.assert_array_equal(twin.raw_states, ROWS[:35])
        np.testing.assert_array_equal(twin.counts(24), point.counts(24))


@ways
@pytest.mark.parametrize("keep", ["states", "counts"])
def test_a_copy_has_what_was_captured_and_is_independent(copied, keep):
    point = filled(keep=keep, threshold=[0.5] * 16, neuron_axis=1)
    twin = copied(copied(point))
    check_same(twin, point)
    for one, other in ((twin, point), (point, twin)):
        before = other.state_count
        one.append(ROWS[:10], 10, LABELS[:10])
        assert one.state_count == 45
        assert (other.state_count, other.histogram().total) == (before, before)
    assert twin.histogram() == point.histogram()
    twin.reset_states()
    assert (twin.state_count, point.state_count) == (0, 45)


def test_full_and_compressed_chunks_are_copied(monkeypatch):
    monkeypatch.setattr("tensorstate_gpu._layers.chunked_buffer.CHUNK_BYTES", 16)
    numcodecs = pytest.importorskip("numcodecs")
    for compressor in (None, numcodecs.Zlib()):
        point = filled(compressor=compressor)
        for copied in COPIES.values():
            check_same(copied(point), point)


@ways
def test_an_empty_point_can_be_copied(copied):
    assert copied(ts.CapturePoint("layer")).state_count == 0
    declared = copied(new_point())
    assert (declared.neurons, declared.axis, declared.state_count) == (16, 1, 0)


@ways
@pytest.mark.parametrize("opened", ["by path", "as a Store"])
def test_a_point_in_a_store_is_copied_by_reference(copied, opened, tmp_path):
    where = tmp_path / "run.zarr"
    point = filled(where if opened == "by path" else ts.Store(where, "x"), threshold=0.5)
    twin = copied(point)
    check_same(twin, point)
    assert str(twin.disk_path) == str(where)
    point.append(ROWS[:10], 10, LABELS[:10])
    assert (point.state_count, twin.state_count) == (45, 35)
    for write in (
        lambda: twin.append(ROWS[:10], 10),
        twin.reset_states,
        lambda: twin.intake.record(ROWS[:10], 16, 1, 10),
    ):
        with pytest.raises(ts.errors.StoreClosed, match="layer is a copy of a capture point"):
            write()
    check_same(copied(twin), twin)
    assert point.state_count == 45


@ways
def test_a_point_without_rows_in_its_store_has_none_in_a_copy(copied, tmp_path):
    point = ts.CapturePoint("layer", tmp_path / "run.zarr")
    assert copied(point).state_count == 0


@ways
def test_a_run_keeps_its_points(copied, tmp_path):
    points = [filled(), filled(name="b", keep="counts"), filled(tmp_path / "run.zarr", "c")]
    run = ts.Run(points)
    twin = copied(run)
    assert list(twin) == ["layer", "b", "c"]
    for point in points:
        check_same(twin[point.name], point)
    assert twin.report() == run.report()


def test_a_reading_store_and_its_layers_show_the_same_commit(tmp_path):
    where = tmp_path / "run.zarr"
    with ts.Store(where, "x") as writer:
        point = filled(writer)
        writer.commit()
        readers = {"read": ts.Store(where), "written": writer}
        copies = {
            (name, way): (copied(store), copied(store["layer"]))
            for name, store in readers.items()
            for way, copied in COPIES.items()
        }
        point.append(ROWS[:10], 10, LABELS[:10])
    for store, layer in copies.values():
        assert len(store["layer"]) == len(layer) == 35
        np.testing.assert_array_equal(layer[:], ROWS[:35])
        assert layer.labels().tolist() == LABELS.tolist()
        with pytest.raises(ValueError, match="was opened to be read"):
            store.session  # noqa: B018
        store.close()


def test_a_store_in_memory_is_only_in_its_process():
    with ts.Store("memory://copied", "x") as store:
        filled(store)
    data = pickle.dumps(ts.Store("memory://copied"))
    assert pickle.loads(data)["layer"].state_count == 35
    with spawned() as pool, pytest.raises(ts.errors.NoStore, match="in the memory of the process"):
        pool.apply(pickle.loads, [data])


def spawned():
    return multiprocessing.get_context("spawn").Pool(1)


def counts_in_worker(value):
    if isinstance(value, ts.Run):
        return {name: value[name].counts() for name in value}, value
    return value.counts(), value


def test_results_travel_to_spawned_processes_and_back(tmp_path):
    point = filled(tmp_path / "run.zarr", "stored")
    run = ts.Run([filled(), filled(name="b", keep="counts"), point])
    point.flush()
    layer = ts.Store(tmp_path / "run.zarr")["stored"]
    with spawned() as pool:
        by_name, returned = pool.apply(counts_in_worker, [run])
        counts, _ = pool.apply(counts_in_worker, [layer])
    for name in run:
        np.testing.assert_array_equal(by_name[name], run[name].counts())
        check_same(returned[name], run[name])
    np.testing.assert_array_equal(counts, point.counts())


def top_level(x):
    return x > 0.5


@numba.njit
def compiled(x):
    return x > 0.5


@pytest.mark.parametrize("function", [top_level, compiled])
def test_a_firing_function_of_a_module_is_pickled(function):
    twin = pickle.loads(pickle.dumps(filled(firing=function)))
    assert twin.firing is getattr(function, "py_func", function)


def test_another_firing_function_is_named():
    run = ts.Run([filled(firing=lambda x: x > 0.5)])
    with pytest.raises(pickle.PicklingError, match=r"firing=.*<lambda> \(.*test_copies.py:\d+\)"):
        pickle.dumps(run)


def test_it_can_be_copied_and_pickled_by_value():
    cloudpickle = pytest.importorskip("cloudpickle")
    point = filled(firing=lambda x: x > 0.5)
    assert copy.deepcopy(point).firing is point.firing
    twin = cloudpickle.loads(cloudpickle.dumps(point))
    check_same(twin, point)
    assert twin.firing(0.6)


def test_a_subclass_keeps_its_attributes():
    class Noted(ts.CapturePoint):
        """With an attribute of its own."""

    point = Noted("layer")
    point.note = ["a"]
    twin = copy.deepcopy(point)
    assert twin.note == ["a"]
    assert twin.note is not point.note


def test_a_copy_is_taken_between_two_batches():
    point, stop = filled(), threading.Event()

    def capture():
        while not stop.wait(0.001):
            point.append(ROWS[:10], 10, LABELS[:10])

    thread = threading.Thread(target=capture)
    thread.start()
    try:
        for _ in range(20):
            twin = pickle.loads(pickle.dumps(point))
            assert len(twin.raw_states) == twin.state_count == twin.instance_count + 10
    finally:
        stop.set()
        thread.join()
