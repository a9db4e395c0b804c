"""Measures of counts on a device, or on its stand-in."""

import math

import numpy as np
import pytest

import tensorstate_gpu as ts

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
