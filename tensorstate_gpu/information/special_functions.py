"""Digamma, trigamma and log-gamma functions, without SciPy, in forms in which nothing cancels.

All take arrays of numbers > 0 and use the asymptotic series of Abramowitz and Stegun, "Handbook of
mathematical functions" (1964), 6.1.41, 6.3.18 and 6.4.12, from `_LARGE` on; smaller numbers are
moved there by the recurrences 6.1.15, 6.3.5 and 6.4.6. Errors are a few units in the last place.
"""

import math

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_LARGE = 12.0  # from here on, the first omitted term of each series is below 1e-17
_STEPS = int(_LARGE)  # of a recurrence, from any number > 0 to one that is large
_HALF_LOG_2_PI = 0.5 * math.log(2 * math.pi)
_BERNOULLI = np.array([1 / 6, -1 / 30, 1 / 42, -1 / 30, 5 / 66, -691 / 2730, 7 / 6])
_ORDERS = 2.0 * np.arange(1, len(_BERNOULLI) + 1)  # of these Bernoulli numbers: 2, 4, ...


def digamma_over_log(x: Floats) -> Floats:
    """Return psi(x) - ln x, which is about -1 / (2 x)."""
    result = np.empty_like(x)
    small = x < _LARGE
    result[~small] = _digamma_series(x[~small])
    near = x[small]
    shifted = near + _STEPS
    result[small] = _digamma_series(shifted) + np.log(shifted / near) - _reciprocals(near)
    return result


def digamma(x: Floats) -> Floats:
    """Return psi(x), the derivative of ln Gamma(x)."""
    return digamma_over_log(x) + np.log(x)


def log_gamma(x: Floats) -> Floats:
    """Return ln Gamma(x)."""
    large: Floats = np.where(x < _LARGE, x + _STEPS, x)
    result: Floats = (large - 0.5) * np.log(large) - large + _HALF_LOG_2_PI + stirling_rest(large)
    small = x < _LARGE
    result[small] -= np.log(_rising_product(x[small]))
    return result


def stirling_rest(x: Floats) -> Floats:
    """Return ln Gamma(x) - [(x - 1/2) ln x - x + ln(2 pi) / 2], for x >= 12: about 1 / (12 x)."""
    return _even_series(_BERNOULLI / (_ORDERS * (_ORDERS - 1)), x) * x


def trigamma_fall(low: Floats, high: Floats) -> Floats:
    """Return q(low) - q(high), for q(x) = 1 - x psi'(x + 1), which falls from 1 to 1 / (2 x)."""
    near = _scaled_trigamma(high) - _scaled_trigamma(low)
    return np.where(high < _LARGE, near, _trigamma_defect(low) - _trigamma_defect(high))


def _trigamma_defect(x: Floats) -> Floats:
    """Return 1 - x psi'(x + 1)."""
    # psi'(x + 1) = psi'(x) - 1 / x**2, of which the leading terms are left out.
    far = np.maximum(x, _LARGE)
    return np.where(x < _LARGE, 1 - _scaled_trigamma(x), 0.5 / far - _even_series(_BERNOULLI, far))


def _scaled_trigamma(x: Floats) -> Floats:
    """Return x psi'(x + 1) for small x."""
    large = x + 1 + _STEPS
    series = (1 + 0.5 / large + _even_series(_BERNOULLI, large)) / large
    return x * (series + sum((1 / (x + j) ** 2 for j in range(1, _STEPS + 1)), np.zeros_like(x)))


def _digamma_series(x: Floats) -> Floats:
    return -0.5 / x - _even_series(_BERNOULLI / _ORDERS, x)


def _even_series(coefficients: Floats, x: Floats) -> Floats:
    """Return the sum of coefficients[j] / x ** (2 j + 2)."""
    square = 1 / (x * x)
    total = np.full_like(x, coefficients[-1])
    for coefficient in coefficients[-2::-1]:
        total *= square
        total += coefficient
    total *= square
    return total


def _reciprocals(x: Floats) -> Floats:
    """Return the sum of 1 / (x + j) over the steps of a recurrence."""
    return sum((1 / (x + j) for j in range(_STEPS)), np.zeros_like(x))


def _rising_product(x: Floats) -> Floats:
    """Return x (x + 1) (x + 2) ..., which are the steps of a recurrence."""
    product = np.ones_like(x)
    for j in range(_STEPS):
        product *= x + j
    return product
