"""Sorting, counting and merging on a device, or on its stand-in."""

import contextlib
import sys

import numpy as np
import pytest

from tensorstate_gpu import cuda
from tensorstate_gpu import testing as oracle
from tensorstate_gpu.cuda import device, narrow_table, wide_table
from tensorstate_gpu.cuda.narrow_table import NarrowTable
from tensorstate_gpu.cuda.table import power_of_2_below
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


@pytest.mark.parametrize("width", thinned([1, 3, 8, 9, 16, 100], [3, 8, 16]))
@pytest.mark.parametrize("distinct", [40, 5000, 40_000])
def test_estimates(machine, width, distinct):
    rng = np.random.default_rng(distinct)
    rows = rng.integers(0, 256, (distinct, width), np.uint8)
    exact = len(np.unique(rows, axis=0))
    rows = machine.to_device(np.concatenate((rows, rows[::-1])))
    assert table_of(width).estimate(rows) == pytest.approx(exact, rel=0.05)


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


def assert_counted(machine, table, rows, weights=None):
    found, counts = map(machine.to_host, table.entries())
    assert len(np.unique(found, axis=0)) == len(found)
    assert_histogram(found, counts, rows, weights)


def assert_histogram(found, counts, rows, weights=None):
    """``found`` may contain a row more than once."""
    numbers = np.ones(len(rows), np.int64) if weights is None else weights
    for one, other in zip(summed(found, counts), summed(rows, numbers), strict=True):
        assert np.array_equal(one, other)


def summed(rows, numbers):
    distinct, places = np.unique(rows[:, ::-1], axis=0, return_inverse=True)
    sums = np.zeros(len(distinct), np.int64)
    np.add.at(sums, places.reshape(-1), numbers)
    return distinct[:, ::-1], sums


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch):
    """Of 128 threads: each reads several rows, and finds some in its block's cache."""
    for module in (narrow_table, wide_table):
        monkeypatch.setattr(module, "_THREADS", 128)


def table_of(width):
    return (NarrowTable if width <= 8 else WideTable)(width, slots=1 << 9)


# Each width up to 8 has a kernel of its own, for which g++ takes 2 s; wider ones have two.
@pytest.mark.parametrize("width", thinned([*range(1, 10), 15, 16, 64, 100], [1, 3, 8, 9, 16]))
def test_table(machine, width):
    """Skewed rows, including 0 and all ones, in batches: too many for a block's cache."""
    rng = np.random.default_rng(width)
    pool = rng.integers(0, 256, (6000, width), np.uint8)
    pool[0], pool[1] = 0, 255
    rows = pool[(6000 * rng.random(14_000) ** 2).astype(np.int64)]
    table = table_of(width)
    for start in range(0, len(rows), 4000):
        table.add(machine.to_device(rows[start : start + 4000]))
    assert_counted(machine, table, rows)


def refused_by(machine, table):
    """Return the rows, in host memory, that were refused by a table and still are."""
    numbers = machine.to_host(table._numbers)
    return [machine.to_host(each.rows)[: int(numbers[each.place])] for each in table._unsettled]


@pytest.mark.parametrize("width", [3, 8, 16, 25])
@pytest.mark.parametrize("weighted", [False, True])
def test_each_row_is_counted_or_refused(machine, width, weighted):
    rng = np.random.default_rng(width)
    pool = rng.integers(0, 256, (2000, width), np.uint8)
    table, batches = table_of(width), []
    for number in (300, 5000, 700):
        rows = pool[rng.integers(0, 2000, number)]
        weights = rng.integers(1, 1 << 40, number) if weighted else np.ones(number, np.int64)
        table._queue(machine.to_device(rows), machine.to_device(weights) if weighted else None)
        batches.append((rows, weights))
    refused = refused_by(machine, table)
    assert 0 < len(refused[1]) < 5000
    assert len(refused[2])
    distinct, used = int(machine.to_host(table._numbers)[0]), machine.to_host(table._slots)[:, 1]
    assert table.room <= distinct == np.count_nonzero(used) <= table._size
    rows, weights = (np.concatenate(column) for column in zip(*batches, strict=True))
    assert_counted(machine, table, rows, weights)
    assert not table._unsettled


@pytest.mark.parametrize("width", [8, 16])
def test_full_tables_are_closed(machine, width):
    """Only rows that were on their way when it became full are still taken."""
    rows = np.random.default_rng(width).integers(0, 256, (8192, width), np.uint8)
    table = type(table_of(width))(width, slots=1 << 12)
    table.add(machine.to_device(rows))
    distinct = int(machine.to_host(table._numbers)[0])
    assert table.room <= distinct <= table.room + (1024 if width == 8 else 2048)
    assert_counted(machine, table, rows)


@pytest.mark.parametrize("width", [3, 16])
def test_blocks_of_full_size(machine, width, monkeypatch):
    for module in (narrow_table, wide_table):
        monkeypatch.setattr(module, "_THREADS", 1024)
    rng = np.random.default_rng(width)
    rows = rng.integers(0, 256, (1000, width), np.uint8)[rng.integers(0, 1000, 9000)]
    table = table_of(width)
    table.add(machine.to_device(rows))
    assert_counted(machine, table, rows)


@pytest.mark.parametrize("width", [3, 16, 2000, 20_000])
def test_tables_begin_small(machine, width):
    table = (NarrowTable if width <= 8 else WideTable)(width)
    rows = np.random.default_rng(0).integers(0, 2, (100, 1), np.uint8).repeat(width, axis=1)
    table.add(machine.to_device(rows))
    assert table._size * (16 + width) <= 1 << 21
    assert_counted(machine, table, rows)


