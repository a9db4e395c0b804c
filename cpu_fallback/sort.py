"""Sorting packed rows as little-endian integers: by the highest word, ties by the lower words.

The highest word distinguishes random rows. Rows that are completely equal are recognised by reading
each of them once. Other ties are sorted by the highest of the lower words in which they differ.
"""

import numpy as np
from numpy.typing import NDArray

from .buckets import split_buckets, to_buckets
from .compiling import inlined, kernel
from .intrinsics import address_of, load_word, prefetch
from .kernel_types import Bytes, Int, Ints, Scratch, Words
from .radix import new_scratch, sort_buckets, sort_run
from .threads import Range, in_parallel, run, split_ranges, thread_ranges
from .words import copy_row, row_word, rows_equal

# Up to here NumPy's sort is as fast as ours, and avoids the seconds that ours takes to compile.
_SMALL_ROWS = 1 << 12
_PREFETCH_BYTES = 1 << 13  # of wide rows: 20 MB in rows of 2 KB were gathered in 1.7 ms, not 3.5
_PREFETCH_ROWS = 16  # rows whose cache lines are prefetched before they are read


def parts_to_sort(rows: int) -> list[Range]:
    """Split rows into a range for each thread that is worth waking to sort them.

    About six passes read a word of 8 bytes for each row, and write it.
    """
    return thread_ranges(rows, 6 * 16 * rows)


