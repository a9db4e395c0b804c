"""Bits of packed rows on the GPU: their transpose, and comparisons of all pairs of rows."""

import numpy as np

from tensorstate_gpu._arrays.cupy_types import DeviceArray

from . import device
from .launch import MOST_BLOCKS, Launch

_MOST_EACH = 4  # a thread compares so many rows with so many, a block 16 times as many
_MOST_ROWS = 16 * _MOST_EACH * MOST_BLOCKS[1]  # of the first side
_STRIP = 16  # words that a block compares at a time
_LEAST_WORDS = 4 * _STRIP  # that a block compares: else it takes longer to add to the sums
_BLOCKS = 4  # for each multiprocessor, which runs two of them at once, or more of narrow rows


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
    return Launch(
        "transpose", "transpose", defines, (-(-words // 32), -(-row_bytes // 4)), arguments
    )


def distances(one: DeviceArray, other: DeviceArray) -> DeviceArray:
    """Count the bits that differ, for each pair of rows: int32 (rows of one, rows of other)."""
    result = device.empty((len(one), len(other)), np.int32)
    words, other_words = _as_words(one), _as_words(other)
    for start in range(0, len(one) if result.size else 0, _MOST_ROWS):
        part = slice(start, start + _MOST_ROWS)
        arrays = words[part], other_words, result[part]
        sizes = len(words[part]), *other_words.shape
        device.run(distances_launch(*map(device.address, arrays), *sizes))
    return result


def distances_launch(
    one: int, other: int, result: int, rows: int, columns: int, words: int
) -> Launch:
    """Build the launch that compares rows of 32-bit words."""
    tile = 16 * _MOST_EACH
    arguments = (
        *(np.uint64(one), np.uint64(other), np.uint64(result), np.int64(rows), np.int64(columns)),
        np.int32(words),
    )
    grid = (-(-columns // tile), -(-rows // tile))
    return Launch("distances", "distances", (("EACH", _MOST_EACH),), grid, arguments)


def add_both(bitmaps: DeviceArray, sums: DeviceArray) -> None:
    """Add the bits that rows i and j have in common to ``sums[i, j]``.

    ``bitmaps``: uint32 (rows, words), not empty, of at most _MOST_ROWS rows and 2**26 words.
    ``sums``: int64 (rows, rows).
    """
    rows, words = bitmaps.shape
    blocks = _BLOCKS * device.multiprocessors()
    addresses = device.address(bitmaps), device.address(sums)
    device.run(add_both_launch(*addresses, rows, words, blocks))


def add_both_launch(bitmaps: int, sums: int, rows: int, words: int, blocks: int) -> Launch:
    """Build the launch that compares each two rows of 32-bit words, on about so many blocks."""
    each = min(range(_MOST_EACH, 0, -1), key=lambda each: _work_of_pairs(rows, each))
    tiles = -(-rows // (16 * each))
    parts = -(-blocks // _pairs(tiles))  # that each pair of tiles has, for one block
    share = max(_LEAST_WORDS, -(-words // (parts * _STRIP)) * _STRIP)
    parts = -(-words // share)
    arguments = (
        *(np.uint64(bitmaps), np.uint64(sums), np.int64(rows)),
        *(np.int32(words), np.int32(parts), np.int32(share)),
    )
    grid = (tiles * parts, tiles)
    return Launch("distances", "add_both", (("EACH", each),), grid, arguments)


def _pairs(tiles: int) -> int:
    """Return how many pairs of tiles there are, of which both may be the same."""
    return tiles * (tiles + 1) // 2


def _work_of_pairs(rows: int, each: int) -> int:
    """Return what all blocks do with a word: a thread compares each * each, and reads 2 * each."""
    return _pairs(-(-rows // (16 * each))) * each * (each + 1)


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
