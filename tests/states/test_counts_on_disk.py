"""Counts on disk: the same states, order and numbers as in memory, whatever the memory."""

import errno
import math
import os
import pickle
import shutil
import signal
import tempfile

import numpy as np
import pytest

import tensorstate_gpu as ts
from tensorstate_gpu import information, store
from tensorstate_gpu._process.scratch_file import ScratchFile
from tensorstate_gpu._states import external_counter, merging_runs, sorted_runs
from tensorstate_gpu._states.external_counter import ExternalCounter
from tensorstate_gpu._states.sorted_runs import MemoryRun, ScratchRun
from tensorstate_gpu.cpu_fallback import running_counts
from tensorstate_gpu.store.folder import FileSystemCalls

ROWS = 9000
BUDGET = 1 << 16


@pytest.fixture(autouse=True)
def _small(monkeypatch):
    """Tables, blocks and ranges so small that few rows take all ways."""
    monkeypatch.setattr(running_counts, "_MOST_IN_TABLES", 300)
    monkeypatch.setattr(sorted_runs, "_BLOCK_BYTES", 1 << 8)
    monkeypatch.setattr(sorted_runs, "_LEAST_BLOCK_ROWS", 4)
    monkeypatch.setattr(external_counter, "_MOST_RUNS", 6)
    yield
    ts.set_memory_limit(None)


