"""Counting rows exactly on the GPU: in a hash table, or by sorting if the table would be large.

A histogram is a pair: the distinct rows in order (distinct, bytes), and their int64 counts.
"""

import numpy as np
from numpy.typing import NDArray

from tensorstate_gpu._arrays.cupy_types import DeviceArray
from tensorstate_gpu._process.interrupts import deferred_interrupts

from . import device, small_batches
from .merge import Histogram, HostHistogram
from .narrow_table import NarrowTable
from .sort import count_by_sorting, in_order
from .table import Table
from .wide_table import WideTable

# Sorting is faster than a table of more rows, which is larger than the second-level cache, and if
# rows repeat less often. An H200 sorts 12 G rows/s, and takes 1 ns for a new row of a table.
_MOST_IN_TABLE, _REPEATS = 1 << 22, 16
_FIRST_ROWS = 1 << 20
_MOST_BYTES = 1 << 28  # counted at a time: as much memory is needed for rows that are refused


def _table(row_bytes: int) -> Table:
    return NarrowTable(row_bytes) if row_bytes <= 8 else WideTable(row_bytes)


def count(packed: DeviceArray) -> Histogram:
    """Return the distinct rows in order (distinct, bytes), and their int64 counts."""
    rows = device.library().ascontiguousarray(packed)
    table = _table(rows.shape[1])
    room = table.room
    _add(table, rows[:_FIRST_ROWS])
    if table.room > room and len(rows) > _FIRST_ROWS:  # so it is worth while to look at all rows
        distinct = table.estimate(rows)
        if rows.shape[1] <= 8 and distinct > min(_MOST_IN_TABLE, len(rows) // _REPEATS):
            return count_by_sorting(rows)
        table.make_room(distinct)
    _add(table, rows[_FIRST_ROWS:])
    return in_order(*table.entries())


def _add(table: Table, rows: DeviceArray) -> None:
    step = _MOST_BYTES // rows.shape[1] // 16 * 16 + 16  # so that each part begins aligned
    for start in range(0, len(rows), step):
        table.add(rows[start : start + step])
        table.finish()


class Counter:
    """Running counts of packed states on the device; see the Backend protocol.

    The table belongs to the stream on which it was created. For batches of other streams, that
    stream waits, not the host. Small batches of its own stream are counted together.
    """

    def __init__(self, row_bytes: int) -> None:
        self._owner_stream = device.OwnerStream()
        self._counts = _table(row_bytes)
        self._small = small_batches.SmallBatches()
        self._total = 0

    @property
    def total(self) -> int:
        return self._total

    def add(self, packed: DeviceArray, weights: DeviceArray | None = None) -> None:
        if weights is None and self._owner_stream.is_current():
            if len(self._small.waiting) >= small_batches.MOST_BATCHES:
                self._count_small_batches()
            if self._small.add(packed):
                self._total += len(packed)
                return
        with self._owner_stream.entered():
            rows = device.library().ascontiguousarray(packed)
            if len(rows):
                number = len(rows) if weights is None else int(weights.sum())
                self._counts.add(rows, weights)
                self._total += number

    def _count_small_batches(self) -> None:
        """Count the batches that wait. Raises MemoryError, and lets them wait, without memory."""
        # An interrupt in between would count them twice.
        with deferred_interrupts(), self._owner_stream.entered():
            if self._small.waiting:
                self._counts.add(self._small.joined())
                self._small.waiting.clear()

    def to_host(self, rows: DeviceArray) -> NDArray[np.uint8]:
        """Return rows that were added before: after the work that made them, on any stream."""
        with self._owner_stream.entered():
            return device.to_host(rows)

    def result(self) -> Histogram:
        self._count_small_batches()
        with self._owner_stream.entered():
            return in_order(*self._counts.entries())

    def drain(self) -> HostHistogram:
        """Move the counts so far to NumPy arrays, in no order, and empty the table.

        Needs no new memory on the device. Raises MemoryError, and keeps the counts, without memory
        on the host.
        """
        with self._owner_stream.entered():
            small = [device.to_host(batch) for batch in self._small.waiting]
            drained = self._counts.drain(small)
            self._small.waiting.clear()
            self._total = 0
        return drained
