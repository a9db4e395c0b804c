"""Packing, unpacking and popcount on a device, or on its stand-in."""

import itertools

import numpy as np
import pytest
from numpy.lib.stride_tricks import as_strided

from tensorstate_gpu import cuda
from tensorstate_gpu import testing as oracle
from tensorstate_gpu._arrays.elements import ELEMENT_TYPES
from tensorstate_gpu._arrays.layout import plan
from tensorstate_gpu._arrays.thresholds import firing_test
from tensorstate_gpu.cuda import pack
from tests.support.samples import thinned

TYPES = ["float32", "float16", "bfloat16", "float64", "int8", "uint8", "bool"]
THRESHOLDS = ["zero", "negative", "per neuron"]
# Each width in bits, and each kind of threshold. g++ takes 2 s for each kernel; all need 32.
SAMPLE = [
    *(("float32", "zero"), ("float32", "per neuron"), ("bfloat16", "negative")),
    *(("float64", "negative"), ("int8", "negative")),
]


def numbers(shape, name, seed=0):
    """Return bit patterns of a format, all of them possible, in memory of exactly their size."""
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
    tensor = machine.device_tensor(bits, ELEMENT_TYPES[name])
    layout = plan(tensor.shape, tensor.strides, tensor.element.size, axis)
    packed = cuda.compress(tensor, layout, firing_test(tensor.element, threshold, layout.neurons))
    return machine.to_host(packed)


def with_strides(*shape):
    return lambda name: numbers(shape, name)


def offset(*shape):
    """Return the same array one number further, not aligned to 16 bytes."""

    def make(name):
        flat = numbers((int(np.prod(shape)) + 1,), name)
        return flat[1:].reshape(shape)

    return make


def changed(change, *shape):
    return lambda name: change(numbers(shape, name))


# Name -> how to make the array, its neuron axis, and the kernel for 32-bit numbers.
LAYOUTS = {
    "one state": (with_strides(1, 8), -1, "pack_whole_bytes"),
    "rows of 64": (with_strides(70, 64), -1, "pack_whole_bytes"),
    "rows of 40, two blocks and a bit": (with_strides(450, 40), -1, "pack_whole_bytes"),
    "rows of 20": (with_strides(1700, 20), -1, "pack_rows"),
    "rows of 7": (with_strides(19, 7), -1, "pack_rows"),
    "rows of 1": (with_strides(300, 1), -1, "pack_rows"),
    "rows of 2047": (with_strides(21, 2047), -1, "pack_rows"),
    "three axes": (with_strides(3, 5, 50), -1, "pack_rows"),
    "too wide for the stream": (with_strides(3, 4099), -1, "pack_pitched"),
    "rows of a larger array": (changed(lambda x: x[:, 1:], 7, 5, 24), -1, "pack_pitched"),
    "rows of a wider array": (changed(lambda x: x[:, 16:58], 9, 96), -1, "pack_pitched"),
    "wide rows of a wider array": (changed(lambda x: x[:, 3:2003], 3, 2007), -1, "pack_pitched"),
    "two of each row": (changed(lambda x: x[:, 5:7], 700, 9), -1, "pack_pitched"),
    "heads of attention": (
        changed(lambda x: x[:, :, 1].transpose(0, 2, 1, 3), 3, 5, 3, 4, 40),
        -1,
        "pack_pitched",
    ),
    "misaligned rows of 64": (offset(9, 64), -1, "pack_pitched"),
    "misaligned rows of 20": (offset(90, 20), -1, "pack_pitched"),
    "NCHW": (with_strides(2, 70, 20, 16), 1, "pack_planes"),
    "NCHW, 3 channels": (with_strides(2, 3, 16, 80), 1, "pack_planes"),
    "NCHW, 300 channels": (with_strides(1, 300, 20, 16), 1, "pack_planes"),
    "NCHW 4 x 4, 128 channels": (with_strides(3, 128, 4, 4), 1, "pack_maps"),
    "NCHW 7 x 7": (with_strides(3, 130, 7, 7), 1, "pack_maps"),
    "NCHW 3 x 3, 64 channels": (with_strides(2, 64, 3, 3), 1, "pack_maps"),
    "NCHW 5 x 5, misaligned": (offset(2, 9, 5, 5), 1, "pack_maps"),
    "NCHW 14 x 14": (with_strides(2, 70, 14, 14), 1, "pack_maps"),
    "NCHW 7 x 7, 2000 channels": (with_strides(1, 2000, 7, 7), 1, "pack_maps"),
    "NCHW 33 x 1, 200 of 201 channels": (
        changed(lambda x: x[:, 1:], 2, 201, 33, 1),
        1,
        "pack_maps",
    ),
    "NCHW 55 x 55": (with_strides(2, 3, 55, 55), 1, "pack_maps"),
    "NCHW 55 x 55, many channels": (with_strides(1, 72, 55, 55), 1, "pack_maps"),
    "NCHW 81 x 81": (with_strides(1, 3, 81, 81), 1, "pack_planes"),
    "channels last": (changed(lambda x: x.transpose(0, 3, 1, 2), 2, 4, 4, 24), 1, None),
    "neurons first": (with_strides(24, 80), 0, "pack_maps"),
    "every other": (changed(lambda x: x[::2, ::3], 40, 60), -1, "pack_strided"),
    "reversed": (changed(lambda x: x[::-1, ::-1], 21, 30), -1, "pack_strided"),
    "images reversed": (changed(lambda x: x[::-1], 3, 9, 4, 4), 1, "pack_maps"),
    "one row over and over": (
        lambda name: as_strided(numbers((24,), name), (50, 24), (0, ELEMENT_TYPES[name].size)),
        -1,
        "pack_pitched",
    ),
    "five axes, mixed": (
        changed(lambda x: x.transpose(4, 1, 3, 0, 2)[:, ::2], 2, 4, 3, 5, 6),
        2,
        "pack_strided",
    ),
}


