"""Sorting, counting and merging on a device, or on its stand-in."""

import sys

import numpy as np
import pytest

from tensorstate_gpu import cuda
from tensorstate_gpu import testing as oracle
from tensorstate_gpu.cuda import device
from tensorstate_gpu.cuda.narrow_table import NarrowTable
from tensorstate_gpu.cuda.wide_table import WideTable
from tests.support.samples import thinned


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


@pytest.mark.parametrize("distinct", [20, 5000])
def test_counting_abandons_the_table_if_rows_differ(machine, distinct, monkeypatch):
    monkeypatch.setattr(sys.modules["tensorstate_gpu.cuda.count"], "_SAMPLE", 256)
    rows = np.random.default_rng(0).integers(0, distinct, 3000, np.uint64)
    rows = rows.view(np.uint8).reshape(-1, 8)
    sorts = []
    for module in ("count", "merge"):
        monkeypatch.setattr(
            sys.modules[f"tensorstate_gpu.cuda.{module}"],
            "sort",
            lambda given: sorts.append(len(given)) or cuda.sort(given),
        )
    found = map(machine.to_host, cuda.count(machine.to_device(rows)))
    assert max(sorts) == (3000 if distinct == 5000 else distinct)
    for one, other in zip(found, oracle.count(rows), strict=True):
        assert np.array_equal(one, other)


def test_misaligned_rows_are_counted(machine):
    memory = np.random.default_rng(0).integers(0, 3, 8 * 50 + 1, np.uint8)
    rows = machine.to_device(memory)[1:].reshape(50, 8)
    expected = oracle.count(memory[1:].reshape(50, 8))
    for one, other in zip(cuda.count(rows), expected, strict=True):
        assert np.array_equal(machine.to_host(one), other)


def assert_counted(machine, table, rows, weights=None):
    found, counts = map(machine.to_host, table.entries())
    edges, order = oracle.sort(found)
    numbers = np.ones(len(rows), np.int64) if weights is None else weights
    distinct, places = np.unique(rows[:, ::-1], axis=0, return_inverse=True)
    expected = np.zeros(len(distinct), np.int64)
    np.add.at(expected, places.reshape(-1), numbers)
    assert np.array_equal(found[order], distinct[:, ::-1])
    assert np.array_equal(counts[order], expected)
    assert len(edges) == len(found) + 1


def table_of(width):
    return (NarrowTable if width <= 8 else WideTable)(width, slots=1 << 9)


# Each width up to 8 has a kernel of its own, for which g++ takes 2 s; wider ones have two.
@pytest.mark.parametrize("width", thinned([*range(1, 10), 15, 16, 64, 100], [1, 3, 8, 9, 16]))
def test_table(machine, width):
    """Skewed rows, including 0 and all ones, in batches; then enough rows to grow twice."""
    rng = np.random.default_rng(width)
    pool = rng.integers(0, 256, (3000, width), np.uint8)
    pool[0], pool[1] = 0, 255
    rows = pool[(3000 * rng.random(9000) ** 3).astype(np.int64)]
    table = table_of(width)
    for start in range(0, len(rows), 4000):
        table.add(machine.to_device(rows[start : start + 4000]))
    assert_counted(machine, table, rows)


@pytest.mark.parametrize("width", [3, 16])
def test_the_size_bound_holds_until_the_device_reports(machine, width):
    rows = np.random.default_rng(width).integers(0, 256, (1200, width), np.uint8)
    table = table_of(width)
    for start in range(0, len(rows), 40):
        table.add(machine.to_device(rows[start : start + 40]))
        distinct = len(np.unique(rows[: start + 40], axis=0))
        assert distinct <= table._size_bound <= table._slots // 2
    assert_counted(machine, table, rows)


class LimitedMemory:
    """A device library, and device.empty, that raise MemoryError after ``left`` allocations."""

    def __init__(self, library, empty, left):
        self._library, self._empty, self._left = library, empty, left

    def __getattr__(self, name):
        function = getattr(self._library, name)
        return self._counting(function) if name in ("zeros", "full") else function

    def refusing_empty(self, shape, dtype):
        return self._counting(self._empty)(shape, dtype)

    def _counting(self, function):
        def call(*arguments):
            self._left -= 1
            if self._left < 0:
                raise MemoryError("no room")
            return function(*arguments)

        return call


