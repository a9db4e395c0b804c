"""A hash table on the device, for rows of at most 8 bytes: kernels/count.cu."""

import numpy as np

from tensorstate_gpu._arrays.cupy_types import DeviceArray

from . import device
from .launch import Launch, blocks_for
from .merge import Histogram, HostHistogram
from .table import FIRST_SLOTS, Table, pointer

_EMPTY = ~np.uint64(0)  # as in count.cu
_BLOCKS = 1 << 11  # several for each multiprocessor of any GPU
_LEAST_ROWS = (
    1 << 12
)  # for each block: clearing and flushing its own table costs as much as 1,024 rows


class NarrowTable(Table):
    """Keys and counts by slot. One extra slot, not in len(), is for the row of all ones."""

    def __init__(self, row_bytes: int, slots: int = FIRST_SLOTS) -> None:
        self._row_bytes = row_bytes
        self._reset_bounds()
        self._keys, self._counts, self._device_size = self._allocate(slots)
        self._slots = slots

    def _bytes(self, slots: int) -> int:
        return 16 * slots

    def _allocate(self, slots: int) -> tuple[DeviceArray, DeviceArray, DeviceArray]:
        """Allocate keys, counts, and the number of keys."""
        xp = device.library()
        keys = xp.full(slots + 1, _EMPTY, np.uint64)
        return keys, xp.zeros(slots + 1, np.uint64), xp.zeros(1, np.uint64)

    def _grow(self, slots: int) -> None:
        table = self._allocate(slots)
        old = (pointer(self._keys), pointer(self._counts), np.int64(self._slots + 1))
        new = (*map(pointer, table), np.uint64(slots - 1))
        self._launch("move_slots", blocks_for(self._slots + 1), *old, *new)
        self._keys, self._counts, self._device_size = table
        self._slots = slots

    def _count(self, rows: DeviceArray, weights: DeviceArray | None, each: int) -> None:
        states, last = np.int64(len(rows)), (*self._table(), np.int64(each))
        if weights is not None:
            batch = (pointer(rows), pointer(weights), states)
            self._launch("count_weighted", blocks_for(len(rows)), *batch, *last)
            return
        share = max(_LEAST_ROWS, -(-len(rows) // _BLOCKS))
        self._launch(
            "count_rows", -(-len(rows) // share), pointer(rows), states, np.int64(share), *last
        )

    def entries(self) -> Histogram:
        """Return the distinct rows (distinct, bytes), in no order, and their int64 counts."""
        most, slots = len(self) + 1, self._slots + 1
        rows = device.empty((most, self._row_bytes), np.uint8)
        counts = device.empty((most,), np.int64)
        found = device.library().zeros(1, np.uint64)
        table, targets = (
            (pointer(self._keys), pointer(self._counts)),
            (pointer(rows), pointer(counts), pointer(found)),
        )
        self._launch("entries", blocks_for(slots), *table, np.int64(slots), *targets)
        distinct = int(device.to_host(found)[0])
        return rows[:distinct], counts[:distinct]

    def drain(self) -> HostHistogram:
        """Move the entries to NumPy arrays and empty the table; needs no new device memory."""
        counts = device.to_host(self._counts).view(np.int64)
        counted = np.flatnonzero(counts)
        keys = device.to_host(self._keys)[counted].astype("<u8")
        rows = keys.view(np.uint8).reshape(-1, 8)[:, : self._row_bytes]
        self._keys.fill(_EMPTY)
        self._counts.fill(0)
        self._device_size.fill(0)
        self._reset_bounds()
        return np.ascontiguousarray(rows), counts[counted]

    def _table(self) -> tuple[np.generic, ...]:
        return (
            pointer(self._keys),
            pointer(self._counts),
            pointer(self._device_size),
            np.uint64(self._slots - 1),
        )

    def _launch(self, kernel: str, blocks: int, *arguments: np.generic) -> None:
        defines = (("WIDTH", self._row_bytes),)
        device.run(Launch("count", kernel, defines, (blocks, 1), arguments))
