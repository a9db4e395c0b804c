"""Sorting packed rows as little-endian integers: a radix sort per 8-byte word, highest word first.

The highest word is sorted by stable byte passes; only runs of equal words go on to the next word.
Random rows are told apart by their first word, and equal ones cost one pass per word.
"""

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from .lanes import address_of
from .unpack import row_word

# Below this an insertion sort beats clearing and summing the 8 x 256 radix counters.
_SMALL = 48


def sort(packed: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Stable order of the rows: int64 of shape (states,); see the Backend protocol."""
    rows = np.ascontiguousarray(packed)
    index = np.arange(len(rows), dtype=np.int64)
    if len(rows) > 1:
        scratch = np.empty((3, len(rows)), np.int64)
        runs = np.array([[0, len(rows)]], np.int64)
        for word in range((rows.shape[1] + 7) // 8 - 1, -1, -1):
            ties = np.empty((len(rows) // 2, 2), np.int64)
            runs = ties[: _sort_word(rows, word, runs, index, scratch, ties)]
    return index


def edges(packed: NDArray[np.uint8], index: NDArray[np.int64]) -> NDArray[np.int64]:
    """Bounds of the runs of equal rows of ``packed[index]``: int64 of shape (distinct + 1,)."""
    rows = np.ascontiguousarray(packed)
    bounds = np.empty(len(index) + 1, np.int64)
    return bounds[: _find_edges(rows, index, bounds)].copy()


@njit(nogil=True, cache=True)
def _sort_word(rows: Any, word: int, runs: Any, index: Any, scratch: Any, ties: Any) -> Any:
    """Sort each run of ``index`` by one word; give the runs still tied, and their number."""
    width = rows.shape[1]
    start_of_rows, end = address_of(rows), address_of(rows) + rows.size
    keys, keys_2 = scratch[0].view(np.uint64), scratch[1].view(np.uint64)
    found = 0
    for run in range(len(runs)):
        start, stop = runs[run, 0], runs[run, 1]
        for i in range(start, stop):
            keys[i] = row_word(start_of_rows + index[i] * width, word, width, end)
        if stop - start <= _SMALL:
            _insertion_sort(keys, index, start, stop)
        else:
            length = min(width - 8 * word, 8)
            _radix_sort(keys, index, keys_2, scratch[2], start, stop, length)
        first = start
        for i in range(start + 1, stop + 1):
            if i == stop or keys[i] != keys[first]:
                if i - first > 1:
                    ties[found, 0], ties[found, 1] = first, i
                    found += 1
                first = i
    return found


@njit(nogil=True, cache=True)
def _insertion_sort(keys: Any, index: Any, start: int, stop: int) -> None:
    for i in range(start + 1, stop):
        key, place = keys[i], index[i]
        hole = i
        while hole > start and keys[hole - 1] > key:
            keys[hole], index[hole] = keys[hole - 1], index[hole - 1]
            hole -= 1
        keys[hole], index[hole] = key, place


@njit(nogil=True, cache=True)
def _radix_sort(
    keys: Any, index: Any, keys_2: Any, index_2: Any, start: int, stop: int, length: int
) -> None:
    """Stable sort of [start, stop) by the lowest ``length`` bytes; bytes all alike are skipped."""
    counts = np.zeros((8, 256), np.int64)
    for i in range(start, stop):
        for byte in range(length):
            counts[byte, (keys[i] >> np.uint64(8 * byte)) & np.uint64(255)] += 1
    swapped = False
    for byte in range(length):
        shift = np.uint64(8 * byte)
        if counts[byte, (keys[start] >> shift) & np.uint64(255)] == stop - start:
            continue
        _radix_pass(keys, index, keys_2, index_2, start, stop, shift, counts[byte])
        keys, keys_2, index, index_2 = keys_2, keys, index_2, index
        swapped = not swapped
    if swapped:
        keys_2[start:stop], index_2[start:stop] = keys[start:stop], index[start:stop]


@njit(nogil=True, cache=True)
def _radix_pass(
    keys: Any, index: Any, keys_2: Any, index_2: Any, start: int, stop: int, shift: Any, places: Any
) -> None:
    place = start
    for digit in range(256):
        places[digit], place = place, place + places[digit]
    for i in range(start, stop):
        digit = (keys[i] >> shift) & np.uint64(255)
        place = places[digit]
        places[digit] = place + 1
        keys_2[place], index_2[place] = keys[i], index[i]


@njit(nogil=True, cache=True)
def _find_edges(rows: Any, index: Any, bounds: Any) -> Any:
    width = rows.shape[1]
    start, end = address_of(rows), address_of(rows) + rows.size
    bounds[0] = 0
    found = 1
    for i in range(1, len(index)):
        one, other = start + index[i - 1] * width, start + index[i] * width
        for word in range((width + 7) // 8):
            if row_word(one, word, width, end) != row_word(other, word, width, end):
                bounds[found] = i
                found += 1
                break
    if len(index):
        bounds[found] = len(index)
        found += 1
    return found
