"""Sorting packed rows as little-endian integers: by their highest word, ties by the words below.

Random rows are told apart by their first word. Rows that are equal altogether are recognised in one
look at each; only what stays tied is sorted by its next word.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .compiling import kernel
from .lanes import address_of, prefetch
from .radix import balanced, sort_run, to_buckets
from .threads import cut, in_parallel, ranges, run
from .words import copy_row, row_word, rows_equal

_AHEAD = 16  # rows whose cache lines are asked for before they are read


def sort(packed: NDArray[np.uint8]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Bounds of runs of equal rows, and the stable order of the rows; see the Backend protocol."""
    rows = np.ascontiguousarray(packed)
    if not len(rows):
        return np.zeros(1, np.int64), np.zeros(0, np.int64)
    keys, index = sort_ranges(rows, ranges(len(rows), 48 * len(rows)))
    return edges(rows, keys, index), index


def sort_ranges(
    rows: NDArray[np.uint8], parts: list[tuple[int, int]]
) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """As sort, of the rows in some ranges only; one thread for each. Highest words, and order."""
    top = (rows.shape[1] + 7) // 8 - 1
    keys, index, bounds = to_buckets(rows, top, parts, with_index=True)
    assert index is not None
    lower = np.empty(len(keys) if top else 0, np.uint64)
    run(
        lambda first, last: _sort_buckets(rows, top, keys, index, lower, bounds, first, last),
        balanced(bounds, len(parts)),
    )
    return keys, index


def edges(
    rows: NDArray[np.uint8], keys: NDArray[np.uint64], index: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Bounds of the runs of equal rows in what sort_ranges gave: int64 of shape (distinct + 1,)."""
    found = np.empty(len(index), np.int64)
    pieces = in_parallel(
        lambda i, j: found[i : i + _find_edges(rows, keys, index, i, j, found)],
        len(index),
        16 * len(index),
    )
    return np.concatenate([*pieces, [len(index)]])


def take(rows: NDArray[np.uint8], index: NDArray[np.int64], threads: int) -> NDArray[np.uint8]:
    """``rows[index]``."""
    taken = np.empty((len(index), rows.shape[1]), np.uint8)
    run(lambda start, stop: _take(rows, index, taken, start, stop), cut(len(index), threads))
    return taken


@kernel
def _sort_buckets(
    rows: Any, top: int, keys: Any, index: Any, lower: Any, bounds: Any, first: int, last: int
) -> None:
    largest = 0
    for bucket in range(first, last):
        largest = max(largest, bounds[bucket + 1] - bounds[bucket])
    scratch = (
        np.empty(largest, np.uint64),
        np.empty(largest, np.int64),
        np.empty((2, 256), np.int64),
    )
    for bucket in range(first, last):
        start, stop = bounds[bucket], bounds[bucket + 1]
        sort_run(keys, index, scratch, start, stop)
        if top:
            _settle_ties(rows, top - 1, keys, index, lower, scratch, start, stop)


@kernel
def _settle_ties(
    rows: Any, word: int, keys: Any, index: Any, lower: Any, scratch: Any, start: int, stop: int
) -> int:
    """Sort each run of equal keys in [start, stop) by ``word`` and the words below it."""
    width, end = rows.shape[1], address_of(rows) + rows.size
    first = start
    for i in range(start + 1, stop + 1):
        ahead = i + _AHEAD
        if ahead < stop and keys[ahead] == keys[ahead - 1]:
            prefetch(address_of(rows) + index[ahead] * width)
            prefetch(address_of(rows) + index[ahead - 1] * width)
        if i < stop and keys[i] == keys[first]:
            continue
        if i - first > 1 and not _all_equal(rows, index, first, i):
            for j in range(first, i):
                row = address_of(rows) + index[j] * width
                lower[j] = row_word(row, word, width, end)
            sort_run(lower, index, scratch, first, i)
            if word:
                _settle_ties(rows, word - 1, lower, index, lower, scratch, first, i)
        first = i
    return 0


@kernel
def _all_equal(rows: Any, index: Any, first: int, stop: int) -> bool:
    width, base = rows.shape[1], address_of(rows)
    for i in range(first + 1, stop):
        if not rows_equal(base + index[first] * width, base + index[i] * width, width):
            return False
    return True


@kernel
def _find_edges(rows: Any, keys: Any, index: Any, start: int, stop: int, found: Any) -> int:
    """Note, from ``found[start]`` on, where rows differ from the one before; give the number."""
    width, base = rows.shape[1], address_of(rows)
    count = 0
    for i in range(start, stop):
        # Rows of different keys need no look, and those of at most 8 bytes are their keys.
        differs = i == 0 or keys[i] != keys[i - 1]
        if width > 8 and not differs:
            prefetch(base + index[min(i + _AHEAD, stop - 1)] * width)
            differs = not rows_equal(base + index[i] * width, base + index[i - 1] * width, width)
        if differs:
            found[start + count] = i
            count += 1
    return count


@kernel
def _take(rows: Any, index: Any, taken: Any, start: int, stop: int) -> None:
    width, base, target = rows.shape[1], address_of(rows), address_of(taken)
    for i in range(start, stop):
        prefetch(base + index[min(i + _AHEAD, stop - 1)] * width)
        copy_row(base + index[i] * width, target + i * width, width)
