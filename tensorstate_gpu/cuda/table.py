"""What the hash tables for narrow and for wide rows have in common: room, growth, batches."""

from abc import ABC, abstractmethod
from typing import Any

import numpy as np

from . import device

FIRST_SLOTS = 1 << 14
# In one launch, because the table has to have room for as many new ones.
_MOST_ROWS, _MOST_BYTES, _LEAST_ROWS = 1 << 21, 1 << 28, 1 << 12


class Table(ABC):
    """A table of rows and how often each occurred, never more than half full.

    How many distinct rows there are is known to the device; the host knows an upper bound, and asks
    only when that says that the table might fill up.
    """

    _row_bytes: int
    _slots: int  # a power of 2
    _used: Any  # uint64 of shape (1,), on the device
    _at_most: int

    def __len__(self) -> int:
        """Distinct rows; waits for the device."""
        self._at_most = int(self._used[0])
        return self._at_most

    def add(self, rows: Any, weights: Any = None) -> None:
        """Count contiguous rows (states, bytes), each int64 ``weights`` times (default once)."""
        if device.address(rows) % 8:  # some kernels read whole words
            rows = rows.copy()
        start = 0
        while start < len(rows):
            stop = min(len(rows), start + self._room(len(rows) - start))
            self._count(rows[start:stop], None if weights is None else weights[start:stop])
            self._at_most += stop - start
            start = stop

    def _room(self, wanted: int) -> int:
        """Rows that can come without the table filling up, though each were a new one."""
        if self._at_most + wanted > self._slots // 2:
            needed = 2 * (len(self) + min(wanted, self._chunk))
            if needed > self._slots:
                self._grow(max(4 * self._slots, 1 << (needed - 1).bit_length()))
        return min(self._slots // 2 - self._at_most, self._chunk)

    @property
    def _chunk(self) -> int:
        return max(_LEAST_ROWS, min(_MOST_ROWS, _MOST_BYTES // self._row_bytes))

    @abstractmethod
    def _count(self, rows: Any, weights: Any) -> None:
        """Queue the counting of rows for which there is room."""

    @abstractmethod
    def _grow(self, slots: int) -> None:
        """Move everything to a table of so many slots."""

    @abstractmethod
    def entries(self) -> tuple[Any, Any]:
        """Distinct rows (distinct, bytes) in no order, and their int64 counts."""


def at(array: Any) -> np.uint64:
    """A device array's address as a kernel's argument; 0 for None."""
    return np.uint64(0 if array is None else device.address(array))
