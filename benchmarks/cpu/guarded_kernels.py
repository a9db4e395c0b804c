"""The cases that the guard times: a call of ours, and a plain loop that gives the same result."""

from collections.abc import Callable
from typing import Any

import numpy as np

import tensorstate_gpu as ts
from benchmarks.cpu import reference_counts as counts
from benchmarks.cpu import reference_loops as loops
from benchmarks.harness import inputs

Call = Callable[[], Any]
Case = tuple[Call, Call]

_SPARE = 64  # numbers and bytes that plain loops may touch beyond an array


def cases() -> dict[str, Case]:
    """Name -> our call, and the plain one; each of both takes about a tenth to a few ms."""
    return {
        "pack rows of 20": _pack_narrow(1 << 15, 20),
        "pack rows of 64": _pack_rows(1 << 14, 64, "float32"),
        "pack rows of 512, float16": _pack_rows(1 << 12, 512, "float16"),
        "pack NCHW 28 x 28": _pack_planes(20, 64, 28 * 28),
        "pack NCHW 7 x 7": _pack_planes(40, 512, 7 * 7),
        "count 3 bytes, zipf": _count_keys(1 << 18, 20),
        "count 8 bytes, all distinct": _count_distinct_keys(1 << 16),
        "count 64 bytes, zipf": _count_rows(1 << 16),
        "count 64 bytes, all distinct": _count_distinct_rows(1 << 15),
        "unpack rows of 64": _unpack(1 << 16),
        "sort 8 bytes": _sort(1 << 16),
    }


def _activations(shape: tuple[int, ...], dtype: str) -> tuple[np.ndarray, tuple[Any, ...]]:
    """Some, and what the plain loops need to know of them: address, size, range of what fires."""
    count = int(np.prod(shape))
    flat = inputs.activations((count + _SPARE,), dtype)
    kind = np.dtype(f"i{flat.itemsize}").type
    infinity = flat.dtype.type(np.inf).view(kind)
    x = flat[:count].reshape(shape)
    return x, (x.ctypes.data, x.itemsize, kind(1), infinity)


def _spare_rows(packed: np.ndarray) -> np.ndarray:
    """The same rows, with memory behind them."""
    flat = np.zeros(packed.size + _SPARE, np.uint8)
    flat[: packed.size] = packed.reshape(-1)
    return flat[: packed.size].reshape(packed.shape)


def _pack_narrow(rows: int, neurons: int) -> Case:
    x, about = _activations((rows, neurons), "float32")
    width = (neurons + 7) // 8

    def plain() -> np.ndarray:
        packed = np.empty(rows * width + 8, np.uint8)
        loops.pack_narrow(*about, packed.ctypes.data, rows, neurons)
        return packed[:-8].reshape(rows, width)

    return lambda: ts.compress_states(x), plain


def _pack_rows(rows: int, neurons: int, dtype: str) -> Case:
    x, about = _activations((rows, neurons), dtype)

    def plain() -> np.ndarray:
        packed = np.empty((rows, neurons // 8), np.uint8)
        loops.pack_rows(*about, packed.ctypes.data, rows, neurons // 64)
        return packed

    return lambda: ts.compress_states(x), plain


def _pack_planes(maps: int, neurons: int, places: int) -> Case:
    x, about = _activations((maps, neurons, places), "float32")
    width = neurons // 8

    def plain() -> np.ndarray:
        packed = np.empty((maps * places + 8, width), np.uint8)
        loops.pack_planes(*about, packed.ctypes.data, maps, neurons, places)
        return packed[:-8]

    return lambda: ts.compress_states(x, neuron_axis=1), plain


def _unpack(rows: int) -> Case:
    packed = inputs.states(rows, 64, "all distinct")

    def plain() -> np.ndarray:
        states = np.empty((rows, 64), np.bool_)
        loops.unpack_rows(packed.ctypes.data, states.ctypes.data, rows, 1)
        return states

    return lambda: ts.decompress_states(packed, 64), plain


def _count_keys(rows: int, neurons: int) -> Case:
    packed = _spare_rows(inputs.states(rows, neurons, "zipf"))

    def plain() -> np.ndarray:
        slots = np.zeros((1 << 14, 2), np.uint64)
        used = counts.count_keys(packed.ctypes.data, packed.shape[1], rows, slots)
        keys, found, index = np.empty(used, np.uint64), *np.empty((2, used), np.int64)
        counts.entries(slots, keys, found)
        counts.sort_keys(keys, index, neurons, 2)
        return found[index]

    return lambda: ts.count_states(packed).counts, plain


def _count_distinct_keys(rows: int) -> Case:
    packed = inputs.states(rows, 64, "all distinct")

    def plain() -> np.ndarray:
        keys = counts.sort_keys(packed.view(np.uint64)[:, 0].copy(), None, 64, rows >> 13)
        bounds = np.empty(rows + 1, np.int64)
        found = counts.edges(keys, bounds)
        bounds[found] = rows
        return np.diff(bounds[: found + 1])

    return lambda: ts.count_states(packed).counts, plain


def _count_rows(rows: int) -> Case:
    packed = inputs.states(rows, 512, "zipf")

    def plain() -> np.ndarray:
        slots, kept = np.zeros(1 << 15, np.uint64), np.empty((1 << 14, 64), np.uint8)
        found = np.empty(1 << 14, np.int64)
        used = counts.count_rows(packed.ctypes.data, rows, slots, kept, found)
        _, index = _sorted(kept[:used])
        return found[index]

    return lambda: ts.count_states(packed).counts, plain


def _count_distinct_rows(rows: int) -> Case:
    packed = inputs.states(rows, 512, "all distinct")

    def plain() -> np.ndarray:
        taken = np.empty_like(packed)
        _, index = _sorted(packed)
        counts.take_64(packed.ctypes.data, index, taken.ctypes.data)
        return taken

    return lambda: ts.count_states(packed).packed, plain


def _sorted(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Bounds of equal rows, and the order, by their highest words."""
    index, bounds = np.empty(len(rows), np.int64), np.empty(len(rows) + 1, np.int64)
    words = rows.view(np.uint64)[:, -1].copy()
    keys = counts.sort_keys(words, index, 64, max(2, len(rows) >> 13))
    found = counts.edges(keys, bounds)
    bounds[found] = len(rows)
    return bounds[: found + 1], index


def _sort(rows: int) -> Case:
    packed = inputs.states(rows, 64, "all distinct")
    return lambda: ts.sort_states(packed)[1], lambda: _sorted(packed)[1]
