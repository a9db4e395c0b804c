"""Entropy: closed forms, limits, laws, and invalid arguments."""

import decimal
import itertools
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from tensorstate_gpu.information import efficiency, entropy
from tests.support.foreign_arrays import DLPackArray
from tests.support.samples import sweep

INF = math.inf
ORDERS = [0, 1e-320, 1e-9, 0.3, 0.5, 0.7, 1 - 1e-9, 1, 1 + 1e-9, 1.3, 1.5, 2, 50, 1e9, 1e308, INF]
orders = st.sampled_from(ORDERS) | st.floats(0, 1e6)
histograms = st.lists(st.integers(0, 10**12), min_size=1, max_size=30).filter(any)


def reference(weights, alpha):
    """Compute the textbook formula with 60 decimal digits."""
    with decimal.localcontext() as context:
        context.prec = 60
        exact = [decimal.Decimal(w) for w in weights if w > 0]
        shares = [w / sum(exact) for w in exact]
        if alpha == 1:
            nats = -sum(p * p.ln() for p in shares)
        elif alpha == INF:
            nats = -max(shares).ln()
        else:
            order = decimal.Decimal(alpha)
            nats = sum((order * p.ln()).exp() for p in shares).ln() / (1 - order)
        return float(nats / decimal.Decimal(2).ln())


@pytest.mark.parametrize("alpha", ORDERS)
@pytest.mark.parametrize("k", [0, 1, 3, 10, 17])
def test_uniform_histogram_has_exactly_k_bits(alpha, k):
    assert entropy(np.full(2**k, 7), alpha) == k
    assert entropy(np.full(2**k, 0.1), alpha) == k


@pytest.mark.parametrize("alpha", [0, 0.5, 0.999, 1, 2, 1e3, INF])
@pytest.mark.parametrize(
    "weights",
    [
        [1, 2, 3, 4],
        [10**12, 1],
        [10**12, 10**12 - 1, 1, 1],
        [10**18, 3, 2],
        [0.5, 0.25, 0.125, 0.125, 0.0],
        [1e-300, 2e-300, 5e-300],
        [1e300, 1e-300, 1e299],
        [5e-324, 5e-324, 1e-320],
        list(range(1, 60)),
    ],
)
def test_agrees_with_sixty_digits(weights, alpha):
    assert entropy(weights, alpha) == pytest.approx(reference(weights, alpha), rel=1e-13, abs=0)


@pytest.mark.parametrize("distance", [1e-15, 1e-12, 1e-8, 1e-4, 0.1, 0.499999, 0.5])
@pytest.mark.parametrize("side", [-1, 1])
def test_stable_near_order_one(distance, side):
    weights, alpha = [10**12, 10**9, 17, 3, 3, 1], 1 + side * distance
    assert entropy(weights, alpha) == pytest.approx(reference(weights, alpha), rel=1e-13, abs=0)


def test_tiny_entropy_keeps_its_digits():
    # 1 + 1e-20 is 1 in float64; the entropy is still not 0.
    assert entropy([1e20, 1.0]) == pytest.approx(reference([1e20, 1.0], 1), rel=1e-13, abs=0)
    assert entropy([1e20, 1.0], INF) == pytest.approx(1e-20 / math.log(2), rel=1e-13, abs=0)


@sweep
def test_hundred_million_states(every):
    number = 10**8 if every else 10**7
    many = np.broadcast_to(np.int64(10**12), number)  # no memory: all strides are 0
    assert entropy(many) == math.log2(number)
    assert entropy(many, 2) == math.log2(number)
    two_halves = np.ones(2**20)
    two_halves[0] = 2**20 - 1  # half of the mass in one state: (1 + log2(2 * (n - 1))) / 2 bits
    assert entropy(two_halves) == pytest.approx((1 + math.log2(2 * (2**20 - 1))) / 2, rel=1e-14)


def test_the_widest_range_of_floats():
    # (5e-324 / 1.7e308) ** -0.4999 is infinite.
    assert entropy([1.7e308, 5e-324], 0.5001) == 0
    assert entropy([1.7e308, 5e-324, 1.7e308], 0.5001) == 1


@pytest.mark.parametrize("alpha", ORDERS)
def test_the_entropy_of_many_counts_that_repeat(alpha):
    """They are summed by count: exactly, in whatever order they are, and as weights are."""
    rng = np.random.default_rng(0)
    counts = rng.geometric(0.3, 100_000)
    counts[:3] = 2**40, 2**40, 2**40 - 1  # greater than what is tallied in a table
    found = entropy(counts, alpha)
    assert found == entropy(rng.permutation(counts), alpha)
    assert found == entropy(counts.astype(np.uint64), alpha)
    assert found == pytest.approx(entropy(counts.astype(float), alpha), rel=1e-15)
    small, times = np.unique(counts, return_counts=True)
    with decimal.localcontext() as context:
        context.prec = 60
        total = decimal.Decimal(int(counts.sum()))
        nats = sum(
            -int(m) * (int(c) / total) * (int(c) / total).ln()
            for c, m in zip(small, times, strict=True)
        )
        exact = float(nats / decimal.Decimal(2).ln())
    assert alpha != 1 or found == pytest.approx(exact, rel=4e-16)


