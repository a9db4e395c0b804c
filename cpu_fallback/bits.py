"""Bits of packed rows: their transpose, and how many differ between two rows."""

import itertools

import numpy as np
from numpy.typing import NDArray

from .compiling import inlined, kernel
from .intrinsics import address_of, count_ones, load_word, store_word
from .kernel_types import Bytes, Int, Sums, Words
from .lanes import count_differences_64, count_differences_512
from .threads import in_parallel, run, thread_ranges
from .words import row_word

_STATES = 512  # transposed at a time: a line of the cache for each neuron
_STRIP = 64  # words of a row that are compared at a time
_TILE = 32  # rows whose strips stay in the first-level cache: 16 KiB


def transpose(packed: NDArray[np.uint8]) -> NDArray[np.uint64]:
    """Return a row of bits for each neuron: bit i is that of state i; words of 64 states.

    Bits beyond the last state are 0. Of shape (8 * bytes, ceil(states / 64)).
    """
    rows = np.ascontiguousarray(packed)
    bitmaps = np.zeros((8 * rows.shape[1], -(-len(rows) // 64)), np.uint64)

    def task(start: int, stop: int) -> None:
        _transpose(rows, bitmaps, start, stop)

    if bitmaps.size:
        in_parallel(task, -(-len(rows) // _STATES), 16 * rows.size)
    return bitmaps


def distances(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> NDArray[np.int32]:
    """Count the bits that differ, for each pair of rows: int32 (rows of one, rows of other)."""
    result = np.zeros((len(one), len(other)), np.int32)
    words, other_words = _as_words(one), _as_words(other)

    def task(start: int, stop: int) -> None:
        if words.shape[1] == 1:
            _write_differences(words, other_words, result, start, stop)
        else:
            _add_differences(words, other_words, result, start, stop, False)

    if result.size:
        in_parallel(task, len(one), 8 * words.shape[1] * result.size)
    return result


def add_distances_above(bitmaps: NDArray[np.uint64], result: NDArray[np.int64]) -> None:
    """Add to (rows, rows) how many bits differ, above the diagonal only."""
    rows, words = bitmaps.shape
    threads = len(thread_ranges(rows, 8 * words * rows * rows))
    # Row i has rows - i pairs: the ranges have equally many pairs, not rows.
    shares = np.sqrt(np.linspace(1, 0, threads + 1))
    bounds = np.round(rows * (1 - shares)).astype(int).tolist()
    run(
        lambda start, stop: _add_differences(bitmaps, bitmaps, result, start, stop, True),
        list(itertools.pairwise(bounds)),
    )


def _as_words(packed: NDArray[np.uint8]) -> NDArray[np.uint64]:
    """Return rows as words, with zeros behind them: of the same memory if that is possible."""
    states, width = packed.shape
    if width % 8 == 0 and packed.flags.c_contiguous and packed.ctypes.data % 8 == 0:
        return packed.view(np.uint64)
    padded = np.zeros((states, -(-width // 8) * 8), np.uint8)
    padded[:, :width] = packed
    return padded.view(np.uint64)


@inlined
def _transpose_64(square: Words) -> None:
    """Transpose 64 words of 64 bits in place (Hacker's Delight, 7-3): bit i of word k and back."""
    mask, half = np.uint64(0x00000000FFFFFFFF), 32
    while half:
        shift = np.uint64(half)
        for base in range(0, 64, 2 * half):
            for k in range(base, base + half):
                swapped = ((square[k] >> shift) ^ square[k + half]) & mask
                square[k] ^= swapped << shift
                square[k + half] ^= swapped
        half >>= 1
        mask ^= mask << np.uint64(half)


@kernel
def _transpose(rows: Bytes, bitmaps: Words, start: Int, stop: Int) -> None:
    """Transpose groups of _STATES states, from the group ``start`` to ``stop``."""
    states, width = rows.shape[0], rows.shape[1]
    base, end = address_of(rows), address_of(rows) + rows.size
    stride = 8 * bitmaps.shape[1]
    square = np.empty(64, np.uint64)
    for group in range(start, stop):
        for word in range((width + 7) // 8):
            for first in range(_STATES * group, min(_STATES * (group + 1), states), 64):
                count = min(64, states - first)
                for i in range(count):
                    square[i] = row_word(base + (first + i) * width, word, width, end)
                square[count:] = np.uint64(0)
                _transpose_64(square)
                target = address_of(bitmaps) + 64 * word * stride + first // 8
                for k in range(min(64, 8 * width - 64 * word)):
                    store_word(square[k], target + k * stride)


@kernel
def _write_differences(one: Words, other: Words, result: Sums, start: Int, stop: Int) -> None:
    """For rows of one word."""
    for i in range(start, stop):
        word = one[i, 0]
        for j in range(len(other)):
            result[i, j] = count_ones(word ^ other[j, 0])


@kernel
def _add_differences(
    one: Words, other: Words, result: Sums, start: Int, stop: Int, above: bool
) -> None:
    """Add the bits that differ to rows [start, stop); ``above``: where the column is greater."""
    words = one.shape[1]
    left, right = address_of(one), address_of(other)
    for strip in range(0, words, _STRIP):
        last = min(strip + _STRIP, words)
        for tile in range((start + 1) // _TILE * _TILE if above else 0, len(other), _TILE):
            until = min(tile + _TILE, len(other))
            for i in range(start, min(stop, until) if above else stop):
                for j in range(max(tile, i + 1) if above else tile, until):
                    result[i, j] += _count_strip(
                        left + 8 * (i * words + strip),
                        right + 8 * (j * words + strip),
                        last - strip,
                    )


@inlined
def _count_strip(one: Int, other: Int, words: Int) -> Int:
    """Count the bits that differ between at most _STRIP words."""
    if words == _STRIP:
        return count_differences_512(one, other)
    total: Int
    total, word = 0, 0
    while word + 8 <= words:
        total += count_differences_64(one + 8 * word, other + 8 * word)
        word += 8
    while word < words:
        total += np.int64(count_ones(load_word(one + 8 * word) ^ load_word(other + 8 * word)))
        word += 1
    return total
