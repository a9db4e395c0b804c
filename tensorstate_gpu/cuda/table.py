"""The base class of the hash tables for narrow and for wide rows: capacity, growth, batches."""

from abc import ABC, abstractmethod
from contextlib import suppress

import numpy as np

from tensorstate_gpu._arrays.cupy_types import DeviceArray

from . import device
from .merge import Histogram, HostHistogram

FIRST_SLOTS = 1 << 14
# Limits of one launch: the table must have capacity for as many new rows.
_MOST_ROWS, _MOST_BYTES, _LEAST_ROWS = 1 << 21, 1 << 28, 1 << 12
# Up to this size, a table grows without waiting for the device to report how full it is.
_MAX_BYTES_WITHOUT_WAITING = 1 << 27


class Table(ABC):
    """A table of rows and their counts, never more than half full.

    The device knows the number of distinct rows. The host knows an upper bound, and a number that
    the device reported earlier. It waits for a report only if a large table might fill up.
    """

    _row_bytes: int
    _slots: int  # a power of 2
    _device_size: DeviceArray  # the number of distinct rows: uint64 of shape (1,), on the device
    _size_bound: int  # an upper bound of it, on the host
    _may_grow: bool

    def _reset_bounds(self, size: int = 0) -> None:
        """Set the number of distinct rows, which is known exactly."""
        self._size_bound = size
        self._pending_size: device.AsyncHostCopy | None = None  # of _device_size
        self._rows_since_size = 0  # rows queued after that copy

    def __len__(self) -> int:
        """Return the number of distinct rows. Waits for the device."""
        self._reset_bounds(int(device.to_host(self._device_size)[0]))
        return self._size_bound

    def add(self, rows: DeviceArray, weights: DeviceArray | None = None) -> None:
        """Count contiguous rows (states, bytes), each int64 ``weights`` times (default: once).

        Raises MemoryError, and counts none of the rows, if the device's memory is full.
        """
        if device.address(rows) % 8:  # some kernels read words of 8 bytes
            rows = rows.copy()
        start, self._may_grow = 0, True
        try:
            while start < len(rows):
                stop = min(len(rows), start + self._rows_that_fit(len(rows) - start))
                self._count(rows[start:stop], None if weights is None else weights[start:stop], 1)
                self._size_bound += stop - start
                self._rows_since_size += stop - start
                start = stop
        except MemoryError:
            for first in range(0, start, _MOST_ROWS):
                part = slice(first, min(first + _MOST_ROWS, start))
                self._count(rows[part], None if weights is None else weights[part], -1)
            raise
        if self._pending_size is None:
            with suppress(MemoryError):  # the rows are counted; the bound stays unchanged
                self._pending_size = device.AsyncHostCopy(self._device_size)
                self._rows_since_size = 0

    def _rows_that_fit(self, wanted: int) -> int:
        """Return how many of the rows fit even if all are new. Grows the table if needed."""
        wanted = min(wanted, max(_LEAST_ROWS, min(_MOST_ROWS, _MOST_BYTES // self._row_bytes)))
        self._poll_size()
        if self._size_bound + wanted > self._slots // 2:
            self._ensure_capacity(wanted)
        return min(self._slots // 2 - self._size_bound, wanted)

    def _poll_size(self) -> None:
        """Use the size that the device has reported in the meantime, without waiting."""
        if self._pending_size is not None and self._pending_size.has_arrived:
            reported = int(self._pending_size.numpy()[0])
            self._size_bound = min(self._size_bound, reported + self._rows_since_size)
            self._pending_size = None

    def _ensure_capacity(self, wanted: int) -> None:
        """Grow the table for more rows. Raises MemoryError if too few would fit without growth."""
        slots = self._slots_for(self._size_bound + wanted)
        if self._bytes(slots) > _MAX_BYTES_WITHOUT_WAITING:
            slots = self._slots_for(len(self) + wanted)
        if slots == self._slots:
            return
        try:
            if not self._may_grow:
                raise MemoryError(f"no room for a table of {slots} slots")
            self._grow(slots)
        except MemoryError:
            self._may_grow = False  # another attempt would be slow
            if self._slots // 2 - len(self) < min(wanted, self._slots // 32):
                raise  # otherwise the rows are counted in smaller parts

    def _slots_for(self, distinct: int) -> int:
        """Return the slots of a table at most half full; growth is by a factor of 4 or more."""
        if 2 * distinct <= self._slots:
            return self._slots
        return max(4 * self._slots, 1 << (2 * distinct - 1).bit_length())

    @abstractmethod
    def _bytes(self, slots: int) -> int:
        """Return the memory of a table of ``slots`` slots, in bytes."""

    @abstractmethod
    def _count(self, rows: DeviceArray, weights: DeviceArray | None, each: int) -> None:
        """Queue the counting of rows that fit. With ``each`` -1 they are subtracted instead."""

    @abstractmethod
    def _grow(self, slots: int) -> None:
        """Move everything to a table of ``slots`` slots; or raise, and leave all unchanged."""

    @abstractmethod
    def entries(self) -> Histogram:
        """Return the distinct rows (distinct, bytes), in no order, and their int64 counts."""

    @abstractmethod
    def drain(self) -> HostHistogram:
        """Move the entries to NumPy arrays and empty the table; needs no new device memory."""


def pointer(array: DeviceArray | None) -> np.uint64:
    """Return a device array's address as a kernel argument; 0 for None."""
    return np.uint64(0 if array is None else device.address(array))
