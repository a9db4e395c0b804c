"""The guard's plain loops for counting and sorting; see reference_loops.py."""

from typing import Any

import numpy as np
from numba import njit

from benchmarks.cpu.reference_loops import BATCH, fetch, load, mix, store


@njit(cache=True)
def count_keys(source: int, width: int, rows: int, slots: Any) -> int:
    """Rows of up to 8 bytes in a table of (key, count), which is large enough; how many differ."""
    mask, used = len(slots) - 1, 0
    bits = np.uint64(0xFFFFFFFFFFFFFFFF) >> np.uint64(64 - 8 * width)
    keys, places = np.empty(BATCH, np.uint64), np.empty(BATCH, np.int64)
    base = np.int64(slots.ctypes.data)
    for _ in range(rows // BATCH):
        for i in range(BATCH):
            keys[i] = load(source) & bits
            places[i] = np.int64(mix(keys[i], np.uint64(0x9E3779B97F4A7C15))) & mask
            fetch(base + 16 * places[i])
            source += width
        for i in range(BATCH):
            place = places[i]
            while slots[place, 1] != 0 and slots[place, 0] != keys[i]:
                place = (place + 1) & mask
            used += slots[place, 1] == 0
            slots[place, 0] = keys[i]
            slots[place, 1] += np.uint64(1)
    return used


@njit(cache=True)
def hash_64(source: int) -> Any:
    """Of 64 bytes, in two chains of products."""
    one, other = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xC2B2AE3D27D4EB4F)
    for at in range(0, 64, 32):
        one = mix(load(source + at) ^ one, load(source + at + 8))
        other = mix(load(source + at + 16) ^ other, load(source + at + 24))
    return one ^ other


@njit(cache=True)
def same_64(one: int, other: int) -> bool:
    differ = np.uint64(0)
    for at in range(0, 64, 8):
        differ |= load(one + at) ^ load(other + at)
    return differ == 0


