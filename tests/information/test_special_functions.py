"""Digamma, trigamma and log-gamma: against the standard library and SciPy, over their range."""

import math

import numpy as np
import pytest

from tensorstate_gpu.information import special_functions as functions

NUMBERS = np.concatenate([np.logspace(-12, 18, 61), np.arange(1, 40), [11.999999, 12.000001]])


def test_log_gamma():
    for x, value in zip(NUMBERS, functions.log_gamma(NUMBERS), strict=True):
        assert value == pytest.approx(math.lgamma(x), rel=1e-14, abs=2e-14)


def test_digamma_of_integers_is_a_harmonic_number():
    euler = 0.57721566490153286
    harmonic = [math.fsum(1 / j for j in range(1, n)) for n in range(1, 40)]
    assert functions.digamma(np.arange(1.0, 40)) == pytest.approx(
        np.array(harmonic) - euler, abs=3e-15
    )
    assert functions.digamma(np.array([0.5]))[0] == pytest.approx(-euler - 2 * math.log(2))


def test_digamma_and_trigamma():
    special = pytest.importorskip("scipy.special")
    assert functions.digamma(NUMBERS) == pytest.approx(special.digamma(NUMBERS), rel=1e-13)
    far = NUMBERS[NUMBERS > 1e6]
    assert functions.digamma_over_log(far) == pytest.approx(-0.5 / far - 1 / (12 * far**2))
    scaled = NUMBERS * special.polygamma(1, NUMBERS + 1)
    low, high = np.meshgrid(np.arange(len(NUMBERS)), np.arange(len(NUMBERS)))
    fall = functions.trigamma_fall(NUMBERS[low.ravel()], NUMBERS[high.ravel()])
    assert fall == pytest.approx(scaled[high.ravel()] - scaled[low.ravel()], abs=2e-14)


def test_trigamma_keeps_small_differences():
    tiny, huge = np.array([1e-20, 1e20]), np.array([2e-20, 2e20])
    fall = functions.trigamma_fall(tiny, huge)
    assert fall == pytest.approx([1e-20 * math.pi**2 / 6, 0.25e-20], rel=1e-14, abs=0)
