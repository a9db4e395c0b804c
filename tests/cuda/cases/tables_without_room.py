"""Tables of counts on a device that have no room: rows are refused, tables grow or are drained."""

import contextlib

import numpy as np
import pytest

from tensorstate_gpu.cuda import device
from tests.cuda.cases.tables import (
    assert_counted,
    assert_histogram,
    hashed,
    let_the_device_finish,
    table_of,
)

pytestmark = pytest.mark.usefixtures("small_blocks")


def refused_by(machine, table):
    """Return the rows, in host memory, that were refused by a table and still are."""
    numbers = machine.to_host(table._numbers)
    counts = [int(numbers[each.place]) for each in table._unsettled]
    listed = [each.rows for each in table._unsettled]
    return [machine.to_host(rows)[:count] for rows, count in zip(listed, counts, strict=True)]


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
@pytest.mark.parametrize(("width", "least", "enough"), [(3, 5, 7), (16, 7, 10)])
def test_no_memory_to_grow(machine, width, least, enough, left, monkeypatch):
    """If any allocation fails, no row is lost, and the table continues when there is memory.

    The order of the device's blocks decides which rows are refused, and so how many allocations
    there are.
    """
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
    if not least <= left < enough:
        assert (refused or len(added) < 3) == (left < least)
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
