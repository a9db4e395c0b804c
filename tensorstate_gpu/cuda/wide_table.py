"""A hash table on the device, for rows of more than 8 bytes: kernels/count_wide.cu."""

import math

import numpy as np
from numpy.typing import NDArray

from tensorstate_gpu._arrays.cupy_types import DeviceArray

from . import device
from .launch import blocks_for, cached_launch
from .refused import Refused
from .sort import take
from .table import BLOCKS, FIRST_SLOTS, Table, pointer, power_of_2_below

_THREADS = 1024  # one block for each multiprocessor
_CACHE_ENTRY_BYTES = 16  # beside the row
_LEAST_ROWS = 4  # of each group of lanes
# Widest row of so many lanes: a lane has registers for 64 bytes of it, and reads the rest again.
_LANES = {64: 1, 128: 2, 256: 4, 512: 8, math.inf: 32}
_FIRST_BYTES = 1 << 21
_LEAST_SLOTS = 4  # so the last word that begins in a row of the table ends there, too
_MOST_ROWS = (1 << 32) - 2  # of a batch: a slot has 32 bits for the number of a row


def defines_for(row_bytes: int) -> tuple[tuple[str, int], ...]:
    """Return of what a row consists, in bytes, and how many threads share a row."""
    unit = next(unit for unit in (16, 8, 4, 1) if row_bytes % unit == 0)
    lanes = next(lanes for width, lanes in _LANES.items() if row_bytes <= width)
    return ("UNIT", unit), ("LANES", lanes)


class WideTable(Table):
    """The mark of a row is a part of its hash. The row is stored at the number of its slot."""

    def __init__(self, row_bytes: int, slots: int | None = None) -> None:
        if slots is None:
            fitting = power_of_2_below(_FIRST_BYTES // (16 + row_bytes) + 1)
            slots = max(_LEAST_SLOTS, min(FIRST_SLOTS, fitting))
        super().__init__(row_bytes, slots)
        self._use_slots(*self._empty(slots), slots)
        self._defines = defines_for(row_bytes)
        self._lanes = dict(self._defines)["LANES"]
        self._most_blocks = device.multiprocessors()
        self._entry_bytes = -(-row_bytes // 16) * 16 + _CACHE_ENTRY_BYTES
        # The rest of the shared memory is for the cache of the rows that are read.
        self._cached = device.most_shared_bytes() // 4 * 3 // self._entry_bytes

    def _empty(self, slots: int) -> tuple[DeviceArray, DeviceArray]:
        if slots > 1 << 32:
            raise MemoryError(f"a table has at most 2**32 slots, {slots} are wanted")
        kept = device.empty((slots, self._row_bytes), np.uint8)
        return device.library().zeros((slots, 2), np.uint64), kept

    def _use_slots(self, slots: DeviceArray, kept: DeviceArray, size: int) -> None:
        """Count in these slots from now on. Kernels have the same arguments for each batch."""
        self._slots, self._kept, self._size = slots, kept, size
        self._arguments = pointer(slots), np.uint64(size - 1), pointer(kept), *self._use()

    def _room(self, slots: int) -> int:
        # The longer the rows are, the less it matters how often a search goes on.
        return slots // 2 if self._row_bytes <= 64 else slots // 4 * 3

    def _grow(self, slots: int) -> None:
        new, kept = self._empty(slots)
        old = (pointer(self._slots), np.int64(self._size), pointer(self._kept))
        width, mask = np.int32(self._row_bytes), np.uint64(slots - 1)
        blocks = blocks_for(self._size * self._lanes)
        self._launch("move_slots", blocks, *old, width, pointer(new), mask, pointer(kept))
        self._use_slots(new, kept, slots)

    def _count(self, rows: DeviceArray, weights: DeviceArray | None, refused: Refused) -> None:
        if len(rows) > _MOST_ROWS:
            raise MemoryError(f"a batch has at most {_MOST_ROWS} rows, this one {len(rows)}")
        needed = -(-len(rows) * self._lanes // (_LEAST_ROWS * _THREADS))
        blocks = min(self._most_blocks, needed)
        width = np.int32(self._row_bytes)
        at, to = np.uint64(rows.data.ptr), pointer(refused.rows)
        batch = (at, pointer(weights), np.int64(len(rows)), width)
        targets = (to, pointer(refused.weights), self._places_at[refused.place])
        arguments = (*batch, *self._arguments, *targets, np.uint32(self._cached))
        shape = (blocks, 1), (), _THREADS, self._entry_bytes * self._cached
        device.run(cached_launch("count_wide", "count_rows", self._defines, *shape), *arguments)

    def _rank(self, rows: DeviceArray, registers: DeviceArray) -> None:
        blocks = min(BLOCKS * self._most_blocks, blocks_for(len(rows) * self._lanes))
        batch = (pointer(rows), np.int64(len(rows)), np.int32(self._row_bytes))
        self._launch("estimate", blocks, *batch, pointer(registers))

    def _launch(self, kernel: str, blocks: int, *arguments: np.generic) -> None:
        device.run(cached_launch("count_wide", kernel, self._defines, (blocks, 1), ()), *arguments)

    def _rows(self, slots: DeviceArray, marks: DeviceArray) -> DeviceArray:
        return take(self._kept, slots)

    def _rows_on_host(self, slots: slice, marks: NDArray[np.uint64]) -> NDArray[np.uint8]:
        return device.to_host(self._kept[slots])
