"""The tables of counts on a device, or on its stand-in: what they count, and how large they get."""

import numpy as np
import pytest

from tensorstate_gpu.cuda import device, host_copy, narrow_table, wide_table
from tensorstate_gpu.cuda.narrow_table import NarrowTable
from tensorstate_gpu.cuda.table import power_of_2_below
from tensorstate_gpu.cuda.wide_table import WideTable
from tests.support.samples import thinned

pytestmark = pytest.mark.usefixtures("small_blocks")


@pytest.mark.parametrize("width", thinned([1, 3, 8, 9, 16, 100], [3, 8, 16]))
@pytest.mark.parametrize("distinct", [40, 5000, 40_000])
def test_estimates(machine, width, distinct):
    rng = np.random.default_rng(distinct)
    rows = rng.integers(0, 256, (distinct, width), np.uint8)
    exact = len(np.unique(rows, axis=0))
    rows = machine.to_device(np.concatenate((rows, rows[::-1])))
    assert table_of(width).estimate(rows) == pytest.approx(exact, rel=0.05)


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
    for start in range(0, len(rows), 3999):  # no word need end where the last row does
        table.add(machine.to_device(rows[start : start + 3999]))
    assert_counted(machine, table, rows)


ANY_WIDTH = [*range(9, 131), 200, 256, 300, 512, 519, 520, 2100, 2101]


@pytest.mark.parametrize("width", thinned(ANY_WIDTH, [100, 101]))
def test_wide_rows(machine, width):
    """Of the rows, many differ in one byte: no part of a row is forgotten, none counted twice."""
    rng = np.random.default_rng(width)
    pool = rng.integers(0, 256, (400 + width, width), np.uint8)
    pool[400:] = pool[0]
    pool[np.arange(400, len(pool)), np.arange(width)] ^= 1
    table, added = table_of(width), []
    for first in range(4):  # rows that begin at any address
        chosen = pool[rng.integers(0, len(pool), 901)]
        memory = np.concatenate([np.zeros(first, np.uint8), chosen.reshape(-1)])
        table.add(machine.to_device(memory)[first:].reshape(chosen.shape))
        added.append(chosen)
    assert_counted(machine, table, np.concatenate(added))


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
            patch.setattr(host_copy.AsyncHostCopy, "arrived", lambda copy: None)
        for owner, name in ((device, "to_host"), (host_copy.AsyncHostCopy, "numpy")):
            patch.setattr(owner, name, noting(waits, getattr(owner, name)))
        for number, rows in enumerate(added):
            table.add(machine.to_device(rows))
            let_the_device_finish()
            assert reports or bool(waits) == (number >= 8)
    assert reports != bool(waits)
    assert_counted(machine, table, np.concatenate(added))


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


def noting(calls, function):
    """The function, of one argument, which notes its calls."""
    return lambda argument: calls.append(argument) or function(argument)


def let_the_device_finish():
    device.library().cuda.get_current_stream().synchronize()


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
