"""A table for rows of at most 8 bytes: a hash table, or a count for each possible row.

In the hash table, each slot holds the row itself, as the key. It becomes an array of counts once
that is no larger, which needs no hashing and no comparison.
"""

import numpy as np
from numpy.typing import NDArray

from .compiling import inlined, kernel
from .intrinsics import address_of, fold_multiply, load_word, prefetch, store_word
from .kernel_types import Bytes, Counts32, Ints, Words
from .table import CHANGED, Table
from .words import SEED, row_word, store_bytes

_BATCH = 32  # rows hashed before they are probed, so that their cache misses overlap
_FIRST_SLOTS = 1 << 10
# Of many rows, an eighth of the slots is used while they stay in the second cache, so that nearly
# all keys are at their first place, as processors then expect. Of 4 M rows of 1,000 states, each
# took two thirds of the time that it takes with a quarter of the slots in use.
_MANY_ROWS, _ROOMY_SLOTS = 1 << 18, 1 << 16
_MOST_BITS = 22  # of rows that are counted in an array: 16 MiB
_MOST_COUNTED = (1 << 32) - 1  # in an array, so that more of its counts are in the caches


class NarrowTable(Table):
    """Open addressing, linear probing, at most half full; a slot is (key, count).

    Or an array with a count for each key, while no row has more bits than it is for.

    ``most``: the maximum number of rows, if known.
    """

    def __init__(self, row_bytes: int, most: int = 0) -> None:
        self._row_bytes = row_bytes
        self._is_roomy = most >= _MANY_ROWS
        first = _ROOMY_SLOTS // 4 if self._is_roomy else _FIRST_SLOTS
        self._slots = np.zeros((first, 2), np.uint64)
        self._array: NDArray[np.uint32] | None = None  # of counts, in place of slots
        self._may_be_array, self._in_array = True, 0  # rows that it has counted, at most
        self._used = 0

    def _insert(
        self, packed: NDArray[np.uint8], weights: NDArray[np.int64] | None, start: int, stop: int
    ) -> int:
        if self._array is not None:
            added = stop - start if weights is None else _sum(weights[start:stop])
            if self._in_array + added > _MOST_COUNTED:
                return start
            self._in_array += added
            done, self._used = _add_to_array(packed, weights, start, stop, self._array, self._used)
        else:
            done, self._used = _insert_rows(
                packed, weights, start, stop, self._slots, self._full_at(), SEED, self._used
            )
        return done

    def _full_at(self) -> int:
        """Return how many keys the slots are for."""
        slots = len(self._slots)
        if not self._is_roomy or slots > 2 * _ROOMY_SLOTS:
            return slots // 2
        return slots // 8 if slots <= _ROOMY_SLOTS else slots // 4

    def _grow(self) -> None:
        if self._array is not None:  # a row has more bits, or there are too many rows
            self._become_hash_table(self._array)
            return
        # By a factor of 4 while small: a table that keeps growing is then rehashed half as often.
        size = len(self._slots) * (4 if len(self._slots) < 1 << 20 else 2)
        if self._is_roomy and len(self._slots) == _ROOMY_SLOTS:  # four times as many keys, too
            size = 2 * _ROOMY_SLOTS
        if not self._became_array(size):
            slots = np.zeros((size, 2), np.uint64)
            _rehash(self._slots, slots, SEED)
            self._slots = slots

    def _became_array(self, slots: int) -> bool:
        """Become an array of counts if that takes no more memory than so many slots."""
        bits, counted = int(_all_bits(self._slots)).bit_length(), _sum(self._slots[:, 1])
        fits = bits <= _MOST_BITS and 1 << bits <= 4 * slots and counted <= _MOST_COUNTED
        if self._may_be_array and fits:
            array = np.zeros(1 << bits, np.uint32)
            _fill_array(self._slots, array)
            self._array, self._in_array = array, counted
            self._slots = np.zeros((0, 2), np.uint64)
        return self._array is not None

    def _become_hash_table(self, array: NDArray[np.uint32]) -> None:
        size = _FIRST_SLOTS
        while size < 4 * self._used:
            size *= 2
        slots = np.zeros((size, 2), np.uint64)
        _fill_slots(array, slots, SEED)
        self._slots, self._array, self._may_be_array = slots, None, False

    def take_back(
        self, packed: NDArray[np.uint8], weights: NDArray[np.int64] | None, start: int, stop: int
    ) -> None:
        if self._array is not None:
            _take_from_array(packed, weights, start, stop, self._array)
            self._used = int(np.count_nonzero(self._array))  # whatever rows are there by now
        else:
            self._used, taken = _take_back(packed, weights, start, stop, self._slots, SEED)
            if taken < stop - start:
                raise RuntimeError(CHANGED)

    def entries(self) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        """Return the distinct rows (distinct, bytes), in no order, and their counts."""
        rows = np.empty((self._used, self._row_bytes), np.uint8)
        counts = np.empty(self._used, np.int64)
        if self._array is not None:
            _array_entries(self._array, rows, counts)
        else:
            _entries(self._slots, rows, counts)
        return rows, counts


