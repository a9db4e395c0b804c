"""Counting distinct rows: exact hash tables, grown as states appear.

A slot is chosen by a hash, but equality is always decided on the bytes. A slot is empty when its
count is 0, so the all-zero state needs no special case.
"""

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from .narrow_table import NarrowTable
from .sort import sort
from .threads import in_parallel
from .wide_table import WideTable

# A thread's own table pays off when it sees many rows per distinct one; a small batch goes
# straight into the common table.
_ROWS_PER_THREAD = 1 << 15


class Table(Protocol):
    """A hash table of rows and their counts."""

    def add(self, packed: NDArray[np.uint8], weights: NDArray[np.int64] | None) -> None: ...

    def entries(self) -> tuple[NDArray[np.uint8], NDArray[np.int64]]: ...

    def __len__(self) -> int: ...


def _table(row_bytes: int) -> Table:
    return NarrowTable(row_bytes) if row_bytes <= 8 else WideTable(row_bytes)


class Counter:
    """Running counts of packed states; see the Backend protocol. Not thread-safe by itself."""

    def __init__(self, row_bytes: int) -> None:
        self._row_bytes = row_bytes
        self._table = _table(row_bytes)
        self._total = 0

    @property
    def total(self) -> int:
        return self._total

    def add(self, packed: NDArray[np.uint8], weights: NDArray[np.int64] | None = None) -> None:
        rows = np.ascontiguousarray(packed)
        if weights is not None or len(rows) < 2 * _ROWS_PER_THREAD:
            self._table.add(rows, weights)
        else:
            self._add_in_parallel(rows)
        self._total += len(rows) if weights is None else int(weights.sum())

    def _add_in_parallel(self, rows: NDArray[np.uint8]) -> None:
        parts: list[Table] = []

        def task(start: int, stop: int) -> None:
            part = _table(self._row_bytes)
            part.add(rows[start:stop], None)
            parts.append(part)

        # Hashing moves about 32 bytes of table for each row, whatever its width.
        in_parallel(task, len(rows), len(rows) * (32 + self._row_bytes))
        parts.sort(key=len)
        if not len(self._table):
            self._table = parts.pop()
        for part in parts:
            self._table.add(*part.entries())

    def result(self) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        rows, counts = self._table.entries()
        order = sort(rows)
        return rows[order], counts[order]
