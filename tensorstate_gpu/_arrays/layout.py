"""The memory layout of states: a plan for reading them, from shape, strides and neuron axis.

The states of an array run over its axes other than the neuron axis, in C order. Neighbouring axes
that together have one constant stride are merged. An NCHW array thus becomes (N, H*W) states of C
neurons, and a contiguous array of any rank becomes one run of rows.
"""

import itertools
import math
import operator
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import Any

from tensorstate_gpu._arguments import integer
from tensorstate_gpu._arrays.dlpack import Tensor


def row_bytes(neurons: int) -> int:
    """Return the size of a packed state in bytes."""
    return (neurons + 7) // 8


@dataclass(frozen=True, eq=False)
class Layout:
    """Where each neuron of each state is in memory. All strides are in bytes.

    It is equal to itself alone: plan() makes that of a batch once, and it can be looked up by it.

    There are ``product of outer_shape * run`` states. State number s begins at offset
    ``sum(index(s // run) * outer_strides) + (s % run) * run_stride``; its neuron k is
    ``k * neuron_stride`` further. ``end`` is the offset just past the highest element: no kernel
    reads at or beyond it.
    """

    outer_shape: tuple[int, ...]
    outer_strides: tuple[int, ...]
    run: int
    run_stride: int
    neurons: int
    neuron_stride: int
    end: int

    @cached_property
    def states(self) -> int:
        return math.prod(self.outer_shape) * self.run

    @cached_property
    def row_bytes(self) -> int:
        return row_bytes(self.neurons)

    def blocks(self, states: Tensor, packed: Any) -> Iterator[tuple[Tensor, Any]]:
        """Yield blocks of the tensor (images, positions, neurons) with their rows of ``packed``."""
        *far, images = self.outer_shape or (1,)
        *far_strides, image_stride = self.outer_strides or (0,)
        shape = (images, self.run, self.neurons)
        strides = (image_stride, self.run_stride, self.neuron_stride)
        rows = images * self.run
        for number, index in enumerate(itertools.product(*map(range, far))):
            address = states.address + sum(map(operator.mul, index, far_strides))
            block = replace(states, address=address, shape=shape, strides=strides)
            yield block, packed[number * rows : (number + 1) * rows]


def plan(
    shape: tuple[int, ...], strides: tuple[int, ...], itemsize: int, neuron_axis: Any
) -> Layout:
    """Return the layout of an array that has at least two axes.

    Raises TypeError or ValueError for an invalid shape or neuron axis.
    """
    axis = neuron_axis if type(neuron_axis) is int else integer(neuron_axis, "neuron_axis")
    return cached_plan(shape, strides, itemsize, axis)


@lru_cache(maxsize=1024)  # all batches of a layer have the same layout
def cached_plan(
    shape: tuple[int, ...], strides: tuple[int, ...], itemsize: int, neuron_axis: int
) -> Layout:
    """Like plan(), of a neuron axis that is an int for certain."""
    if len(shape) < 2:
        raise ValueError(f"states must have at least 2 axes (states, neurons), got shape {shape}")
    axis = _checked_axis(neuron_axis, len(shape))
    if shape[axis] == 0:
        raise ValueError(f"states must have at least 1 neuron, got shape {shape}, axis {axis}")
    reach = sum((n - 1) * stride for n, stride in zip(shape, strides, strict=True) if stride > 0)
    others = [(n, s) for i, (n, s) in enumerate(zip(shape, strides, strict=True)) if i != axis]
    *outer, (run, run_stride) = _merge_axes(others)
    return Layout(
        tuple(n for n, _ in outer),
        tuple(s for _, s in outer),
        run,
        run_stride,
        shape[axis],
        strides[axis] if shape[axis] > 1 else itemsize,
        reach + itemsize,
    )


def _checked_axis(axis: int, ndim: int) -> int:
    if not -ndim <= axis < ndim:
        raise ValueError(f"neuron_axis must be in [-{ndim}, {ndim}), got {axis}")
    return axis % ndim


def _merge_axes(axes: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Drop axes of length 1, and merge neighbouring axes that have one constant stride."""
    merged: list[tuple[int, int]] = []
    for length, stride in axes:
        if length == 1:
            continue
        if merged and merged[-1][1] == length * stride:
            merged[-1] = (merged[-1][0] * length, stride)
        else:
            merged.append((length, stride))
    return merged or [(1, 0)]
