"""What neurons do: against plain NumPy on unpacked states, from rows, histograms and layers."""

import math

import numpy as np
import pytest
import torch
from hypothesis import assume, given

import tensorstate_gpu as ts
from tensorstate_gpu import neurons
from tensorstate_gpu._process import num_threads
from tensorstate_gpu.cpu_fallback import neurons as kernels
from tensorstate_gpu.testing import packed_states

# States, neurons: rows that divide words or not, fewer than eight, more than one block or strip.
SHAPES = [(1, 1), (7, 20), (8, 20), (3000, 20), (2500, 64), (900, 100), (700, 520), (5000, 9)]


def firing(states, count, seed=0):
    rng = np.random.default_rng(seed)
    return rng.random((states, count)) < rng.random(count) * 1.2 - 0.1  # some never, some always


def pack(bits):
    return np.packbits(bits, axis=1, bitorder="little")


# How the same states are given.
GIVEN = {
    "rows": lambda bits: (pack(bits), bits.shape[1]),
    "tensor": lambda bits: (torch.from_numpy(pack(bits)), bits.shape[1]),
    "histogram": lambda bits: (ts.count_states(pack(bits), bits.shape[1]),),
}


@pytest.fixture(params=GIVEN)
def given_as(request):
    return GIVEN[request.param]


