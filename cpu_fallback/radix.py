"""Sorting 64-bit keys on all threads: one pass into buckets of increasing keys, then each in cache.

A bucket is sorted by the highest 16 bits of the difference between each key and its least key. For
random keys this sorts nearly all of them, and an insertion pass sorts the rest. Runs of many keys
that agree in these bits are sorted in the same way by the bits below. Where insertions take too
many moves (neurons that seldom fire tell few keys apart), the next buckets are sorted by 22 bits,
then 33, and so on. Keys may carry an index; equal keys keep their order.
"""

import itertools

import numpy as np
from numpy.typing import NDArray

from .compiling import inlined, kernel
from .intrinsics import address_of
from .kernel_types import Bytes, Cells, Index, Int, Ints, Scratch, Words
from .threads import Range, run
from .words import row_word

# Approximate number of keys in a bucket: 64 KiB of keys stay in the caches of one core. Writing to
# more streams at the same time costs more than smaller buckets save, unless the buckets grow beyond
# the second-level cache.
_BUCKET, _LARGE_BUCKET = 1 << 13, 1 << 15
_STREAMS, _MOST_BUCKETS = 1 << 10, 1 << 12
_ALONE = 1 << 18  # up to so many keys, waking a thread twice takes longer than distributing them
# Neurons rarely fire half of the time, so keys are clustered. To fill the buckets evenly, the range
# of keys is divided into cells of equal width, most of them empty. A sample tells which bucket each
# cell belongs to.
_CELLS = 1 << 12
_SAMPLE_PER_BUCKET = 8
_SMALL = 32  # up to this length an insertion sort is faster than counting digits
_MOVES = np.int64(16)  # a run in which an insertion would move a key further is sorted by more bits
_MOVED = 4  # of as many keys, one moving by one place is too much: sort by one digit more
_DIGIT, _MOST_DIGITS = 11, 6  # bits of a digit; digits of a key


