"""Tests of the CUDA backend. test_cuda_on_cpu.py runs them on a CPU, `make gpu` on a GPU."""

import os
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.lib.stride_tricks import as_strided
from simt.gpu import Gpu
from simt.machine import Machine

from tensorstate_gpu import cuda
from tensorstate_gpu import testing as oracle
from tensorstate_gpu._firing import ELEMENT_TYPES, firing
from tensorstate_gpu._layout import plan
from tensorstate_gpu.cuda import device, pack
from tensorstate_gpu.cuda.launch import KERNELS
from tensorstate_gpu.cuda.narrow_table import NarrowTable
from tensorstate_gpu.cuda.wide_table import WideTable

TYPES = ["float32", "float16", "bfloat16", "float64", "int8", "uint8", "bool"]
THRESHOLDS = ["zero", "negative", "per neuron"]


@pytest.fixture(scope="session")
def machine():
    if os.environ.get("TENSORSTATE_TEST_GPU"):
        return Gpu()
    return Machine(Path(os.environ.get("SIMT_KERNELS", KERNELS)))


@pytest.fixture(autouse=True)
def _installed(monkeypatch, machine):
    machine.install(monkeypatch)


def numbers(shape, name, seed=0):
    """Bit patterns of a format, each one possible, in memory of exactly their size."""
    rng = np.random.default_rng(seed)
    size = ELEMENT_TYPES[name].size
    raw = rng.integers(0, 256, (*shape, size), np.uint8)
    if name == "bool":
        raw %= 2
    return raw.view(f"u{size}")[..., 0]


def threshold_of(kind, neurons, name):
    if kind == "per neuron":
        values = np.random.default_rng(1).normal(size=neurons)
        return [float(value) for value in (abs(values) if "fnuz" in name else values)]
    return {"zero": 0.0, "negative": -1.0}[kind]


def packed_by_kernels(machine, bits, axis, threshold, name):
    tensor = machine.lend(bits, ELEMENT_TYPES[name])
    layout = plan(tensor.shape, tensor.strides, tensor.element.size, axis)
    packed = cuda.compress(tensor, layout, firing(tensor.element, threshold, layout.neurons))
    return machine.fetch(packed)


def as_they_lie(*shape):
    return lambda name: numbers(shape, name)


def offset(*shape):
    """The same one number further: at no multiple of 16 bytes."""

    def make(name):
        flat = numbers((int(np.prod(shape)) + 1,), name)
        return flat[1:].reshape(shape)

    return make


def changed(change, *shape):
    return lambda name: change(numbers(shape, name))


# Name -> how to make the array, its neuron axis, and the kernel for 32-bit numbers.
LAYOUTS = {
    "one state": (as_they_lie(1, 8), -1, "pack_whole_bytes"),
    "rows of 64": (as_they_lie(70, 64), -1, "pack_whole_bytes"),
    "rows of 40, two blocks and a bit": (as_they_lie(450, 40), -1, "pack_whole_bytes"),
    "rows of 20": (as_they_lie(1700, 20), -1, "pack_rows"),
    "rows of 7": (as_they_lie(19, 7), -1, "pack_rows"),
    "rows of 1": (as_they_lie(300, 1), -1, "pack_rows"),
    "rows of 2047": (as_they_lie(21, 2047), -1, "pack_rows"),
    "three axes": (as_they_lie(3, 5, 50), -1, "pack_rows"),
    "too wide for the stream": (as_they_lie(2, 4099), -1, "pack_strided"),
    "misaligned rows of 64": (offset(9, 64), -1, "pack_strided"),
    "misaligned rows of 20": (offset(9, 20), -1, "pack_strided"),
    "NCHW": (as_they_lie(2, 70, 4, 8), 1, "pack_planes"),
    "NCHW, 3 channels": (as_they_lie(2, 3, 16, 80), 1, "pack_planes"),
    "NCHW, 128 channels": (as_they_lie(3, 128, 4, 4), 1, "pack_planes"),
    "NCHW 7 x 7": (as_they_lie(3, 130, 7, 7), 1, "pack_maps"),
    "NCHW 3 x 3, 64 channels": (as_they_lie(2, 64, 3, 3), 1, "pack_maps"),
    "NCHW 5 x 5, misaligned": (offset(2, 9, 5, 5), 1, "pack_maps"),
    "NCHW 55 x 55": (as_they_lie(2, 3, 55, 55), 1, "pack_planes"),
    "channels last": (changed(lambda x: x.transpose(0, 3, 1, 2), 2, 4, 4, 24), 1, None),
    "neurons first": (as_they_lie(24, 80), 0, "pack_planes"),
    "every other": (changed(lambda x: x[::2, ::3], 40, 60), -1, "pack_strided"),
    "reversed": (changed(lambda x: x[::-1, ::-1], 21, 30), -1, "pack_strided"),
    "images reversed": (changed(lambda x: x[::-1], 3, 9, 4, 4), 1, "pack_planes"),
    "one row over and over": (
        lambda name: as_strided(numbers((24,), name), (50, 24), (0, ELEMENT_TYPES[name].size)),
        -1,
        "pack_strided",
    ),
    "five axes, mixed": (
        changed(lambda x: x.transpose(4, 1, 3, 0, 2)[:, ::2], 2, 4, 3, 5, 6),
        2,
        "pack_strided",
    ),
}


