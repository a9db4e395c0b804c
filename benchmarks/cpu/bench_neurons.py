"""Sums over states for each neuron and each pair, beside unpacking and a product of matrices."""

import numpy as np
import pytest
import torch

from benchmarks.harness import inputs, limits
from benchmarks.harness.compare import compare
from tensorstate_gpu import neurons

SIZES = {
    "5.76 M x 20": (5_760_000, 20),
    "4 M x 64": (4_000_000, 64),
    "500 k x 512": (500_000, 512),
    "100 k x 2048": (100_000, 2048),
}
FEWER = 20  # times fewer rows for pairs of neurons
QUICK = {"4 M x 64", "500 k x 512"}
CHUNK = 1 << 16  # rows that a rival unpacks at a time: it needs less memory, and is faster


def sizes():
    for name in SIZES:
        yield pytest.param(name, marks=[pytest.mark.quick] if name in QUICK else [])


def states_of(name, fewer, enabled):
    rows, width = SIZES[name]
    return inputs.states(rows // fewer // (1 if enabled else 100), width, "all distinct"), width


def unpacked(packed, width):
    """Chunks of the states as float32, which holds integers up to 2**24."""
    for start in range(0, len(packed), CHUNK):
        bits = np.unpackbits(packed[start : start + CHUNK], axis=1, count=width, bitorder="little")
        yield torch.from_numpy(bits).float()


@pytest.mark.parametrize("name", list(sizes()))
def test_rates(benchmark, name):
    packed, width = states_of(name, 1, benchmark.enabled)

    def unpack_and_multiply():
        return sum((torch.ones(len(x)) @ x).double() for x in unpacked(packed, width)) / len(packed)

    def unpack_and_sum():
        sums = (
            np.unpackbits(packed[i : i + CHUNK], axis=1, count=width, bitorder="little").sum(0)
            for i in range(0, len(packed), CHUNK)
        )
        return sum(sums) / len(packed)

    rivals = {"unpack, matmul": unpack_and_multiply, "unpack, sum": unpack_and_sum}
    for rival in rivals.values():
        assert np.allclose(neurons.firing_rates(packed, width), rival())
    compare(
        benchmark,
        lambda: neurons.firing_rates(packed, width),
        rivals=rivals,
        limits=limits.readers(inputs.buffer(packed)),
        amount=packed.nbytes / 1e9,
        unit="GB/s",
    )


@pytest.mark.parametrize("name", list(sizes()))
def test_cofiring(benchmark, name):
    packed, width = states_of(name, FEWER, benchmark.enabled)

    def unpack_and_multiply():
        return sum((x.T @ x).double() for x in unpacked(packed, width))

    rivals = {"unpack, matmul": unpack_and_multiply}
    for rival in rivals.values():
        assert np.array_equal(neurons.cofiring(packed, width), rival())
    compare(
        benchmark,
        lambda: neurons.cofiring(packed, width),
        rivals=rivals,
        limits={},
        amount=len(packed) * width**2 / 64e9,
        unit="G word pairs/s",
    )
