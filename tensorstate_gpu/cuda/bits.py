"""Bits of packed rows on the GPU: their transpose, and how many differ between two rows."""

import numpy as np

from tensorstate_gpu._arrays.cupy_types import DeviceArray

from . import device
from .launch import Launch

_TILE = 64  # rows of each side that a block compares, as in bits.cu
_MOST_ROWS = _TILE * ((1 << 16) - 1)  # of the first side: as many blocks as a GPU runs along y


def transpose(packed: DeviceArray) -> DeviceArray:
    """Return a row of bits for each neuron: uint32 (8 * bytes, words), of whole 64-bit words."""
    rows = device.library().ascontiguousarray(packed)
    states, width = rows.shape
    bitmaps = device.empty((8 * width, -(-states // 64) * 2), np.uint32)
    if bitmaps.size:
        addresses = device.address(rows), device.address(bitmaps)
        device.run(transpose_launch(*addresses, states, width))
    return bitmaps


def transpose_launch(packed: int, bitmaps: int, states: int, row_bytes: int) -> Launch:
    """Build the launch that transposes; by words if all rows begin at multiples of 4."""
    words = -(-states // 64) * 2
    defines = (("WORDS", int(row_bytes % 4 == 0 and packed % 4 == 0)),)
    arguments = (
        *(np.uint64(packed), np.uint64(bitmaps), np.int64(states), np.int32(row_bytes)),
        np.int64(words),
    )
    return Launch("bits", "transpose", defines, (-(-words // 32), -(-row_bytes // 4)), arguments)


def distances(one: DeviceArray, other: DeviceArray) -> DeviceArray:
    """Count the bits that differ, for each pair of rows: int32 (rows of one, rows of other)."""
    result = device.empty((len(one), len(other)), np.int32)
    words, other_words = _as_words(one), _as_words(other)
    for start in range(0, len(one) if result.size else 0, _MOST_ROWS):
        part = slice(start, start + _MOST_ROWS)
        device.run(_distances_launch(words[part], other_words, result[part], above=False))
    return result


def distances_above(bitmaps: DeviceArray) -> DeviceArray:
    """Count the bits that differ, for each pair of rows with a greater column; other entries are 0.

    ``bitmaps``: uint32 (rows, words), of at most _MOST_ROWS rows.
    """
    result = device.library().zeros((len(bitmaps), len(bitmaps)), np.int32)
    device.run(_distances_launch(bitmaps, bitmaps, result, above=True))
    return result


def _distances_launch(
    one: DeviceArray, other: DeviceArray, result: DeviceArray, *, above: bool
) -> Launch:
    addresses = device.address(one), device.address(other), device.address(result)
    return distances_launch(*addresses, len(one), len(other), one.shape[1], above=above)


def distances_launch(
    one: int, other: int, result: int, rows: int, columns: int, words: int, *, above: bool
) -> Launch:
    """Build the launch that compares rows of 32-bit words."""
    grid = (-(-columns // _TILE), -(-rows // _TILE))
    arguments = (
        *(np.uint64(one), np.uint64(other), np.uint64(result), np.int64(rows), np.int64(columns)),
        *(np.int32(words), np.int32(above)),
    )
    return Launch("bits", "distances", (("WORDS", 1),), grid, arguments)


def _as_words(packed: DeviceArray) -> DeviceArray:
    """Return rows as 32-bit words, with zeros behind them; of the same memory if possible."""
    xp = device.library()
    rows = xp.ascontiguousarray(packed)
    states, width = rows.shape
    if width % 4 or device.address(rows) % 4:
        padded = xp.zeros((states, -(-width // 4) * 4), np.uint8)
        padded[:, :width] = rows
        rows = padded
    return rows.view(np.uint32)
