"""Packing on the CPU: one read of the activations, in their own memory layout."""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tensorstate_gpu._arrays.dlpack import Tensor
from tensorstate_gpu._arrays.layout import Layout
from tensorstate_gpu._arrays.thresholds import FiringTest
from tensorstate_gpu._process.num_threads import min_bytes_per_thread

from .compiling import inlined, kernel
from .intrinsics import address_of, keep, load_byte, load_word, prefetch, store_byte, store_word
from .kernel_types import Bytes, Int, Ints, Key, Test
from .lanes import (
    add_plane_1,
    add_plane_16,
    add_plane_64,
    fetch_64,
    firing_mask_1,
    firing_mask_8,
    firing_mask_16,
    firing_mask_32,
    firing_mask_64,
    store_transposed,
)
from .threads import in_parallel
from .words import store_bytes

Kernel = Callable[[Int, Ints, Test, Bytes, Int, Int], None]

# A row of at most this many bits, shifted by at most 7, is read as one word.
_FLAT_NEURONS = 57

# Positions packed at a time if the neurons of a state are apart in memory: complete maps up to
# 128 x 128, because memory is fastest when it is read sequentially. Eight bytes for each position
# still fit into the second-level cache.
_BLOCK = 1 << 14

# How far ahead numbers are fetched, in bytes. Hardware prefetchers stop at pages, and do little
# while rows are stored: on two threads of a Zen 5, 5.76 million rows of 20 float16 were packed at
# 21 GB/s without, and at 47 with this (`make bench ARGS="-k test_pack"`).
_AHEAD = 10 << 10


def compress(
    states: Tensor, layout: Layout, firing: FiringTest, *, scratch: bool = False
) -> NDArray[np.uint8]:
    """Pack into uint8 of shape (states, row bytes); see the Backend protocol."""
    plan = plan_of(layout, firing)
    packed = scratch_rows(plan.shape)[0] if scratch else np.empty(plan.shape, np.uint8)
    plan.pack(states.address, packed, states)
    return packed


@dataclass(frozen=True, slots=True)
class Plan:
    """A kernel with the arguments that all batches of a layer have in common.

    ``numbers``: end, size, run, run stride, neurons, neuron stride, and then the shape and the
    strides of the outer axes. ``test``: the tuple that lanes.py describes, whose addresses are
    those of ``tables``. ``shape`` is that of the packed rows, ``traffic`` the bytes to be read.
    """

    kernel: Kernel
    numbers: NDArray[np.int64]
    test: Test
    tables: list[NDArray[Any]]
    shape: tuple[int, int]
    traffic: int

    def pack(self, address: int, packed: NDArray[np.uint8], owner: object) -> None:
        """Pack what is at an address, where ``owner`` keeps it, into an array of this shape."""
        kernel, numbers, test = self.kernel, self.numbers, self.test
        if self.traffic < 2 * min_bytes_per_thread():  # as in_parallel(), which takes 0.5 us
            kernel(address, numbers, test, packed, 0, len(packed))
            return

        # A thread that could not be told to stop may still read what its caller has given up.
        def task(start: int, stop: int, _keep_alive: object = (owner, self)) -> None:
            kernel(address, numbers, test, packed, start, stop)

        in_parallel(task, len(packed), self.traffic)


def plan_of(layout: Layout, firing: FiringTest) -> Plan:
    """Return how numbers are packed. A test of one threshold is made once, and can be looked up."""
    make = _plan if len(firing.low) == 1 else _plan.__wrapped__
    return make(layout, firing)


@lru_cache(maxsize=1024)
def _plan(layout: Layout, firing: FiringTest) -> Plan:
    size = firing.low.itemsize
    test, tables = _test_arguments(firing)
    shape, traffic = (layout.states, layout.row_bytes), layout.states * layout.neurons * size
    return Plan(*_choose_kernel(layout, size, not tables), test, tables, shape, traffic)


def _choose_kernel(
    layout: Layout, size: int, one_threshold: bool
) -> tuple[Kernel, NDArray[np.int64]]:
    """Choose the kernel for a layout of numbers of ``size`` bytes; return it and ``numbers``."""
    runs = (layout.run, layout.run_stride, layout.neurons, layout.neuron_stride)
    outer = (*layout.outer_shape, *layout.outer_strides)
    numbers = np.array([layout.end, size, *runs, *outer], np.int64)
    if layout.neuron_stride != size or layout.neurons == 1:
        return pack_planes, numbers
    without_gaps = layout.run_stride == layout.neurons * size and not layout.outer_shape
    if without_gaps and layout.neurons <= _FLAT_NEURONS and one_threshold:
        return pack_flat, numbers
    return pack_rows, numbers


