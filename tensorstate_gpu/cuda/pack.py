"""Packing on the GPU: the strides decide which kernel is used, never the logical layout."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from tensorstate_gpu._arrays.cupy_types import DeviceArray
from tensorstate_gpu._arrays.dlpack import Tensor
from tensorstate_gpu._arrays.elements import ElementType
from tensorstate_gpu._arrays.layout import Layout
from tensorstate_gpu._arrays.thresholds import FiringTest

from . import device
from .divisor import MOST_DIVIDED, divisor
from .launch import MOST_BLOCKS, THREADS, Launch, blocks_for

LARGEST_READ = 16  # bytes, which must be aligned
_BYTES_PER_THREAD = 4  # of pack_whole_bytes and pack_pitched
_ROWS_BITS = 8 * 4096  # of the streams of pack_rows and pack_maps
_MAPS_BITS = 8 * 16384
_MAPS_OF_A_BLOCK = 32_768  # numbers: several reads for each thread, and several blocks at a time
_SMALL_MAP = 256  # numbers; larger ones go to pack_planes if it can read several at a time
_MOST_GROUPS = 4  # of 64 neurons, which a block of pack_planes packs together
_MOST_AXES = 6  # of pack_strided
_PITCHED_AXES = 2  # of pack_pitched, besides the rows
_MOST_INT32 = 1 << 31  # neurons of a row, where kernels count them in 32 bits
_SHORT_INDEX = (1 << 32) - (1 << 13)  # with so many threads or fewer, indices have 32 bits
_HALVES = {"float16": 1, "bfloat16": 2}  # formats of which the GPU compares two numbers at a time


@dataclass(frozen=True, slots=True)
class _Choice:
    """A kernel, its grid, its arguments between the addresses and the test, and its own defines."""

    source: str
    kernel: str
    grid: tuple[int, int]
    arguments: tuple[np.generic, ...]
    defines: tuple[tuple[str, int], ...] = ()


def compress(
    states: Tensor, layout: Layout, firing: FiringTest, *, scratch: bool = False
) -> DeviceArray:
    """Pack into uint8 of shape (states, row bytes); see the Backend protocol."""
    packed = device.empty((layout.states, layout.row_bytes), np.uint8)
    if packed.size:
        given = (states.address % LARGEST_READ, states.element, layout, firing)
        if len(firing.low) == 1:
            launch = launch_of_one_test(*given)
        else:
            tables = _tables_on_device(firing)  # which live until the launch is queued
            launch = pack_launch(*given, device.address(tables))
        device.run(launch, np.uint64(states.address), np.uint64(packed.data.ptr))
    return packed


def _tables_on_device(firing: FiringTest) -> DeviceArray:
    """Copy the lowest and highest keys to the device: (2, neurons and more)."""
    neurons = len(firing.low)
    tables = np.zeros((2, _columns(neurons)), firing.low.dtype)
    tables[:, :neurons] = firing.low, firing.high
    return device.library().asarray(tables)


def _columns(neurons: int) -> int:
    """Return the width of a table whose rows kernels read eight numbers at a time."""
    return -(-neurons // LARGEST_READ) * LARGEST_READ


def pack_launch(
    offset: int, element: ElementType, layout: Layout, firing: FiringTest, tables: int = 0
) -> Launch:
    """Build the launch that packs, without its first arguments: from where, and to where.

    ``offset``: by how many bytes the states begin behind an aligned address. ``tables``: where the
    device has the result of _tables_on_device(), if there is one threshold for each neuron.
    """
    chosen = _choose_kernel(offset, layout, element.size, tables != 0)
    defines, test = _test(firing, element, tables)
    arguments = (*chosen.arguments, *test)
    return Launch(chosen.source, chosen.kernel, (*defines, *chosen.defines), chosen.grid, arguments)


# Of the layers of some models, whose passes have the same shapes.
launch_of_one_test = lru_cache(maxsize=1024)(pack_launch)


def _test(
    firing: FiringTest, element: ElementType, tables: int
) -> tuple[tuple[tuple[str, int], ...], tuple[np.generic, ...]]:
    """Return the defines of a test, and the arguments low, high, bias, flip, lows and highs.

    ``tables``: where the device has the keys of each neuron, if there are some.
    """
    halves = 0 if tables else _HALVES.get(element.name, 0)
    transformed = not halves and bool(firing.bias or firing.flip)
    defines = (
        ("BITS", 8 * element.size),
        ("TRANSFORMED", int(transformed)),
        ("PER_NEURON", int(tables != 0)),
        ("HALVES", halves),
    )
    kind = firing.low.dtype
    transform = np.array([firing.bias, firing.flip], f"u{kind.itemsize}").view(kind)
    low = _threshold(firing, element) if halves else firing.low[0]
    highs = tables and tables + _columns(len(firing.low)) * kind.itemsize
    return defines, (low, firing.high[0], *transform, np.uint64(tables), np.uint64(highs))


def _threshold(firing: FiringTest, element: ElementType) -> np.int16:
    """Return the bits of the largest number that does not fire; all greater floats fire."""
    if firing.low[0] > firing.high[0]:
        return np.int16(element.largest)  # nothing is greater than infinity
    key = int(firing.low[0]) - 1
    return np.int16(key if key >= 0 else (-1 - key) - (1 << 15))


@lru_cache(maxsize=1024)
def _choose_kernel(offset: int, layout: Layout, size: int, per_neuron: bool) -> _Choice:
    """Return the kernel for numbers that begin ``offset`` bytes behind an aligned address.

    ``per_neuron``: whether each neuron has a threshold.
    """
    arguments: tuple[np.generic, ...]
    neurons, row_bytes = layout.neurons, layout.row_bytes
    by_rows = layout.neuron_stride == size or neurons == 1
    one_run = layout.run_stride == neurons * size or layout.states == 1
    without_gaps = one_run and not layout.outer_shape and neurons < _MOST_INT32
    pitched = _pitched(offset, layout, size) if by_rows else None
    if per_neuron and pitched is not None:  # it divides less often to know the neuron of a number
        return pitched
    if by_rows and without_gaps and offset % _read_bytes(size) == 0:
        if neurons % 8 == 0:
            total = layout.states * row_bytes
            grid = (blocks_for(-(-total // _BYTES_PER_THREAD)), 1)
            arguments = (np.int64(total), np.int32(neurons))
            return _Choice("pack_rows", "pack_whole_bytes", grid, arguments)
        if rows := _ROWS_BITS // neurons // 8 * 8:
            grid = (-(-layout.states // rows), 1)
            arguments = (np.int64(layout.states), np.int32(neurons), np.int32(rows))
            return _Choice("pack_rows", "pack_rows", grid, arguments)
    if layout.run_stride == size and len(layout.outer_shape) <= 1 and layout.run > 1:
        return _choose_planes(offset, layout, size)
    return pitched or _strided(offset, layout, size)


def _read_bytes(size: int) -> int:
    """Return the size of a read, of which eight numbers need one or several."""
    return min(LARGEST_READ, 8 * size)


def _pitched(offset: int, layout: Layout, size: int) -> _Choice | None:
    """Like _choose_kernel(), for rows of neighbouring neurons; None if pack_pitched cannot."""
    strides = (layout.run_stride, *reversed(layout.outer_strides))
    total = layout.states * layout.row_bytes
    # 16: the kernel adds the numbers before the row in its first aligned 16 bytes.
    few = len(layout.outer_shape) <= _PITCHED_AXES and layout.neurons < _MOST_INT32 - 16
    if not few or total > MOST_DIVIDED or any(stride % size for stride in strides):
        return None
    missing = _PITCHED_AXES - len(layout.outer_shape)
    in_numbers = [stride // size for stride in strides] + [0] * missing
    if max(map(abs, in_numbers)) >= _MOST_INT32:
        return None
    images = layout.outer_shape[-1] if layout.outer_shape else 1
    arguments = (
        *(np.uint32(total), np.int32(layout.neurons), *divisor(layout.row_bytes)),
        *(*divisor(layout.run), *divisor(images), *map(np.int32, in_numbers)),
    )
    aligned = all(start % _read_bytes(size) == 0 for start in (offset, *strides))
    grid = (blocks_for(-(-total // _BYTES_PER_THREAD)), 1)
    defines = (("ALIGNED", int(aligned)), ("AXES", len(layout.outer_shape)))
    return _Choice("pack_pitched", "pack_pitched", grid, arguments, defines)


def _choose_planes(offset: int, layout: Layout, size: int) -> _Choice:
    """Like _choose_kernel(), for states that are neighbouring numbers, in one image or several."""
    arguments: tuple[np.generic, ...]
    outer = layout.outer_shape[0] if layout.outer_shape else 1
    outer_stride = layout.outer_strides[0] if layout.outer_shape else 0
    strides = (outer_stride, layout.neuron_stride)
    groups = -(-layout.neurons // 64)
    if any(stride % size for stride in strides):
        return _strided(offset, layout, size)
    lanes = _lanes(offset, layout.run, strides, size)
    chunk = _maps_of_a_block(layout.run, layout.neurons)
    blocks = outer * -(-layout.neurons // max(chunk, 1))
    contiguous = layout.neuron_stride == layout.run * size and blocks <= MOST_BLOCKS[0]
    if chunk and contiguous and (lanes == 1 or layout.run <= _SMALL_MAP):
        numbers = (np.int32(layout.run), np.int64(outer_stride // size))
        arguments = (*numbers, np.int32(layout.neurons), np.int32(chunk))
        return _Choice("pack_maps", "pack_maps", (blocks, 1), arguments)
    together = -(-groups // -(-groups // _MOST_GROUPS))  # as even as possible
    blocks_of_neurons = -(-groups // together)
    in_numbers = (outer_stride // size, layout.neurons, layout.neuron_stride // size)
    arguments = (
        *map(np.int64, (outer, layout.run, *in_numbers)),
        *(np.int32(together), np.int32(blocks_of_neurons)),
    )
    blocks = -(-layout.states // (THREADS // together * lanes))
    grid = (blocks * blocks_of_neurons, 1)
    return _Choice("pack_planes", "pack_planes", grid, arguments, (("LANES", lanes),))


def _lanes(offset: int, run: int, strides: tuple[int, int], size: int) -> int:
    """Return how many neighbouring positions one read of 16 or 8 bytes has everywhere; else 1."""
    for read in (LARGEST_READ, 8):
        aligned = all(number % read == 0 for number in (offset, run * size, *strides))
        if aligned and read > size:
            return read // size
    return 1


def _maps_of_a_block(run: int, neurons: int) -> int:
    """Return how many maps of ``run`` numbers a block of pack_maps takes; 0 if too large."""
    most = (_MAPS_BITS - 7) // run // 32 * 32
    wanted = max(32, _MAPS_OF_A_BLOCK // run // 128 * 128)
    return min(most, wanted, -(-neurons // 32) * 32)


def _strided(offset: int, layout: Layout, size: int) -> _Choice:
    """Like _choose_kernel(), for any strides."""
    axes = len(layout.outer_shape)
    if axes > _MOST_AXES:
        raise ValueError(
            f"states have {axes + 1} axes that cannot be joined, besides the neurons; at most "
            f"{_MOST_AXES + 1} can be packed where they lie"
        )
    threads = layout.states * layout.row_bytes
    index = np.uint32 if threads <= _SHORT_INDEX else np.uint64
    missing = _MOST_AXES - axes
    shape = (*reversed(layout.outer_shape), *[1] * missing)
    strides = (*reversed(layout.outer_strides), *[0] * missing)
    arguments = (
        *(index(layout.states), index(layout.run), np.int64(layout.run_stride)),
        *(np.int64(layout.neurons), np.int64(layout.neuron_stride), np.int32(axes)),
        *(index(length) for length in shape),
        *(np.int64(stride) for stride in strides),
    )
    defines = (("INDEX", 8 * index().itemsize),)
    return _Choice("pack_strided", "pack_strided", (blocks_for(threads), 1), arguments, defines)
