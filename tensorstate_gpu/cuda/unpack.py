"""Unpacking and popcount on the GPU."""

import numpy as np

from tensorstate_gpu._arrays.cupy_types import DeviceArray

from . import device
from .launch import Launch, blocks_for

_BOOLS_PER_THREAD = 16  # as in unpack.cu
_SHORT_INDEX = (1 << 32) - (1 << 13)  # with so many bools or fewer, indices have 32 bits


def decompress(packed: DeviceArray, neurons: int) -> DeviceArray:
    """Unpack into bool of shape (states, neurons); see the Backend protocol."""
    rows = device.library().ascontiguousarray(packed)
    bools = device.empty((len(rows), neurons), np.bool_)
    if bools.size:
        device.run(unpack_launch(device.address(rows), device.address(bools), len(rows), neurons))
    return bools


def unpack_launch(packed: int, bools: int, states: int, neurons: int) -> Launch:
    """Build the launch that unpacks. ``bools`` must be a multiple of 16, as allocations are."""
    bools_of_all = states * neurons
    grid = (blocks_for(-(-bools_of_all // _BOOLS_PER_THREAD)), 1)
    defines = (("INDEX", 32 if bools_of_all <= _SHORT_INDEX else 64), ("WORDS", 0))
    arguments = (np.uint64(packed), np.uint64(bools), np.int64(states), np.int64(neurons))
    return Launch("unpack", "unpack", defines, grid, arguments)


def popcount(packed: DeviceArray) -> DeviceArray:
    """Count the set bits of each row: int32 of shape (states,)."""
    rows = device.library().ascontiguousarray(packed)
    ones = device.empty((len(rows),), np.int32)
    if len(rows):
        device.run(popcount_launch(device.address(rows), device.address(ones), *rows.shape))
    return ones


def popcount_launch(packed: int, ones: int, states: int, row_bytes: int) -> Launch:
    """Build the launch that counts set bits; by words if all rows begin at multiples of 8."""
    words = int(row_bytes % 8 == 0 and packed % 8 == 0)
    arguments = (np.uint64(packed), np.uint64(ones), np.int64(states), np.int64(row_bytes))
    defines = (("INDEX", 32), ("WORDS", words))
    return Launch("unpack", "popcount", defines, (blocks_for(states), 1), arguments)
