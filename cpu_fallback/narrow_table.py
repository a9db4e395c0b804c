"""A hash table for rows of at most 8 bytes: the row itself is the key, in the slot."""

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from .lanes import address_of, prefetch
from .unpack import row_word

_BATCH = 32  # rows hashed ahead of their probes, so that their cache misses overlap
_FIRST_SLOTS = 1 << 10


class NarrowTable:
    """Open addressing, linear probing, at most half full; a slot is (key, count)."""

    def __init__(self, row_bytes: int) -> None:
        self._row_bytes = row_bytes
        self._slots = np.zeros((_FIRST_SLOTS, 2), np.uint64)
        self._used = 0

    def __len__(self) -> int:
        return self._used

    def add(self, packed: NDArray[np.uint8], weights: NDArray[np.int64] | None) -> None:
        """Count each row, ``weights`` times (default once)."""
        done = 0
        while done < len(packed):
            done, self._used = _insert_rows(packed, weights, done, self._slots, self._used)
            if done < len(packed):
                self._grow()

    def _grow(self) -> None:
        # Fourfold while small: a table that keeps growing is rehashed half as often.
        factor = 4 if len(self._slots) < 1 << 20 else 2
        slots = np.zeros((len(self._slots) * factor, 2), np.uint64)
        _rehash(self._slots, slots)
        self._slots = slots

    def entries(self) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        """Distinct rows (distinct, bytes) in no order, and their counts."""
        used = self._slots[self._slots[:, 1] > 0]
        little = np.ascontiguousarray(used[:, 0]).astype("<u8", copy=False)
        keys = little.view(np.uint8).reshape(-1, 8)[:, : self._row_bytes]
        return np.ascontiguousarray(keys), used[:, 1].astype(np.int64)


@njit(nogil=True, cache=True)
def _slot_of(key: Any, shift: Any) -> Any:
    """Finalizer of MurmurHash3 (Appleby, public domain): each key bit reaches the top bits."""
    key ^= key >> np.uint64(33)
    key *= np.uint64(0xFF51AFD7ED558CCD)
    key ^= key >> np.uint64(33)
    key *= np.uint64(0xC4CEB9FE1A85EC53)
    return np.int64(key >> shift)


@njit(nogil=True, cache=True)
def _shift_for(slots: Any) -> Any:
    bits = 0
    while (1 << bits) < len(slots):
        bits += 1
    return np.uint64(64 - bits)


@njit(nogil=True, cache=True)
def _insert_rows(packed: Any, weights: Any, done: int, slots: Any, used: int) -> Any:
    """Count rows from ``done`` on until all are in or the table is half full."""
    width = packed.shape[1]
    start, end = address_of(packed), address_of(packed) + packed.size
    base = address_of(slots)
    mask, shift = len(slots) - 1, _shift_for(slots)
    room = len(slots) // 2 - _BATCH
    keys, places = np.empty(_BATCH, np.uint64), np.empty(_BATCH, np.int64)
    while done < len(packed) and used <= room:
        count = min(_BATCH, len(packed) - done)
        for i in range(count):
            keys[i] = row_word(start + (done + i) * width, 0, width, end)
            places[i] = _slot_of(keys[i], shift)
            prefetch(base + 16 * places[i])
        for i in range(count):
            place = places[i]
            while slots[place, 1] != 0 and slots[place, 0] != keys[i]:
                place = (place + 1) & mask
            used += slots[place, 1] == 0
            slots[place, 0] = keys[i]
            slots[place, 1] += np.uint64(1) if weights is None else np.uint64(weights[done + i])
        done += count
    return done, used


@njit(nogil=True, cache=True)
def _rehash(old: Any, new: Any) -> None:
    mask, shift = len(new) - 1, _shift_for(new)
    for i in range(len(old)):
        if old[i, 1] != 0:
            place = _slot_of(old[i, 0], shift)
            while new[place, 1] != 0:
                place = (place + 1) & mask
            new[place, 0], new[place, 1] = old[i, 0], old[i, 1]
