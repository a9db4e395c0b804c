"""Counting rows exactly on the GPU: in a hash table while rows repeat, otherwise by sorting.

A histogram is a pair: the distinct rows in order (distinct, bytes), and their int64 counts.
"""

from tensorstate_gpu._arrays.cupy_types import DeviceArray

from . import device
from .merge import Histogram, HostHistogram, sum_equal_rows
from .narrow_table import NarrowTable
from .sort import sort
from .table import Table
from .wide_table import WideTable

# The first rows show whether rows repeat. A table of mostly distinct rows would take more memory
# than sorting them.
_SAMPLE, _SAMPLE_BYTES = 1 << 20, 1 << 27


def _table(row_bytes: int) -> Table:
    return NarrowTable(row_bytes) if row_bytes <= 8 else WideTable(row_bytes)


def count(packed: DeviceArray) -> Histogram:
    """Return the distinct rows in order (distinct, bytes), and their int64 counts."""
    xp = device.library()
    rows = xp.ascontiguousarray(packed)
    table = _table(rows.shape[1])
    sample = min(_SAMPLE, _SAMPLE_BYTES // rows.shape[1] + 1)
    table.add(rows[:sample])
    if len(rows) <= sample or len(table) <= sample // 2:
        table.add(rows[sample:])
        return sum_equal_rows(*table.entries())
    edges, order = sort(rows)
    return rows[order[edges[:-1]]], xp.diff(edges)


class Counter:
    """Running counts of packed states on the device; see the Backend protocol.

    The table belongs to the stream on which it was created. For batches of other streams, that
    stream waits, not the host.
    """

    def __init__(self, row_bytes: int) -> None:
        self._owner_stream = device.OwnerStream()
        self._counts = _table(row_bytes)
        self._total = 0

    @property
    def total(self) -> int:
        return self._total

    def add(self, packed: DeviceArray, weights: DeviceArray | None = None) -> None:
        with self._owner_stream.entered():
            rows = device.library().ascontiguousarray(packed)
            if len(rows):
                self._counts.add(rows, weights)
                self._total += len(rows) if weights is None else int(weights.sum())

    def result(self) -> Histogram:
        with self._owner_stream.entered():
            return sum_equal_rows(*self._counts.entries())

    def drain(self) -> HostHistogram:
        """Move the counts so far to NumPy arrays, in no order, and empty the table.

        Needs no new memory on the device.
        """
        with self._owner_stream.entered():
            drained = self._counts.drain()
            self._total = 0
            return drained
