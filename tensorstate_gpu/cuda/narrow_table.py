"""A hash table on the device, for rows of at most 8 bytes."""

from typing import Any

import numpy as np

from . import device
from .launch import Launch, blocks_for

_FIRST_SLOTS = 1 << 14
_CHUNK = 1 << 21  # rows in one launch: the table has to have room for as many new ones
_BLOCKS = 1 << 11  # several for each multiprocessor of any GPU
_LEAST_ROWS = 1 << 12  # for a block: emptying and flushing its own table is worth 1,024 rows


class NarrowTable:
    """Keys and counts by slot, never more than half full; see kernels/count.cu.

    How many distinct rows there are is known to the device; the host knows an upper bound, and asks
    only when that says that the table might fill up.
    """

    def __init__(self, row_bytes: int, slots: int = _FIRST_SLOTS) -> None:
        self._row_bytes = row_bytes
        self._make(slots)

    def _make(self, slots: int) -> None:
        xp = device.library()
        self._keys = xp.full(slots + 1, ~np.uint64(0), np.uint64)
        self._counts = xp.zeros(slots + 1, np.uint64)
        self._used = xp.zeros(1, np.uint64)
        self._slots, self._at_most = slots, 0

    def __len__(self) -> int:
        """Distinct rows; waits for the device. The row that is all ones is not counted."""
        self._at_most = int(self._used[0])
        return self._at_most

    def add(self, rows: Any, weights: Any = None) -> None:
        """Count contiguous rows (states, bytes), each int64 ``weights`` times (default once)."""
        if device.address(rows) % 8:  # rows of 2, 4 and 8 bytes are read as one number
            rows = rows.copy()
        start = 0
        while start < len(rows):
            stop = min(len(rows), start + self._room(len(rows) - start))
            part = rows[start:stop]
            if weights is None:
                self._count(part)
            else:
                self._count_weighted(part, weights[start:stop])
            self._at_most += stop - start
            start = stop

    def _room(self, wanted: int) -> int:
        """Rows that can come without the table filling up, though each were a new one."""
        most = self._slots // 2
        if self._at_most + wanted > most:
            needed = 2 * (len(self) + min(wanted, _CHUNK))
            if needed > self._slots:
                self._grow(max(4 * self._slots, 1 << (needed - 1).bit_length()))
                most = self._slots // 2
        return most - self._at_most

    def _grow(self, slots: int) -> None:
        rows, counts = self.entries()
        self._make(slots)
        self._count_weighted(rows, counts)
        self._at_most = len(rows)

    def _count(self, rows: Any) -> None:
        each = max(_LEAST_ROWS, -(-len(rows) // _BLOCKS))
        arguments = (np.int64(len(rows)), np.int64(each), *self._table())
        self._launch("count_rows", -(-len(rows) // each), rows, *arguments)

    def _count_weighted(self, rows: Any, weights: Any) -> None:
        if len(rows):
            arguments = (_at(weights), np.int64(len(rows)), *self._table())
            self._launch("count_weighted", blocks_for(len(rows)), rows, *arguments)

    def _table(self) -> tuple[Any, ...]:
        mask = np.uint64(self._slots - 1)
        return _at(self._keys), _at(self._counts), _at(self._used), mask

    def entries(self) -> tuple[Any, Any]:
        """Distinct rows (distinct, bytes) in no order, and their int64 counts."""
        xp = device.library()
        distinct = len(self) + int(self._counts[self._slots] > 0)
        rows = device.empty((distinct, self._row_bytes), np.uint8)
        counts = device.empty((distinct,), np.int64)
        found = xp.zeros(1, np.uint64)
        arguments = (
            _at(self._counts),
            np.int64(self._slots + 1),
            _at(rows),
            _at(counts),
            _at(found),
        )
        self._launch("entries", blocks_for(self._slots + 1), self._keys, *arguments)
        return rows, counts

    def _launch(self, kernel: str, blocks: int, first: Any, *arguments: Any) -> None:
        defines = (("WIDTH", self._row_bytes),)
        device.run(Launch("count", kernel, defines, (blocks, 1), (_at(first), *arguments)))


def _at(array: Any) -> np.uint64:
    return np.uint64(device.address(array))
