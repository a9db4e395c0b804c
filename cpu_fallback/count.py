"""Counting distinct rows exactly: by hash tables while rows repeat, by sorting where they do not.

A slot is chosen by a hash, but equality is always decided on the bytes. A slot is empty when its
count is 0, so the all-zero state needs no special case.
"""

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from .merge import Histogram, count_by_sorting, merge
from .narrow_table import NarrowTable, Patience
from .sort import sort, take
from .threads import in_parallel
from .wide_table import WideTable

# A thread's own table pays off when it sees many rows per distinct one; a small batch goes
# straight into the common table.
_ROWS_PER_THREAD = 1 << 15


class Table(Protocol):
    """A hash table of rows and their counts."""

    def add(
        self,
        packed: NDArray[np.uint8],
        weights: NDArray[np.int64] | None,
        start: int,
        stop: int,
        patience: Patience,
    ) -> int: ...

    def entries(self) -> Histogram: ...

    def __len__(self) -> int: ...


def _table(row_bytes: int) -> Table:
    return NarrowTable(row_bytes) if row_bytes <= 8 else WideTable(row_bytes)


def _always(distinct: int, seen: int) -> bool:
    """Patience without end."""
    return False


def _while_rows_repeat(distinct: int, seen: int) -> bool:
    """Give up a table that outgrows the cache while most rows are new to it.

    Rows drawn from 140,000 states have repeated 3 % when 2**13 are known, and counting them in a
    table of that size still beats sorting. Later ones have to repeat more.
    """
    for known, repeats in ((1 << 19, 3), (1 << 17, 1.5), (1 << 15, 1.1), (1 << 13, 1.03)):
        if distinct >= known - 64:
            return seen < repeats * distinct
    return False


def count(packed: NDArray[np.uint8]) -> Histogram:
    """Distinct rows in order (distinct, bytes), and their int64 counts."""
    rows = np.ascontiguousarray(packed)
    width = rows.shape[1]

    def task(start: int, stop: int) -> tuple[Table, tuple[int, int]]:
        """A table of some rows, and the range of those still to be counted."""
        table = _table(width)
        done = table.add(rows, None, start, stop, _while_rows_repeat)
        # To sort a few rows once more is cheaper than to merge a few with many.
        few = done < stop and done - start < stop - done
        return (_table(width), (start, stop)) if few else (table, (done, stop))

    # Hashing moves about 32 bytes of table for each row, whatever its width.
    done = in_parallel(task, len(rows), len(rows) * (32 + width))
    parts = [_in_order(table) for table, _ in done if len(table)]
    rest = [(start, stop) for _, (start, stop) in done if start < stop]
    if rest:
        parts.append(count_by_sorting(rows, rest))
    return merge(parts, width)


def _in_order(table: Table) -> Histogram:
    rows, counts = table.entries()
    order = sort(rows)
    return take(rows, order), counts[order]


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
            self._table.add(rows, weights, 0, len(rows), _always)
        else:
            self._add_in_parallel(rows)
        self._total += len(rows) if weights is None else int(weights.sum())

    def _add_in_parallel(self, rows: NDArray[np.uint8]) -> None:
        def task(start: int, stop: int) -> Table:
            part = _table(self._row_bytes)
            part.add(rows, None, start, stop, _always)
            return part

        parts = in_parallel(task, len(rows), len(rows) * (32 + self._row_bytes))
        parts.sort(key=len)
        if not len(self._table):
            self._table = parts.pop()
        for part in parts:
            distinct, counts = part.entries()
            self._table.add(distinct, counts, 0, len(distinct), _always)

    def result(self) -> Histogram:
        return _in_order(self._table)
