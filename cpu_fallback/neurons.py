"""Sums over states, for each neuron and each pair of neurons, without unpacking."""

import math

import numpy as np
from numpy.typing import NDArray

from .bits import add_distances_above, transpose
from .compiling import kernel
from .intrinsics import address_of, keep
from .kernel_types import Bytes, Int, Ints
from .lanes import add_bits_1, add_bits_8
from .threads import in_parallel

_GROUPS = 31  # of 8 rows, so that a byte holds the sum of their bits
_TRANSPOSED_BYTES = 1 << 25  # of states at a time


def firing_counts(packed: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Count the states in which each bit is set: int64 (8 * bytes,)."""
    rows = np.ascontiguousarray(packed)
    states, width = rows.shape
    # Rows of any width are whole words together: 8 rows of 3 bytes are one of 3 words.
    together = 8 // math.gcd(width, 8)
    whole = states // together * together
    long_rows = rows[:whole].reshape(-1, together * width)

    def task(start: int, stop: int) -> NDArray[np.int64]:
        counts = np.zeros(8 * long_rows.shape[1], np.int64)
        _add_bits(long_rows, counts, start, stop)
        return counts

    rest: NDArray[np.int64]
    rest = np.unpackbits(rows[whole:], axis=1, bitorder="little").sum(axis=0, dtype=np.int64)
    if not whole:
        return rest
    parts = in_parallel(task, len(long_rows), long_rows.size)
    rest += np.sum(parts, axis=0).reshape(together, -1).sum(axis=0)
    return rest


def cofiring(packed: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Count the states in which both of two bits are set: int64 (8 * bytes, 8 * bytes)."""
    bits = 8 * packed.shape[1]
    differing = np.zeros((bits, bits), np.int64)
    step = max(1 << 12, _TRANSPOSED_BYTES // packed.shape[1])
    for start in range(0, len(packed), step):
        add_distances_above(transpose(packed[start : start + step]), differing)
    differing += differing.T.copy()
    counts = firing_counts(packed)
    # |a and b| = (|a| + |b| - |a xor b|) / 2
    both: NDArray[np.int64] = counts[:, None] + counts
    both -= differing
    both >>= 1
    return both


@kernel
def _add_bits(rows: Bytes, counts: Ints, start: Int, stop: Int) -> None:
    """Add the bits of rows, whose width is a multiple of 8, to ``counts``."""
    width = rows.shape[1]
    sums = np.zeros(len(counts), np.uint8)
    target = address_of(sums)
    while start < stop:
        last = min(start + 8 * _GROUPS, stop)
        while start < last:
            source = address_of(rows) + start * width
            eight = start + 8 <= last
            for word in range(width // 8):
                if eight:
                    add_bits_8(source + 8 * word, width, target + 64 * word)
                else:
                    add_bits_1(source + 8 * word, width, target + 64 * word)
            start += 8 if eight else 1
        for k in range(len(counts)):
            counts[k] += sums[k]
        sums[:] = 0
    keep(sums)
