"""Histograms as sorted rows and their counts: built by sorting, merged in linear time."""

from collections.abc import Callable, Iterable
from functools import partial
from itertools import pairwise, repeat

import numpy as np
from numpy.typing import NDArray

from . import in_cache, numpy_sort
from .buckets import split_buckets, to_buckets
from .compiling import kernel, read_only
from .intrinsics import address_of, store_word
from .kernel_types import Bytes, Int, Ints, Words
from .radix import sort_buckets
from .sort import gather_rows, parts_to_sort, run_bounds, sort_ranges
from .threads import Range, run, split_ranges
from .words import compare_rows, copy_row, row_word, store_bytes

# Distinct rows in order (distinct, bytes), and their int64 counts.
Histogram = tuple[NDArray[np.uint8], NDArray[np.int64]]

# Narrow rows that are sorted at once: 10 ns each. If not by NumPy, then in one bucket: counters for
# all bits would take too long to clear.
FEW = 1 << 13


def count_by_sorting(rows: NDArray[np.uint8], parts: list[Range]) -> Histogram:
    """Count the rows in some ranges, one thread per range. Faster than a table if most differ."""
    if rows.shape[1] <= 8:
        in_caches = in_cache.fits(parts) and (numpy_sort.is_fast() or len(rows) > FEW)
        return _count_in_cache(rows, parts) if in_caches else _count_narrow(rows, parts)
    keys, index = sort_ranges(rows, parts)
    bounds = run_bounds(rows, keys, index)
    return gather_rows(rows, index[bounds[:-1]], len(parts)), np.diff(bounds)


def count_weighted(rows: NDArray[np.uint8], weights: NDArray[np.int64]) -> Histogram:
    """Count rows, at least one, each as often as its weight says."""
    parts = parts_to_sort(len(rows))
    keys, index = sort_ranges(rows, parts)
    starts = run_bounds(rows, keys, index)[:-1]
    return gather_rows(rows, index[starts], len(parts)), np.add.reduceat(weights[index], starts)


def in_order(rows: NDArray[np.uint8], counts: NDArray[np.int64], threads: int) -> Histogram:
    """Return a histogram, from rows that are distinct but not in order."""
    if not len(rows):
        return rows, counts
    parts = split_ranges(len(rows), threads)
    _, index = sort_ranges(rows, parts)
    return gather_rows(rows, index, threads), np.take(counts, index)


def _count_narrow(rows: NDArray[np.uint8], parts: list[Range]) -> Histogram:
    keys, _, bounds = to_buckets(rows, 0, parts, with_index=False)
    pieces = split_buckets(bounds, len(parts))

    sort_and_count = partial(_sort_and_count, keys, bounds, numpy_sort.is_fast())
    found = run(sort_and_count, pieces)  # distinct keys in each piece
    ranges = bounds[np.array(pieces)]
    return write_pieces(partial(_write_runs, keys), ranges, found, rows.shape[1])


def _sort_and_count(
    keys: NDArray[np.uint64],
    bounds: NDArray[np.int64],
    numpy_is_fast: bool,
    first: int,
    last: int,
) -> int:
    """Sort each of the buckets [first, last). Return how many keys are distinct."""
    if not numpy_is_fast:
        sort_buckets(keys, None, bounds, first, last)
    found = 0
    for start, stop in pairwise(bounds[first : last + 1].tolist()):
        if numpy_is_fast:
            keys[start:stop].sort()
        found += _count_runs(keys[start:stop])
    return found


def _count_in_cache(rows: NDArray[np.uint8], parts: list[Range]) -> Histogram:
    """Write the states of each range of words where they belong if no row repeats."""
    ranges = np.array(parts)
    packed = np.empty((sum(stop - start for start, stop in parts), rows.shape[1]), np.uint8)
    counts = np.empty(len(packed), np.int64)

    def count_between(low: np.uint64, high: np.uint64) -> tuple[Int, Int]:
        words, lower = in_cache.sorted_between(rows, ranges, low, high)
        own = packed[: lower + len(words)]  # a word is written beyond a narrower row, if allowed
        return lower, lower + _write_runs(words, 0, len(words), own, counts, lower)

    (_, found), *others = run(count_between, in_cache.split_words(rows, parts))
    for start, stop in others:  # move them down, behind those before
        end = found + stop - start
        packed[found:end], counts[found:end] = packed[start:stop], counts[start:stop]
        found = end
    if found < len(packed) // 2:
        return packed[:found].copy(), counts[:found].copy()
    return packed[:found], counts[:found]


def write_pieces(
    write: Callable[[Int, Int, NDArray[np.uint8], NDArray[np.int64], Int], object],
    pieces: Iterable[Iterable[Int]],
    found: list[int],
    row_bytes: int,
) -> Histogram:
    """Build a histogram of pieces, in each of which so many states were found; a thread for each.

    ``write(start, stop, packed, counts, at)`` writes those of a piece from row ``at`` on, none
    beyond ``packed``.
    """
    packed = np.empty((sum(found), row_bytes), np.uint8)
    counts = np.empty(len(packed), np.int64)
    ends = np.array(found, np.int64).cumsum()
    # Without functions of Python for each piece: a few rows are counted in 20 us.
    up_to = map(packed.__getitem__, map(slice, ends))
    run(write, [*zip(*zip(*pieces, strict=True), up_to, repeat(counts), ends - found)])
    return packed, counts