def to_buckets(
    rows: NDArray[np.uint8], word: int, ranges: list[Range], *, with_index: bool
) -> tuple[NDArray[np.uint64], NDArray[np.int64] | None, NDArray[np.int64]]:
    """Sort one word of each row in ``ranges``, into buckets of rising keys.

    One thread distributes each range, or one all of them where they are few. Returns the keys, the
    index of each row if asked for, bucket after bucket, and the bounds of the buckets.
    """
    total = sum(stop - start for start, stop in ranges)
    if total <= _ALONE and total == ranges[-1][1] - ranges[0][0]:
        ranges = [(ranges[0][0], ranges[-1][1])]
    if total <= _BUCKET and len(ranges) == 1:
        return _one_bucket(rows, word, *ranges[0], with_index=with_index)
    few = _power_of_2(total / _BUCKET, _STREAMS // (1 + with_index))
    buckets = max(few, _power_of_2(total / _LARGE_BUCKET, _MOST_BUCKETS))
    cells = _sample_cells(rows, word, ranges, buckets)
    counts = np.zeros((len(ranges), buckets), np.int64)
    run(
        lambda part, start, stop: _histogram(rows, word, start, stop, *cells, counts[part]),
        [(part, *bounds) for part, bounds in enumerate(ranges)],
    )
    bounds = np.concatenate([[0], np.cumsum(counts.sum(0))])
    places = bounds[:-1] + np.cumsum(counts, 0) - counts
    keys = np.empty(total, np.uint64)
    index = np.empty(total, np.int64) if with_index else None
    run(
        lambda part, start, stop: _scatter(
            rows, word, start, stop, *cells, places[part], keys, index
        ),
        [(part, *bounds) for part, bounds in enumerate(ranges)],
    )
    return keys, index, bounds


def _one_bucket(
    rows: NDArray[np.uint8], word: int, start: int, stop: int, *, with_index: bool
) -> tuple[NDArray[np.uint64], NDArray[np.int64] | None, NDArray[np.int64]]:
    """Like to_buckets(), for a few rows: as they are."""
    keys = np.empty(stop - start, np.uint64)
    load_words(rows[start:stop], word, keys)
    index = np.arange(start, stop) if with_index else None
    return keys, index, np.array([0, stop - start])


def _power_of_2(at_least: float, most: int) -> int:
    """Return the smallest power of 2 that is not less than one of the arguments."""
    power = 1
    while power < min(at_least, most):
        power *= 2
    return power


def _sample_cells(
    rows: NDArray[np.uint8], word: int, ranges: list[Range], buckets: int
) -> tuple[np.uint64, np.uint64, NDArray[np.uint16]]:
    """Sample keys. Return the lowest, a cell's width as a shift, and the bucket of each cell."""
    step = max(1, sum(stop - start for start, stop in ranges) // (_SAMPLE_PER_BUCKET * buckets))
    sample = np.concatenate([rows[start:stop:step] for start, stop in ranges])
    keys = np.empty(len(sample), np.uint64)
    load_words(sample, word, keys)
    low, high = int(keys.min()), int(keys.max())
    shift = np.uint64(max(0, (high - low).bit_length() - _CELLS.bit_length() + 1))
    # bincount() of NumPy before 2.2 rejects uint64.
    places = ((keys - np.uint64(low)) >> shift).astype(np.int64)
    cells = np.bincount(places, minlength=_CELLS)
    # Cells above the highest sampled key belong to the last bucket.
    below = np.minimum(np.cumsum(cells) - cells, len(keys) - 1)
    return np.uint64(low), shift, (below * buckets // len(keys)).astype(np.uint16)


def split_buckets(bounds: NDArray[np.int64], parts: int) -> list[Range]:
    """Split the buckets into ranges with about the same number of keys."""
    cuts = np.searchsorted(bounds, [bounds[-1] * part // parts for part in range(parts + 1)])
    cuts[-1] = len(bounds) - 1
    return [(int(first), int(last)) for first, last in itertools.pairwise(cuts)]


@kernel
def load_words(rows: Bytes, word: Int, keys: Words) -> None:
    """Load one word of each row."""
    width, end = rows.shape[1], address_of(rows) + rows.size
    for i in range(len(rows)):
        keys[i] = row_word(address_of(rows) + i * width, word, width, end)


@inlined
def _bucket_of(key: np.uint64, low: np.uint64, shift: np.uint64, cells: Cells) -> np.uint16:
    # Keys outside the sampled range go to the first or the last cell, which preserves the order.
    last = np.uint64(len(cells) - 1)
    return cells[min((key - low) >> shift, last) if key >= low else np.uint64(0)]


@kernel
def _histogram(
    rows: Bytes,
    word: Int,
    start: Int,
    stop: Int,
    low: np.uint64,
    shift: np.uint64,
    cells: Cells,
    counts: Ints,
) -> None:
    width, end = rows.shape[1], address_of(rows) + rows.size
    row = address_of(rows) + start * width
    for _ in range(start, stop):
        counts[_bucket_of(row_word(row, word, width, end), low, shift, cells)] += 1
        row += width


@kernel
def _scatter(
    rows: Bytes,
    word: Int,
    start: Int,
    stop: Int,
    low: np.uint64,
    shift: np.uint64,
    cells: Cells,
    places: Ints,
    keys: Words,
    index: Ints | None,
) -> None:
    width, end = rows.shape[1], address_of(rows) + rows.size
    row = address_of(rows) + start * width
    for i in range(start, stop):
        key = row_word(row, word, width, end)
        bucket = _bucket_of(key, low, shift, cells)
        place = places[bucket]
        places[bucket] = place + 1
        keys[place] = key
        if index is not None:
            index[place] = i
        row += width


@kernel
def sort_buckets(keys: Words, index: Ints | None, bounds: Ints, first: Int, last: Int) -> None:
    """Sort each of the buckets [first, last), and the index unless it is None. Stable."""
    scratch = new_scratch(index, bounds, first, last)
    digits: Int = np.int64(0)  # a plain 0 has its own Numba type: sort_run would be compiled twice
    for bucket in range(first, last):
        digits = sort_run(keys, index, scratch, bounds[bucket], bounds[bucket + 1], digits)


@inlined
def new_scratch(index: Ints | None, bounds: Ints, first: Int, last: Int) -> Scratch:
    """Allocate what sort_run needs for runs within any of the buckets [first, last)."""
    largest: Int = 0
    for bucket in range(first, last):
        largest = max(largest, bounds[bucket + 1] - bounds[bucket])
    counts = np.empty((_MOST_DIGITS, 1 << _DIGIT), np.int64)
    crowded = np.empty((largest // _MOVES + 1, 2), np.int64)
    if index is None:
        return np.empty(largest, np.uint64), None, counts, crowded
    return np.empty(largest, np.uint64), np.empty(largest, np.int64), counts, crowded


@kernel
def sort_run(
    keys: Words, index: Ints | None, scratch: Scratch, start: Int, stop: Int, digits: Int
) -> Int:
    """Sort [start, stop) of the keys, and the index unless it is None. Stable.

    ``digits``: the number of digits of 11 bits that tell most keys apart, 0 if 16 bits do. Returns
    what was found: pass it on for the next run of similar keys.

    ``scratch`` is what new_scratch() returns for a bucket of at least stop - start keys.
    """
    crowded = scratch[3]  # a stack of runs that are still to be sorted
    crowded[0, 0], crowded[0, 1] = start, stop
    waiting: Int = int(start < stop)
    while waiting:
        waiting -= 1
        first, last = crowded[waiting, 0], crowded[waiting, 1]
        many = last - first >= 1 << _DIGIT
        least: np.uint64 = keys[first]
        low: Int = 0
        if last - first > _SMALL:
            least, low = _sort_highest(keys, index, scratch, first, last, digits if many else 0)
        # Where all bits have been sorted by, this only sees that keys are in order.
        moves = _MOVES if low else last - first
        waiting, moved = _insertion_sort(
            keys, index, first, last, moves, least, low, crowded, waiting
        )
        if low and many and moved > (last - first) // _MOVED:
            digits = max(digits + 1, 2)
    return digits


@inlined
def _sort_highest(
    keys: Words, index: Ints | None, scratch: Scratch, start: Int, stop: Int, digits: Int
) -> tuple[np.uint64, Int]:
    """Sort by the highest bits in which keys differ. Return the least key, and the bits below."""
    least, most = keys[start], keys[start]
    for i in range(start + 1, stop):
        least, most = min(least, keys[i]), max(most, keys[i])
    bits = 0
    while bits < 64 and (most - least) >> np.uint64(bits):
        bits += 1
    low = max(0, bits - (digits * _DIGIT if digits else 16))
    _sort_digits(keys, index, scratch, start, stop, least, low, bits, _DIGIT if digits else 8)
    return least, low


@kernel
def _insertion_sort(
    keys: Words,
    index: Ints | None,
    start: Int,
    stop: Int,
    moves: Int,
    least: np.uint64,
    low: Int,
    crowded: Ints,
    waiting: Int,
) -> tuple[Int, Int]:
    """Sort keys that are in order but for their ``low`` bits. Return ``waiting``, and the moves.

    A run in which a key would move further than ``moves`` is put on the stack ``crowded``, on which
    ``waiting`` are already. No key is lost.
    """
    moved: Int = 0
    shift = np.uint64(low)
    i = start + 1
    while i < stop:
        key, hole = keys[i], i
        i += 1
        if keys[hole - 1] <= key:
            continue
        if index is not None:
            place = index[hole]
        while hole > start and keys[hole - 1] > key and i - 1 - hole < moves:
            keys[hole] = keys[hole - 1]
            if index is not None:
                index[hole] = index[hole - 1]
            hole -= 1
        keys[hole] = key
        if index is not None:
            index[hole] = place
        moved += i - 1 - hole
        if i - 1 - hole == moves:
            high = (key - least) >> shift
            while hole > start and (keys[hole - 1] - least) >> shift == high:
                hole -= 1
            while i < stop and (keys[i] - least) >> shift == high:
                i += 1
            crowded[waiting, 0], crowded[waiting, 1] = hole, i
            waiting += 1
            i += 1  # the next key is the first of its run
    return waiting, moved


@inlined
def _sort_digits(
    keys: Words,
    index: Ints | None,
    scratch: Scratch,
    start: Int,
    stop: Int,
    least: np.uint64,
    first: Int,
    last: Int,
    bits: Int,
) -> None:
    """Stable sort by the bits [first, last) of each key - ``least``, ``bits`` at a time."""
    digits = (last - first + bits - 1) // bits
    low, mask = np.uint64(first), np.uint64((1 << bits) - 1)
    counts = scratch[2]
    value: Index
    place: Int
    for digit in range(digits):
        for value in range(1 << bits):  # one element at a time: slices take Numba 2 s to compile
            counts[digit, value] = 0
    for i in range(start, stop):
        key = (keys[i] - least) >> low
        for digit in range(digits):
            counts[digit, key & mask] += 1
            key >>= np.uint64(bits)
    source, target = keys[start:stop], scratch[0][: stop - start]
    if index is not None:  # then scratch has memory for an index too
        index_source, index_target = index[start:stop], scratch[1][: stop - start]  # type: ignore[index]
    for digit in range(digits):
        low = np.uint64(first + digit * bits)
        place = 0
        for value in range(1 << bits):
            place, counts[digit, value] = place + counts[digit, value], place
        for i in range(len(source)):
            value = ((source[i] - least) >> low) & mask
            place = counts[digit, value]
            counts[digit, value] = place + 1
            target[place] = source[i]
            if index is not None:
                index_target[place] = index_source[i]
        source, target = target, source
        if index is not None:
            index_source, index_target = index_target, index_source
    if digits % 2:
        for i in range(len(source)):
            target[i] = source[i]
            if index is not None:
                index_target[i] = index_source[i]
