"""Sums over states on the GPU, for each neuron and each pair of neurons, without unpacking."""

import numpy as np

from tensorstate_gpu._arrays.cupy_types import DeviceArray

from . import device
from .bits import add_both, transpose
from .launch import THREADS, Launch, blocks_for

_MOST_ROWS = 1 << 31  # of a launch: a block adds up in 32 bits
_BLOCKS = 4  # for each multiprocessor, so that enough reads are on their way
_SHARED_BYTES = 48 << 10  # that every block can have
_TRANSPOSED_BYTES = 1 << 28  # of states at a time
_LEAST_TRANSPOSED = 1 << 12  # of wide rows


def firing_counts(packed: DeviceArray) -> DeviceArray:
    """Count the states in which each bit is set: int64 (8 * bytes,)."""
    xp = device.library()
    rows = xp.ascontiguousarray(packed)
    counts = xp.zeros(8 * rows.shape[1], np.int64)
    for start in range(0, len(rows), _MOST_ROWS):
        part = rows[start : start + _MOST_ROWS]
        threads = _BLOCKS * THREADS * device.multiprocessors()
        addresses = device.address(part), device.address(counts)
        device.run(firing_counts_launch(*addresses, len(part), rows.shape[1], threads))
    return counts


def firing_counts_launch(
    packed: int, counts: int, states: int, row_bytes: int, threads: int
) -> Launch:
    """Build the launch that counts the bits of each column, on about ``threads`` threads."""
    skew, total = packed % 4, states * row_bytes
    words = -(-(total + skew) // 4)
    # Threads so many words apart see the same neurons if the words are whole rows.
    stride = max(1, min(threads, words) // row_bytes) * row_bytes
    shared = 4 * 8 * row_bytes
    shares = shared <= _SHARED_BYTES
    arguments = (
        *(np.uint64(packed), np.uint64(counts), np.int64(total), np.int32(row_bytes)),
        *(np.int64(stride), np.int32(skew), np.int32(shares)),
    )
    grid = (blocks_for(stride), 1)
    return Launch(
        "neurons", "count_bits", (), grid, arguments, shared_bytes=shared if shares else 0
    )


def cofiring(packed: DeviceArray) -> DeviceArray:
    """Count the states in which both of two bits are set: int64 (8 * bytes, 8 * bytes)."""
    bits = 8 * packed.shape[1]
    sums = device.library().zeros((bits, bits), np.int64)
    step = max(_LEAST_TRANSPOSED, _TRANSPOSED_BYTES // packed.shape[1])
    for start in range(0, len(packed), step):
        add_both(transpose(packed[start : start + step]), sums)
    return sums
