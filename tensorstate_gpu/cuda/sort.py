"""Sorting packed rows on the GPU, by CuPy's stable sorts over 64-bit words."""

import numpy as np

from tensorstate_gpu._arrays.cupy_types import DeviceArray

from . import device


def sort(packed: DeviceArray) -> tuple[DeviceArray, DeviceArray]:
    """Return the bounds of runs of equal rows, and the stable order; see the Backend protocol."""
    xp = device.library()
    if not len(packed):
        return xp.zeros(1, np.int64), xp.zeros(0, np.int64)
    words = _words(packed)
    order = xp.lexsort(words).astype(np.int64, copy=False)
    differs = xp.zeros(len(order) - 1, np.bool_)
    for word in words:
        in_order = word[order]
        differs |= in_order[1:] != in_order[:-1]
    inner = xp.flatnonzero(differs) + 1
    ends = (xp.asarray([0], np.int64), inner.astype(np.int64), xp.asarray([len(order)], np.int64))
    return xp.concatenate(ends), order


def _words(packed: DeviceArray) -> DeviceArray:
    """Convert rows to uint64 words, the lowest first: (words, rows), as lexsort() takes them."""
    xp = device.library()
    rows, width = packed.shape
    padded = xp.zeros((rows, -(-width // 8) * 8), np.uint8)
    padded[:, :width] = packed
    return xp.ascontiguousarray(padded.view(np.uint64).T)