@pytest.mark.parametrize("left", range(6))
@pytest.mark.parametrize(("width", "allocations"), [(3, 3), (16, 4)])
def test_no_memory_to_grow(machine, width, allocations, left, monkeypatch):
    """If any allocation fails, the table is unchanged, and continues when there is memory."""
    rows = np.random.default_rng(0).integers(0, 256, (1000, width), np.uint8)
    table = table_of(width)
    table.add(machine.to_device(rows[:200]))
    with monkeypatch.context() as patch:
        short = LimitedMemory(device.library(), device.empty, left)
        patch.setattr(device, "library", lambda: short)
        patch.setattr(device, "empty", short.refusing_empty)
        refused = False
        try:
            table.add(machine.to_device(rows[200:]))
        except MemoryError:
            refused = True
    assert refused == (left < allocations)
    assert_counted(machine, table, rows[:200] if refused else rows)
    if refused:
        table.add(machine.to_device(rows[200:]))
        assert_counted(machine, table, rows)


@pytest.mark.parametrize("width", [3, 8, 16])
@pytest.mark.parametrize("distinct", [100, 230, 3000])
def test_batches_of_several_parts_are_counted_completely_or_not_at_all(
    machine, width, distinct, monkeypatch
):
    """If a table cannot grow, rows are counted in parts while they fit, otherwise none is."""
    monkeypatch.setattr(sys.modules["tensorstate_gpu.cuda.table"], "_LEAST_ROWS", 64)
    rng = np.random.default_rng(width)
    pool = rng.integers(0, 256, (distinct, width), np.uint8)
    pool[0] = 255
    rows = pool[rng.integers(0, distinct, 2000)]
    table = table_of(width)
    table.add(machine.to_device(pool[:50]))
    expected = [pool[:50]]
    with monkeypatch.context() as patch:
        patch.setattr(table, "_grow", out_of_memory)
        for batch in (rows, pool[:50]):
            try:
                table.add(machine.to_device(batch))
                expected.append(batch)
            except MemoryError:
                assert distinct == 3000
    assert_counted(machine, table, np.concatenate(expected))
    assert len(expected) == (1 if distinct == 3000 else 3)
    table.add(machine.to_device(rows))
    assert_counted(machine, table, np.concatenate([*expected, rows]))


def out_of_memory(slots):
    raise MemoryError(f"no room for {slots} slots")


@pytest.mark.parametrize("width", [3, 8, 16])
def test_drained_tables_are_empty(machine, width):
    rng = np.random.default_rng(width)
    rows = rng.integers(0, 3, (1000, width), np.uint8) * 127
    table = table_of(width)
    table.add(machine.to_device(rows))
    drained, counts = table.drain()
    assert type(drained) is type(counts) is np.ndarray
    order = oracle.sort(drained)[1]
    for one, other in zip((drained[order], counts[order]), oracle.count(rows), strict=True):
        assert np.array_equal(one, other)
    assert len(table) == 0
    table.add(machine.to_device(rows[:77]))
    assert_counted(machine, table, rows[:77])


@pytest.mark.parametrize("width", [8, 16, 17])
def test_table_of_large_weights(machine, width):
    rows = np.array([[0], [255], [0]], np.uint8).repeat(width, axis=1)
    weights = np.array([1 << 40, (1 << 33) + 1, 5])
    table = table_of(width)
    table.add(machine.to_device(rows), machine.to_device(weights))
    table.add(machine.to_device(rows))
    assert_counted(machine, table, rows, weights + 1)


@pytest.mark.parametrize("byte", [0, 255])
@pytest.mark.parametrize("width", [3, 8, 24, 33])
def test_table_of_equal_rows(machine, width, byte):
    rows = np.full((2000, width), byte, np.uint8)
    table = table_of(width)
    table.add(machine.to_device(rows))
    assert_counted(machine, table, rows)
