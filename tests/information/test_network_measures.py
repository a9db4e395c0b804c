"""Efficiency of layers and networks, ceiling and aIQ: closed forms, and invalid arguments."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tensorstate_gpu import CapturePoint, StateCounts
from tensorstate_gpu.information import (
    aIQ,
    ceiling,
    coverage,
    effective_states,
    efficiency,
    entropy,
    kl_divergence,
    network_efficiency,
)

INF = math.inf


def test_efficiency():
    assert efficiency([1, 1, 1, 1], 8) == 0.25
    assert efficiency([1, 1, 1, 1], 8, alpha2=0) == 1
    assert efficiency([2, 1, 1], 2, alpha1=INF, alpha2=1) == pytest.approx(2 / 3, rel=1e-15)
    assert efficiency([9], 2) == 0
    assert efficiency([9], 2, alpha2=0) == 0
    assert efficiency([9, 0], 2, alpha1=INF, alpha2=2) == 0


def test_neurons_are_a_positive_integer():
    counts = StateCounts(np.arange(5, dtype=np.uint8)[:, None], [1] * 5, neurons=3)
    for weights in (counts, [3, 1, 1]):
        for estimator in ("plugin", "nsb"):
            for wrong in (3.0, True, "3", [3]):
                with pytest.raises(TypeError, match="neurons must be an integer, got"):
                    entropy(weights, estimator=estimator, neurons=wrong)
            with pytest.raises(ValueError, match="neurons must be greater than 0, got 0"):
                entropy(weights, estimator=estimator, neurons=0)


def test_efficiencies_above_one():
    assert efficiency([3, 1], 2, alpha1=0, alpha2=2) == pytest.approx(1 / math.log2(16 / 10))
    assert efficiency([1] * 16, 4, estimator="chao-shen") > 2


def test_counts_of_other_neurons_are_refused():
    counts = StateCounts(np.arange(5, dtype=np.uint8)[:, None], [1] * 5, neurons=3)
    assert efficiency(counts, 3) == efficiency(counts) == pytest.approx(math.log2(5) / 3)
    with pytest.raises(TypeError, match="needs neurons=, which StateCounts knows"):
        efficiency([1, 1])
    for measure in (
        efficiency,
        lambda *a: entropy(a[0], estimator="nsb", neurons=a[1]),
        lambda *a: effective_states(a[0], 0, neurons=a[1]),
    ):
        with pytest.raises(ValueError, match="counts has 3 neurons, got neurons=4"):
            measure(counts, 4)
    with pytest.raises(ValueError, match="counts has more states than 2 neurons can have"):
        efficiency([1, 1, 1, 1, 1], 2)
    assert efficiency([1, 1, 1, 1, 0], 2) == 1  # a state that did not occur is none


def test_a_layer_is_no_counts():
    point = CapturePoint("layer")
    point.declare(neurons=3)
    point.append(np.arange(5, dtype=np.uint8)[:, None], 5)
    for measure in (entropy, coverage, lambda c: efficiency(c, 3), lambda c: kl_divergence(c, c)):
        with pytest.raises(TypeError, match=r"is a CapturePoint: pass its histogram\(\)"):
            measure(point)
        measure(point.histogram())


def test_ceiling():
    assert ceiling(2**20, 100) == 0.2
    assert ceiling(2**20, 20) == ceiling(2**21, 20) == ceiling(10**400, 20) == 1
    assert ceiling(1, 20) == 0


@pytest.mark.parametrize(
    ("value", "error"),
    [(0, ValueError), (-3, ValueError), (2.0, TypeError), (True, TypeError), (None, TypeError)],
)
def test_neurons_and_rows_are_positive_integers(value, error):
    with pytest.raises(error, match="neurons"):
        efficiency([1, 1], value)
    with pytest.raises(error, match="neurons"):
        ceiling(5, value)
    with pytest.raises(error, match="rows"):
        ceiling(value, 5)


class Point:
    def __init__(self, value):
        self.value = value

    def efficiency(self):
        return self.value


def test_a_model_without_capture_points_is_no_list_of_numbers():
    model = torch.nn.Sequential(torch.nn.Linear(2, 2))  # can be iterated
    with pytest.raises(TypeError, match=r"as build_efficiency_model\(\) and capture\(\) return"):
        network_efficiency(model)


def test_network_efficiency():
    assert network_efficiency([0.25, 1]) == 0.5
    assert network_efficiency([0.3]) == 0.3
    assert network_efficiency([0.3] * 7) == 0.3
    assert network_efficiency([0.0, 0.5]) == 0  # without a warning, which would be an error here
    assert network_efficiency([0.0, 0.0]) == 0
    assert network_efficiency({"a": 0.25, "b": 1.0}) == 0.5
    assert network_efficiency(v for v in (0.25, 1.0)) == 0.5
    assert network_efficiency(np.array([0.25, 1.0], np.float32)) == 0.5
    assert network_efficiency(torch.tensor([0.25, 1.0])) == 0.5
    assert network_efficiency(SimpleNamespace(efficiency_layers=[Point(0.25), Point(1.0)])) == 0.5
    assert network_efficiency([5e-324, 1.7e308, 1.0]) == pytest.approx(9.4e-6, rel=0.05)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=20))
def test_network_efficiency_lies_among_its_layers(values):
    low, high = min(values), max(values)
    assert low * (1 - 1e-12) <= network_efficiency(values) <= high


@pytest.mark.parametrize(
    ("values", "error"),
    [
        ([], ValueError),
        ({}, ValueError),
        (SimpleNamespace(efficiency_layers=[]), ValueError),
        ([0.5, -0.1], ValueError),
        ([0.5, math.nan], ValueError),
        ([0.5, INF], ValueError),
        ([0.5, "0.5"], TypeError),
        ([0.5, None], TypeError),
        ([0.5, 1j], TypeError),
        (0.5, TypeError),
        (None, TypeError),
        ("0.5", TypeError),
        (np.array(0.5), TypeError),
        (np.ones((2, 2)), TypeError),
        (torch.nn.Linear(2, 2), TypeError),
        (torch.nn.Sequential(torch.nn.ReLU()), TypeError),
    ],
)
def test_invalid_network_efficiencies(values, error):
    with pytest.raises(error, match="efficiencies"):
        network_efficiency(values)


def test_aiq():
    assert aIQ(0.25, 1.0, 1) == 0.5
    assert aIQ(0.5, 0.9, 2) == pytest.approx((0.5 * 0.81) ** (1 / 3), rel=1e-15)
    assert aIQ(0.0, 0.9, 2) == aIQ(0.9, 0.0, 2) == 0
    assert aIQ(4.0, 97.5, 3) == pytest.approx(100 * aIQ(0.04, 0.975, 3))  # percent, of both
    assert aIQ(torch.tensor(0.25), np.float32(1), np.int64(1)) == 0.5


def test_aiq_beyond_the_range_of_floats():
    # 0.5**5000 is 0 and 97.5**5000 infinite in float64; the quotient is neither.
    assert aIQ(0.3, 0.5, 5000) == pytest.approx(0.5, rel=1e-3)
    assert aIQ(0.3, 97.5, 5000) == pytest.approx(97.5, rel=1e-2)
    assert aIQ(0.3, 0.5, 1e-300) == pytest.approx(0.3)


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ((0.5, 0.9, 0), "weight"),
        ((0.5, 0.9, -1), "weight"),
        ((0.5, 0.9, math.nan), "weight"),
        ((0.5, 0.9, INF), "weight"),
        ((-0.5, 0.9, 1), "net_efficiency"),
        ((math.nan, 0.9, 1), "net_efficiency"),
        ((INF, 0.9, 1), "net_efficiency"),
        ((0.5, -0.9, 1), "accuracy"),
        ((0.5, math.nan, 1), "accuracy"),
        ((0.5, INF, 1), "accuracy"),
    ],
)
def test_invalid_aiq(arguments, name):
    with pytest.raises(ValueError, match=name):
        aIQ(*arguments)


@pytest.mark.parametrize("bad", ["1", None, 1j, [1], np.ones(2)])
def test_aiq_arguments_must_be_numbers(bad):
    for at in range(3):
        arguments = [0.5, 0.9, 1]
        arguments[at] = bad
        with pytest.raises(TypeError):
            aIQ(*arguments)
