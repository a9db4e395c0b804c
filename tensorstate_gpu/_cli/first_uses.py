"""Calls that compile every kernel, once for each kind of arguments that captures and counts pass.

Numba compiles a kernel anew for each type of its arguments; a read-only array is another type than
a writable one. So these are real calls: what their kernels get is what users' calls pass to them.
"""

from collections.abc import Callable, Iterator
from functools import partial
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tensorstate_gpu._arrays.dlpack import borrow
from tensorstate_gpu._arrays.layout import cached_plan
from tensorstate_gpu._arrays.thresholds import firing_test
from tensorstate_gpu._capturing.capture_point import CapturePoint
from tensorstate_gpu._layers.counters import count_weighted
from tensorstate_gpu._states.bits import popcount
from tensorstate_gpu._states.packing import compress_states, decompress_states
from tensorstate_gpu._states.sort_and_count import count_states, sort_states
from tensorstate_gpu._states.state_counts import StateCounts
from tensorstate_gpu.cpu_fallback.in_cache import sort_words
from tensorstate_gpu.cpu_fallback.pack import plan_of
from tensorstate_gpu.cpu_fallback.radix import sort_buckets
from tensorstate_gpu.cpu_fallback.team import task_of
from tensorstate_gpu.neurons.rates import firing_rates
from tensorstate_gpu.neurons.synchrony import cofiring

Use = Callable[[], object]
Rows = NDArray[np.uint8]

# The formats whose kernels differ: numbers of 1 to 8 bytes, and thresholds above and below zero,
# where the bits of floats have to be put in order. bfloat16 has the kernels of float16.
_FORMATS = ("int8", "float16", "float32", "float64")
_BELOW_ZERO = {"int8": "uint8"}  # the order of unsigned bits is another, too

_NARROW, _WIDE = 3, 9  # bytes of a row: one word, several words
_MANY = 1 << 15  # rows that fill a first table


def first_uses() -> list[tuple[str, Use]]:
    """Return what to call, in words and as functions without arguments."""
    return [*_packing(), *_counting(), *_running_counts(), *_reading()]


def _packing() -> Iterator[tuple[str, Use]]:
    shapes = {
        "few neurons": ((70, 20), -1),
        "many neurons": ((3, 70), -1),
        "NCHW": ((2, 70, 5, 5), 1),
    }
    for dtype, below, (name, (shape, axis)) in product(_FORMATS, (False, True), shapes.items()):
        given = _BELOW_ZERO.get(dtype, dtype) if below else dtype
        threshold = -1.0 if below and given == dtype else 0.0
        for thresholds in (threshold, [threshold] * shape[axis]):
            x = np.zeros(shape, given)
            call = partial(compress_states, x, neuron_axis=axis, threshold=thresholds)
            yield f"packing {given}, {name}", call
        yield f"packing {given} by torch's threads, {name}", partial(_share, x, axis, threshold)


def _share(x: NDArray[Any], neuron_axis: int, threshold: float) -> None:
    """Compile what runs in threads of torch, which may not be installed."""
    tensor = borrow(x, "states")
    layout = cached_plan(tensor.shape, tensor.strides, tensor.element.size, neuron_axis)
    task_of(plan_of(layout, firing_test(tensor.element, threshold, layout.neurons)))


def _rows(width: int, distinct: int, count: int = _MANY) -> Rows:
    """Return packed rows, of which so many are distinct."""
    numbers = np.arange(count, dtype=np.uint64) % np.uint64(distinct)
    packed = np.zeros((count, width), np.uint8)
    packed[:, :_NARROW] = numbers.astype("<u8").view(np.uint8).reshape(count, 8)[:, :_NARROW]
    packed[:, width - _NARROW :] = packed[:, :_NARROW].copy()
    return packed


def _both(rows: Rows) -> tuple[Rows, Rows]:
    """Return rows as packing makes them, and read-only ones as capture points and stores do."""
    frozen = rows.view()
    frozen.flags.writeable = False
    return rows, frozen


def _counting() -> Iterator[tuple[str, Use]]:
    for width, distinct in product((_NARROW, _WIDE), (9, 1000, _MANY)):
        for rows in _both(_rows(width, distinct)):
            what = f"{distinct:,} distinct rows of {width} bytes"
            yield f"counting {what}", partial(count_states, rows)
            yield f"sorting {what}", partial(sort_states, rows)
            yield f"counting a few {what}", partial(count_states, rows[:100])
    words = np.zeros(_MANY, np.uint64)  # NumPy may sort them here, and not when it is tried again
    yield "sorting words", partial(sort_words, words)
    yield "sorting buckets of words", partial(sort_buckets, words, None, np.array([0, 9]), 0, 1)


def _running_counts() -> Iterator[tuple[str, Use]]:
    for width in (_NARROW, _WIDE):
        yield f"counting batches of {width} bytes", partial(_count_batches, width)
        yield f"counting chunks of {width} bytes", partial(_count_chunks, width)


def _count_batches(width: int) -> None:
    """As captures do: with and without labels, and more states than tables hold."""
    for labels in (None, np.arange(1 << 14) % 2):
        point = CapturePoint("layer", keep="counts")
        point.declare(8 * width)
        for batch in np.split(_rows(width, 1 << 19, 1 << 18), 16):
            point.append(batch, len(batch), labels)
        point.histogram()
        if labels is not None:
            point.counts_by()


def _count_chunks(width: int) -> None:
    """As stores do: read-only rows, with and without weights, and sums of histograms."""
    rows, frozen = _both(_rows(width, _MANY))
    weights = np.ones(len(rows), np.int64)
    frozen_weights = weights.view()
    frozen_weights.flags.writeable = False
    for chunk, weight in product((rows, frozen), (None, weights, frozen_weights)):
        count_weighted([(chunk, weight)] * 2, 8 * width)
    one, other = (count_states(part) for part in (rows[::2], rows[1:]))
    one + other


def _reading() -> Iterator[tuple[str, Use]]:
    for width in (_NARROW, 8, _WIDE, 64):
        counts = StateCounts(_rows(width, 9, 9), np.arange(1, 10), 8 * width)
        yield f"firing rates of {width} bytes", partial(firing_rates, counts)
        yield f"pairs of neurons of {width} bytes", partial(cofiring, counts)
        for rows in _both(_rows(width, 9, 600)):
            what = f"rows of {width} bytes"
            yield f"unpacking {what}", partial(decompress_states, rows, 8 * width)
            yield f"unpacking {what}", partial(decompress_states, rows, 8 * width - 1)
            yield f"bits of {what}", partial(popcount, rows)
            yield f"firing rates of {what}", partial(firing_rates, rows, 8 * width)
            yield f"pairs of neurons of {what}", partial(cofiring, rows, 8 * width)
