"""What the hash tables for narrow and for wide rows have in common: room, growth, batches."""

from abc import ABC, abstractmethod
from contextlib import suppress

import numpy as np

from tensorstate_gpu._arrays.cupy_types import DeviceArray

from . import device
from .merge import Histogram, HostHistogram

FIRST_SLOTS = 1 << 14
# In one launch, because the table has to have room for as many new ones.
_MOST_ROWS, _MOST_BYTES, _LEAST_ROWS = 1 << 21, 1 << 28, 1 << 12
# A table grows to so many bytes without asking the device how full it really is.
_MAX_BYTES_WITHOUT_WAITING = 1 << 27


class Table(ABC):
    """A table of rows and how often each occurred, never more than half full.

    How many distinct rows there are is known to the device. The host knows an upper bound, and what
    the device told a while ago; it waits for an answer only where a large table might fill up.
    """

    _row_bytes: int
    _slots: int  # a power of 2
    _device_size: DeviceArray  # uint64 of shape (1,), on the device
    _size_bound: int
    _may_grow: bool

    def _reset_bounds(self, at_most: int = 0) -> None:
        self._size_bound = at_most
        self._pending_size: device.AsyncHostCopy | None = None  # of _used
        self._rows_since_size = 0  # rows queued after it

    def __len__(self) -> int:
        """Distinct rows; waits for the device."""
        self._reset_bounds(int(device.to_host(self._device_size)[0]))
        return self._size_bound

    def add(self, rows: DeviceArray, weights: DeviceArray | None = None) -> None:
        """Count contiguous rows (states, bytes), each int64 ``weights`` times (default once).

        Raises MemoryError where the device has no room, and then none of them is counted.
        """
        if device.address(rows) % 8:  # some kernels read whole words
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
            with suppress(MemoryError):  # the rows are counted; the bound stays what it is
                self._pending_size, self._rows_since_size = (
                    device.AsyncHostCopy(self._device_size),
                    0,
                )

    def _rows_that_fit(self, wanted: int) -> int:
        """Rows that can come without the table filling up, though each were a new one."""
        wanted = min(wanted, max(_LEAST_ROWS, min(_MOST_ROWS, _MOST_BYTES // self._row_bytes)))
        self._poll_size()
        if self._size_bound + wanted > self._slots // 2:
            self._ensure_capacity(wanted)
        return min(self._slots // 2 - self._size_bound, wanted)

    def _poll_size(self) -> None:
        """Take what the device has told meanwhile; do not wait for it."""
        if self._pending_size is not None and self._pending_size.has_arrived:
            told = int(self._pending_size.numpy()[0])
            self._size_bound = min(self._size_bound, told + self._rows_since_size)
            self._pending_size = None

    def _ensure_capacity(self, wanted: int) -> None:
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
            self._may_grow = False  # to try is slow
            if self._slots // 2 - len(self) < min(wanted, self._slots // 32):
                raise  # else the rows come in smaller pieces

    def _slots_for(self, distinct: int) -> int:
        """At most half full with so many; and if it has to grow, by no less than 4 times."""
        if 2 * distinct <= self._slots:
            return self._slots
        return max(4 * self._slots, 1 << (2 * distinct - 1).bit_length())

    @abstractmethod
    def _bytes(self, slots: int) -> int:
        """Memory of a table of so many slots."""

    @abstractmethod
    def _count(self, rows: DeviceArray, weights: DeviceArray | None, each: int) -> None:
        """Queue the counting of rows for which there is room; ``each`` -1 takes them back."""

    @abstractmethod
    def _grow(self, slots: int) -> None:
        """Move everything to a table of so many slots, or leave all as it is and raise."""

    @abstractmethod
    def entries(self) -> Histogram:
        """Distinct rows (distinct, bytes) in no order, and their int64 counts."""

    @abstractmethod
    def drain(self) -> HostHistogram:
        """As entries(), but NumPy arrays, with no new memory on the device; then it is empty."""


def pointer(array: DeviceArray | None) -> np.uint64:
    """A device array's address as a kernel's argument; 0 for None."""
    return np.uint64(0 if array is None else device.address(array))