def _sum(counts: NDArray[np.integer]) -> int:
    """Return about how many they are together, also where that is beyond 64 bits."""
    return int(counts.sum(dtype=np.float64))


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
    full_at: int,
    seed: np.uint64,
    used: int,
) -> tuple[int, int]:
    """Count rows from ``done`` on, until all are counted or the table has ``full_at`` keys."""
    width = packed.shape[1]
    row, end = address_of(packed) + done * width, address_of(packed) + packed.size
    base, mask, shift = address_of(slots), len(slots) - 1, _shift_for(slots)
    most = full_at - _BATCH  # keys with which another batch still fits
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
) -> tuple[int, int]:
    """Count rows less often, up to one that was not counted; remove those of count 0.

    Return how many keys are left, and how many rows were taken back.
    """
    width = packed.shape[1]
    row, end = address_of(packed) + start * width, address_of(packed) + packed.size
    mask, shift = len(slots) - 1, _shift_for(slots)
    first = 0  # a slot that is empty before keys are removed: no key is beyond it
    while slots[first, 1] != 0:
        first += 1
    done = start
    while done < stop:
        key, steps = row_word(row, 0, width, end), 0
        place = _slot_of(key, seed, shift)
        while steps <= mask and (slots[place, 1] == 0 or slots[place, 0] != key):
            place = (place + 1) & mask
            steps += 1
        if steps > mask:
            break
        slots[place, 1] -= np.uint64(1) if weights is None else np.uint64(weights[done])
        row += width
        done += 1
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
    return used, done - start


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


@kernel
def _all_bits(slots: Words) -> np.uint64:
    """Return the bits that are 1 in any key."""
    bits = np.uint64(0)
    for i in range(len(slots)):
        if slots[i, 1] != 0:
            bits |= slots[i, 0]
    return bits


@kernel
def _fill_array(slots: Words, array: Counts32) -> None:
    for i in range(len(slots)):
        if slots[i, 1] != 0:
            array[slots[i, 0]] = np.uint32(slots[i, 1])


@kernel
def _fill_slots(array: Counts32, slots: Words, seed: np.uint64) -> None:
    mask, shift = len(slots) - 1, _shift_for(slots)
    for key in range(len(array)):
        if array[key] != 0:
            place = _slot_of(np.uint64(key), seed, shift)
            while slots[place, 1] != 0:
                place = (place + 1) & mask
            slots[place, 0], slots[place, 1] = np.uint64(key), np.uint64(array[key])


@kernel
def _add_to_array(
    packed: Bytes, weights: Ints | None, done: int, stop: int, array: Counts32, used: int
) -> tuple[int, int]:
    """Count rows from ``done`` on, until all are counted or one has more bits."""
    width = packed.shape[1]
    row, end = address_of(packed) + done * width, address_of(packed) + packed.size
    for i in range(done, stop):
        key = row_word(row, 0, width, end)
        if key >= np.uint64(len(array)):
            return i, used
        before = array[key]
        used += before == 0
        array[key] = before + (np.uint32(1) if weights is None else np.uint32(weights[i]))
        row += width
    return stop, used


@kernel
def _take_from_array(
    packed: Bytes, weights: Ints | None, start: int, stop: int, array: Counts32
) -> None:
    """Count rows less often."""
    width = packed.shape[1]
    row, end = address_of(packed) + start * width, address_of(packed) + packed.size
    for i in range(start, stop):
        key = row_word(row, 0, width, end) & np.uint64(len(array) - 1)  # also if rows change now
        array[key] -= np.uint32(1) if weights is None else np.uint32(weights[i])
        row += width


@kernel
def _array_entries(array: Counts32, rows: Bytes, counts: Ints) -> None:
    width, target = rows.shape[1], address_of(rows)
    end = target + rows.size
    found = 0
    for key in range(len(array)):
        if array[key] != 0:
            store_bytes(np.uint64(key), target + found * width, width, end)
            counts[found] = array[key]
            found += 1
