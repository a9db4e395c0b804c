"""A hash table on the device, for rows of at most 8 bytes: kernels/count.cu."""

import numpy as np
from numpy.typing import NDArray

from tensorstate_gpu._arrays.cupy_types import DeviceArray

from . import device
from .launch import blocks_for, cached_launch
from .refused import Refused
from .table import BLOCKS, FIRST_SLOTS, Table, pointer, power_of_2_below

_THREADS = 1024  # one block for each multiprocessor, whose shared memory its cache fills
_CACHE_SLOT_BYTES = 12  # a key and a count
_LEAST_ROWS = 1 << 12  # of each block: to empty its cache and to add it to the table takes as long


class NarrowTable(Table):
    """The mark of a row is the complement of its bytes.

    One more slot, not in len(), is for the row of eight bytes of all ones.
    """

    def __init__(self, row_bytes: int, slots: int = FIRST_SLOTS) -> None:
        super().__init__(row_bytes, slots)
        self._defines = (("WIDTH", row_bytes),)
        self._use_slots(_empty(slots), slots)
        self._most_blocks = device.multiprocessors()
        self._cached = power_of_2_below(device.most_shared_bytes() // _CACHE_SLOT_BYTES)

    def _use_slots(self, slots: DeviceArray, size: int) -> None:
        """Count in these slots from now on. Kernels have the same arguments for each batch."""
        self._slots, self._size = slots, size
        self._arguments = pointer(slots), np.uint64(size - 1), *self._use()

    def _room(self, slots: int) -> int:
        return slots // 2

    def _grow(self, slots: int) -> None:
        new, old_slots = _empty(slots), self._size + 1
        old = (pointer(self._slots), np.int64(old_slots))
        mask = np.uint64(slots - 1)
        self._launch("move_slots", blocks_for(old_slots), *old, pointer(new), mask)
        self._use_slots(new, slots)

    def _count(self, rows: DeviceArray, weights: DeviceArray | None, refused: Refused) -> None:
        at, to, states = np.uint64(rows.data.ptr), pointer(refused.rows), len(rows)
        refusals = self._places_at[refused.place]
        if weights is None:
            blocks = min(self._most_blocks, -(-states // _LEAST_ROWS))
            arguments = (at, np.int64(states), *self._arguments, to, refusals)
            shape = (blocks, 1), (), _THREADS, _CACHE_SLOT_BYTES * self._cached
            launch = cached_launch("count", "count_rows", self._defines, *shape)
            device.run(launch, *arguments, np.uint32(self._cached))
        else:
            batch = (at, pointer(weights), np.int64(states))
            targets = (to, pointer(refused.weights), refusals)
            self._launch("count_weighted", blocks_for(states), *batch, *self._arguments, *targets)

    def _rank(self, rows: DeviceArray, registers: DeviceArray) -> None:
        blocks = min(BLOCKS * self._most_blocks, blocks_for(len(rows)))
        self._launch("estimate", blocks, pointer(rows), np.int64(len(rows)), pointer(registers))

    def _launch(self, kernel: str, blocks: int, *arguments: np.generic) -> None:
        device.run(cached_launch("count", kernel, self._defines, (blocks, 1), ()), *arguments)

    def _rows(self, slots: DeviceArray, marks: DeviceArray) -> DeviceArray:
        eight = (~marks).view(np.uint8).reshape(-1, 8)
        return device.library().ascontiguousarray(eight[:, : self._row_bytes])

    def _rows_on_host(self, slots: slice, marks: NDArray[np.uint64]) -> NDArray[np.uint8]:
        return (~marks).astype("<u8").view(np.uint8).reshape(-1, 8)[:, : self._row_bytes]


def _empty(slots: int) -> DeviceArray:
    return device.library().zeros((slots + 1, 2), np.uint64)
