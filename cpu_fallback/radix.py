"""Sorting 64-bit keys on all threads: one pass to buckets of increasing keys, then each in cache.

A bucket is sorted by the 16 bits from its highest one that varies. Of keys drawn at random they
settle nearly all, and an insertion pass the rest; otherwise the bucket is sorted by all its bits,
16 at a time from the lowest. Keys may carry an index along; equal keys keep their order.
"""

import itertools
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .compiling import inlined, kernel
from .lanes import address_of
from .threads import run
from .words import row_word

# Keys in a bucket, about: 128 KiB of them stay in the second-level cache with their copies. More
# than 2**12 buckets at once cost more than they save: each is a stream of its own to write.
_BUCKET = 1 << 14
_MOST_BUCKETS = 1 << 12
_SAMPLE = 1 << 10
_SMALL = 32  # below this an insertion sort beats counting digits
_MOVES = np.int64(16)  # an insertion that moves further gives up: the run is not nearly sorted

Ranges = list[tuple[int, int]]


def to_buckets(
    rows: NDArray[np.uint8], word: int, ranges: Ranges, *, with_index: bool
) -> tuple[NDArray[np.uint64], NDArray[np.int64] | None, NDArray[np.int64]]:
    """Read one word of each row in ``ranges``, one thread each, into buckets of increasing keys.

    Returns the keys (and where each row was), bucket after bucket, and the buckets' bounds.
    """
    total = sum(stop - start for start, stop in ranges)
    buckets = 1
    while buckets < _MOST_BUCKETS and buckets * _BUCKET < total:
        buckets *= 2
    low, shift = _spread(rows, word, ranges, buckets)
    counts = np.zeros((len(ranges), buckets), np.int64)
    run(
        lambda part, start, stop: _histogram(rows, word, start, stop, low, shift, counts[part]),
        [(part, *bounds) for part, bounds in enumerate(ranges)],
    )
    bounds = np.concatenate([[0], np.cumsum(counts.sum(0))])
    places = bounds[:-1] + np.cumsum(counts, 0) - counts
    keys = np.empty(total, np.uint64)
    index = np.empty(total, np.int64) if with_index else None
    run(
        lambda part, start, stop: _scatter(
            rows, word, start, stop, low, shift, places[part], keys, index
        ),
        [(part, *bounds) for part, bounds in enumerate(ranges)],
    )
    return keys, index, bounds


