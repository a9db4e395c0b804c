"""Sorting 64-bit keys in the caches of a core, bucket by bucket.

A bucket is sorted by the highest 16 bits of the difference between each key and its least key. For
random keys this sorts nearly all of them, and an insertion pass sorts the rest. Runs of many keys
that agree in these bits are sorted in the same way by the bits below. Where insertions take too
many moves (neurons that seldom fire tell few keys apart), the next buckets are sorted by 22 bits,
then 33, and so on. Keys may carry an index; equal keys keep their order.
"""

import numpy as np

from .compiling import inlined, kernel
from .kernel_types import Index, Int, Ints, Scratch, Words

_SMALL = 32  # up to this length an insertion sort is faster than counting digits
_MOVES = np.int64(16)  # a run in which an insertion would move a key further is sorted by more bits
_MOVED = 4  # of as many keys, one moving by one place is too much: sort by one digit more
_DIGIT, _MOST_DIGITS = 11, 6  # bits of a digit; digits of a key


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
