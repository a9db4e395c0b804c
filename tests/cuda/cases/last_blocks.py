"""The last blocks of launches for more than 2**31 numbers, in memory of which little is touched.

All of their blocks would take hours here. The sanitizer sees numbers that do not fit their type.
"""

import ctypes
import mmap
from contextlib import contextmanager

import numpy as np
import pytest

from tensorstate_gpu import testing as oracle
from tensorstate_gpu._arrays.elements import ELEMENT_TYPES
from tensorstate_gpu._arrays.layout import plan
from tensorstate_gpu._arrays.thresholds import firing_test
from tensorstate_gpu.cuda import bits, device, pack, unpack
from tests.cuda.simt import machine as simt
from tests.cuda.simulated.scheduler import GPU
from tests.support.samples import thinned

BLOCKS = 16  # at the end, which run
ROWS = 40  # at the end, which these blocks make
MAP_NORESERVE = 0x4000  # of Linux; Python names it since 3.13


def untouched(*shape, dtype=np.uint8):
    """Zeros that take memory only where they are written."""
    size = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | MAP_NORESERVE
    return np.frombuffer(mmap.mmap(-1, size, flags=flags), dtype).reshape(shape)


@contextmanager
def only_the_last_blocks(launch):
    blocks = launch.grid[0] * launch.grid[1]
    run_only = simt.fibers().run_only
    run_only(ctypes.c_uint64(max(blocks - BLOCKS, 0)), ctypes.c_uint64(blocks))
    try:
        yield
    finally:
        GPU.finish_all()
        run_only(ctypes.c_uint64(0), ctypes.c_uint64((1 << 64) - 1))


def run_the_last_blocks(launch, *addresses):
    with only_the_last_blocks(launch):
        device.run(launch, *map(np.uint64, addresses))


# The shape of the memory, what of it is packed, and the neuron axis.
ARRAYS = {
    "pack_whole_bytes": (((1 << 26) + 1, 64), lambda x: x, -1),
    "pack_rows": ((120_000_001, 20), lambda x: x, -1),
    "pack_pitched": (((1 << 25) + 3, 80), lambda x: x[:, 3:67], -1),
    "pack_strided": (((1 << 25) + 3, 128), lambda x: x[:, ::2], -1),
    "pack_planes": ((33, 1024, 256, 256), lambda x: x, 1),
    "pack_maps": ((44_000, 1024, 7, 7), lambda x: x, 1),
}


@pytest.mark.parametrize("kernel", thinned(list(ARRAYS), ["pack_pitched"]))
def test_packing(kernel):
    shape, part, axis = ARRAYS[kernel]
    memory = untouched(*shape)
    numbers = part(memory)
    end = numbers[-1:, ..., -ROWS:] if axis == 1 else numbers[-ROWS:]
    end[...] = np.random.default_rng(0).integers(0, 256, end.shape, np.uint8)
    element = ELEMENT_TYPES["int8"]
    address = numbers.__array_interface__["data"][0]
    layout = plan(numbers.shape, numbers.strides, 1, axis)
    packed = untouched(layout.states, layout.row_bytes)
    test = firing_test(element, 0.0, layout.neurons)
    launch = pack.pack_launch(address % 16, element, layout, test)
    assert launch.kernel == kernel
    assert (numbers.size, memory.size) > (1 << 31, 1 << 31)
    run_the_last_blocks(launch, address, packed.ctypes.data)
    expected = oracle.compress(numbers[-1:] if axis == 1 else end, axis, 0.0, element="int8")
    np.testing.assert_array_equal(packed[-ROWS:], expected[-ROWS:])
    assert expected[-ROWS:].any()


# Fewer bools than 2**32, whose numbers have 32 bits, and more.
@pytest.mark.parametrize("states", thinned([(1 << 27) + 3, (1 << 28) + 3], [(1 << 27) + 3]))
def test_unpacking(states):
    packed, bools = untouched(states, 3), untouched(states, 20, dtype=np.bool_)
    packed[-ROWS:] = np.random.default_rng(0).integers(0, 256, (ROWS, 3), np.uint8)
    run_the_last_blocks(unpack.unpack_launch(packed.ctypes.data, bools.ctypes.data, states, 20))
    np.testing.assert_array_equal(bools[-ROWS:], oracle.decompress(packed[-ROWS:], 20))


@pytest.mark.parametrize("width", [5, 8])
def test_counting_ones(width):
    states = (1 << 29) + 5
    packed, ones = untouched(states, width), untouched(states, dtype=np.int32)
    packed[-ROWS:] = np.random.default_rng(0).integers(0, 256, (ROWS, width), np.uint8)
    run_the_last_blocks(unpack.popcount_launch(packed.ctypes.data, ones.ctypes.data, states, width))
    np.testing.assert_array_equal(ones[-ROWS:], oracle.popcount(packed[-ROWS:]))


def test_distances_in_the_last_block():
    rows, columns = (1 << 16) - 10, (1 << 15) + 7
    one, other = (untouched(number, 2, dtype=np.uint32) for number in (rows, columns))
    result = untouched(rows, columns, dtype=np.int32)
    for end in (one, other):
        end[-ROWS:] = np.random.default_rng(0).integers(0, 1 << 32, (ROWS, 2), np.uint32)
    addresses = (array.ctypes.data for array in (one, other, result))
    run_the_last_blocks(bits.distances_launch(*addresses, rows, columns, 2))
    differing = one[-ROWS:, None] ^ other[-ROWS:]
    expected = np.bitwise_count(differing).sum(axis=2)
    np.testing.assert_array_equal(result[-ROWS:, -ROWS:], expected)


@pytest.mark.long
def test_transposing():
    states, width = (1 << 28) + 70, 9
    packed = untouched(states, width)
    packed[-64:] = np.random.default_rng(0).integers(0, 256, (64, width), np.uint8)
    words = -(-states // 64) * 2
    bitmaps = untouched(8 * width, words, dtype=np.uint32)
    run_the_last_blocks(
        bits.transpose_launch(packed.ctypes.data, bitmaps.ctypes.data, states, width)
    )
    # The last blocks are of the last byte of the rows.
    fired = np.unpackbits(packed[-ROWS:, -1:], axis=1, bitorder="little").T
    found = np.unpackbits(bitmaps[-8:].view(np.uint8)[:, -16:], axis=1, bitorder="little")
    behind = 64 * (words // 2) - states
    np.testing.assert_array_equal(found[:, -behind - ROWS : -behind], fired)
    assert not found[:, -behind:].any()