def _spread(
    rows: NDArray[np.uint8], word: int, ranges: Ranges, buckets: int
) -> tuple[np.uint64, np.uint64]:
    """Lowest key and shift that spread a sample of the keys over the buckets."""
    step = max(1, sum(stop - start for start, stop in ranges) // _SAMPLE)
    sample = np.concatenate([rows[start:stop:step] for start, stop in ranges])
    keys = np.empty(len(sample), np.uint64)
    _load_words(sample, word, keys)
    low, high = int(keys.min()), int(keys.max())
    return np.uint64(low), np.uint64(max(0, (high - low).bit_length() - buckets.bit_length() + 1))


def balanced(bounds: NDArray[np.int64], parts: int) -> Ranges:
    """Cut buckets into ranges of about as many keys each."""
    cuts = np.searchsorted(bounds, [bounds[-1] * part // parts for part in range(parts + 1)])
    cuts[-1] = len(bounds) - 1
    return [(int(first), int(last)) for first, last in itertools.pairwise(cuts)]


@kernel
def _load_words(rows: Any, word: int, keys: Any) -> None:
    width, end = rows.shape[1], address_of(rows) + rows.size
    for i in range(len(rows)):
        keys[i] = row_word(address_of(rows) + i * width, word, width, end)


@inlined
def _bucket_of(key: Any, low: Any, shift: Any, last: Any) -> Any:
    # Keys outside the sample's range go into the first and the last bucket: the order holds.
    return min((key - low) >> shift, last) if key >= low else np.uint64(0)


@kernel
def _histogram(
    rows: Any, word: int, start: int, stop: int, low: Any, shift: Any, counts: Any
) -> None:
    width, end = rows.shape[1], address_of(rows) + rows.size
    last = np.uint64(len(counts) - 1)
    row = address_of(rows) + start * width
    for _ in range(start, stop):
        counts[_bucket_of(row_word(row, word, width, end), low, shift, last)] += 1
        row += width


@kernel
def _scatter(
    rows: Any,
    word: int,
    start: int,
    stop: int,
    low: Any,
    shift: Any,
    places: Any,
    keys: Any,
    index: Any,
) -> None:
    width, end = rows.shape[1], address_of(rows) + rows.size
    last = np.uint64(len(places) - 1)
    row = address_of(rows) + start * width
    for i in range(start, stop):
        key = row_word(row, word, width, end)
        bucket = _bucket_of(key, low, shift, last)
        place = places[bucket]
        places[bucket] = place + 1
        keys[place] = key
        if index is not None:
            index[place] = i
        row += width


@kernel
def sort_buckets(keys: Any, index: Any, bounds: Any, first: int, last: int) -> None:
    """Sort each of the buckets [first, last), with their index unless None; stable."""
    scratch = new_scratch(index, bounds, first, last)
    for bucket in range(first, last):
        sort_run(keys, index, scratch, bounds[bucket], bounds[bucket + 1])


@inlined
def new_scratch(index: Any, bounds: Any, first: int, last: int) -> Any:
    """What sort_run needs for runs within any of the buckets [first, last)."""
    largest = 0
    for bucket in range(first, last):
        largest = max(largest, bounds[bucket + 1] - bounds[bucket])
    counts = np.empty((2, 256), np.int64)
    if index is None:
        return np.empty(largest, np.uint64), None, counts
    return np.empty(largest, np.uint64), np.empty(largest, np.int64), counts


@kernel
def sort_run(keys: Any, index: Any, scratch: Any, start: int, stop: int) -> None:
    """Sort [start, stop) of the keys, with their index unless None; stable.

    ``scratch`` is (uint64 keys, int64 index or None, int64 digit counts (2, 256)), the first two
    of at least stop - start.
    """
    if stop - start <= _SMALL:
        _insertion_sort(keys, index, start, stop, stop)
        return
    varying = np.uint64(0)
    for i in range(start, stop):
        varying |= keys[i] ^ keys[start]
    if varying == 0:
        return
    shift = np.uint64(0)
    while varying >> shift > np.uint64(0xFFFF):
        shift += np.uint64(1)
    _sort_16_bits(keys, index, scratch, start, stop, shift)
    if shift > 0 and not _insertion_sort(keys, index, start, stop, _MOVES):
        for low in range(0, shift, 16):
            _sort_16_bits(keys, index, scratch, start, stop, np.uint64(low))
        _sort_16_bits(keys, index, scratch, start, stop, shift)


@kernel
def _insertion_sort(keys: Any, index: Any, start: int, stop: int, moves: int) -> bool:
    """True when all is sorted; False, with all keys still there, when one had to move too far."""
    for i in range(start + 1, stop):
        key = keys[i]
        if keys[i - 1] <= key:
            continue
        hole = i
        while hole > start and keys[hole - 1] > key and i - hole < moves:
            keys[hole] = keys[hole - 1]
            hole -= 1
        keys[hole] = key
        if index is not None:
            place = index[i]
            for j in range(i, hole, -1):
                index[j] = index[j - 1]
            index[hole] = place
        if i - hole == moves:
            return False
    return True


@kernel
def _sort_16_bits(keys: Any, index: Any, scratch: Any, start: int, stop: int, shift: Any) -> None:
    """Stable sort by the 16 bits from ``shift`` up: two passes, to the scratch arrays and back."""
    keys_2, index_2, counts = scratch
    low, high = counts[0], counts[1]
    byte, shift_2 = np.uint64(255), shift + np.uint64(8)
    low[:], high[:] = 0, 0
    for i in range(start, stop):
        low[(keys[i] >> shift) & byte] += 1
        high[(keys[i] >> shift_2) & byte] += 1
    place, place_2 = 0, start
    for digit in range(256):
        place, low[digit] = place + low[digit], place
        place_2, high[digit] = place_2 + high[digit], place_2
    for i in range(start, stop):
        digit = (keys[i] >> shift) & byte
        place = low[digit]
        low[digit] = place + 1
        keys_2[place] = keys[i]
        if index is not None:
            index_2[place] = index[i]
    for i in range(stop - start):
        digit = (keys_2[i] >> shift_2) & byte
        place = high[digit]
        high[digit] = place + 1
        keys[place] = keys_2[i]
        if index is not None:
            index[place] = index_2[i]