@pytest.mark.parametrize("kind", THRESHOLDS)
@pytest.mark.parametrize("name", TYPES)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_pack(machine, layout, name, kind):
    make, axis, _ = LAYOUTS[layout]
    bits = make(name)
    threshold = threshold_of(kind, bits.shape[axis], name)
    expected = oracle.compress(bits, axis, threshold, element=name)
    assert np.array_equal(packed_by_kernels(machine, bits, axis, threshold, name), expected)


@pytest.mark.parametrize("layout", [name for name, case in LAYOUTS.items() if case[2]])
def test_the_kernel_meant(machine, layout):
    make, axis, kernel = LAYOUTS[layout]
    tensor = machine.lend(make("float32"), ELEMENT_TYPES["float32"])
    plan_ = plan(tensor.shape, tensor.strides, 4, axis)
    launch = pack.pack_launch(tensor, plan_, firing(tensor.element, 0.0, plan_.neurons), None, 0)
    assert launch.kernel == kernel


@pytest.mark.parametrize("name", ["float16", "bfloat16"])
@pytest.mark.parametrize("threshold", [0.0, -0.0, -1.0, 1e-7, 65504.0, float("inf")])
def test_every_16_bit_number(machine, name, threshold):
    bits = np.arange(1 << 16, dtype=np.uint16).reshape(-1, 64)
    expected = oracle.compress(bits, -1, threshold, element=name)
    assert np.array_equal(packed_by_kernels(machine, bits, -1, threshold, name), expected)


@pytest.mark.parametrize("neurons", [1, 7, 8, 9, 16, 20, 63, 64, 65, 100, 1000])
def test_unpack_and_popcount(machine, neurons):
    rng = np.random.default_rng(neurons)
    states = 5000 // neurons + 1
    expected = rng.integers(0, 2, (states, neurons)).astype(np.bool_)
    packed = machine.give(np.packbits(expected, axis=1, bitorder="little"))
    assert np.array_equal(machine.fetch(cuda.decompress(packed, neurons)), expected)
    ones = machine.fetch(cuda.popcount(packed))
    assert ones.dtype == np.int32
    assert np.array_equal(ones, expected.sum(axis=1))


def test_nothing_to_do(machine):
    empty = numbers((0, 20), "float32")
    assert packed_by_kernels(machine, empty, -1, 0.0, "float32").shape == (0, 3)
    nothing = machine.give(np.empty((0, 3), np.uint8))
    assert cuda.decompress(nothing, 20).shape == (0, 20)
    assert cuda.popcount(nothing).shape == (0,)


