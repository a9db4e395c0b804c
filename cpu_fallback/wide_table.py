"""A hash table for rows of more than 8 bytes: slots hold indices into one array of rows."""

import numpy as np
from numpy.typing import NDArray

from .compiling import kernel
from .intrinsics import address_of, load_word, prefetch, store_word
from .kernel_types import Bytes, Int, Ints, Words
from .table import CHANGED, Table
from .words import SEED, copy_row, hash_row, rows_equal

_BATCH = 32  # rows hashed before they are probed, so that their cache misses overlap
_FIRST_SLOTS = 1 << 10
_PREFETCH_BYTES = 2048  # bytes read ahead: hardware prefetchers stop at the end of a page
_INDEX_BITS = 40  # a slot is tag << 40 | index + 1: 24 bits of hash avoid most comparisons


class WideTable(Table):
    """Open addressing, linear probing, at most half full; rows and counts in order of arrival.

    ``most``: the maximum number of rows, if known. Memory for that many distinct rows is allocated
    at the start (the system provides it as it is used), so that growth does not copy rows.
    """

    def __init__(self, row_bytes: int, most: int = 0) -> None:
        self._slots = np.zeros(_FIRST_SLOTS, np.uint64)
        capacity = max(_FIRST_SLOTS // 2, most + _BATCH)
        self._rows = np.empty((capacity, row_bytes), np.uint8)
        self._counts = np.empty(capacity, np.int64)
        self._used = 0

    def _insert(
        self, packed: NDArray[np.uint8], weights: NDArray[np.int64] | None, start: int, stop: int
    ) -> int:
        done, self._used = _insert_rows(
            packed, weights, start, stop, self._slots, self._rows, self._counts, SEED, self._used
        )
        return done

    def _grow(self) -> None:
        factor = 4 if len(self._slots) < 1 << 18 else 2
        slots = np.zeros(len(self._slots) * factor, np.uint64)
        if len(self._rows) <= self._used + _BATCH:
            rows = np.empty((len(slots) // 2, self._rows.shape[1]), np.uint8)
            counts = np.empty(len(rows), np.int64)
            rows[: self._used] = self._rows[: self._used]
            counts[: self._used] = self._counts[: self._used]
            self._rows, self._counts = rows, counts
        _insert_all(self._rows, self._used, slots, SEED)
        self._slots = slots

    def take_back(
        self, packed: NDArray[np.uint8], weights: NDArray[np.int64] | None, start: int, stop: int
    ) -> None:
        table = self._slots, self._rows, self._counts
        if _take_back(packed, weights, start, stop, *table, SEED) < stop - start:
            raise RuntimeError(CHANGED)
        while self._used and not self._counts[self._used - 1]:  # rows that came last
            self._used -= 1
        self._slots.fill(0)
        _insert_all(self._rows, self._used, self._slots, SEED)

    def entries(self) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        """Return the distinct rows (distinct, bytes) in order of arrival, and their counts."""
        return self._rows[: self._used], self._counts[: self._used]


@kernel
def _insert_rows(
    packed: Bytes,
    weights: Ints | None,
    done: int,
    stop: int,
    slots: Words,
    rows: Bytes,
    counts: Ints,
    seed: np.uint64,
    used: int,
) -> tuple[int, int]:
    """Count rows from ``done`` on, until all are counted or the table is half full."""
    width, mask = packed.shape[1], len(slots) - 1
    row = address_of(packed) + done * width
    kept, base = address_of(rows), address_of(slots)
    index_bits = np.uint64(_INDEX_BITS)
    index_mask = (np.uint64(1) << index_bits) - np.uint64(1)
    hashes = np.empty(_BATCH, np.uint64)
    most = min(len(slots) // 2, len(rows)) - _BATCH  # rows with which another batch still fits
    while done < stop and used <= most:
        count = min(_BATCH, stop - done)
        for i in range(count):
            prefetch(row + i * width + _PREFETCH_BYTES)
            hashes[i] = hash_row(row + i * width, width, seed)
            prefetch(base + 8 * (np.int64(hashes[i]) & mask))
        for i in range(count):
            slot = load_word(base + 8 * (np.int64(hashes[i]) & mask))
            prefetch(kept + (np.int64(slot & index_mask) - 1) * width)
        for i in range(count):
            tag, place = hashes[i] >> index_bits, np.int64(hashes[i]) & mask
            weight = 1 if weights is None else weights[done + i]
            while True:
                slot = load_word(base + 8 * place)
                if slot == 0:
                    store_word(tag << index_bits | np.uint64(used + 1), base + 8 * place)
                    copy_row(row, kept + used * width, width)
                    counts[used] = weight
                    used += 1
                    break
                entry = np.int64(slot & index_mask) - 1
                if slot >> index_bits == tag and rows_equal(row, kept + entry * width, width):
                    counts[entry] += weight
                    break
                place = (place + 1) & mask
            row += width
        done += count
    return done, used


@kernel
def _take_back(
    packed: Bytes,
    weights: Ints | None,
    start: int,
    stop: int,
    slots: Words,
    rows: Bytes,
    counts: Ints,
    seed: np.uint64,
) -> int:
    """Count rows less often, up to one that was not counted; return how many. Their slots stay."""
    width, mask = packed.shape[1], len(slots) - 1
    row, kept = address_of(packed) + start * width, address_of(rows)
    index_mask = (np.uint64(1) << np.uint64(_INDEX_BITS)) - np.uint64(1)
    for i in range(start, stop):
        place = np.int64(hash_row(row, width, seed)) & mask
        entry = np.int64(slots[place] & index_mask) - 1
        while entry >= 0 and not rows_equal(row, kept + entry * width, width):
            place = (place + 1) & mask
            entry = np.int64(slots[place] & index_mask) - 1
        if entry < 0:
            return i - start
        counts[entry] -= 1 if weights is None else weights[i]
        row += width
    return stop - start


@kernel
def _insert_all(rows: Bytes, used: Int, slots: Words, seed: np.uint64) -> None:
    """Insert the first ``used`` rows, which are distinct, into empty slots."""
    width, mask = rows.shape[1], len(slots) - 1
    start, index_bits = address_of(rows), np.uint64(_INDEX_BITS)
    for entry in range(used):
        value = hash_row(start + entry * width, width, seed)
        place = np.int64(value) & mask
        while slots[place] != 0:
            place = (place + 1) & mask
        slots[place] = (value >> index_bits) << index_bits | np.uint64(entry + 1)
