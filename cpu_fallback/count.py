"""Counting distinct rows: exact hash tables, grown as states appear.

A slot is chosen by a hash, but equality is always decided on the bytes. A slot is empty when its
count is 0, so the all-zero state needs no special case.
"""

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from .narrow_table import NarrowTable
from .sort import edges, sort
from .threads import in_parallel
from .wide_table import WideTable

# A thread's own table pays off when it sees many rows per distinct one; a small batch goes
# straight into the common table.
_ROWS_PER_THREAD = 1 << 15


# Rows looked at to guess whether most are distinct, and the share from which sorting is faster:
# a table of all-distinct rows misses the cache at every row and is rehashed as it grows.
_SAMPLE = 1 << 12
_MOSTLY_DISTINCT = 0.9


class Table(Protocol):
    """A hash table of rows and their counts."""

    def add(self, packed: NDArray[np.uint8], weights: NDArray[np.int64] | None) -> None: ...

    def entries(self) -> tuple[NDArray[np.uint8], NDArray[np.int64]]: ...

    def __len__(self) -> int: ...


def _table(row_bytes: int) -> Table:
    return NarrowTable(row_bytes) if row_bytes <= 8 else WideTable(row_bytes)


def count(packed: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Distinct rows in order (distinct, bytes), and their int64 counts."""
    rows = np.ascontiguousarray(packed)
    if _looks_distinct(rows):
        return _count_narrow_sorted(rows) if rows.shape[1] <= 8 else _count_sorted(rows)
    counter = Counter(rows.shape[1])
    counter.add(rows)
    return counter.result()


def _looks_distinct(rows: NDArray[np.uint8]) -> bool:
    if len(rows) < 16 * _SAMPLE:
        return False
    sample = _table(rows.shape[1])
    sample.add(np.ascontiguousarray(rows[:: len(rows) // _SAMPLE]), None)
    return len(sample) > _MOSTLY_DISTINCT * _SAMPLE


def _count_narrow_sorted(
    rows: NDArray[np.uint8],
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Rows of at most 8 bytes as integers: NumPy's sort uses SIMD where the processor has it."""
    keys = np.zeros((len(rows), 8), np.uint8)
    keys[:, : rows.shape[1]] = rows
    distinct, counts = np.unique(keys.view("<u8")[:, 0], return_counts=True)
    little = distinct.astype("<u8", copy=False).view(np.uint8).reshape(-1, 8)
    return np.ascontiguousarray(little[:, : rows.shape[1]]), counts.astype(np.int64, copy=False)


def _count_sorted(rows: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    # np.take copies whole rows where rows[index] goes byte by byte, and later steps run in order.
    ordered = np.take(rows, sort(rows), axis=0)
    bounds = edges(ordered, np.arange(len(rows)))
    if len(bounds) - 1 < len(rows):
        ordered = np.take(ordered, bounds[:-1], axis=0)
    return ordered, np.diff(bounds)


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
        return np.take(rows, order, axis=0), counts[order]