@pytest.mark.parametrize("shape", SHAPES)
def test_rates_and_sums(given_as, shape):
    bits = firing(*shape)
    bits[shape[0] // 2 :] = bits[: (shape[0] + 1) // 2]  # some states occur twice
    bits[: shape[0] // 3] = bits[0]  # and one often
    given, rates = given_as(bits), bits.mean(axis=0)
    np.testing.assert_allclose(neurons.firing_rates(*given), rates, rtol=1e-15)
    assert neurons.dead(*given).tolist() == np.flatnonzero(rates == 0).tolist()
    assert neurons.always_on(*given).tolist() == np.flatnonzero(rates == 1).tolist()
    whole = bits.astype(np.int64)
    np.testing.assert_array_equal(neurons.cofiring(*given), whole.T @ whole)
    expected = np.bincount(bits.sum(axis=1), minlength=shape[1] + 1)
    np.testing.assert_array_equal(neurons.active_neurons(*given), expected)
    assert neurons.patterns_seen(*given) == len({row.tobytes() for row in bits})


@given(packed_states())
def test_random_states(drawn):
    packed, count = drawn
    assume(len(packed))
    bits = ts.decompress_states(packed, count)
    rates = bits.mean(axis=0)
    np.testing.assert_allclose(neurons.firing_rates(packed, count), rates)
    entropies = neurons.neuron_entropies(packed, count)
    assert entropies == pytest.approx([ts.entropy([rate, 1 - rate]) for rate in rates], abs=1e-12)
    counts = ts.count_states(packed, count)
    assert counts.entropy() <= entropies.sum() + 1e-9
    assert neurons.cofiring(counts).tolist() == neurons.cofiring(packed, count).tolist()
    found = neurons.correlations(packed, count, constant=0)
    changing = np.flatnonzero((rates > 0) & (rates < 1))
    expected = np.zeros((count, count))
    if len(changing):
        whole = np.corrcoef(bits[:, changing], rowvar=False).reshape(2 * [len(changing)])
        expected[np.ix_(changing, changing)] = whole
    np.testing.assert_allclose(found, expected, atol=1e-9)


def test_chunks_of_cofiring_add_up(monkeypatch):
    monkeypatch.setattr(kernels, "_TRANSPOSED_BYTES", 1)
    bits = firing((1 << 13) + 100, 11)
    whole = bits.astype(np.int64)
    np.testing.assert_array_equal(neurons.cofiring(pack(bits), 11), whole.T @ whole)


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_threads_share_the_work(threads, monkeypatch):
    monkeypatch.setattr(num_threads, "_MIN_BYTES", 1)
    before = ts.get_num_threads()
    ts.set_num_threads(threads)
    try:
        bits = firing(4000, 150)
        whole = bits.astype(np.int64)
        np.testing.assert_array_equal(neurons.cofiring(pack(bits), 150), whole.T @ whole)
        np.testing.assert_allclose(neurons.firing_rates(pack(bits), 150), bits.mean(axis=0))
    finally:
        ts.set_num_threads(before)


@pytest.mark.parametrize("shape", [(300, 40), (64, 9), (65, 9), (1, 9)])
def test_equivalent_neurons(given_as, shape):
    bits = firing(*shape, seed=3)
    bits[:, 1:7] = np.random.default_rng(0).random((shape[0], 1)) < 0.5
    bits[:, 4] = bits[:, 6] = ~bits[:, 1]
    bits[:, 7], bits[:, 8] = False, True
    rows = [bits[:, k] for k in range(shape[1])]

    def expected(opposite, constant):
        groups, left = [], list(range(shape[1]))
        while left:
            first = left[0]
            equal = [k for k in left if np.array_equal(rows[k], rows[first])]
            other = [k for k in left if opposite and np.array_equal(rows[k], ~rows[first])]
            left = [k for k in left if k not in equal + other]
            varies = rows[first].any() and not rows[first].all()
            if len(equal + other) > 1 and (varies or constant):
                groups.append(neurons.EquivalentNeurons(tuple(equal), tuple(other)))
        return groups

    for opposite in (False, True):
        for constant in (False, True):
            found = neurons.equivalent_neurons(
                *given_as(bits), opposite=opposite, constant=constant
            )
            assert found == expected(opposite, constant)


def test_top_states(given_as):
    bits = np.array([[1, 0, 1], [0, 0, 1], [1, 0, 1], [1, 1, 1], [0, 0, 1], [0, 0, 0]], bool)
    top = neurons.top_states(*given_as(bits), most=3)
    assert top.packed.tolist() == [[4], [5], [0]]  # equally frequent ones in their order
    assert top.counts.tolist() == [2, 2, 1]
    assert top.shares.tolist() == [2 / 6, 2 / 6, 1 / 6]
    assert len(neurons.top_states(*given_as(bits), most=100).counts) == 4
    with pytest.raises(ValueError, match="most must be greater than 0"):
        neurons.top_states(*given_as(bits), most=0)


def test_captured_and_stored_layers(tmp_path):
    module = torch.nn.Sequential(torch.nn.Linear(5, 12))
    x = torch.randn(200, 5, generator=torch.Generator().manual_seed(0))
    with ts.capture(module, storage_path=tmp_path / "run.zarr") as run, torch.no_grad():
        bits = module(x).numpy() > 0
    np.testing.assert_allclose(neurons.firing_rates(run[0]), bits.mean(axis=0))
    with ts.Store(tmp_path / "run.zarr") as store:
        layer = store[next(iter(store))]
        np.testing.assert_allclose(neurons.firing_rates(layer), bits.mean(axis=0))
        assert neurons.patterns_seen(layer) == len({row.tobytes() for row in bits})


def test_counts_of_any_size():
    """Sums are exact beyond 2**53, which floats do not hold."""
    many = (1 << 60) + 1
    counts = ts.StateCounts(np.array([[1], [3]], np.uint8), np.array([1, many]), 2)
    assert neurons.cofiring(counts).tolist() == [[many + 1, many], [many, many]]
    assert neurons.active_neurons(counts).tolist() == [0, 1, many]


@pytest.mark.parametrize("most", [2**40, 2**60])
@pytest.mark.parametrize("often", [0, 3])
def test_correlations_of_neurons_that_hardly_ever_change(often, most):
    """Of 2**60 states, a share of all but a few is 1."""
    numbers = [2, 3, 5, 7]
    numbers[often] = most
    counts = ts.StateCounts(np.arange(4, dtype=np.uint8)[:, None], numbers, 2)
    neither, first, second, both = numbers
    product = (both + first) * (second + neither) * (both + second) * (first + neither)
    expected = (both * neither - first * second) / math.sqrt(product)
    found = neurons.correlations(counts)
    np.testing.assert_allclose(found, [[1, expected], [expected, 1]], rtol=1e-12)


def test_correlations_with_neurons_that_never_change():
    packed = pack(np.array([[1, 0, 1], [0, 0, 1]], bool))
    found = neurons.correlations(packed, 3)
    assert found[0, 0] == pytest.approx(1)
    assert np.isnan(found[1:]).all()
    assert np.isnan(found[:, 1:]).all()


def test_limits_of_rates():
    packed = pack(np.array([[1, 0, 1], [1, 0, 0], [1, 1, 0], [1, 0, 0]], bool))
    assert neurons.dead(packed, 3).tolist() == []
    assert neurons.dead(packed, 3, at_most=0.25).tolist() == [1, 2]
    assert neurons.always_on(packed, 3).tolist() == [0]
    assert neurons.always_on(packed, 3, at_least=0.25).tolist() == [0, 1, 2]
    for wrong in (-0.1, 1.1, math.nan):
        with pytest.raises(ValueError, match="at_most must be from 0 to 1"):
            neurons.dead(packed, 3, at_most=wrong)
        with pytest.raises(ValueError, match="at_least must be from 0 to 1"):
            neurons.always_on(packed, 3, at_least=wrong)


EVERY = [getattr(neurons, name) for name in neurons.__all__ if name[0].islower()]


@pytest.mark.parametrize("function", EVERY, ids=lambda function: function.__name__)
def test_bad_input(function):
    with pytest.raises(ValueError, match="states is empty; at least one state is needed"):
        function(np.zeros((0, 2), np.uint8))
    with pytest.raises(ValueError, match="states is empty"):
        function(ts.StateCounts.empty(3))
    with pytest.raises(TypeError, match="must be packed"):
        function(np.zeros((3, 2)))
    with pytest.raises(TypeError, match="those of one layer, got Run: choose one by its name"):
        function(ts.Run([]))
    report = ts.reporting.Report((), 0.0, None, 2.0, None)
    with pytest.raises(TypeError, match="got Report: choose one of its run"):
        function(report)
    with pytest.raises(TypeError, match=r"got StateMonitor: its counts\(layer\)"):
        function(ts.StateMonitor(torch.nn.Linear(2, 2), "Linear"))
    with pytest.raises(TypeError, match=r"states must be an array.*numpy.asarray\(\) makes one"):
        function([1, 2])
    with pytest.raises(ValueError, match="neurons=9 needs rows of 2 bytes"):
        function(np.zeros((3, 1), np.uint8), 9)
    with pytest.raises(ValueError, match="bits set beyond their 3 neurons"):
        function(np.full((3, 1), 8, np.uint8), 3)
    with pytest.raises(ValueError, match="has 2 neurons, not 3"):
        function(ts.StateCounts(np.array([[1]], np.uint8), [1], 2), 3)
