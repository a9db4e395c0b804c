"""Measures of counts on a device, or on its stand-in."""

import math

import numpy as np
import pytest

import tensorstate_gpu as ts
from tensorstate_gpu import information

WEIGHTS = {
    "uniform": np.full(1 << 12, 7),
    "skewed": np.random.default_rng(0).zipf(1.5, 100_000),
    "far apart": np.array([1e-300, 1.0, 1e300, 0.0]),
    "one": np.array([3]),
}


@pytest.mark.parametrize("alpha", [0, 0.5, 1, 1.0001, 2, math.inf])
@pytest.mark.parametrize("name", WEIGHTS)
def test_entropy(machine, name, alpha):
    expected = ts.entropy(WEIGHTS[name], alpha)
    assert ts.entropy(machine.to_device(WEIGHTS[name]), alpha) == pytest.approx(expected, rel=1e-12)


def test_invalid_weights_on_a_device(machine):
    for weights in (np.array([1, -1]), np.array([math.nan]), np.zeros(3), np.ones((2, 2))):
        with pytest.raises(ValueError, match="counts "):
            ts.entropy(machine.to_device(weights))


@pytest.mark.parametrize("test", [information.permutation_test, information.class_divergences])
def test_permutations_of_labels(machine, test):
    """Rows, labels and instances may each be on the device."""
    rng = np.random.default_rng(1)
    rows, labels = rng.integers(0, 4, (60, 3), np.uint8), rng.integers(0, 3, 20)
    owners = rng.integers(0, 20, 60)
    expected = test(rows, labels, 0, instances=owners, permutations=5)
    there = map(machine.to_device, (rows, labels, owners))
    found = test(next(there), next(there), 0, instances=next(there), permutations=5)
    np.testing.assert_array_equal(found.null, expected.null)
    np.testing.assert_array_equal(found.p_value, expected.p_value)


def test_permutations_of_labels_of_torch(on_cuda):
    torch = pytest.importorskip("torch")
    rows, labels = torch.arange(40, dtype=torch.uint8)[:, None] % 5, torch.arange(20) % 2
    expected = information.permutation_test(rows, labels, 0, instances="equal", permutations=5)
    found = information.permutation_test(
        on_cuda(rows), on_cuda(labels), 0, instances="equal", permutations=5
    )
    np.testing.assert_array_equal(found.null, expected.null)
