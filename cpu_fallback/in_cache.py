"""Sorting words that are few enough for the caches: without buckets, and without waiting.

Each thread picks the words in a range of values from all rows: reading them takes half a nanosecond
a row, and no thread waits for another. If NumPy's sort is not faster, it sorts them by the 22
highest bits in which they differ if a sample shows that these tell most words apart (then an
insertion pass moves few), and otherwise by all bits. Where neurons seldom fire, sorting them as in
radix.py took up to twice as long.
"""

import numpy as np
from numpy.typing import NDArray

from . import numpy_sort
from .buckets import sample_words
from .compiling import inlined, kernel
from .intrinsics import address_of, load_word, store_word
from .kernel_types import Bytes, Index, Int, Ints, Words
from .radix import new_scratch, sort_run
from .threads import Range
from .words import row_word

_ROWS = 1 << 19  # of each thread, with as much memory to move them to: 8 MB
_SAMPLE = 256  # words: 32,000 pairs
_HIGH_DIGITS, _HIGH_BITS = 2, 22  # as radix.sort_run() takes them
_DIGIT = 13  # bits at most: 64 KB of counters leave the first cache, and a pass less is worth it
_HIGHEST_WORD = np.uint64(0xFFFF_FFFF_FFFF_FFFF)


def fits(parts: list[Range]) -> bool:
    """Tell whether the rows in some ranges, one a thread, are few enough.

    With more threads than two, each would read too much that others sort.
    """
    return sum(stop - start for start, stop in parts) <= _ROWS * min(len(parts), 2)


def split_words(rows: NDArray[np.uint8], parts: list[Range]) -> list[tuple[np.uint64, np.uint64]]:
    """Split all words into ranges [low, high] with about equal numbers of rows; at most one a part.

    A sample tells where.
    """
    if len(parts) == 1:
        return [(np.uint64(0), _HIGHEST_WORD)]
    words = np.sort(sample_words(rows, 0, parts, _SAMPLE * len(parts)))
    lows = np.unique(words[len(words) * np.arange(1, len(parts)) // len(parts)])
    lows = lows[lows > 0]
    return [*zip([np.uint64(0), *lows], [*(lows - np.uint64(1)), _HIGHEST_WORD], strict=True)]


def sorted_between(
    rows: NDArray[np.uint8], parts: NDArray[np.int64], low: np.uint64, high: np.uint64
) -> tuple[Words, Int]:
    """Sort the words, of rows of at most 8 bytes in some ranges, that are in [low, high].

    Returns them, and how many words are lower.
    """
    room = np.empty((parts[:, 1] - parts[:, 0]).sum() + 1, np.uint64)
    found, lower = _words_between(rows, parts, low, high, room)
    words = room[:found]
    if not numpy_sort.is_fast():
        return sort_words(words), lower
    words.sort()
    return words, lower


@kernel
def _words_between(
    rows: Bytes, parts: Ints, low: np.uint64, high: np.uint64, words: Words
) -> tuple[Int, Int]:
    """Write the words in [low, high]. Return how many they are, and how many are lower.

    Without branches: each word is written, and the next one takes its place unless it is in the
    range. By addresses, for an index that may be negative costs as much as the rest.
    """
    width, end = rows.shape[1], address_of(rows) + rows.size
    place, lower, most = address_of(words), np.int64(0), high - low
    row_bits = ~np.uint64(0) >> np.uint64(64 - 8 * width)
    for part in range(len(parts)):
        row = address_of(rows) + parts[part, 0] * width
        stop = address_of(rows) + parts[part, 1] * width
        while row < stop:
            # The last rows are not followed by as many bytes as a word has beyond a row.
            word = load_word(row) & row_bits if row + 8 <= end else row_word(row, 0, width, end)
            store_word(word, place)
            place += 8 * np.int64(word - low <= most)
            lower += np.int64(word < low)
            row += width
    return (place - address_of(words)) // 8, lower


@kernel
def sort_words(words: Words) -> Words:
    """Sort without NumPy. Return the words in order, in their memory or another."""
    least, bits = _varying_bits(words)
    if bits > 2 * _DIGIT and _differ(words, least, bits - _HIGH_BITS):
        found: Int = len(words)
        scratch = new_scratch(None, np.array([0, found]), 0, 1)
        sort_run(words, None, scratch, 0, found, np.int64(_HIGH_DIGITS))
        return words
    return _sort_by_all_bits(words, least, bits)


@inlined
def _varying_bits(words: Words) -> tuple[np.uint64, Int]:
    """Return the least word, and the number of bits of the largest difference to it."""
    least, most = ~np.uint64(0), np.uint64(0)
    for i in range(len(words)):
        least, most = min(least, words[i]), max(most, words[i])
    bits: Int = 0
    while bits < 64 and least < most and (most - least) >> np.uint64(bits):
        bits += 1
    return least, bits


@inlined
def _differ(words: Words, least: np.uint64, low: Int) -> bool:
    """Tell whether different words of a sample all differ in the bits from ``low`` on."""
    sample = np.empty(_SAMPLE, np.uint64)
    step = max(1, len(words) // _SAMPLE - 1) | 1
    shift = np.uint64(low)
    place: Int
    for i in range(min(_SAMPLE, len(words))):
        word = words[i * step] - least
        place = i
        while place and sample[place - 1] > word:
            sample[place] = sample[place - 1]
            place -= 1
        sample[place] = word
    for i in range(1, min(_SAMPLE, len(words))):
        if sample[i] != sample[i - 1] and sample[i] >> shift == sample[i - 1] >> shift:
            return False
    return True


@inlined
def _sort_by_all_bits(words: Words, least: np.uint64, bits: Int) -> Words:
    """Sort by ``bits`` bits of each word - ``least``, some at a time, from the lowest on.

    Each half has counters of its own, unlike in radix.py, whose passes may carry an index: a word
    that follows an equal one would have to wait until its counter is written.
    """
    digits = max(1, (bits + _DIGIT - 1) // _DIGIT)
    digit = (bits + digits - 1) // digits
    half, odd = len(words) // 2, len(words) % 2
    mask = np.uint64((1 << digit) - 1)
    places = np.empty((2, 1 << digit), np.int64)
    source, target = words, np.empty_like(words)
    value: Index
    other: Index
    place: Int
    for pass_ in range(digits):
        low = np.uint64(pass_ * digit)
        for value in range(1 << digit):
            places[0, value] = places[1, value] = 0
        for i in range(half):
            places[0, ((source[i] - least) >> low) & mask] += 1
            places[1, ((source[half + i] - least) >> low) & mask] += 1
        if odd:
            places[1, ((source[-1] - least) >> low) & mask] += 1
        place = 0
        for value in range(1 << digit):
            place, places[0, value] = place + places[0, value], place
            place, places[1, value] = place + places[1, value], place
        for i in range(half):
            word, far = source[i], source[half + i]
            value, other = ((word - least) >> low) & mask, ((far - least) >> low) & mask
            place = places[0, value]
            places[0, value] = place + 1
            target[place] = word
            place = places[1, other]
            places[1, other] = place + 1
            target[place] = far
        if odd:
            target[places[1, ((source[-1] - least) >> low) & mask]] = source[-1]
        source, target = target, source
    return source
