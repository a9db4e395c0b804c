"""Sorting, counting and merging packed rows on the GPU: CuPy's stable sorts over 64-bit words.

Exact, on the device, in memory of a few times the rows. Equality is decided on the bytes.
"""

from typing import Any

import numpy as np

from . import device

Histogram = tuple[Any, Any]


def sort(packed: Any) -> tuple[Any, Any]:
    """Bounds of runs of equal rows, and the stable order of the rows; see the Backend protocol."""
    xp = device.library()
    if not len(packed):
        return xp.zeros(1, np.int64), xp.zeros(0, np.int64)
    words = _words(packed)
    order = xp.lexsort(words).astype(np.int64, copy=False)
    differs = xp.zeros(len(order) - 1, np.bool_)
    for word in words:
        in_order = word[order]
        differs |= in_order[1:] != in_order[:-1]
    inner = xp.flatnonzero(differs) + 1
    ends = (xp.asarray([0], np.int64), inner.astype(np.int64), xp.asarray([len(order)], np.int64))
    return xp.concatenate(ends), order


def _words(packed: Any) -> Any:
    """Rows as uint64 words, the lowest first: of shape (words, rows), as lexsort wants them."""
    xp = device.library()
    rows, width = packed.shape
    padded = xp.zeros((rows, -(-width // 8) * 8), np.uint8)
    padded[:, :width] = packed
    return xp.ascontiguousarray(padded.view(np.uint64).T)


def count(packed: Any) -> Histogram:
    """Distinct rows in order (distinct, bytes), and their int64 counts."""
    xp = device.library()
    edges, order = sort(packed)
    return xp.ascontiguousarray(packed[order[edges[:-1]]]), xp.diff(edges)


def merge(parts: list[Histogram], row_bytes: int) -> Histogram:
    """The counts of all parts together, distinct rows in order."""
    xp = device.library()
    if not parts:
        return xp.empty((0, row_bytes), np.uint8), xp.empty(0, np.int64)
    if len(parts) == 1:
        return parts[0]
    rows, counts = (xp.concatenate(column) for column in zip(*parts, strict=True))
    return _summed(rows, counts)


def _summed(rows: Any, counts: Any) -> Histogram:
    """Distinct rows in order, and the sums of what stands beside equal ones."""
    xp = device.library()
    edges, order = sort(rows)
    sums = xp.cumsum(counts[order])
    totals = xp.concatenate((xp.zeros(1, np.int64), sums[edges[1:] - 1]))
    return rows[order[edges[:-1]]], xp.diff(totals)


class Counter:
    """Running counts of packed states on the device; see the Backend protocol.

    Histograms of batches wait until together they are as large as the running one, which is then
    merged with them: each state is sorted a logarithmic number of times.
    """

    def __init__(self, row_bytes: int) -> None:
        self._row_bytes = row_bytes
        self._running: list[Histogram] = []
        self._waiting: list[Histogram] = []
        self._total = 0

    @property
    def total(self) -> int:
        return self._total

    def add(self, packed: Any, weights: Any = None) -> None:
        if not len(packed):
            return
        if weights is None:
            self._waiting.append(count(packed))
            self._total += len(packed)
        else:
            self._waiting.append(_summed(packed, weights))
            self._total += int(weights.sum())
        waiting = sum(len(rows) for rows, _ in self._waiting)
        if waiting >= sum(len(rows) for rows, _ in self._running):
            self._merge()

    def _merge(self) -> None:
        self._running = [merge(self._running + self._waiting, self._row_bytes)]
        self._waiting = []

    def result(self) -> Histogram:
        self._merge()
        return self._running[0]
