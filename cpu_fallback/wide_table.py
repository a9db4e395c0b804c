"""A hash table for rows of more than 8 bytes: slots point to rows kept side by side."""

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from .lanes import address_of, prefetch
from .unpack import row_word

_BATCH = 32  # rows hashed ahead of their probes, so that their cache misses overlap
_FIRST_SLOTS = 1 << 10
_INDEX_BITS = 40  # a slot is tag << 40 | index + 1: 24 bits of hash spare most comparisons


class WideTable:
    """Open addressing, linear probing, at most half full; rows and counts in order of arrival."""

    def __init__(self, row_bytes: int) -> None:
        self._slots = np.zeros(_FIRST_SLOTS, np.uint64)
        self._rows = np.empty((_FIRST_SLOTS // 2, row_bytes), np.uint8)
        self._counts = np.zeros(_FIRST_SLOTS // 2, np.int64)
        self._used = 0

    def __len__(self) -> int:
        return self._used

    def add(self, packed: NDArray[np.uint8], weights: NDArray[np.int64] | None) -> None:
        """Count each row, ``weights`` times (default once)."""
        done = 0
        while done < len(packed):
            done, self._used = _insert_rows(
                packed, weights, done, self._slots, self._rows, self._counts, self._used
            )
            if done < len(packed):
                self._grow()

    def _grow(self) -> None:
        factor = 4 if len(self._slots) < 1 << 18 else 2
        slots = np.zeros(len(self._slots) * factor, np.uint64)
        rows = np.empty((len(slots) // 2, self._rows.shape[1]), np.uint8)
        counts = np.zeros(len(slots) // 2, np.int64)
        rows[: self._used], counts[: self._used] = (
            self._rows[: self._used],
            self._counts[: self._used],
        )
        _place_all(rows, self._used, slots)
        self._slots, self._rows, self._counts = slots, rows, counts

    def entries(self) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        """Distinct rows (distinct, bytes) in order of arrival, and their counts."""
        return self._rows[: self._used], self._counts[: self._used].copy()


@njit(nogil=True, cache=True)
def _hash(row: int, width: int, end: int) -> Any:
    """A multiply-and-fold hash over the words of a row; the high bits are the good ones."""
    value = np.uint64(0x9E3779B97F4A7C15)
    for word in range((width + 7) // 8):
        value = (value ^ row_word(row, word, width, end)) * np.uint64(0xFF51AFD7ED558CCD)
        value ^= value >> np.uint64(32)
    value *= np.uint64(0xC4CEB9FE1A85EC53)
    return value ^ (value >> np.uint64(29))


@njit(nogil=True, cache=True)
def _equal(one: int, other: int, width: int, end: int, other_end: int) -> bool:
    for word in range((width + 7) // 8):
        if row_word(one, word, width, end) != row_word(other, word, width, other_end):
            return False
    return True


@njit(nogil=True, cache=True)
def _insert_rows(
    packed: Any, weights: Any, done: int, slots: Any, rows: Any, counts: Any, used: int
) -> Any:
    """Count rows from ``done`` on until all are in or the table is half full."""
    width, mask = packed.shape[1], len(slots) - 1
    start, end = address_of(packed), address_of(packed) + packed.size
    kept, kept_end = address_of(rows), address_of(rows) + rows.size
    index_bits = np.uint64(_INDEX_BITS)
    index_mask = (np.uint64(1) << index_bits) - np.uint64(1)
    hashes = np.empty(_BATCH, np.uint64)
    while done < len(packed) and used <= len(rows) - _BATCH:
        count = min(_BATCH, len(packed) - done)
        for i in range(count):
            hashes[i] = _hash(start + (done + i) * width, width, end)
            prefetch(address_of(slots) + 8 * (np.int64(hashes[i]) & mask))
        for i in range(count):
            slot = slots[np.int64(hashes[i]) & mask]
            prefetch(kept + (np.int64(slot & index_mask) - 1) * width)
        for i in range(count):
            row, tag = start + (done + i) * width, hashes[i] >> index_bits
            place = np.int64(hashes[i]) & mask
            weight = 1 if weights is None else weights[done + i]
            while True:
                slot = slots[place]
                if slot == 0:
                    slots[place] = tag << index_bits | np.uint64(used + 1)
                    rows[used, :] = packed[done + i, :]
                    counts[used] = weight
                    used += 1
                    break
                entry = np.int64(slot & index_mask) - 1
                if slot >> index_bits == tag and _equal(
                    row, kept + entry * width, width, end, kept_end
                ):
                    counts[entry] += weight
                    break
                place = (place + 1) & mask
        done += count
    return done, used


@njit(nogil=True, cache=True)
def _place_all(rows: Any, used: int, slots: Any) -> None:
    """Fill empty slots with the first ``used`` rows, which are known to be distinct."""
    width, mask = rows.shape[1], len(slots) - 1
    start, end = address_of(rows), address_of(rows) + rows.size
    for entry in range(used):
        value = _hash(start + entry * width, width, end)
        place = np.int64(value) & mask
        while slots[place] != 0:
            place = (place + 1) & mask
        slots[place] = (value >> np.uint64(_INDEX_BITS)) << np.uint64(_INDEX_BITS) | np.uint64(
            entry + 1
        )