def inputs(width, rows=ROWS):
    rng = np.random.default_rng(width)
    new = rng.integers(0, 256, (rows, width), dtype=np.uint8)
    rare = new.copy()
    rare[:, width // 3 :] = 0  # all highest words are equal
    skewed = new[(rng.random(rows) ** 3 * rows).astype(int)]
    drifting = new[np.arange(rows) // 3 + rng.integers(0, 50, rows)]
    cyclic = new[np.arange(rows) % (rows // 3)]
    return {
        "new": new,
        "rare": rare,
        "skewed": skewed,
        "in order": new[np.lexsort(new.T)],
        "drifting": drifting,
        "cyclic": cyclic,
        "changing": np.concatenate([np.zeros_like(new), new, skewed, rare]),
    }


def counter_of(rows, budget=BUDGET, parts=11):
    counter = ExternalCounter(rows.shape[1], budget)
    for batch in np.array_split(rows, parts):
        counter.add(batch)
    return counter


def stored(rows, budget=BUDGET):
    counter = counter_of(rows, budget)
    assert counter.has_spilled
    return ts.StoredCounts(counter.runs(), 8 * rows.shape[1])


@pytest.mark.parametrize("width", [1, 3, 8, 9, 65, 1024])
def test_the_same_as_in_memory(width):
    for name, rows in inputs(width, ROWS if width < 65 else 2000).items():
        counter = counter_of(rows, BUDGET if width < 65 else 8 * width * 1000)
        expected = ts.count_states(rows)
        assert counter.total == len(rows)
        assert counter.has_spilled or len(expected) < 3000, name
        assert ts.StateCounts.trusted(*counter.result(), 8 * width) == expected, name
        counts = ts.StoredCounts(counter.runs(), 8 * width)
        pieces = list(counts.pieces())
        assert np.array_equal(np.concatenate([each.packed for each in pieces]), expected.packed)
        assert np.array_equal(np.concatenate([each.counts for each in pieces]), expected.counts)
        assert (len(counts), counts.total) == (len(expected), expected.total)


def test_weights():
    rows = inputs(8)["skewed"]
    weights = np.random.default_rng(0).integers(1, 1000, len(rows))
    counter = ExternalCounter(8, BUDGET)
    for start in range(0, len(rows), 999):
        counter.add(rows[start : start + 999], weights[start : start + 999])
    assert counter.has_spilled
    assert counter.total == weights.sum()
    found = ts.StateCounts.trusted(*counter.result(), 64)
    assert found == ts.count_states(np.repeat(rows, weights, axis=0))


def test_no_range_takes_more_than_its_share(monkeypatch):
    """One state that all runs have, and others that one run has alone, do not unbalance ranges."""
    same = np.zeros((10_000, 8), np.uint8)
    dense = np.random.default_rng(0).integers(0, 256, (10_000, 8), dtype=np.uint8)
    dense[:, 2:] = 7
    rows = np.concatenate([same, dense, inputs(8)["new"]])
    counter = counter_of(rows)
    sizes = []
    merge = merging_runs.cpu().merge

    def measured(parts, row_bytes):
        sizes.append(sum(len(counts) for _, counts in parts))
        return merge(parts, row_bytes)

    monkeypatch.setattr(merging_runs.cpu(), "merge", measured)
    runs, most = counter.runs(), 2000
    block = sorted_runs.rows_of_block(8)
    threads = ts.get_num_threads()
    budget = (most + len(runs) * block) * (threads + 1) * merging_runs._COPIES * 16
    found = sum(len(counts) for _, counts in merging_runs.merged(runs, 8, budget))
    assert found == len(ts.count_states(rows))
    assert len(sizes) > 5
    assert max(sizes) <= most + (2 * len(runs) + 1) * block


@pytest.mark.parametrize("runs", [1, 2])
def test_pieces_of_wide_rows_keep_to_the_budget(runs):
    rows = inputs(1024, 2000)["in order"]
    parts = [MemoryRun(part, np.ones(len(part), np.int64)) for part in np.array_split(rows, runs)]
    pieces = list(merging_runs.merged(parts, 1024, 2_000_000))
    assert sum(len(counts) for _, counts in pieces) == 2000
    assert max(part.nbytes for part, _ in pieces) <= 2_000_000 // merging_runs._COPIES


def test_measures():
    rows = inputs(8)["skewed"]
    counts, expected = stored(rows), ts.count_states(rows)
    for found, wanted in zip(counts.counts_of_counts(), expected.counts_of_counts(), strict=True):
        np.testing.assert_array_equal(found, wanted)
        assert found.dtype == wanted.dtype
    for alpha in (0, 0.5, 1, 1.2, 2, math.inf):
        assert counts.entropy(alpha) == pytest.approx(expected.entropy(alpha), rel=1e-14)
    for estimator in ("miller-madow", "chao-wang-jost", "nsb", "grassberger"):
        assert counts.entropy(1, estimator) == expected.entropy(1, estimator)
    assert counts.efficiency() == pytest.approx(expected.efficiency(), rel=1e-14)
    assert information.coverage(counts) == information.coverage(expected)
    assert information.rarefaction(counts, 100) == information.rarefaction(expected, 100)
    assert repr(counts) == repr(expected).replace("StateCounts", "StoredCounts")


def test_single_states():
    rows = inputs(8)["skewed"]
    counts, expected = stored(rows), ts.count_states(rows)
    for place in (0, 1, len(expected) // 2, len(expected) - 1):
        state = expected.packed[place]
        assert counts.count_of(state) == counts.count_of(state.tobytes()) == expected.counts[place]
    assert counts.count_of(b"12345678") == 0
    top = counts.top(20)
    places = np.sort(np.argsort(-expected.counts, kind="stable")[:20])
    assert top == ts.StateCounts(expected.packed[places], expected.counts[places], 64)
    with pytest.raises(ValueError, match="must have 8 bytes, got 3"):
        counts.count_of(b"123")
    with pytest.raises(TypeError, match="must be packed"):
        counts.count_of(np.zeros(8))


def test_top_of_equally_frequent_states():
    rows = inputs(8)["new"]
    expected = ts.count_states(rows)
    assert stored(rows).top(50) == ts.StateCounts(expected.packed[:50], expected.counts[:50], 64)


def test_a_parquet_file_of_them(tmp_path):
    from pyarrow import parquet

    rows = inputs(8)["skewed"]
    stored(rows).to_parquet(tmp_path / "counts.parquet")
    table = parquet.read_table(tmp_path / "counts.parquet")
    assert table.equals(ts.count_states(rows).to_arrow(), check_metadata=True)


def test_what_neurons_do():
    rows = inputs(8)["skewed"]
    counts, expected = stored(rows), ts.count_states(rows)
    for measure in (ts.neurons.firing_rates, ts.neurons.cofiring, ts.neurons.active_neurons):
        np.testing.assert_array_equal(measure(counts), measure(expected))
    assert ts.neurons.patterns_seen(counts) == len(expected)
    np.testing.assert_array_equal(
        ts.neurons.top_states(counts).packed, ts.neurons.top_states(expected).packed
    )
    with pytest.raises(ValueError, match="64 neurons, not 63"):
        ts.neurons.firing_rates(counts, 63)


def test_merging():
    kinds = inputs(8)
    parts = [stored(kinds["new"]), stored(kinds["skewed"]), ts.count_states(kinds["rare"])]
    together = np.concatenate([kinds["new"], kinds["skewed"], kinds["rare"]])
    merged = parts[0].merge(*parts[1:], ts.StateCounts.empty(64))
    assert merged.load() == ts.count_states(together)
    with pytest.raises(ValueError, match="64 neurons with 8"):
        merged.merge(ts.StateCounts.empty(8))
    with pytest.raises(TypeError, match="others must be"):
        merged.merge(inputs(8)["new"])


def test_many_runs_become_few():
    rows = inputs(8)["cyclic"]
    counter = counter_of(np.concatenate([rows] * 12), BUDGET // 2, parts=200)
    assert len(counter.runs()) <= external_counter._MOST_RUNS
    assert ts.StateCounts.trusted(*counter.result(), 64) == ts.count_states(
        np.concatenate([rows] * 12)
    )


# ---- kept at a path ----------------------------------------------------------------------------


@pytest.mark.parametrize("width", [1, 8, 65])
def test_kept_counts(width, tmp_path):
    rows = inputs(width)["changing"]
    expected = ts.count_states(rows)
    kept = ts.count_states(rows, to=tmp_path / "counts.zarr")
    for counts in (kept, store.open_counts(tmp_path / "counts.zarr")):
        assert counts.load() == expected
        assert (len(counts), counts.total) == (len(expected), expected.total)
        assert counts.count_of(expected.packed[-1]) == expected.counts[-1]
    assert [file.name for file in tmp_path.iterdir()] == ["counts.zarr"]
    with pytest.raises(ValueError, match="exists"):
        ts.count_states(rows, to=tmp_path / "counts.zarr")


def test_kept_counts_are_arrays_for_every_zarr_client(tmp_path):
    import zarr

    rows = inputs(8)["skewed"]
    ts.count_states(rows, to=tmp_path / "counts.zarr")
    group, expected = zarr.open_group(tmp_path / "counts.zarr", mode="r"), ts.count_states(rows)
    np.testing.assert_array_equal(group["states"][:], expected.packed)
    np.testing.assert_array_equal(group["counts"][:], expected.counts)
    assert group["counts"].dtype == np.uint16


def test_pickles_read_the_same_files(tmp_path):
    rows = inputs(8)["skewed"]
    counts = stored(rows)
    with pytest.raises(TypeError, match=r"save\(\) them first"):
        pickle.dumps(counts)
    kept = counts.save(tmp_path / "counts.zarr")
    kept.count_of(rows[0])
    assert pickle.loads(pickle.dumps(kept)).load() == ts.count_states(rows)


def test_kept_in_memory_and_merged_to_a_path():
    rows = inputs(8)
    one = ts.count_states(rows["new"], to="memory://counts-one")
    two = one.merge(ts.count_states(rows["skewed"])).save("memory://counts-two")
    assert two.load() == ts.count_states(np.concatenate([rows["new"], rows["skewed"]]))
    with pytest.raises(ValueError, match="exists"):
        one.save("memory://counts-two")


def test_counts_that_no_float_holds(tmp_path):
    rows = np.array([[1], [2]], np.uint8)
    counts = ts.StateCounts(rows, [2**53 + 1, 2**62 + 1], 8)
    stored_counts = ts.StoredCounts([MemoryRun(counts.packed, counts.counts)], 8)
    kept = stored_counts.save(tmp_path / "counts.zarr")
    assert kept.load() == stored_counts.load() == counts
    assert kept.total == counts.total
    assert [part.tolist() for part in kept.counts_of_counts()] == [[2**53 + 1, 2**62 + 1], [1, 1]]


def test_no_rows(tmp_path):
    kept = ts.count_states(np.empty((0, 3), np.uint8), to=tmp_path / "counts.zarr")
    assert len(kept) == kept.total == len(kept.load()) == 0
    assert list(kept.pieces()) == []
    with pytest.raises(ValueError, match="empty"):
        kept.entropy()


def test_bits_beyond_the_neurons(tmp_path):
    rows = np.array([[0], [8]], np.uint8)
    with pytest.raises(ValueError, match="beyond"):
        ts.count_states(rows, neurons=3, to=tmp_path / "counts.zarr")
    assert not [*tmp_path.iterdir()]


def test_a_path_without_counts(tmp_path):
    with pytest.raises(ts.errors.NoStore, match="holds no counts"):
        store.open_counts(tmp_path / "none")
    ts.Store(tmp_path / "run.zarr", "x").close()
    with pytest.raises(ts.errors.NoStore, match="holds no counts"):
        store.open_counts(tmp_path / "run.zarr")


def test_a_flipped_bit_in_any_file_is_named(tmp_path):
    path = tmp_path / "counts.zarr"
    ts.count_states(inputs(8)["skewed"], to=path)
    for file in sorted(each for each in path.rglob("*") if each.is_file()):
        whole = file.read_bytes()
        for place in (len(whole) // 3, len(whole) - 2):
            damaged = bytearray(whole)
            damaged[place] ^= 4
            file.write_bytes(damaged)
            with pytest.raises((ts.errors.DamagedStore, ts.errors.NoStore)):
                store.open_counts(path).load()
        file.write_bytes(whole)
    store.open_counts(path).load()


# ---- layers, and limits ------------------------------------------------------------------------


@pytest.fixture
def layer(tmp_path):
    rows = inputs(8, 30_000)["skewed"]
    run = ts.Store(tmp_path / "run.zarr", "x", chunk_bytes=1 << 15)
    point = ts.CapturePoint("layer", run)
    point.declare(64)
    point.append(rows, len(rows))
    run.close()
    return ts.Store(tmp_path / "run.zarr")["layer"]


def test_a_layer_beyond_the_limit(layer, tmp_path, monkeypatch):
    expected = layer.histogram()
    half = layer.histogram(slice(0, 15_000))
    fresh = ts.Store(tmp_path / "run.zarr")["layer"]
    monkeypatch.setattr(external_counter, "working_memory", lambda: BUDGET)
    monkeypatch.setattr("tensorstate_gpu._process.memory_limit.LEAST", 1)
    ts.set_memory_limit(len(expected) * 16 - 1)
    assert fresh.entropy() == pytest.approx(expected.entropy(), rel=1e-14)
    assert fresh.efficiency(2) == pytest.approx(expected.efficiency(2), rel=1e-14)
    with pytest.raises(MemoryError, match="to=path"):
        fresh.histogram()
    assert fresh.histogram(slice(0, 15_000)) == half
    kept = fresh.histogram(to=tmp_path / "counts.zarr")
    some = fresh.histogram(slice(0, 15_000), to=tmp_path / "half.zarr")
    assert ts.count_states(fresh, to=tmp_path / "again.zarr").total == expected.total
    ts.set_memory_limit(None)
    assert (kept.load(), some.load()) == (expected, half)
    assert fresh.histogram() == expected


def test_a_report_beyond_the_limit_has_no_ranges(layer, tmp_path, monkeypatch):
    expected = ts.Store(tmp_path / "run.zarr").report().layers[0]
    assert expected.estimate is not None
    fresh = ts.Store(tmp_path / "run.zarr")["layer"]
    monkeypatch.setattr(external_counter, "working_memory", lambda: BUDGET)
    monkeypatch.setattr("tensorstate_gpu._process.memory_limit.LEAST", 1)
    ts.set_memory_limit(BUDGET)
    for grouped in (fresh.grouped, lambda: fresh.counts_by(np.arange(len(fresh)) % 3)):
        with pytest.raises(MemoryError, match="by label or group need"):
            grouped()
    found = ts.Store(tmp_path / "run.zarr").report().layers[0]
    assert found.estimate is found.lower is None
    assert found.entropy == pytest.approx(expected.entropy, rel=1e-14)
    assert (found.distinct, found.states) == (expected.distinct, expected.states)
    assert found.fires
    assert not found.always_fires


def test_a_layer_without_a_limit_is_loaded(layer, tmp_path, monkeypatch):
    expected = layer.histogram()
    fresh = ts.Store(tmp_path / "run.zarr")["layer"]
    monkeypatch.setattr(external_counter, "working_memory", lambda: BUDGET)
    assert isinstance(fresh.counted(), ts.StoredCounts)
    assert fresh.histogram() == expected


def test_an_array_beyond_the_limit(monkeypatch):
    rows = inputs(8)["cyclic"]
    expected = ts.count_states(rows)
    monkeypatch.setattr("tensorstate_gpu._process.memory_limit.LEAST", 1)
    ts.set_memory_limit(BUDGET)
    assert ts.count_states(rows) == expected  # counted in files, and loaded
    ts.set_memory_limit(len(expected) * 16 - 1)
    with pytest.raises(MemoryError, match="set_memory_limit"):
        ts.count_states(rows)


# ---- failures ----------------------------------------------------------------------------------


class Failing:
    """Lets writes fail, from one on, so many of them."""

    def __init__(self, monkeypatch, first, lasts, code=errno.ENOSPC):
        self.writes, self._failing, self._code = 0, range(first, first + lasts), code
        append, write = ScratchFile._write, FileSystemCalls.write

        def failing_append(file, start, values):
            self._next(file)
            append(file, start, values)

        def failing_write(system, path, parts):
            self._next(path)
            return write(system, path, parts)

        monkeypatch.setattr(ScratchFile, "_write", failing_append)
        monkeypatch.setattr(FileSystemCalls, "write", failing_write)

    def _next(self, file):
        self.writes += 1
        if self.writes in self._failing:
            raise OSError(self._code, os.strerror(self._code), str(file))


@pytest.mark.parametrize(("lasts", "code"), [(1, errno.EIO), (4, errno.ENOSPC)])
def test_a_write_that_fails_is_told_before_a_batch_is_taken_and_tried_again(
    lasts, code, monkeypatch
):
    rows = inputs(8)["changing"]
    expected = ts.count_states(rows)
    batches = np.array_split(rows, 60)
    with monkeypatch.context() as patch:
        system = Failing(patch, 0, 0)
        counter_of(rows, parts=60).runs()
        number = system.writes
    for k in range(1, number + 1, max(1, number // 8)):
        with monkeypatch.context() as patch:
            Failing(patch, k, lasts, code)
            counter, told, notes = ExternalCounter(8, BUDGET), 0, []
            for batch in batches:
                while True:
                    before = counter.total
                    try:
                        counter.add(batch)
                        break
                    except OSError as error:
                        told += 1
                        notes.append(*error.__notes__)
                        assert counter.total == before
            for _ in range(lasts + 1):
                try:
                    runs = counter.runs()
                    break
                except OSError:
                    told += 1
            assert all("TMPDIR" in note for note in notes)
            assert told, f"nobody was told of write {k} of {number}"
            assert ts.StoredCounts(runs, 64).load() == expected


def test_a_failed_write_of_the_result_leaves_nothing(tmp_path, monkeypatch):
    rows = inputs(8)["skewed"]
    monkeypatch.setattr("tensorstate_gpu.store.kept_counts._CHUNK_BYTES", 1 << 13)
    path = tmp_path / "counts.zarr"
    counts = stored(rows)
    with monkeypatch.context() as patch:
        system = Failing(patch, 0, 0)
        expected = counts.save(path).load()
    shutil.rmtree(path)
    for k in range(1, system.writes + 1):
        with monkeypatch.context() as patch:
            Failing(patch, k, 1)
            with pytest.raises(OSError, match="No space left on device"):
                counts.save(path)
        assert not [*tmp_path.iterdir()]
    assert counts.save(path).load() == expected


def test_a_temporary_file_has_no_name(tmp_path, monkeypatch):
    """So a process that is killed leaves none."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    run = ScratchRun.of(8, [(inputs(8)["in order"][:10], np.ones(10, np.int64))])
    assert not [*tmp_path.iterdir()]
    assert run.read(0, 1)[1].sum() == 10


def test_a_file_that_ends_early_is_an_error():
    run = ScratchRun.of(8, [(inputs(8)["new"][:10], np.ones(10, np.int64))])
    run._file._file.truncate(11)
    with pytest.raises(OSError, match="ends at byte"):
        run.read(0, 1)


# ---- interrupts, too little memory, forks ------------------------------------------------------


def test_no_memory_while_counts_move_to_a_file(monkeypatch):
    """Everything added before is kept, the batch is not taken, and the next call tries again."""
    rows = inputs(8)["new"]
    counter = ExternalCounter(8, BUDGET)
    batches = iter(np.array_split(rows, 30))
    while not counter._counter.is_full:
        counter.add(next(batches))
    before, batch = counter.total, next(batches)

    def no_memory(*_):
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(merging_runs.cpu(), "merge", no_memory)
        patch.setattr(merging_runs, "_alone", no_memory)
        with pytest.raises(MemoryError):
            counter.add(batch)
    assert counter.total == before
    counter.add(batch)
    for rest in batches:
        counter.add(rest)
    assert ts.StateCounts.trusted(*counter.result(), 64) == ts.count_states(rows)


def test_an_interrupt_while_counts_are_saved_leaves_nothing(tmp_path, monkeypatch):
    counts = stored(inputs(8)["skewed"])
    write, calls = FileSystemCalls.write, []

    def interrupted(system, path, parts):
        calls.append(path)
        if len(calls) == 3:
            os.kill(os.getpid(), signal.SIGINT)
        write(system, path, parts)

    with monkeypatch.context() as patch:
        patch.setattr("tensorstate_gpu.store.kept_counts._CHUNK_BYTES", 1 << 13)
        patch.setattr(FileSystemCalls, "write", interrupted)
        with pytest.raises(KeyboardInterrupt):
            counts.save(tmp_path / "counts.zarr")
    assert not [*tmp_path.iterdir()]
    assert counts.save(tmp_path / "counts.zarr").load() == counts.load()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
@pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")
def test_a_forked_child_reads_and_counts_on_by_itself():
    rows = inputs(8)["new"]
    counter = counter_of(rows)
    expected = ts.count_states(rows).entropy()
    twice = ts.count_states(np.concatenate([rows, rows])).counts.sum()
    child = os.fork()
    if child == 0:
        counter.add(rows)  # spills to files of its own
        both = ts.StoredCounts(counter.runs(), 64)
        os._exit(0 if both.total == twice and both.entropy() == pytest.approx(expected) else 1)
    assert os.waitpid(child, 0)[1] == 0
    counts = ts.StoredCounts(counter.runs(), 64)
    assert counts.total == len(rows)
    assert counts.entropy() == pytest.approx(expected, rel=1e-14)
