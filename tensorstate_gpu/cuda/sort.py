"""Sorting packed rows on the GPU, by CuPy's radix sorts of 64-bit words."""

import numpy as np

from tensorstate_gpu._arrays.cupy_types import DeviceArray

from . import device


def sort(packed: DeviceArray) -> tuple[DeviceArray, DeviceArray]:
    """Return the bounds of runs of equal rows, and the stable order; see the Backend protocol."""
    xp = device.library()
    if not len(packed):
        return xp.zeros(1, np.int64), xp.zeros(0, np.int64)
    words = _words(packed)
    order = _order(words)
    differs = xp.zeros(len(order) - 1, np.bool_)
    for word in words:
        in_order = word[order]
        differs |= in_order[1:] != in_order[:-1]
    return _bounds(differs), order.astype(np.int64, copy=False)


def in_order(rows: DeviceArray, counts: DeviceArray) -> tuple[DeviceArray, DeviceArray]:
    """Return distinct rows in order, and their counts."""
    if not len(rows):
        return rows, counts
    order = _order(_words(rows))
    return take(rows, order), counts[order]


def count_by_sorting(packed: DeviceArray) -> tuple[DeviceArray, DeviceArray]:
    """Return the distinct rows, of at most 8 bytes, in order, and their int64 counts."""
    xp = device.library()
    keys = xp.sort(_words(packed)[0])
    bounds = _bounds(keys[1:] != keys[:-1])
    eight = keys[bounds[:-1]].view(np.uint8).reshape(-1, 8)
    return xp.ascontiguousarray(eight[:, : packed.shape[1]]), xp.diff(bounds)


def take(rows: DeviceArray, chosen: DeviceArray) -> DeviceArray:
    """Return rows[chosen] of contiguous rows; in words, for CuPy copies one number a thread."""
    size = next(n for n in (8, 4, 2, 1) if (device.address(rows) | rows.shape[1]) % n == 0)
    return rows.view(f"u{size}")[chosen].view(np.uint8)


def _order(words: DeviceArray) -> DeviceArray:
    """Return the stable order of rows; of their words, the last one counts most."""
    xp = device.library()
    order = xp.argsort(words[0], kind="stable")
    for word in words[1:]:
        order = order[xp.argsort(word[order], kind="stable")]
    return order


def _bounds(differs: DeviceArray) -> DeviceArray:
    """Return the bounds of runs, in each of which no row differs from the one before."""
    xp = device.library()
    inner = xp.flatnonzero(differs) + 1
    ends = (
        xp.asarray([0], np.int64),
        inner.astype(np.int64),
        xp.asarray([len(differs) + 1], np.int64),
    )
    return xp.concatenate(ends)


def _words(packed: DeviceArray) -> DeviceArray:
    """Convert rows to uint64 words, the lowest first: (words, rows)."""
    xp = device.library()
    rows, width = packed.shape
    if width % 8 or device.address(packed) % 8:
        padded = xp.zeros((rows, -(-width // 8) * 8), np.uint8)
        padded[:, :width] = packed
        packed = padded
    return xp.ascontiguousarray(xp.ascontiguousarray(packed).view(np.uint64).T)