class _Scratch(threading.local):
    """Memory for the result of this thread's last packing."""

    def __init__(self) -> None:
        self.make(1 << 20)

    def make(self, size: int) -> None:
        buffer = np.empty(size, np.uint8)
        self.place = buffer, buffer.ctypes.data  # at once: Ctrl-C must not come in between


_scratch = _Scratch()
_MAX_SCRATCH_BYTES = 1 << 26


def scratch_rows(shape: tuple[int, int]) -> tuple[NDArray[np.uint8], int]:
    """Return memory of this thread that the next call overwrites, and where it is.

    It is still in the cache, where new memory would push out what the framework needs next
    (`pytest benchmarks/cpu/bench_capture.py --benchmark-enable` shows it).
    """
    size = shape[0] * shape[1]
    if size > _MAX_SCRATCH_BYTES:
        rows = np.empty(shape, np.uint8)
        return rows, rows.ctypes.data
    if len(_scratch.place[0]) < size:
        _scratch.make(size)
    buffer, address = _scratch.place
    return buffer[:size].reshape(shape), address


def _test_arguments(firing: FiringTest) -> tuple[Test, list[NDArray[Any]]]:
    """Return the tuple that lanes.py describes, and the arrays whose addresses are in it."""
    if len(firing.low) == 1:
        return _one_comparison(firing), []
    kind = firing.low.dtype
    transform: tuple[Key | None, Key | None] = (None, None)
    if firing.bias or firing.flip:
        bits = np.array([firing.bias, firing.flip], f"u{kind.itemsize}").view(kind)
        transform = (bits[0], bits[1])
    # Kernels read full vectors of thresholds, also for the last few neurons.
    tables = [np.pad(side, (0, 64)) for side in (firing.low, firing.high)]
    lows, highs = (table.ctypes.data for table in tables)
    return (firing.low[0], firing.high[0], *transform, lows, highs), tables


def _one_comparison(firing: FiringTest) -> Test:
    """Return the tuple for one threshold, by which one comparison stands for two.

    The shift, modulo 2 to the width, makes the highest key that fires the greatest number. Keys
    that fire are then the greatest of all. With AVX2 and AVX-512, loops are a third shorter than
    with two comparisons (`python -m benchmarks.cpu.instructions`).
    """
    kind = firing.low.dtype
    half, low, high = 1 << (8 * kind.itemsize - 1), int(firing.low[0]), int(firing.high[0])
    bias, flip = firing.bias, firing.flip
    if high - low + 1 == 2 * half:  # every integer fires; without their signs, they are half of all
        low, high, bias, flip = 0, half - 1, 0, -1
    shift = half - 1 - high + bias  # to flip a sign is to add half of all numbers
    shift = (shift + half) % (2 * half) - half
    limit = half - 1 - (high - low + 1)
    return (kind.type(shift), kind.type(limit), None, kind.type(flip) if flip else None, None, None)


@kernel
def _outer_offset(numbers: Ints, index: Int) -> Int:
    axes = (len(numbers) - 6) // 2
    offset: Int = 0
    for axis in range(axes - 1, -1, -1):
        rest = index // numbers[6 + axis]
        offset += (index - rest * numbers[6 + axis]) * numbers[6 + axes + axis]
        index = rest
    return offset


# Numba inlines the helpers of the inner loops. If that were left to LLVM, they would remain calls
# that pass the test through memory, once for every few bits.
@inlined
def _tail_mask(address: Int, end: Int, size: Int, test: Test, neuron: Int, count: Int) -> np.uint64:
    """Return the bits of the last ``count`` < 64 neurons of a row; read nothing past ``end``."""
    mask = np.uint64(0)
    if count <= 8 and address + 8 * size <= end:
        mask = firing_mask_8(address, test, neuron)
    elif count <= 16 and address + 16 * size <= end:
        mask = firing_mask_16(address, test, neuron)
    elif count <= 32 and address + 32 * size <= end:
        mask = firing_mask_32(address, test, neuron)
    elif address + 64 * size <= end:
        mask = firing_mask_64(address, test, neuron)
    else:
        for k in range(count):
            mask |= firing_mask_1(address + k * size, test, neuron + k) << np.uint64(k)
    return mask & ((np.uint64(1) << np.uint64(count)) - np.uint64(1))


