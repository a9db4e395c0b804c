"""A hash table for rows of at most 8 bytes: each slot holds the row itself, as the key."""

import numpy as np
from numpy.typing import NDArray

from .compiling import inlined, kernel
from .intrinsics import address_of, fold_multiply, load_word, prefetch, store_word
from .kernel_types import Bytes, Ints, Words
from .table import Table
from .words import SEED, row_word, store_bytes

_BATCH = 32  # rows hashed before they are probed, so that their cache misses overlap
_FIRST_SLOTS = 1 << 10


class NarrowTable(Table):
    """Open addressing, linear probing, at most half full; a slot is (key, count)."""

    def __init__(self, row_bytes: int) -> None:
        self._row_bytes = row_bytes
        self._slots = np.zeros((_FIRST_SLOTS, 2), np.uint64)
        self._used = 0

    def _insert(
        self, packed: NDArray[np.uint8], weights: NDArray[np.int64] | None, start: int, stop: int
    ) -> int:
        done, self._used = _insert_rows(packed, weights, start, stop, self._slots, SEED, self._used)
        return done

    def _grow(self) -> None:
        # By a factor of 4 while small: a table that keeps growing is then rehashed half as often.
        factor = 4 if len(self._slots) < 1 << 20 else 2
        slots = np.zeros((len(self._slots) * factor, 2), np.uint64)
        _rehash(self._slots, slots, SEED)
        self._slots = slots

    def take_back(
        self, packed: NDArray[np.uint8], weights: NDArray[np.int64] | None, start: int, stop: int
    ) -> None:
        self._used = _take_back(packed, weights, start, stop, self._slots, SEED)

    def entries(self) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        """Return the distinct rows (distinct, bytes), in no order, and their counts."""
        rows = np.empty((self._used, self._row_bytes), np.uint8)
        counts = np.empty(self._used, np.int64)
        _entries(self._slots, rows, counts)
        return rows, counts


@inlined
def _slot_of(key: np.uint64, seed: np.uint64, shift: np.uint64) -> np.int64:
    # The last factor depends on the seed too: of a known one, there are keys whose products are
    # alike. Alone, one seed in a hundred would send regular keys to a few places.
    golden = np.uint64(0x9E3779B97F4A7C15)
    mixed = fold_multiply(key ^ seed, golden) ^ key
    return np.int64(fold_multiply(mixed, (seed * golden) | np.uint64(1)) >> shift)


@kernel
def _shift_for(slots: Words) -> np.uint64:
    bits = 0
    while (1 << bits) < len(slots):
        bits += 1
    return np.uint64(64 - bits)


@kernel
def _insert_rows(
    packed: Bytes,
    weights: Ints | None,
    done: int,
    stop: int,
    slots: Words,
    seed: np.uint64,
    used: int,
) -> tuple[int, int]:
    """Count rows from ``done`` on, until all are counted or the table is half full."""
    width = packed.shape[1]
    row, end = address_of(packed) + done * width, address_of(packed) + packed.size
    base, mask, shift = address_of(slots), len(slots) - 1, _shift_for(slots)
    most = len(slots) // 2 - _BATCH  # keys with which another batch still fits
    keys, places = np.empty(_BATCH, np.uint64), np.empty(_BATCH, np.int64)
    while done < stop and used <= most:
        count = min(_BATCH, stop - done)
        for i in range(count):
            key = row_word(row, 0, width, end)
            place = _slot_of(key, seed, shift)
            keys[i], places[i] = key, place
            prefetch(base + 16 * place)
            row += width
        for i in range(count):
            key, place = keys[i], places[i]
            weight = np.uint64(1) if weights is None else np.uint64(weights[done + i])
            while True:
                slot = base + 16 * place
                before = load_word(slot + 8)
                if before != 0 and load_word(slot) == key:
                    store_word(before + weight, slot + 8)
                    break
                if before == 0:
                    store_word(key, slot)
                    store_word(weight, slot + 8)
                    used += 1
                    break
                place = (place + 1) & mask
        done += count
    return done, used


@kernel
def _rehash(old: Words, new: Words, seed: np.uint64) -> None:
    mask, shift = len(new) - 1, _shift_for(new)
    for i in range(len(old)):
        if old[i, 1] != 0:
            place = _slot_of(old[i, 0], seed, shift)
            while new[place, 1] != 0:
                place = (place + 1) & mask
            new[place, 0], new[place, 1] = old[i, 0], old[i, 1]


@kernel
def _take_back(
    packed: Bytes, weights: Ints | None, start: int, stop: int, slots: Words, seed: np.uint64
) -> int:
    """Count rows less often; return how many keys are left. Those of count 0 are removed."""
    width = packed.shape[1]
    row, end = address_of(packed) + start * width, address_of(packed) + packed.size
    mask, shift = len(slots) - 1, _shift_for(slots)
    first = 0  # a slot that is empty before keys are removed: no key is beyond it
    while slots[first, 1] != 0:
        first += 1
    for i in range(start, stop):
        key = row_word(row, 0, width, end)
        place = _slot_of(key, seed, shift)
        while slots[place, 1] == 0 or slots[place, 0] != key:
            place = (place + 1) & mask
        slots[place, 1] -= np.uint64(1) if weights is None else np.uint64(weights[i])
        row += width
    used = 0
    for step in range(1, len(slots) + 1):
        old = (first + step) & mask
        key, count = slots[old, 0], slots[old, 1]
        slots[old, 1] = 0
        if count != 0:
            place = _slot_of(key, seed, shift)
            while slots[place, 1] != 0:
                place = (place + 1) & mask
            slots[place, 0], slots[place, 1] = key, count
            used += 1
    return used


@kernel
def _entries(slots: Words, rows: Bytes, counts: Ints) -> None:
    width, target = rows.shape[1], address_of(rows)
    end = target + rows.size
    found = 0
    for i in range(len(slots)):
        if slots[i, 1] != 0:
            store_bytes(slots[i, 0], target + found * width, width, end)
            counts[found] = slots[i, 1]
            found += 1
