"""Packing on the GPU: the strides decide which kernel is used, never the logical layout."""

import numpy as np

from tensorstate_gpu._arrays.cupy_types import DeviceArray
from tensorstate_gpu._arrays.dlpack import Tensor
from tensorstate_gpu._arrays.elements import ElementType
from tensorstate_gpu._arrays.layout import Layout
from tensorstate_gpu._arrays.thresholds import FiringTest

from . import device
from .launch import Launch, blocks_for

_BYTES_PER_THREAD = 4  # as in pack.cu, like the next two
_STREAM_BITS = 8 * 4096
_MAP_BYTES = 32_768
_MOST_AXES = 6
_HALVES = {"float16": 1, "bfloat16": 2}  # formats of which the GPU compares two numbers at a time


def compress(
    states: Tensor, layout: Layout, firing: FiringTest, *, scratch: bool = False
) -> DeviceArray:
    """Pack into uint8 of shape (states, row bytes); see the Backend protocol."""
    packed = device.empty((layout.states, layout.row_bytes), np.uint8)
    if packed.size:
        tables = None if len(firing.low) == 1 else _tables_on_device(firing)
        device.run(pack_launch(states, layout, firing, tables, device.address(packed)))
    return packed


def _tables_on_device(firing: FiringTest) -> DeviceArray:
    """Copy the lowest and highest keys to the device: (2, neurons)."""
    return device.library().asarray(np.stack([firing.low, firing.high]))


def pack_launch(
    states: Tensor, layout: Layout, firing: FiringTest, tables: DeviceArray | None, packed: int
) -> Launch:
    """Build the launch that packs into the memory at ``packed``.

    ``tables``: a device array (2, neurons) of the lowest and highest keys if there is one threshold
    for each neuron, otherwise None.
    """
    size = states.element.size
    kernel, grid, numbers, lanes = _choose_kernel(states.address, layout, size, tables is not None)
    halves = 0 if tables is not None else _HALVES.get(states.element.name, 0)
    transformed = not halves and bool(firing.bias or firing.flip)
    defines = (
        ("BITS", 8 * size),
        ("TRANSFORMED", int(transformed)),
        ("PER_NEURON", int(tables is not None)),
        ("LANES", lanes),
        ("HALVES", halves),
    )
    test = _test_arguments(firing, tables)
    if halves:
        test = (_threshold(firing, states.element), *test[1:])
    addresses = np.uint64(states.address), np.uint64(packed)
    return Launch("pack", kernel, defines, grid, (*addresses, *numbers, *test))


def _threshold(firing: FiringTest, element: ElementType) -> np.int16:
    """Return the bits of the largest number that does not fire; all greater floats fire."""
    if firing.low[0] > firing.high[0]:
        return np.int16(element.largest)  # nothing is greater than infinity
    key = int(firing.low[0]) - 1
    return np.int16(key if key >= 0 else (-1 - key) - (1 << 15))


def _test_arguments(firing: FiringTest, tables: DeviceArray | None) -> tuple[np.generic, ...]:
    """Return the arguments low, high, bias, flip, lows, highs."""
    kind = firing.low.dtype
    transform = np.array([firing.bias, firing.flip], f"u{kind.itemsize}").view(kind)
    lows = 0 if tables is None else device.address(tables)
    highs = 0 if tables is None else lows + tables.shape[1] * kind.itemsize
    return (firing.low[0], firing.high[0], *transform, np.uint64(lows), np.uint64(highs))


def _choose_kernel(
    address: int, layout: Layout, size: int, per_neuron: bool
) -> tuple[str, tuple[int, int], tuple[np.generic, ...], int]:
    """Return the kernel, grid, the arguments between the addresses and the test, and LANES."""
    neurons, row_bytes = layout.neurons, layout.row_bytes
    by_rows = layout.neuron_stride == size or neurons == 1
    one_run = layout.run_stride == neurons * size or layout.states == 1
    without_gaps = one_run and not layout.outer_shape
    aligned = address % min(16, 8 * size) == 0
    if by_rows and without_gaps and aligned:
        if neurons % 8 == 0:
            total = layout.states * row_bytes
            grid = (blocks_for(-(-total // _BYTES_PER_THREAD)), 1)
            return "pack_whole_bytes", grid, (np.int64(total), np.int64(row_bytes)), 1
        rows = _STREAM_BITS // neurons // 8 * 8
        if rows and not per_neuron:
            grid = (-(-layout.states // rows), 1)
            arguments = (np.int64(layout.states), np.int32(neurons), np.int32(rows))
            return "pack_rows", grid, arguments, 1
    if layout.run_stride == size and len(layout.outer_shape) <= 1 and layout.run > 1:
        return _choose_planes(address, layout, size)
    return _strided(layout)


def _choose_planes(
    address: int, layout: Layout, size: int
) -> tuple[str, tuple[int, int], tuple[np.generic, ...], int]:
    """Like _choose_kernel(), for states that are neighbouring numbers, in one image or several."""
    outer = layout.outer_shape[0] if layout.outer_shape else 1
    outer_stride = layout.outer_strides[0] if layout.outer_shape else 0
    groups, lanes = -(-layout.neurons // 64), 16 // size
    strides = (outer_stride, layout.neuron_stride)
    if groups > (1 << 16) - 1 or any(stride % size for stride in strides):
        return _strided(layout)
    in_numbers = outer_stride // size
    whole = address % 16 == 0 and not any(stride % 16 for stride in strides)
    if not whole or layout.run % lanes:
        lanes = 1
        maps_fit = min(64, layout.neurons) * layout.run * size <= _MAP_BYTES
        if maps_fit and layout.neuron_stride == layout.run * size and outer < 1 << 31:
            arguments = (np.int32(layout.run), np.int64(in_numbers), np.int64(layout.neurons))
            return "pack_maps", (outer, groups), arguments, 1
    numbers = (outer, layout.run, in_numbers, layout.neurons, layout.neuron_stride // size)
    grid = (blocks_for(outer * (layout.run // lanes)), groups)
    return "pack_planes", grid, tuple(np.int64(number) for number in numbers), lanes


def _strided(layout: Layout) -> tuple[str, tuple[int, int], tuple[np.generic, ...], int]:
    """Like _choose_kernel(), for any strides."""
    axes = len(layout.outer_shape)
    if axes > _MOST_AXES:
        raise ValueError(
            f"states have {axes + 1} axes that cannot be joined, besides the neurons; at most "
            f"{_MOST_AXES + 1} can be packed where they lie"
        )
    missing = _MOST_AXES - axes
    shape = (*reversed(layout.outer_shape), *[1] * missing)
    strides = (*reversed(layout.outer_strides), *[0] * missing)
    runs = (layout.states, layout.run, layout.run_stride, layout.neurons, layout.neuron_stride)
    arguments = tuple(np.int64(number) for number in (*runs, *shape, *strides))
    return "pack_strided", (blocks_for(layout.states * layout.row_bytes), 1), arguments, 1