@pytest.mark.parametrize("width", [1, 3, 8, 9, 16, 100])
def test_sort_count_and_merge(machine, width):
    rng = np.random.default_rng(width)
    rows = rng.integers(0, 3, (500, width), np.uint8) * 127
    expected_edges, expected_order = oracle.sort(rows)
    distinct, counts = oracle.count(rows)
    rows = machine.give(rows)
    edges, order = map(machine.fetch, cuda.sort(rows))
    assert np.array_equal(edges, expected_edges)
    assert np.array_equal(order, expected_order)
    for found in (
        cuda.count(rows),
        cuda.merge([cuda.count(rows[:77]), cuda.count(rows[77:]), cuda.count(rows[:0])], width),
        counted_in_batches(rows, width),
    ):
        assert np.array_equal(machine.fetch(found[0]), distinct)
        assert np.array_equal(machine.fetch(found[1]), counts)
        assert found[1].dtype == np.int64


def counted_in_batches(rows, width):
    counter = cuda.counter(width)
    for start in range(0, len(rows), 60):
        counter.add(rows[start : start + 60])
    assert counter.total == len(rows)
    return counter.result()


def test_counts_above_32_bits(machine):
    counter = cuda.counter(1)
    rows = np.array([[7], [0], [7]], np.uint8)
    counter.add(machine.give(rows), machine.give(np.array([1 << 40, 3, 2])))
    rows, counts = map(machine.fetch, counter.result())
    assert rows.tolist() == [[0], [7]]
    assert counts.tolist() == [3, (1 << 40) + 2]
    assert counter.total == (1 << 40) + 5


@pytest.mark.parametrize("distinct", [20, 5000])
def test_counting_gives_up_the_table_where_rows_differ(machine, distinct, monkeypatch):
    monkeypatch.setattr(sys.modules["tensorstate_gpu.cuda.count"], "_SAMPLE", 256)
    rows = np.random.default_rng(0).integers(0, distinct, 3000, np.uint32)
    rows = rows.view(np.uint8).reshape(-1, 4)
    sorts = []
    monkeypatch.setattr(
        sys.modules["tensorstate_gpu.cuda.count"],
        "sort",
        lambda given: sorts.append(len(given)) or cuda.sort(given),
    )
    found = map(machine.fetch, cuda.count(machine.give(rows)))
    assert max(sorts) == (3000 if distinct == 5000 else distinct)
    for one, other in zip(found, oracle.count(rows), strict=True):
        assert np.array_equal(one, other)


def test_misaligned_rows_are_counted(machine):
    memory = np.random.default_rng(0).integers(0, 3, 8 * 50 + 1, np.uint8)
    rows = machine.give(memory)[1:].reshape(50, 8)
    expected = oracle.count(memory[1:].reshape(50, 8))
    for one, other in zip(cuda.count(rows), expected, strict=True):
        assert np.array_equal(machine.fetch(one), other)


def assert_counted(machine, table, rows, weights=None):
    found, counts = map(machine.fetch, table.entries())
    edges, order = oracle.sort(found)
    numbers = np.ones(len(rows), np.int64) if weights is None else weights
    distinct, places = np.unique(rows[:, ::-1], axis=0, return_inverse=True)
    expected = np.zeros(len(distinct), np.int64)
    np.add.at(expected, places.reshape(-1), numbers)
    assert np.array_equal(found[order], distinct[:, ::-1])
    assert np.array_equal(counts[order], expected)
    assert len(edges) == len(found) + 1


def table_of(width):
    return (NarrowTable if width <= 8 else WideTable)(width, slots=1 << 9)


@pytest.mark.parametrize("width", [*range(1, 10), 15, 16, 64, 100])
def test_table(machine, width):
    """Skewed rows, 0 and all ones among them; in batches; then so many that it grows twice."""
    rng = np.random.default_rng(width)
    pool = rng.integers(0, 256, (3000, width), np.uint8)
    pool[0], pool[1] = 0, 255
    rows = pool[(3000 * rng.random(9000) ** 3).astype(np.int64)]
    table = table_of(width)
    for start in range(0, len(rows), 4000):
        table.add(machine.give(rows[start : start + 4000]))
    assert_counted(machine, table, rows)


