"""Distributing 64-bit keys into buckets of increasing keys, on all threads.

Each bucket fits the caches of a core, where radix.py sorts it.
"""

import itertools

import numpy as np
from numpy.typing import NDArray

from .compiling import inlined, kernel
from .intrinsics import address_of
from .kernel_types import Bytes, Cells, Int, Ints, Words
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


def sample_words(
    rows: NDArray[np.uint8], word: int, ranges: list[Range], at_least: int
) -> NDArray[np.uint64]:
    """Return a word of each of some rows, evenly spread over all ranges.

    Their distance is odd, because the rows of images repeat in powers of two.
    """
    step = max(1, sum(stop - start for start, stop in ranges) // at_least - 1) | 1
    sample = np.concatenate([rows[start:stop:step] for start, stop in ranges])
    words = np.empty(len(sample), np.uint64)
    load_words(sample, word, words)
    return words


def _sample_cells(
    rows: NDArray[np.uint8], word: int, ranges: list[Range], buckets: int
) -> tuple[np.uint64, np.uint64, NDArray[np.uint16]]:
    """Sample keys. Return the lowest, a cell's width as a shift, and the bucket of each cell."""
    keys = sample_words(rows, word, ranges, _SAMPLE_PER_BUCKET * buckets)
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
    cuts = bounds.searchsorted([bounds[-1] * part // parts for part in range(parts + 1)])
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