@kernel
def pack_flat(
    address: Int, numbers: Ints, test: Test, packed: Bytes, start: Int, stop: Int
) -> None:
    """Pack contiguous rows of few neurons: 64 rows of n neurons are n words of bits."""
    size, row_bytes, neurons = numbers[1], numbers[3], numbers[4]
    width = packed.shape[1]
    target, last = address_of(packed) + start * width, address_of(packed) + stop * width
    words = np.zeros(neurons + 1, np.uint64)
    bits = address_of(words)
    mask = (np.uint64(1) << np.uint64(neurons)) - np.uint64(1)
    state = start
    while state + 64 <= stop:
        first = address + state * row_bytes
        for word in range(neurons):
            store_word(firing_mask_64(first + 64 * word * size, test, 0), bits + 8 * word)
        ahead = first + max(_AHEAD, 64 * row_bytes)
        for place in range(0, 64 * neurons, neurons):
            prefetch(ahead)
            if row_bytes > 96:  # of shorter rows, few lines are left out
                for line in range(64, row_bytes, 64):
                    prefetch(ahead + line)
            ahead += row_bytes
            row = load_word(bits + place // 8) >> np.uint64(place % 8)
            store_bytes(row & mask, target, width, last)
            target += width
        state += 64
    keep(words)
    pack_rows(address, numbers, test, packed, state, stop)


@kernel
def pack_rows(
    address: Int, numbers: Ints, test: Test, packed: Bytes, start: Int, stop: Int
) -> None:
    """Pack rows whose neurons are contiguous in memory: lanes run along the neurons."""
    end, size = address + numbers[0], numbers[1]
    run, run_stride, neurons = numbers[2], numbers[3], numbers[4]
    width = packed.shape[1]
    target = address_of(packed) + start * width
    last = address_of(packed) + stop * width
    words, tail = neurons // 64, neurons % 64
    state = start
    while state < stop:
        outer = state // run
        position = state - outer * run
        count = min(run - position, stop - state)
        row = address + _outer_offset(numbers, outer) + position * run_stride
        for _ in range(count):
            for word in range(words):
                fetch_64(row + 64 * word * size + _AHEAD, test)
                mask = firing_mask_64(row + 64 * word * size, test, 64 * word)
                store_word(mask, target + 8 * word)
            if tail:
                mask = _tail_mask(row + 64 * words * size, end, size, test, 64 * words, tail)
                store_bytes(mask, target + 8 * words, (tail + 7) // 8, last)
            target += width
            row += run_stride
        state += count


@inlined
def _add_plane(
    address: Int, end: Int, size: Int, stride: Int, count: Int, test: Test, neuron: Int, target: Int
) -> None:
    """Set one neuron's bit in the bytes of ``count`` positions, ``stride`` bytes apart."""
    done, bit = 0, neuron % 8
    if stride == size:
        # `target` has 64 spare bytes: what a vector writes past `count` is never read.
        while count - done > 16 and address + (done + 64) * size <= end:
            fetch_64(address + done * size + _AHEAD, test)
            add_plane_64(address + done * size, test, neuron, bit, target + done)
            done += 64
        while done < count and address + (done + 16) * size <= end:
            add_plane_16(address + done * size, test, neuron, bit, target + done)
            done += 16
    for position in range(done, count):
        add_plane_1(address + position * stride, test, neuron, bit, target + position)


@kernel
def pack_planes(
    address: Int, numbers: Ints, test: Test, packed: Bytes, start: Int, stop: Int
) -> None:
    """Pack neurons that are apart in memory: lanes run along the positions, plane after plane.

    The bits are collected in a block that has a row for each byte of a word of 64 neurons. Its
    columns are then stored as words.
    """
    end, size = address + numbers[0], numbers[1]
    run, run_stride, neurons, plane = numbers[2], numbers[3], numbers[4], numbers[5]
    width = packed.shape[1]
    last = address_of(packed) + stop * width
    block = np.empty((8, min(run, _BLOCK) + 64), np.uint8)
    rows, row = address_of(block), block.shape[1]
    state = start
    while state < stop:
        outer = state // run
        position = state - outer * run
        count = min(run - position, stop - state, _BLOCK)
        first = address + _outer_offset(numbers, outer) + position * run_stride
        target = address_of(packed) + state * width
        for word in range((neurons + 63) // 64):
            for neuron in range(64 * word, min(64 * word + 64, neurons)):
                _add_plane(
                    first + neuron * plane,
                    end,
                    size,
                    run_stride,
                    count,
                    test,
                    neuron,
                    rows + neuron % 64 // 8 * row,
                )
            used = min(width - 8 * word, 8)
            _store_columns(rows, row, used, target + 8 * word, width, count, last)
        state += count
    keep(block)


@kernel
def _store_columns(
    rows: Int, row: Int, used: Int, target: Int, width: Int, count: Int, last: Int
) -> None:
    """Store ``used`` bytes of each of ``count`` columns, ``width`` apart, all before ``last``."""
    done = 0
    # A full word overwrites bytes of the next state, which must be written later.
    if used == 8 or width < 8:
        while done + 8 <= count and target + (done + 7) * width + 8 <= last:
            store_transposed(rows + done, row, target + done * width, width)
            done += 8
    for position in range(done, count):
        for byte in range(used):
            store_byte(load_byte(rows + byte * row + position), target + position * width + byte)