def sort(packed: NDArray[np.uint8]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the bounds of runs of equal rows, and the stable order; see the Backend protocol."""
    rows = np.ascontiguousarray(packed)
    if not len(rows):
        return np.zeros(1, np.int64), np.zeros(0, np.int64)
    keys, index = sort_ranges(rows, parts_to_sort(len(rows)))
    return run_bounds(rows, keys, index), index


def sort_ranges(
    rows: NDArray[np.uint8], parts: list[Range]
) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """Sort the rows in some ranges, one thread per range. Return their highest words, and order."""
    top = (rows.shape[1] + 7) // 8 - 1
    if not top and len(parts) == 1 and parts[0][1] - parts[0][0] <= _SMALL_ROWS:
        return _sort_small(rows, *parts[0])
    keys, index, bounds = to_buckets(rows, top, parts, with_index=True)
    assert index is not None
    pieces = split_buckets(bounds, len(parts))
    run(lambda first, last: sort_buckets(keys, index, bounds, first, last), pieces)
    if top:
        lower = np.empty(len(keys), np.uint64)
        run(
            lambda i, j: _settle_buckets(rows, top, keys, index, bounds, i, j, lower),
            pieces,
        )
    return keys, index


def run_bounds(
    rows: NDArray[np.uint8], keys: NDArray[np.uint64], index: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Return the bounds of runs of equal rows in the result of sort_ranges: (distinct + 1,)."""
    found = np.empty(len(index), np.int64)
    pieces = in_parallel(
        lambda i, j: found[i : i + _find_run_bounds(rows, keys, index, i, j, found)],
        len(index),
        16 * len(index),
    )
    return np.concatenate([*pieces, [len(index)]])


def gather_rows(
    rows: NDArray[np.uint8], index: NDArray[np.int64], threads: int
) -> NDArray[np.uint8]:
    """Return ``rows[index]``, computed on several threads."""
    taken = np.empty((len(index), rows.shape[1]), np.uint8)
    run(
        lambda start, stop: _gather_rows(rows, index, taken, start, stop),
        split_ranges(len(index), threads),
    )
    return taken


def _sort_small(
    rows: NDArray[np.uint8], start: int, stop: int
) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """Like sort_ranges(), for rows of at most 8 bytes, with NumPy."""
    words = np.zeros((stop - start, 8), np.uint8)
    words[:, : rows.shape[1]] = rows[start:stop]
    keys = words.view("<u8")[:, 0].astype(np.uint64, copy=False)
    index = np.argsort(keys, kind="stable")
    return keys[index], index + start


@kernel
def _settle_buckets(
    rows: Bytes,
    top: Int,
    keys: Words,
    index: Ints,
    bounds: Ints,
    first: Int,
    last: Int,
    lower: Words,
) -> None:
    """Sort rows that have equal highest words, in buckets [first, last), by the lower words."""
    scratch = new_scratch(index, bounds, first, last)
    # A stack of runs, instead of recursive calls: wide rows could need thousands of them.
    waiting = np.empty((len(scratch[0]) // 2 + 1, 3), np.int64)
    base, width = address_of(rows), rows.shape[1]
    for bucket in range(first, last):
        start, stop = bounds[bucket], bounds[bucket + 1]
        begin = start
        for i in range(start + 1, stop + 1):
            ahead = i + _PREFETCH_ROWS
            if ahead < stop and keys[ahead] == keys[ahead - 1]:
                prefetch(base + index[ahead] * width)
                prefetch(base + index[ahead - 1] * width)
            if i < stop and keys[i] == keys[begin]:
                continue
            if i - begin > 1 and not _all_equal(rows, index, begin, i):
                waiting[0, 0], waiting[0, 1], waiting[0, 2] = begin, i, top
                _settle(rows, index, lower, scratch, waiting)
            begin = i


@inlined
def _all_equal(rows: Bytes, index: Ints, start: Int, stop: Int) -> bool:
    """Return whether all rows of a run are equal."""
    width, base = rows.shape[1], address_of(rows)
    for i in range(start + 1, stop):
        if not rows_equal(base + index[start] * width, base + index[i] * width, width):
            return False
    return True


@kernel
def _settle(rows: Bytes, index: Ints, lower: Words, scratch: Scratch, waiting: Ints) -> None:
    """Sort the first waiting run (start, stop, words that may differ): higher words are equal."""
    width, end = rows.shape[1], address_of(rows) + rows.size
    count = 1
    while count:
        count -= 1
        start, stop, words = waiting[count, 0], waiting[count, 1], waiting[count, 2]
        word = _highest_difference(rows, index, start, stop, words)
        if word < 0:
            continue
        for i in range(start, stop):
            lower[i] = row_word(address_of(rows) + index[i] * width, word, width, end)
        sort_run(lower, index, scratch, start, stop, np.int64(0))
        first = start
        for i in range(start + 1, stop + 1):
            if i < stop and lower[i] == lower[first]:
                continue
            if word and i - first > 1:
                waiting[count, 0], waiting[count, 1], waiting[count, 2] = first, i, word
                count += 1
            first = i


@kernel
def _highest_difference(rows: Bytes, index: Ints, start: Int, stop: Int, words: Int) -> Int:
    """Return the highest of the lowest ``words`` words in which rows of a run differ, or -1."""
    width, base = rows.shape[1], address_of(rows)
    highest: Int
    one, highest = base + index[start] * width, -1
    for i in range(start + 1, stop):
        other = base + index[i] * width
        if words > 1 and rows_equal(one, other, 8 * words):
            continue
        word = words - 1
        while word > highest and load_word(one + 8 * word) == load_word(other + 8 * word):
            word -= 1
        highest = max(highest, word)
    return highest


@kernel
def _find_run_bounds(
    rows: Bytes, keys: Words, index: Ints, start: Int, stop: Int, found: Ints
) -> int:
    """Write where rows differ from the previous row, from ``found[start]`` on. Return the count."""
    width, base = rows.shape[1], address_of(rows)
    count = 0
    for i in range(start, stop):
        # Rows with different keys need not be read, and rows of at most 8 bytes are their keys.
        differs = i == 0 or keys[i] != keys[i - 1]
        if width > 8 and not differs:
            prefetch(base + index[min(i + _PREFETCH_ROWS, stop - 1)] * width)
            differs = not rows_equal(base + index[i] * width, base + index[i - 1] * width, width)
        if differs:
            found[start + count] = i
            count += 1
    return count


@kernel
def _gather_rows(rows: Bytes, index: Ints, taken: Bytes, start: Int, stop: Int) -> None:
    width, base, target = rows.shape[1], address_of(rows), address_of(taken)
    # Hardware reads ahead within a row only: whole rows have to be on their way.
    before = max(1, min(_PREFETCH_ROWS, _PREFETCH_BYTES // width))
    for i in range(start, stop):
        ahead = base + index[min(i + before, stop - 1)] * width
        for line in range(0, width, 64):
            prefetch(ahead + line)
        copy_row(base + index[i] * width, target + i * width, width)