class ShortOfMemory:
    """A device library, and device.empty, that refuse after so many allocations."""

    def __init__(self, library, empty, left):
        self._library, self._empty, self._left = library, empty, left

    def __getattr__(self, name):
        function = getattr(self._library, name)
        return self._counting(function) if name in ("zeros", "full") else function

    def empty(self, shape, dtype):
        return self._counting(self._empty)(shape, dtype)

    def _counting(self, function):
        def call(*arguments):
            self._left -= 1
            if self._left < 0:
                raise MemoryError("no room")
            return function(*arguments)

        return call


@pytest.mark.parametrize("left", range(6))
@pytest.mark.parametrize(("width", "allocations"), [(3, 3), (16, 4)])
def test_no_memory_to_grow(machine, width, allocations, left, monkeypatch):
    """Whichever allocation fails, the table stays what it was, and goes on when there is room."""
    rows = np.random.default_rng(0).integers(0, 256, (1000, width), np.uint8)
    table = table_of(width)
    table.add(machine.give(rows[:200]))
    with monkeypatch.context() as patch:
        short = ShortOfMemory(device.library(), device.empty, left)
        patch.setattr(device, "library", lambda: short)
        patch.setattr(device, "empty", short.empty)
        refused = False
        try:
            table.add(machine.give(rows[200:]))
        except MemoryError:
            refused = True
    assert refused == (left < allocations)
    assert_counted(machine, table, rows[:200] if refused else rows)
    if refused:
        table.add(machine.give(rows[200:]))
        assert_counted(machine, table, rows)


@pytest.mark.parametrize("width", [3, 8, 16])
@pytest.mark.parametrize("distinct", [100, 230, 3000])
def test_batches_of_several_pieces_are_counted_whole_or_not_at_all(
    machine, width, distinct, monkeypatch
):
    """Where a table cannot grow, rows come in pieces while they fit, else all go back."""
    monkeypatch.setattr(sys.modules["tensorstate_gpu.cuda.table"], "_LEAST_ROWS", 64)
    rng = np.random.default_rng(width)
    pool = rng.integers(0, 256, (distinct, width), np.uint8)
    pool[0] = 255
    rows = pool[rng.integers(0, distinct, 2000)]
    table = table_of(width)
    table.add(machine.give(pool[:50]))
    expected = [pool[:50]]
    with monkeypatch.context() as patch:
        patch.setattr(table, "_grow", no_room)
        for batch in (rows, pool[:50]):
            try:
                table.add(machine.give(batch))
                expected.append(batch)
            except MemoryError:
                assert distinct == 3000
    assert_counted(machine, table, np.concatenate(expected))
    assert len(expected) == (1 if distinct == 3000 else 3)
    table.add(machine.give(rows))
    assert_counted(machine, table, np.concatenate([*expected, rows]))


def no_room(slots):
    raise MemoryError(f"no room for {slots} slots")


@pytest.mark.parametrize("width", [3, 8, 16])
def test_drained_tables_are_empty(machine, width):
    rng = np.random.default_rng(width)
    rows = rng.integers(0, 3, (1000, width), np.uint8) * 127
    table = table_of(width)
    table.add(machine.give(rows))
    drained, counts = table.drain()
    assert type(drained) is type(counts) is np.ndarray
    order = oracle.sort(drained)[1]
    for one, other in zip((drained[order], counts[order]), oracle.count(rows), strict=True):
        assert np.array_equal(one, other)
    assert len(table) == 0
    table.add(machine.give(rows[:77]))
    assert_counted(machine, table, rows[:77])


@pytest.mark.parametrize("width", [8, 16, 17])
def test_table_of_large_weights(machine, width):
    rows = np.array([[0], [255], [0]], np.uint8).repeat(width, axis=1)
    weights = np.array([1 << 40, (1 << 33) + 1, 5])
    table = table_of(width)
    table.add(machine.give(rows), machine.give(weights))
    table.add(machine.give(rows))
    assert_counted(machine, table, rows, weights + 1)


@pytest.mark.parametrize("byte", [0, 255])
@pytest.mark.parametrize("width", [3, 8, 24, 33])
def test_table_of_equal_rows(machine, width, byte):
    rows = np.full((2000, width), byte, np.uint8)
    table = table_of(width)
    table.add(machine.give(rows))
    assert_counted(machine, table, rows)