def merge(parts: list[Histogram], row_bytes: int) -> Histogram:
    """Merge histograms; each part is in order, and so is the result."""
    if not parts:
        return np.empty((0, row_bytes), np.uint8), np.empty(0, np.int64)
    while len(parts) > 1:
        pairs = zip(parts[::2], parts[1::2], strict=False)
        parts = [_merge_two(*one, *other) for one, other in pairs] + parts[len(parts) // 2 * 2 :]
    return parts[0]


def _merge_two(
    rows: NDArray[np.uint8],
    counts: NDArray[np.int64],
    other_rows: NDArray[np.uint8],
    other_counts: NDArray[np.int64],
) -> Histogram:
    merged = np.empty((len(rows) + len(other_rows), rows.shape[1]), np.uint8)
    sums = np.empty(len(merged), np.int64)
    one = read_only(rows), read_only(counts)
    other = read_only(other_rows), read_only(other_counts)
    add_up = _merge_narrow if rows.shape[1] <= 8 else _merge
    found = add_up(*one, *other, merged, sums)
    # The memory behind them was never written, so it costs nothing.
    return merged[:found], sums[:found]


@kernel
def _count_runs(keys: Words) -> int:
    """Count the distinct keys, which are in order."""
    distinct = int(len(keys) > 0)
    keys, following = keys[:-1], keys[1:]
    for i in range(len(following)):
        distinct += keys[i] != following[i]
    return distinct


@kernel
def _write_runs(keys: Words, start: Int, stop: Int, packed: Bytes, counts: Ints, at: Int) -> Int:
    """Write each distinct key of [start, stop) and its count, from row ``at`` of ``packed`` on.

    Returns how many there are. Without branches, as where runs end is random: each key is written,
    over one of the same run.
    """
    if start == stop:
        return 0
    width, end = packed.shape[1], address_of(packed) + packed.size
    rows, times = address_of(packed), address_of(counts)
    words, following = keys[start : stop - 1], keys[start + 1 : stop]
    begin: Int
    first, begin = at, 0  # of the run
    for i in range(len(following)):
        word = words[i]
        store_bytes(word, rows + at * width, width, end)
        store_word(np.uint64(i + 1 - begin), times + 8 * at)  # as far as is known
        ends = np.int64(word != following[i])
        at += ends
        begin += (i + 1 - begin) & -ends
    store_bytes(keys[stop - 1], rows + at * width, width, end)
    counts[at] = stop - start - begin
    return at - first + 1


@kernel
def _merge(
    rows: Bytes, counts: Ints, other_rows: Bytes, other_counts: Ints, merged: Bytes, sums: Ints
) -> int:
    width = rows.shape[1]
    one, end = address_of(rows), address_of(rows) + rows.size
    other, other_end = address_of(other_rows), address_of(other_rows) + other_rows.size
    target = address_of(merged)
    i, j, found = 0, 0, 0
    while i < len(rows) or j < len(other_rows):
        if i == len(rows):
            order = 1
        elif j == len(other_rows):
            order = -1
        else:
            order = compare_rows(one, other, width, end, other_end)
        copy_row(one if order <= 0 else other, target, width)
        sums[found] = 0
        if order <= 0:
            sums[found] += counts[i]
            i += 1
            one += width
        if order >= 0:
            sums[found] += other_counts[j]
            j += 1
            other += width
        target += width
        found += 1
    return found


@kernel
def _merge_narrow(
    rows: Bytes, counts: Ints, other_rows: Bytes, other_counts: Ints, merged: Bytes, sums: Ints
) -> int:
    """Merge rows of at most 8 bytes, without branches: which row is the lower one is random."""
    width = rows.shape[1]
    one, end = address_of(rows), address_of(rows) + rows.size
    other, other_end = address_of(other_rows), address_of(other_rows) + other_rows.size
    target, stop = address_of(merged), address_of(merged) + merged.size
    i: Int
    j: Int
    i, j, found = 0, 0, 0
    while i < len(rows) and j < len(other_rows):
        a, b = row_word(one, 0, width, end), row_word(other, 0, width, other_end)
        takes_one, takes_other = np.int64(a <= b), np.int64(b <= a)
        store_bytes(min(a, b), target, width, stop)
        sums[found] = (counts[i] & -takes_one) + (other_counts[j] & -takes_other)
        i += takes_one
        j += takes_other
        one += takes_one * width
        other += takes_other * width
        target += width
        found += 1
    for k in range(i, len(rows)):
        store_bytes(row_word(one, 0, width, end), target, width, stop)
        sums[found] = counts[k]
        one += width
        target += width
        found += 1
    for k in range(j, len(other_rows)):
        store_bytes(row_word(other, 0, width, other_end), target, width, stop)
        sums[found] = other_counts[k]
        other += width
        target += width
        found += 1
    return found
