"""Counts by Dask: of arrays and of stores, in memory and on disk, and of a cluster that fails."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import tensorstate_gpu as ts

pytest.importorskip("dask.array")
import dask
import dask.array as da

from tensorstate_gpu.bridges import dask_arrays
from tensorstate_gpu.store import kept_runs


@pytest.fixture(autouse=True)
def one_thread(monkeypatch):
    monkeypatch.setattr(dask_arrays, "_PART_OF_ARRAY", 1000)
    monkeypatch.setattr(kept_runs, "_CHUNK_BYTES", 256)
    with dask.config.set(scheduler="synchronous"):
        yield


def new_rows(seed, rows=2000):
    states = np.random.default_rng(seed).integers(0, 256, (rows, 2), dtype=np.uint8)
    states[:, 1] &= 1  # of 9 neurons
    return states


def new_store(path, *layers, threshold=0.0, neurons=9):
    with ts.Store(path, "x", chunk_bytes=500) as store:
        for number, rows in enumerate(layers):
            point = ts.CapturePoint(f"layer{number}", store, threshold=threshold)
            point.declare(neurons)
            point.append(rows, instances=len(rows))
    return path


@pytest.fixture
def calls(monkeypatch):
    """How often each task ran."""
    found = []
    for name in ("_count", "_write_part", "_merge_range"):
        task = getattr(dask_arrays, name)
        monkeypatch.setattr(
            dask_arrays, name, lambda *args, task=task, name=name: found.append(name) or task(*args)
        )
    return found


def arrays(tmp_path):
    rows = new_rows(0)
    path = new_store(tmp_path / "run.zarr", rows)
    return rows, {
        "numpy": da.from_array(rows, chunks=(99, 1)),
        "layer": da.from_array(ts.Store(path)["layer0"], chunks=(300, 1)),
        "zarr": da.from_zarr(path / "layer0"),
        "one chunk": da.from_array(rows, chunks=-1),
    }


@pytest.mark.parametrize("kind", ["numpy", "layer", "zarr", "one chunk"])
def test_arrays(kind, tmp_path):
    rows, every = arrays(tmp_path)
    expected = ts.count_states(rows, 9)
    assert ts.count_states(every[kind], 9) == expected
    kept = ts.count_states(every[kind], 9, to=tmp_path / "counts")
    for counts in (kept, ts.store.open_counts(tmp_path / "counts")):
        assert counts.load() == expected
        assert (len(counts), counts.total) == (len(expected), len(rows))
    assert all(path.name.isdecimal() for path in (tmp_path / "counts").iterdir())


def test_chunks_are_joined_to_parts(calls):
    counts = ts.count_states(da.from_array(new_rows(0), chunks=(100, -1)))
    assert (counts.total, calls) == (2000, ["_count"] * 4)  # 4000 bytes in parts of 1000


def test_an_empty_array(tmp_path):
    empty = da.from_array(np.empty((0, 2), np.uint8))
    assert len(ts.count_states(empty)) == 0
    assert len(ts.count_states(empty, to=tmp_path / "counts")) == 0


def test_what_is_no_array_of_states(tmp_path):
    rows = da.from_array(new_rows(0), chunks=(100, -1))
    with pytest.raises(TypeError, match=r"packed \(uint8\), got int64"):
        ts.count_states(rows.astype(np.int64))
    with pytest.raises(ValueError, match="compute_chunk_sizes"):
        ts.count_states(rows[rows[:, 0] > 3])
    with pytest.raises(ValueError, match="neurons=17"):
        ts.count_states(rows, 17)
    with pytest.raises(ValueError, match="bits set beyond"):
        ts.count_states(rows | 2, 9)
    with pytest.raises(TypeError, match=r"dask\.diagnostics has ProgressBar"):
        ts.count_states(rows, to=tmp_path / "counts", progress=print)


@pytest.mark.parametrize("number", [1, 3])
def test_stores(number, tmp_path, calls):
    rows = [new_rows(seed, 700 + 300 * seed) for seed in range(number)]
    paths = [new_store(tmp_path / f"{seed}.zarr", each) for seed, each in enumerate(rows)]
    expected = ts.count_states(np.concatenate(rows), 9)
    assert ts.count_stores(paths, part_bytes=800) == expected
    parts = -(-expected.total * 2 // 800)
    assert calls == ["_count"] * parts
    calls.clear()
    kept = ts.count_stores(paths, "layer0", part_bytes=800, to=tmp_path / "counts")
    assert kept.load() == expected
    assert (calls.count("_write_part"), calls.count("_merge_range")) == (parts, parts)
    with pytest.raises(ValueError, match="counts exists"):
        ts.count_stores(paths, to=tmp_path / "counts")


def test_stores_that_cannot_be_added_up(tmp_path):
    one = new_store(tmp_path / "one", new_rows(0), new_rows(1))
    other = new_store(tmp_path / "other", new_rows(0), threshold=1.0)
    wider = new_store(tmp_path / "wider", new_rows(0), neurons=10)
    with pytest.raises(ValueError, match="layer= says which"):
        ts.count_stores(one)
    for path in (other, wider):
        with pytest.raises(ts.errors.StoresDisagree):
            ts.count_stores([one, path], "layer0")
    empty = new_store(tmp_path / "empty", new_rows(0, 0))
    with pytest.raises(ts.errors.NothingCaptured):
        ts.count_stores(empty, "layer0")


def test_a_store_without_rows_between_others(tmp_path):
    rows = [new_rows(0, 300), new_rows(0, 0), new_rows(1, 300)]
    paths = [new_store(tmp_path / str(number), each) for number, each in enumerate(rows)]
    expected = ts.count_states(np.concatenate(rows), 9)
    assert ts.count_stores(paths, part_bytes=10_000) == expected


def test_a_store_that_is_not_finished(tmp_path):
    rows = new_rows(0)
    with ts.Store(tmp_path / "run", "x") as store:
        point = ts.CapturePoint("layer", store)
        point.declare(9)
        point.append(rows, instances=len(rows))
        store.commit()
        with pytest.raises(ts.errors.UnfinishedStore):
            ts.count_stores(tmp_path / "run")
        counts = ts.count_stores(tmp_path / "run", unfinished="accept")
    assert counts == ts.count_states(rows, 9)


def test_a_call_that_failed_goes_on(tmp_path, monkeypatch):
    path = new_store(tmp_path / "run", new_rows(0))
    to, job = tmp_path / "counts", {"part_bytes": 1000, "to": tmp_path / "counts"}
    with monkeypatch.context() as patched:
        patched.setattr(dask_arrays, "merge_range", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            ts.count_stores(path, **job)
    assert len([*(to / "parts").iterdir()]) == 4
    with pytest.raises(ts.errors.NoStore):
        ts.store.open_counts(to)
    with pytest.raises(ValueError, match=r"parts/\d exists: it is part"):
        ts.count_stores(path, part_bytes=2000, to=to)
    with monkeypatch.context() as patched:
        patched.setattr(dask_arrays, "count_chunks", lambda *_: 1 / 0)  # nothing is counted again
        counts = ts.count_stores(path, **job)
    assert counts.load() == ts.Store(path)["layer0"].histogram()


def test_a_store_that_grows_meanwhile(tmp_path, monkeypatch):
    path = new_store(tmp_path / "run", new_rows(0))

    def open_and_grow(*arguments, **options):
        stores = ts.open_stores(*arguments, **options)
        with ts.Store(path, "a") as store:
            ts.CapturePoint("layer0", store).append(new_rows(1), instances=2000)
        return stores

    monkeypatch.setattr(dask_arrays, "open_stores", open_and_grow)
    with pytest.raises(ts.errors.DamagedStore, match="has changed while"):
        ts.count_stores(path)


def test_rows_that_are_missing_are_an_error(monkeypatch):
    monkeypatch.setattr(dask_arrays, "_blocks", lambda blocks: iter(blocks[1:]))
    with pytest.raises(ts.errors.LedgerError, match="there are 2,000 rows, 1,600 were counted"):
        ts.count_states(da.from_array(new_rows(0), chunks=(100, -1)))


def test_memory_of_threads(monkeypatch):
    limits = []
    monkeypatch.setattr(dask_arrays, "memory_of_task", limits.append)
    monkeypatch.setattr(dask_arrays, "CPU_COUNT", 4)
    ts.set_memory_limit("2GB")
    try:
        dask_arrays._memory_of_thread()
    finally:
        ts.set_memory_limit(None)
    assert limits == [500_000_000]


@pytest.mark.long
@pytest.mark.parametrize("when", ["part", "range", "published"])
def test_a_worker_that_is_killed(when, tmp_path):
    pytest.importorskip("distributed")
    rows = [new_rows(seed, 100_000) for seed in range(2)]
    for seed, each in enumerate(rows):
        with ts.Store(tmp_path / f"{seed}.zarr", "x") as store:
            point = ts.CapturePoint("layer", store)
            point.declare(9)
            point.append(each, instances=len(each))
    program = Path(__file__).with_name("cluster_program.py")
    command = [sys.executable, str(program), when, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "died").exists()
    counts = ts.store.open_counts(tmp_path / "counts")
    assert counts.load() == ts.count_states(np.concatenate(rows), 9)
    assert sorted(path.name for path in (tmp_path / "counts").iterdir()) == list("0123")