@njit(cache=True)
def count_rows(source: int, rows: int, slots: Any, kept: Any, counts: Any) -> int:
    """Rows of 64 bytes: slots have 24 bits of hash, and the place of a row that is kept aside."""
    mask, used, target = len(slots) - 1, 0, np.int64(kept.ctypes.data)
    base, low = np.int64(slots.ctypes.data), np.uint64((1 << 40) - 1)
    hashes = np.empty(BATCH, np.uint64)
    for _ in range(rows // BATCH):
        for i in range(BATCH):
            hashes[i] = hash_64(source + 64 * i)
            fetch(base + 8 * (np.int64(hashes[i]) & mask))
        for i in range(BATCH):
            slot = slots[np.int64(hashes[i]) & mask]
            fetch(target + 64 * (np.int64(slot & low) - 1))
        for i in range(BATCH):
            place, tag = np.int64(hashes[i]) & mask, hashes[i] & ~low
            while slots[place] != 0:
                entry = np.int64(slots[place] & low) - 1
                if slots[place] & ~low == tag and same_64(source, target + 64 * entry):
                    counts[entry] += 1
                    break
                place = (place + 1) & mask
            else:
                slots[place] = tag | np.uint64(used + 1)
                copy_64(source, target + 64 * used)
                counts[used] = 1
                used += 1
            source += 64
    return used


@njit(cache=True)
def copy_64(source: int, target: int) -> None:
    for at in range(0, 64, 8):
        store(load(source + at), target + at)


@njit(cache=True)
def entries(slots: Any, keys: Any, counts: Any) -> None:
    """What count_keys filled a table with."""
    found = 0
    for i in range(len(slots)):
        if slots[i, 1] != 0:
            keys[found], counts[found] = slots[i, 0], slots[i, 1]
            found += 1


@njit(cache=True)
def take_64(source: int, index: Any, target: int) -> None:
    """Rows of 64 bytes in another order."""
    for i in range(len(index)):
        fetch(source + 64 * index[min(i + 16, len(index) - 1)])
        copy_64(source + 64 * index[i], target + 64 * i)


@njit(cache=True)
def to_buckets(
    keys: Any, index: Any, shift: Any, cells: Any, bounds: Any, sorted_keys: Any
) -> None:
    """Stable, by the bits from ``shift`` on; ``cells`` has the bucket of each value of them."""
    for i in range(len(keys)):
        bounds[cells[keys[i] >> shift] + 1] += 1
    for bucket in range(1, len(bounds)):
        bounds[bucket] += bounds[bucket - 1]
    places = bounds[:-1].copy()
    for i in range(len(keys)):
        bucket = cells[keys[i] >> shift]
        place = places[bucket]
        places[bucket] = place + 1
        sorted_keys[place] = keys[i]
        if index is not None:
            index[place] = i


@njit(cache=True)
def by_byte(keys: Any, index: Any, shift: Any, other: Any, other_index: Any, places: Any) -> None:
    """Stable, by eight bits; ``places`` has how many keys have each value of them."""
    place = 0
    for value in range(256):
        place, places[value] = place + places[value], place
    for i in range(len(keys)):
        value = (keys[i] >> shift) & np.uint64(255)
        place = places[value]
        places[value] = place + 1
        other[place] = keys[i]
        if index is not None:
            other_index[place] = index[i]


@njit(cache=True)
def count_bytes(keys: Any, shift: Any, places: Any) -> None:
    """How many keys have each value of two bytes of theirs."""
    for value in range(256):
        places[0, value] = places[1, value] = 0
    for i in range(len(keys)):
        places[0, (keys[i] >> shift) & np.uint64(255)] += 1
        places[1, (keys[i] >> (shift + np.uint64(8))) & np.uint64(255)] += 1


@njit(cache=True)
def insert(keys: Any, index: Any) -> None:
    """Insertion sort of what is nearly in order."""
    for i in range(1, len(keys)):
        key, hole = keys[i], i
        if keys[i - 1] <= key:
            continue
        while hole > 0 and keys[hole - 1] > key:
            keys[hole] = keys[hole - 1]
            hole -= 1
        keys[hole] = key
        if index is not None:
            place = index[i]
            for j in range(i, hole, -1):
                index[j] = index[j - 1]
            index[hole] = place


@njit(cache=True)
def sort_keys(keys: Any, index: Any, bits: int, buckets: int) -> Any:
    """Keys of so many random bits, by buckets, then by 16 bits within each, then by insertion."""
    bounds, result = np.zeros(buckets + 1, np.int64), np.empty_like(keys)
    cells, shift = np.empty(1 << 12, np.int64), bits
    for cell in range(1 << 12):
        cells[cell] = cell * buckets >> 12
    while 1 << (bits - shift) < buckets:
        shift -= 1
    to_buckets(keys, index, np.uint64(bits - 12), cells, bounds, result)
    other, counts = np.empty(len(keys), np.uint64), np.empty((2, 256), np.int64)
    other_index = None if index is None else np.empty(len(keys), np.int64)
    low = np.uint64(max(shift - 16, 0))
    for bucket in range(buckets):
        first, last = bounds[bucket], bounds[bucket + 1]
        run, aside = result[first:last], other[: last - first]
        count_bytes(run, low, counts)
        if index is None:
            by_byte(run, None, low, aside, None, counts[0])
            by_byte(aside, None, low + np.uint64(8), run, None, counts[1])
            insert(run, None)
        else:
            places, places_aside = index[first:last], other_index[: last - first]
            by_byte(run, places, low, aside, places_aside, counts[0])
            by_byte(aside, places_aside, low + np.uint64(8), run, places, counts[1])
            insert(run, places)
    return result


@njit(cache=True)
def edges(keys: Any, found: Any) -> int:
    """Where runs of equal keys begin."""
    count = 0
    for i in range(len(keys)):
        if i == 0 or keys[i] != keys[i - 1]:
            found[count] = i
            count += 1
    return count
