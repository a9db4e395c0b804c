"""Packing and unpacking beside NumPy and beside the speed of memory."""

import numpy as np
import pytest

import tensorstate_gpu as ts
from benchmarks.harness import inputs, limits, rivals
from benchmarks.harness.compare import compare

# Name -> shape, neuron axis. "5.76 M" to "10 k x 100": LeNet-5's convolutions over 10,000 images.
SHAPES = {
    "1 x 64": ((1, 64), -1),
    "1000 x 64": ((1000, 64), -1),
    "5.76 M x 20": ((5_760_000, 20), -1),
    "640 k x 50": ((640_000, 50), -1),
    "10 k x 100": ((10_000, 100), -1),
    "4 M x 64": ((4_000_000, 64), -1),
    "500 k x 512": ((500_000, 512), -1),
    "10 k x 16384": ((10_000, 16_384), -1),
    "200 x 20 x 24 x 24": ((200, 20, 24, 24), 1),
    "200 x 64 x 56 x 56": ((200, 64, 56, 56), 1),
    "64 x 256 x 28 x 28": ((64, 256, 28, 28), 1),
    "64 x 2048 x 7 x 7": ((64, 2048, 7, 7), 1),
}
QUICK = {"5.76 M x 20", "4 M x 64", "500 k x 512", "200 x 64 x 56 x 56", "64 x 256 x 28 x 28"}
DTYPES = ("float32", "float16", "bfloat16")


def cases():
    for name in SHAPES:
        for dtype in DTYPES:
            quick = name in QUICK and dtype == "float32"
            yield pytest.param(name, dtype, marks=[pytest.mark.quick] if quick else [])


def shape_of(name, enabled):
    """The shape and neuron axis of a case; a thousandth of its rows in a smoke test."""
    shape, axis = SHAPES[name]
    return (shape if enabled else (max(shape[0] // 1000, 1), *shape[1:])), axis


@pytest.mark.parametrize(("name", "dtype"), list(cases()))
def test_pack(benchmark, name, dtype):
    shape, axis = shape_of(name, benchmark.enabled)
    x = inputs.activations(shape, dtype)
    competitors = rivals.packers(x, axis)
    packed = ts.compress_states(x, neuron_axis=axis)
    for rival in competitors.values():
        assert np.array_equal(np.asarray(packed), rival().reshape(-1, packed.shape[1]))
    words = inputs.buffer(x)
    compare(
        benchmark,
        lambda: ts.compress_states(x, neuron_axis=axis),
        rivals=competitors,
        limits=limits.readers(words),
        amount=words.nbytes / 1e9,
        unit="GB/s",
    )


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[pytest.mark.quick] if name == "4 M x 64" else [])
        for name, (shape, _) in SHAPES.items()
        if len(shape) == 2 and shape[0] > 1000
    ],
)
def test_unpack(benchmark, name):
    (states, neurons), _ = shape_of(name, benchmark.enabled)
    packed = inputs.states(states, neurons, "all distinct")
    competitors = rivals.unpackers(packed, neurons)
    unpacked = ts.decompress_states(packed, neurons)
    for rival in competitors.values():
        assert np.array_equal(unpacked, rival())
    compare(
        benchmark,
        lambda: ts.decompress_states(packed, neurons),
        rivals=competitors,
        limits=limits.writers(states * neurons),
        amount=states * neurons / 1e9,
        unit="GB/s",
    )


@pytest.mark.parametrize(("states", "neurons"), [(5_760_000, 20), (4_000_000, 64), (500_000, 512)])
def test_popcount(benchmark, states, neurons):
    states = states if benchmark.enabled else states // 1000
    packed = inputs.states(states, neurons, "all distinct")
    competitors = rivals.popcounters(packed)
    for rival in competitors.values():
        assert np.array_equal(ts.popcount(packed), rival())
    compare(
        benchmark,
        lambda: ts.popcount(packed),
        rivals=competitors,
        # The greater part of the work: reading the rows, or writing 4 bytes for each.
        limits=limits.readers(inputs.buffer(packed))
        if packed.shape[1] > 4
        else limits.writers(4 * states),
        amount=packed.nbytes / 1e9,
        unit="GB/s",
    )
