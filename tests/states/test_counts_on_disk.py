"""Counts on disk: the same states, order and numbers as in memory, whatever the memory."""

import math

import numpy as np
import pytest

import tensorstate_gpu as ts
from tensorstate_gpu import information
from tensorstate_gpu._states import external_counter, merging_runs, sorted_runs
from tensorstate_gpu._states.external_counter import ExternalCounter
from tensorstate_gpu._states.sorted_runs import MemoryRun
from tests.support.interrupting import interrupted
from tests.support.runs_on_disk import (
    BUDGET,
    ROWS,
    counter_of,
    inputs,
    small_runs,  # noqa: F401
    stored,
)

pytestmark = pytest.mark.usefixtures("small_runs")


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


@pytest.mark.parametrize("kind", ["skewed", "new"])
def test_a_reader_that_is_interrupted_loses_no_counts(kind):
    rows = {"skewed": inputs(8)["skewed"], "new": np.arange(3000, dtype="<u8").view(np.uint8)}[kind]
    rows = rows.reshape(-1, 8)[:3000]
    expected = ts.count_states(rows)
    for step in range(1, 200):
        counter = counter_of(rows, BUDGET)
        counter._spill()
        counter.add(rows[:500])
        came = interrupted(counter.runs, step, external_counter.__file__)
        assert counter.total == 3500
        found = ts.StateCounts.trusted(*counter.result(), 64)
        assert found == expected + ts.count_states(rows[:500])
        if not came:
            break
    assert 5 < step < 199


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


def test_reading_often_leaves_few_runs_in_memory():
    rows = np.random.default_rng(0).integers(0, 1 << 15, 200_000).astype("<u8")
    counter = ExternalCounter(8, 1 << 28)
    packed = rows.view(np.uint8).reshape(-1, 8)
    counter._counter._is_sorting = True
    for start in range(0, len(packed), 1000):
        counter.add(packed[start : start + 1000])
        runs = counter.runs()
    assert len(runs) < 10
    assert ts.StateCounts.trusted(*counter.result(), 64) == ts.count_states(packed)


@pytest.mark.parametrize("threads", [1, 2, 16, 64])
@pytest.mark.parametrize("runs", [0, 8, 16, 63])
@pytest.mark.parametrize("row_bytes", [1, 8, 64, 1024, 8192])
def test_large_blocks_leave_most_of_the_budget(threads, runs, row_bytes, monkeypatch):
    monkeypatch.setattr(merging_runs, "get_num_threads", lambda: threads)
    small = sorted_runs.rows_of_block(row_bytes)
    for budget in (1 << 20, 1 << 28, 1 << 30, 1 << 40):
        rows = merging_runs.rows_of_large_block(runs, row_bytes, budget)
        bytes_in_parts = max(runs, 16) * rows * (row_bytes + 8) * (threads + 1)
        assert rows == small or bytes_in_parts <= budget / 64
        assert rows * row_bytes <= max(1 << 17, small * row_bytes)
    assert rows == max(small, (1 << 17) // row_bytes)


def test_counts_with_a_large_budget_are_in_large_blocks(monkeypatch):
    monkeypatch.setattr(merging_runs, "_MOST_BLOCK_BYTES", 1 << 13)
    rows = inputs(8)["new"]
    counter = ExternalCounter(8, 1 << 30)
    counter.add(rows)
    counter._spill()
    (run,) = counter.runs()
    assert max(run.sizes) == (1 << 13) // 8 > sorted_runs.rows_of_block(8)