def test_one_state_has_no_entropy():
    for alpha in ORDERS:
        assert entropy([0, 5, 0], alpha) == 0
        assert math.copysign(1, entropy([5], alpha)) == 1  # never -0.0


@given(histograms, orders, orders)
def test_entropy_falls_with_its_order(weights, first, second):
    low, high = sorted([first, second])
    assert entropy(weights, low) >= entropy(weights, high) - 1e-12


@given(histograms, orders)
def test_entropy_lies_between_zero_and_its_limit(weights, alpha):
    assert 0 <= entropy(weights, alpha) <= math.log2(np.count_nonzero(weights)) + 1e-12


@given(histograms, orders, st.randoms())
def test_order_zeros_and_scale_of_weights_do_not_matter(weights, alpha, random):
    shuffled = random.sample([*weights, 0, 0], k=len(weights) + 2)
    expected = pytest.approx(entropy(weights, alpha), rel=1e-12, abs=1e-14)
    assert entropy(shuffled, alpha) == expected
    assert entropy(np.array(weights) / sum(weights), alpha) == expected


@given(
    st.lists(st.integers(1, 10**6), min_size=1, max_size=8),
    st.lists(st.integers(1, 10**6), min_size=1, max_size=8),
    orders,
)
def test_independent_layers_add_up(a, b, alpha):
    product = [x * y for x, y in itertools.product(a, b)]
    total = entropy(a, alpha) + entropy(b, alpha)
    assert entropy(product, alpha) == pytest.approx(total, rel=1e-11, abs=1e-11)


@given(histograms, st.floats(0, 100))
def test_agrees_with_sixty_digits_everywhere(weights, alpha):
    assume(abs(alpha - 1) > 1e-6 or alpha == 1)
    expected = reference(weights, alpha)
    assert entropy(weights, alpha) == pytest.approx(expected, rel=1e-11, abs=1e-15)


@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint64", "float16", "float32", "longdouble"])
def test_any_real_dtype(dtype):
    assert entropy(np.array([2, 1, 1], dtype)) == 1.5


def test_array_types():
    assert entropy((2, 1, 1)) == 1.5
    assert entropy(np.array([2, 9, 1, 9, 1])[::2]) == 1.5
    assert entropy(torch.tensor([2, 1, 1])) == 1.5
    assert entropy(DLPackArray(np.array([2, 1, 1]), "int64")) == 1.5
    assert entropy(SimpleNamespace(counts=np.array([2, 1, 1]))) == 1.5


def test_the_caller_s_float_errors_do_not_matter():
    with np.errstate(all="raise"):
        for alpha in ORDERS:
            entropy([1e300, 1e-300, 1e-320], alpha)


@pytest.mark.parametrize(
    ("weights", "error"),
    [
        (["a", "b"], TypeError),
        ("abc", TypeError),
        (None, TypeError),
        ({1: 2}, TypeError),
        (object(), TypeError),
        ([1j, 2], TypeError),
        ([None, 1], TypeError),
        (np.array([1, 2], object), TypeError),
        (np.array([True, False]), TypeError),
        ((w for w in [1, 2]), TypeError),
        (torch.tensor([1.0, 2.0], requires_grad=True), TypeError),
        (torch.tensor([1 + 1j]), TypeError),
        ([[1], [2, 3]], TypeError),
        (3, ValueError),
        ([[1, 2], [3, 4]], ValueError),
        ([], ValueError),
        ([0, 0], ValueError),
        ([1, -1], ValueError),
        ([math.nan, 1], ValueError),
        ([1, math.nan], ValueError),
        ([INF, 1], ValueError),
        ([1, -INF], ValueError),
        (SimpleNamespace(counts=np.empty(0, np.int64)), ValueError),
    ],
)
def test_invalid_weights(weights, error):
    with pytest.raises(error, match="counts"):
        entropy(weights)
    with pytest.raises(error, match="counts"):
        efficiency(weights, 4)


@pytest.mark.parametrize("alpha", [-1, -1e-300, math.nan, -INF])
def test_invalid_orders(alpha):
    with pytest.raises(ValueError, match="alpha"):
        entropy([1, 2], alpha)
    with pytest.raises(ValueError, match="alpha2"):
        efficiency([1, 2], 4, alpha2=alpha)


@pytest.mark.parametrize("alpha", [None, "1", 1j, [1]])
def test_orders_must_be_numbers(alpha):
    with pytest.raises(TypeError, match="alpha"):
        entropy([1, 2], alpha)
