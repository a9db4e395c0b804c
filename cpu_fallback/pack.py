"""Packing: which neurons fire -> bits. One read of the activations, in their own layout."""

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from tensorstate_gpu._dlpack import Tensor
from tensorstate_gpu._firing import Firing
from tensorstate_gpu._layout import Layout

from .lanes import (
    address_of,
    fires_1,
    fires_8,
    fires_16,
    fires_32,
    fires_64,
    plane_1,
    plane_16,
    plane_64,
    store_word,
)
from .threads import in_parallel
from .words import store_bytes

# Positions packed at a time where bits of a state lie apart: long enough to read whole maps of
# common sizes in one piece (16 KiB of float32), short enough that the block stays in L1. Going from
# 512 to 4096 took NCHW 64 x 256 x 28 x 28 from 16 to 30 GB/s.
_BLOCK = 4096


def compress(states: Tensor, layout: Layout, firing: Firing) -> NDArray[np.uint8]:
    """Pack into uint8 of shape (states, row bytes); see the Backend protocol."""
    packed = np.empty((layout.states, layout.row_bytes), np.uint8)
    if not packed.size:
        return packed
    size = states.element.size
    rows = layout.neuron_stride == size and layout.neurons > 1
    kernel = _pack_rows if rows else _pack_planes
    test, tables = _kernel_test(firing)
    source = (
        states.address,
        states.address + layout.end,
        size,
        np.array(layout.outer_shape, np.int64),
        np.array(layout.outer_strides, np.int64),
        layout.run,
        layout.run_stride,
        layout.neurons,
        layout.neuron_stride,
    )

    def task(start: int, stop: int, _keep_alive: object = (states, tables)) -> None:
        kernel(source, test, packed, start, stop)

    in_parallel(task, layout.states, layout.states * layout.neurons * size)
    return packed


def _kernel_test(firing: Firing) -> tuple[tuple[Any, ...], list[NDArray[Any]]]:
    """The tuple that lanes.py describes, and the arrays whose addresses it holds."""
    kind = firing.low.dtype
    transform: tuple[Any, ...] = (None, None)
    if firing.bias or firing.flip:
        bits = np.array([firing.bias, firing.flip], f"u{kind.itemsize}").view(kind)
        transform = (bits[0], bits[1])
    if len(firing.low) == 1:
        return (firing.low[0], firing.high[0], *transform, None, None), []
    # A vector of thresholds is read whole, also for the last few neurons.
    tables = [np.pad(side, (0, 64)) for side in (firing.low, firing.high)]
    addresses = (table.ctypes.data for table in tables)
    return (firing.low[0], firing.high[0], *transform, *addresses), tables


@njit(nogil=True, cache=True)
def _outer_offset(shape: Any, strides: Any, index: int) -> int:
    offset = 0
    for axis in range(len(shape) - 1, -1, -1):
        rest = index // shape[axis]
        offset += (index - rest * shape[axis]) * strides[axis]
        index = rest
    return offset


# The helpers of the inner loops are inlined by Numba: left to LLVM they stay calls that pass the
# test through memory, and a row of 20 neurons takes 8 ns instead of 3.
@njit(nogil=True, cache=True, inline="always")
def _tail_mask(address: int, end: int, size: int, test: Any, neuron: int, count: int) -> Any:
    """The bits of the last ``count`` < 64 neurons of a row; never reads at or past ``end``."""
    mask = np.uint64(0)
    if count <= 8 and address + 8 * size <= end:
        mask = fires_8(address, test, neuron)
    elif count <= 16 and address + 16 * size <= end:
        mask = fires_16(address, test, neuron)
    elif count <= 32 and address + 32 * size <= end:
        mask = fires_32(address, test, neuron)
    elif address + 64 * size <= end:
        mask = fires_64(address, test, neuron)
    else:
        for k in range(count):
            mask |= fires_1(address + k * size, test, neuron + k) << np.uint64(k)
    return mask & ((np.uint64(1) << np.uint64(count)) - np.uint64(1))


@njit(nogil=True, cache=True)
def _pack_rows(source: Any, test: Any, packed: Any, start: int, stop: int) -> None:
    """Neurons side by side in memory: lanes run along the neurons."""
    address, end, size, outer_shape, outer_strides, run, run_stride, neurons, _ = source
    width = packed.shape[1]
    target = address_of(packed) + start * width
    last = address_of(packed) + stop * width
    words, tail = neurons // 64, neurons % 64
    state = start
    while state < stop:
        outer = state // run
        position = state - outer * run
        count = min(run - position, stop - state)
        row = address + _outer_offset(outer_shape, outer_strides, outer) + position * run_stride
        for _ in range(count):
            for word in range(words):
                mask = fires_64(row + 64 * word * size, test, 64 * word)
                store_word(mask, target + 8 * word)
            if tail:
                mask = _tail_mask(row + 64 * words * size, end, size, test, 64 * words, tail)
                store_bytes(mask, target + 8 * words, (tail + 7) // 8, last)
            target += width
            row += run_stride
        state += count


@njit(nogil=True, cache=True, inline="always")
def _or_plane(
    address: int, end: int, size: int, stride: int, count: int, test: Any, neuron: int, block: int
) -> None:
    """OR one neuron's bit into the bytes at ``block`` for ``count`` positions."""
    bit = np.uint8(1 << (neuron % 8))
    done = 0
    if stride == size:
        # `block` has 64 bytes to spare: what a vector writes past `count` is never looked at.
        while count - done > 16 and address + (done + 64) * size <= end:
            plane_64(address + done * size, test, neuron, bit, block + done)
            done += 64
        while done < count and address + (done + 16) * size <= end:
            plane_16(address + done * size, test, neuron, bit, block + done)
            done += 16
    for position in range(done, count):
        plane_1(address + position * stride, test, neuron, bit, block + position)


@njit(nogil=True, cache=True)
def _pack_planes(source: Any, test: Any, packed: Any, start: int, stop: int) -> None:
    """Neurons apart in memory: lanes run along the positions, bits are gathered in a block."""
    address, end, size, outer_shape, outer_strides, run, run_stride, neurons, stride = source
    width = packed.shape[1]
    block = np.empty(_BLOCK + 64, np.uint8)
    state = start
    while state < stop:
        outer = state // run
        position = state - outer * run
        count = min(run - position, stop - state, _BLOCK)
        first = address + _outer_offset(outer_shape, outer_strides, outer) + position * run_stride
        for byte in range(width):
            block[:count] = 0
            for neuron in range(8 * byte, min(8 * byte + 8, neurons)):
                _or_plane(
                    first + neuron * stride,
                    end,
                    size,
                    run_stride,
                    count,
                    test,
                    neuron,
                    address_of(block),
                )
            for i in range(count):
                packed[state + i, byte] = block[i]
        state += count