@pytest.mark.parametrize(
    ("name", "kind"), thinned(list(itertools.product(TYPES, THRESHOLDS)), SAMPLE)
)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_pack(machine, layout, name, kind):
    make, axis, _ = LAYOUTS[layout]
    bits = make(name)
    threshold = threshold_of(kind, bits.shape[axis], name)
    expected = oracle.compress(bits, axis, threshold, element=name)
    assert np.array_equal(packed_by_kernels(machine, bits, axis, threshold, name), expected)


@pytest.mark.parametrize("layout", [name for name, case in LAYOUTS.items() if case[2]])
def test_the_expected_kernel_is_chosen(machine, layout):
    make, axis, kernel = LAYOUTS[layout]
    tensor = machine.device_tensor(make("float32"), ELEMENT_TYPES["float32"])
    plan_ = plan(tensor.shape, tensor.strides, 4, axis)
    test = firing_test(tensor.element, 0.0, plan_.neurons)
    launch = pack.pack_launch(tensor.address % 16, tensor.element, plan_, test)
    assert launch.kernel == kernel


@pytest.mark.parametrize("name", ["float16", "bfloat16"])
@pytest.mark.parametrize("threshold", [0.0, -0.0, -1.0, 1e-7, 65504.0, float("inf"), float("-inf")])
def test_every_16_bit_number(machine, name, threshold):
    bits = np.arange(1 << 16, dtype=np.uint16).reshape(-1, 64)
    expected = oracle.compress(bits, -1, threshold, element=name)
    assert np.array_equal(packed_by_kernels(machine, bits, -1, threshold, name), expected)


@pytest.mark.parametrize("name", ["int8", "uint8", "bool", "float8_e4m3fn", "float8_e5m2fnuz"])
def test_every_8_bit_number(machine, name):
    """Four are compared at a time, in a row and side by side."""
    rows = np.arange(2 if name == "bool" else 256, dtype=np.uint8).repeat(64).reshape(-1, 64)
    maps = np.ascontiguousarray(rows.T).reshape(1, 64, -1, 1).repeat(16, 3)
    least = 0.0 if "fnuz" in name else -500.0  # such formats take no negative thresholds
    for threshold in (-500.0, -129.0, -128.0, -50.0, -1.0, 0.0, 0.3, 100.0, 127.0, 254.0, 500.0):
        for bits, axis in ((rows, -1), (maps, 1)):
            given = max(threshold, least)
            expected = oracle.compress(bits, axis, given, element=name)
            found = packed_by_kernels(machine, bits, axis, given, name)
            assert np.array_equal(found, expected), (given, axis)


@pytest.mark.parametrize("neurons", [1, 7, 8, 9, 16, 20, 63, 64, 65, 100, 1000])
def test_unpack_and_popcount(machine, neurons):
    rng = np.random.default_rng(neurons)
    states = 5000 // neurons + 1
    expected = rng.integers(0, 2, (states, neurons)).astype(np.bool_)
    packed = machine.to_device(np.packbits(expected, axis=1, bitorder="little"))
    assert np.array_equal(machine.to_host(cuda.decompress(packed, neurons)), expected)
    ones = machine.to_host(cuda.popcount(packed))
    assert ones.dtype == np.int32
    assert np.array_equal(ones, expected.sum(axis=1))


def test_empty_arrays(machine):
    empty = numbers((0, 20), "float32")
    assert packed_by_kernels(machine, empty, -1, 0.0, "float32").shape == (0, 3)
    nothing = machine.to_device(np.empty((0, 3), np.uint8))
    assert cuda.decompress(nothing, 20).shape == (0, 20)
    assert cuda.popcount(nothing).shape == (0,)