@pytest.mark.parametrize("width", [8, 16])
def test_the_size_depends_on_the_distinct_rows(machine, width):
    rng = np.random.default_rng(width)
    pool = rng.integers(0, 256, (400, width), np.uint8)
    table = table_of(width)
    everything = [pool[rng.integers(0, 200, 2000)] for _ in range(12)]
    for rows in everything:
        table.add(machine.to_device(rows))
    assert len(table) == 200
    assert table._size == 1 << 9
    table.add(machine.to_device(pool))
    assert len(table) == 400
    assert 400 < table.room <= 8 * 400
    assert_counted(machine, table, np.concatenate([*everything, pool]))


@pytest.mark.parametrize("reports", [True, False])
@pytest.mark.parametrize("width", [3, 16])
def test_the_host_waits_only_for_a_device_that_is_far_behind(machine, width, reports, monkeypatch):
    rng = np.random.default_rng(width)
    table = table_of(width)
    added = [rng.integers(0, 256, (300, width), np.uint8) for _ in range(12)]
    waits = []
    with monkeypatch.context() as patch:
        if not reports:
            patch.setattr(device.AsyncHostCopy, "has_arrived", False)
        to_host = device.to_host
        patch.setattr(device, "to_host", lambda array: waits.append(array) or to_host(array))
        for number, rows in enumerate(added):
            table.add(machine.to_device(rows))
            let_the_device_finish()
            assert reports or bool(waits) == (number >= 8)
    assert reports != bool(waits)
    assert_counted(machine, table, np.concatenate(added))


def test_rows_that_collide(machine):
    """More rows begin at one slot than a search visits: they are refused until the table grows."""
    rng = np.random.default_rng(0)
    rows = rng.integers(0, 256, (100_000, 8), np.uint8)
    rows = rows[[hashed(row) % (1 << 9) == 77 for row in rows.view(np.uint64)[:, 0].tolist()]]
    assert len(rows) > 128 + 32
    table = table_of(8)
    table.add(machine.to_device(rows))
    (refused,) = refused_by(machine, table)
    assert len(refused) == len(rows) - 128
    assert_counted(machine, table, rows)


def test_rows_that_share_a_place_in_the_cache_with_the_row_of_all_ones(machine):
    """An empty place has the key of that row, so the cache never counts it."""
    places_in_cache = power_of_2_below(device.most_shared_bytes() // 12)
    # Some of them share it, also where the cache has 16,384 places.
    rows = np.random.default_rng(0).integers(0, 256, (200_000, 8), np.uint8)
    place = (hashed((1 << 64) - 1) >> 40) % places_in_cache
    places = [(hashed(row) >> 40) % places_in_cache for row in rows.view(np.uint64)[:, 0].tolist()]
    rows = np.concatenate([np.full((1000, 8), 255, np.uint8), rows[np.equal(places, place)]])
    assert len(rows) > 1000
    table = table_of(8)
    table.add(machine.to_device(rows))
    assert_counted(machine, table, rows)


def hashed(row):
    """As in count.cu."""
    product = ((~row & (1 << 64) - 1) ^ 0xA0761D6478BD642F) * 0x9E3779B97F4A7C15
    return (product ^ product >> 64) & (1 << 64) - 1


def let_the_device_finish():
    device.library().cuda.get_current_stream().synchronize()


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


@pytest.mark.parametrize("left", range(11))
@pytest.mark.parametrize(("width", "allocations"), [(3, 5), (16, 9)])
def test_no_memory_to_grow(machine, width, allocations, left, monkeypatch):
    """If any allocation fails, no row is lost, and the table continues when there is memory."""
    rows = np.random.default_rng(0).integers(0, 256, (1200, width), np.uint8)
    added, table = [], table_of(width)
    with monkeypatch.context() as patch:
        short = LimitedMemory(device.library(), device.empty, left)
        patch.setattr(device, "library", lambda: short)
        patch.setattr(device, "empty", short.refusing_empty)
        refused = False
        for part in (rows[:200], rows[200:800], rows[800:]):
            with contextlib.suppress(MemoryError):
                table.add(machine.to_device(part))
                added.append(part)
            let_the_device_finish()
        try:
            table.finish()
        except MemoryError:
            refused = True
    assert (refused or len(added) < 3) == (left < allocations)
    assert_counted(machine, table, np.concatenate([rows[:0], *added]))
    table.add(machine.to_device(rows))
    assert_counted(machine, table, np.concatenate([*added, rows]))


@pytest.mark.parametrize("width", [3, 8, 16])
@pytest.mark.parametrize("distinct", [100, 3000])
def test_tables_that_cannot_grow_drain_everything(machine, width, distinct, monkeypatch):
    """Once the device has reported refused rows, no batch is counted until they are drained."""
    rng = np.random.default_rng(width)
    pool = rng.integers(0, 256, (distinct, width), np.uint8)
    pool[0] = 255
    table, added, drained = table_of(width), [], []
    with monkeypatch.context() as patch:
        patch.setattr(table, "_grow", out_of_memory)
        for _ in range(8):
            rows = pool[rng.integers(0, distinct, 2000)]
            try:
                table.add(machine.to_device(rows))
            except MemoryError:
                drained.append(table.drain())
                table.add(machine.to_device(rows))
            let_the_device_finish()
            added.append(rows)
    assert bool(drained) == (distinct == 3000)
    drained.append(table.drain())
    rows, counts = (np.concatenate(column) for column in zip(*drained, strict=True))
    assert_histogram(rows, counts, np.concatenate(added))
    assert len(table) == 0


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
    assert_histogram(drained, counts, rows)
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
