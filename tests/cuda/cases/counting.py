"""Sorting, counting and merging on a device, or on its stand-in."""

import sys

import numpy as np
import pytest

from tensorstate_gpu import cuda
from tensorstate_gpu import testing as oracle
from tensorstate_gpu.cuda import device, host_memory
from tensorstate_gpu.cuda.narrow_table import NarrowTable
from tensorstate_gpu.cuda.wide_table import WideTable

pytestmark = pytest.mark.usefixtures("small_blocks")


@pytest.mark.parametrize("width", [1, 3, 8, 9, 16, 100])
def test_sort_count_and_merge(machine, width):
    rng = np.random.default_rng(width)
    rows = rng.integers(0, 3, (500, width), np.uint8) * 127
    expected_edges, expected_order = oracle.sort(rows)
    distinct, counts = oracle.count(rows)
    rows = machine.to_device(rows)
    edges, order = map(machine.to_host, cuda.sort(rows))
    assert np.array_equal(edges, expected_edges)
    assert np.array_equal(order, expected_order)
    for found in (
        cuda.count(rows),
        cuda.merge([cuda.count(rows[:77]), cuda.count(rows[77:]), cuda.count(rows[:0])], width),
        counted_in_batches(rows, width),
    ):
        assert np.array_equal(machine.to_host(found[0]), distinct)
        assert np.array_equal(machine.to_host(found[1]), counts)
        assert found[1].dtype == np.int64


def counted_in_batches(rows, width):
    counter = cuda.counter(width)
    for start in range(0, len(rows), 60):
        counter.add(rows[start : start + 60])
    assert counter.total == len(rows)
    return counter.result()


def test_counts_above_32_bits(machine):
    counter = cuda.counter(1)
    rows = np.array([[7], [0], [7]], np.uint8)
    counter.add(machine.to_device(rows), machine.to_device(np.array([1 << 40, 3, 2])))
    rows, counts = map(machine.to_host, counter.result())
    assert rows.tolist() == [[0], [7]]
    assert counts.tolist() == [3, (1 << 40) + 2]
    assert counter.total == (1 << 40) + 5


@pytest.mark.parametrize(
    ("width", "distinct", "sorts"), [(3, 20, 0), (3, 30_000, 1), (9, 30_000, 0)]
)
def test_many_distinct_narrow_rows_are_sorted(machine, width, distinct, sorts, monkeypatch):
    count = sys.modules["tensorstate_gpu.cuda.count"]
    monkeypatch.setattr(count, "_MOST_IN_TABLE", 1000)
    monkeypatch.setattr(count, "_FIRST_ROWS", 16_000)
    sorted_rows = []
    by_sorting = count.count_by_sorting
    monkeypatch.setattr(
        count, "count_by_sorting", lambda rows: sorted_rows.append(rows) or by_sorting(rows)
    )
    rng = np.random.default_rng(0)
    rows = rng.integers(0, 256, (distinct, width), np.uint8)[rng.integers(0, distinct, 20_000)]
    found = map(machine.to_host, cuda.count(machine.to_device(rows)))
    assert len(sorted_rows) == sorts
    for one, other in zip(found, oracle.count(rows), strict=True):
        assert np.array_equal(one, other)


@pytest.mark.parametrize("width", [3, 16])
def test_the_estimate_makes_room_at_once(machine, width, monkeypatch):
    grown = []
    for table in (NarrowTable, WideTable):
        monkeypatch.setattr(table, "_grow", counting_calls(grown, table._grow))
    rng = np.random.default_rng(0)
    monkeypatch.setattr(sys.modules["tensorstate_gpu.cuda.count"], "_FIRST_ROWS", 32_000)
    monkeypatch.setattr(sys.modules["tensorstate_gpu.cuda.count"], "_REPEATS", 1)
    rows = rng.integers(0, 256, (30_000, width), np.uint8).repeat(2, axis=0)
    found = map(machine.to_host, cuda.count(machine.to_device(rows)))
    for one, other in zip(found, oracle.count(rows), strict=True):
        assert np.array_equal(one, other)
    assert grown[1:] == [1 << 17]


def counting_calls(arguments, method):
    return lambda self, slots: arguments.append(slots) or method(self, slots)


def test_misaligned_rows_are_counted(machine):
    memory = np.random.default_rng(0).integers(0, 3, 8 * 50 + 1, np.uint8)
    rows = machine.to_device(memory)[1:].reshape(50, 8)
    expected = oracle.count(memory[1:].reshape(50, 8))
    for one, other in zip(cuda.count(rows), expected, strict=True):
        assert np.array_equal(machine.to_host(one), other)


@pytest.mark.parametrize("number", [1_000, 400_000])
def test_what_is_copied_to_the_host(machine, number):
    """Large copies go to memory that was touched before."""
    numbers = np.random.default_rng(0).integers(0, 1 << 60, (number, 4))
    there = machine.to_device(numbers)
    assert (numbers.nbytes > host_memory.LARGE) == (number > 1000)
    np.testing.assert_array_equal(device.to_host(there), numbers)
    np.testing.assert_array_equal(device.to_host(there[:, 1]), numbers[:, 1])
    np.testing.assert_array_equal(device.to_host(there[:, 1:]), numbers[:, 1:])
