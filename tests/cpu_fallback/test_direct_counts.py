"""Counting rows of few bits in an array that has a count for each possible state."""

import sys

import numpy as np
import pytest

import tensorstate_gpu as ts
from tensorstate_gpu import testing
from tensorstate_gpu.cpu_fallback import count
from tensorstate_gpu.cpu_fallback import direct_table as module
from tensorstate_gpu.cpu_fallback.direct_table import count_directly

ROWS = 70_000


def rows_of(bits, width, rows=ROWS):
    """Rows of which one has the highest of so many bits."""
    numbers = np.random.default_rng(bits).integers(0, 1 << bits, rows, np.uint64)
    numbers[rows // 2] = (1 << bits) - 1
    return numbers.view(np.uint8).reshape(rows, 8)[:, :width].copy()


def check(rows, counted):
    for given, wanted in zip(counted, testing.count(rows), strict=True):
        np.testing.assert_array_equal(given, wanted)
    assert counted[1].dtype == np.int64


@pytest.mark.parametrize(("bits", "width"), [(1, 1), (8, 1), (9, 2), (16, 2), (16, 3), (16, 8)])
@pytest.mark.parametrize("threads", [1, 2, 3])
def test_the_same_as_the_oracle(bits, width, threads, monkeypatch):
    monkeypatch.setattr("tensorstate_gpu._process.num_threads._MIN_BYTES", 1 << 14)
    before = ts.get_num_threads()
    ts.set_num_threads(threads)
    try:
        rows = rows_of(bits, width)
        check(rows, count_directly(rows))
    finally:
        ts.set_num_threads(before)


@pytest.mark.parametrize("value", [0, 1, 255])
def test_a_single_state(value):
    rows = np.full((ROWS, 2), value, np.uint8)
    check(rows, count_directly(rows))


def test_more_possible_states_than_rows_are_left_to_others():
    assert count_directly(rows_of(17, 3)) is None
    late = rows_of(8, 3)
    late[-1] = 255  # of which the first rows say nothing
    assert count_directly(late) is None
    check(late, count(late))
    assert count_directly(rows_of(1, 1, rows=1)) is None


def test_tables_are_not_larger_than_the_limit(monkeypatch):
    monkeypatch.setattr(module, "_MOST_BITS", 8)
    assert count_directly(rows_of(9, 2)) is None
    check(rows_of(8, 2), count_directly(rows_of(8, 2)))


def test_more_rows_than_a_count_holds_are_left_to_others(monkeypatch):
    monkeypatch.setattr(module, "_MOST_ROWS", ROWS - 1)
    assert count_directly(rows_of(8, 1)) is None


def test_count_states_takes_it(monkeypatch):
    taken = []
    monkeypatch.setattr(
        sys.modules["tensorstate_gpu.cpu_fallback.count"],
        "count_directly",
        lambda rows: taken.append(count_directly(rows)) or taken[-1],
    )
    rows = rows_of(12, 2)
    counts = ts.count_states(rows, 12)
    assert len(taken) == 1
    check(
        rows, (np.frombuffer(b"".join(counts.state_ids()), np.uint8).reshape(-1, 2), counts.counts)
    )
