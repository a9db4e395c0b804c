"""A hash table on the device, for rows of more than 8 bytes: kernels/count_wide.cu."""

import numpy as np

from tensorstate_gpu._arrays.cupy_types import DeviceArray

from . import device
from .launch import Launch, blocks_for
from .merge import Histogram, HostHistogram
from .table import FIRST_SLOTS, Table, pointer


class WideTable(Table):
    """Slots hold indices into one array of rows. Another array holds the count of each slot."""

    def __init__(self, row_bytes: int, slots: int = FIRST_SLOTS) -> None:
        xp = device.library()
        self._row_bytes = row_bytes
        self._reset_bounds()
        self._device_size = xp.zeros(1, np.uint64)
        self._fresh_count = xp.zeros(1, np.uint64)
        self._rows, self._places, self._counts = self._allocate(slots)
        self._slots = slots

    def _bytes(self, slots: int) -> int:
        return 16 * slots + slots // 2 * self._row_bytes

    def _allocate(self, slots: int) -> tuple[DeviceArray, DeviceArray, DeviceArray]:
        """Allocate memory for all rows that slots may point to, the slots, and their counts."""
        xp = device.library()
        if slots > 1 << 32:
            raise MemoryError(f"slots number at most 2**31 distinct rows, {slots // 2} are wanted")
        rows = device.empty((slots // 2, self._row_bytes), np.uint8)
        return rows, xp.zeros(slots, np.uint64), xp.zeros(slots, np.uint64)

    def _grow(self, slots: int) -> None:
        rows, places, counts = table = self._allocate(slots)
        kept = min(self._size_bound, len(self._rows))
        rows[:kept] = self._rows[:kept]
        old = (pointer(self._places), pointer(self._counts), np.int64(self._slots), pointer(rows))
        new = (pointer(places), pointer(counts), np.uint64(slots - 1))
        self._launch("place_slots", self._slots, *old, np.int32(self._row_bytes), *new)
        self._rows, self._places, self._counts = table
        self._slots = slots

    def _count(self, rows: DeviceArray, weights: DeviceArray | None, each: int) -> None:
        fresh = None if each < 0 else device.empty((len(rows),), np.uint64)
        kept, width = pointer(self._device_size), np.int32(self._row_bytes)
        news = (pointer(fresh), pointer(self._fresh_count))
        batch = (pointer(rows), pointer(weights), np.int64(len(rows)), width)
        table = (pointer(self._rows), kept, pointer(self._places), pointer(self._counts))
        last = (np.uint64(self._slots - 1), np.int64(each))
        self._launch("count_batch", len(rows), *batch, *table, *news, *last)
        if fresh is None:
            return
        targets = (pointer(self._rows), kept, pointer(self._places))
        self._launch("keep_fresh", rows.size, pointer(rows), width, *targets, *news)
        self._launch("point_to_kept", len(rows), kept, pointer(self._places), *news)
        self._launch("note_kept", 1, kept, pointer(self._fresh_count))

    def entries(self) -> Histogram:
        """Return the distinct rows (distinct, bytes), in order of arrival, and int64 counts."""
        distinct = len(self)
        counts = device.library().zeros(distinct, np.int64)
        arguments = (
            pointer(self._places),
            pointer(self._counts),
            np.int64(self._slots),
            pointer(counts),
        )
        self._launch("counts_of_kept", self._slots, *arguments)
        counted = device.library().flatnonzero(counts)  # without rows that were subtracted again
        if len(counted) == distinct:
            return self._rows[:distinct], counts
        return self._rows[counted], counts[counted]

    def drain(self) -> HostHistogram:
        """Move the entries to NumPy arrays and empty the table; needs no new device memory."""
        places, counts = device.to_host(self._places), device.to_host(self._counts)
        pointing = np.flatnonzero(counts)
        rows = device.to_host(self._rows[: len(self)])
        numbers = (places[pointing] & np.uint64(0xFFFFFFFF)).astype(np.int64) - 1
        self._places.fill(0)
        self._counts.fill(0)
        self._device_size.fill(0)
        self._reset_bounds()
        return rows[numbers], counts[pointing].view(np.int64)

    def _launch(self, kernel: str, threads: int, *arguments: np.generic) -> None:
        defines = (("WORDS", int(self._row_bytes % 8 == 0)),)
        device.run(Launch("count_wide", kernel, defines, (blocks_for(threads), 1), arguments))
