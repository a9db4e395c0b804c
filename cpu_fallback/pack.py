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

from .kernel_types import Bytes, Int, Ints, Key, Test
from .pack_kernels import pack_flat, pack_planes, pack_rows
from .threads import in_parallel

Kernel = Callable[[Int, Ints, Test, Bytes, Int, Int], None]

# Rows that follow each other in memory: those of whole bytes are one row of bits, and a row of at
# most this many bits, shifted by at most 7, is read as one word.
_FLAT_NEURONS = 57


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
    is_flat = layout.neurons <= _FLAT_NEURONS or layout.neurons % 8 == 0
    if without_gaps and is_flat and one_threshold:
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
