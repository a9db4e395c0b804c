"""The estimator of Nemenman, Shafee and Bialek: the posterior mean of the entropy, in nats.

The prior is a mixture of symmetric Dirichlet distributions over K = 2**neurons states, with b
pseudo-counts a state. Its weights make the expected entropy, xi(b) = psi(K b + 1) - psi(b + 1),
uniform. Everything is a function of t = ln k, for k = K b: k, K and 1 / b may be larger than a
float, their logarithms never are.
"""

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from tensorstate_gpu.information.counts_of_counts import CountsOfCounts
from tensorstate_gpu.information.special_functions import (
    digamma,
    digamma_over_log,
    log_gamma,
    stirling_rest,
    trigamma_fall,
)

Floats = NDArray[np.float64]
_NEGLIGIBLE = 45.0  # nats below the maximum of the posterior
_LARGEST = 700.0  # exp() of more overflows
MOST_NEURONS = 2**24  # beyond, logarithms of numbers of states lose what tells pseudo-counts apart
_COUNTED = 1024  # neurons whose states are counted exactly
_ROUNDING = 1e-5  # peaks are not narrower; beyond 1e13 rows, rounding looks like narrow peaks
_MOST_PLACES = 4096  # for the trapezoidal rule; a peak with its tails needs about 100 to 1000
_BLOCK = 1 << 18  # counts times places that are computed together


def nemenman_shafee_bialek(sample: CountsOfCounts, neurons: int) -> float:
    """Return the posterior mean, from 0 to ln K."""
    posterior = _Posterior(sample, neurons)
    t = _support(posterior.log_weights, posterior.lowest, posterior.highest)
    log_weights = posterior.log_weights(t)
    weights = np.exp(log_weights - log_weights.max())
    mean = float(weights @ posterior.mean_entropies(t) / weights.sum())
    return min(max(0.0, mean), neurons * math.log(2))


class _Posterior:
    """The posterior of t, without its normalisation, and the expected entropy for each t."""

    def __init__(self, sample: CountsOfCounts, neurons: int) -> None:
        self._counts, self._states = sample.floats()
        self._rows, self._log_rows = float(sample.rows), math.log(sample.rows)
        self._log_size = neurons * math.log(2)
        # Of more neurons, 2**neurons has as many digits, and what was seen is nothing beside it.
        unseen = 2**neurons - sample.distinct if neurons <= _COUNTED else 0
        self._log_unseen = self._log_size if neurons > _COUNTED else -math.inf
        if unseen:
            self._log_unseen = math.log(unseen)
        # From less than one pseudo-count for all states to more than N for each.
        self.lowest, self.highest = -6.0, self._log_size + self._log_rows + 6.0

    def log_weights(self, t: Floats) -> Floats:
        """Return the logarithm of d xi / dt times the likelihood of the counts."""
        log_b = t - self._log_size
        prior = np.log(trigamma_fall(_exp(log_b), _exp(t)))
        of_all = _log_rising(t, np.array([self._rows]))[:, 0]
        return prior - of_all + self._sum(log_b, lambda part: _log_rising(part, self._counts))

    def mean_entropies(self, t: Floats) -> Floats:
        """Return psi(A + 1) - sum of a / A * psi(a + 1), with a = n + b, and A their sum, N + k."""
        log_b, log_total = t - self._log_size, np.logaddexp(t, self._log_rows)

        def terms(part: Floats) -> Floats:
            a = self._counts + _exp(part)[:, None]
            return a * digamma(a + 1)

        seen = self._sum(log_b, terms) * np.exp(-log_total)
        unseen = np.exp(self._log_unseen + log_b - log_total) * digamma(_exp(log_b) + 1)
        total = _exp(log_total)
        return log_total + digamma_over_log(total) + 1 / total - seen - unseen

    def _sum(self, log_b: Floats, terms: Callable[[Floats], Floats]) -> Floats:
        """Return the sum over the states that occurred of terms of shape (log_b, counts)."""
        blocks = np.array_split(log_b, math.ceil(len(log_b) * len(self._counts) / _BLOCK))
        return np.concatenate([terms(block) @ self._states for block in blocks])


def _log_rising(log_x: Floats, m: Floats) -> Floats:
    """Return ln [x (x + 1) ... (x + m - 1)] - m ln x, (x, m), in forms in which nothing cancels."""
    x = _exp(log_x)[:, None]
    result = np.empty((len(x), len(m)))
    small = x[:, 0] < 12
    near, far = x[small], x[~small]
    steps = (m - 1) * log_x[small][:, None]
    result[small] = log_gamma(near + m) - log_gamma(near + 1) - steps
    z = m / far
    rests = stirling_rest(far + m) - stirling_rest(far)
    result[~small] = m * _log1p_excess(z) - 0.5 * np.log1p(z) + rests
    return result


def _log1p_excess(z: Floats) -> Floats:
    """Return (1 + 1 / z) ln(1 + z) - 1, which is about z / 2 for small z."""
    near, far = np.minimum(z, 0.02), np.maximum(z, 0.02)
    series = sum((-((-near) ** j) / (j * (j + 1)) for j in range(9, 0, -1)), np.zeros_like(z))
    return np.where(z < 0.02, series, (1 + 1 / far) * np.log1p(far) - 1)


def _peak(f: Callable[[Floats], Floats], low: float, high: float) -> tuple[float, float]:
    """Return where f has its maximum, and a distance at which it is lower by about 1/2."""
    places = np.linspace(low, high, 64)
    while True:
        values = f(places)
        top, last = int(values.argmax()), len(places) - 1
        before, after = max(top - 1, 0), min(top + 1, last)
        width = float(places[1] - places[0])
        if values[top] - min(values[before], values[after]) <= 0.5 or width < _ROUNDING:
            return float(places[top]), width
        places = np.linspace(places[before], places[after], 9)


def _support(f: Callable[[Floats], Floats], low: float, high: float) -> Floats:
    """Return equidistant places around the peak of exp(f), to where exp(f) is negligible.

    They are dense enough for the trapezoidal rule. Beyond ``low`` and ``high``, f falls by at least
    the distance.
    """
    peak, width = _peak(f, low, high)
    top = float(f(np.array([peak]))[0])

    def edge(side: int, farthest: float) -> float:
        distances = np.geomspace(width, farthest, 40)
        reached = f(peak + side * distances) < top - _NEGLIGIBLE
        return float(distances[int(np.argmax(reached))]) if reached.any() else farthest

    left = edge(-1, peak - low + _NEGLIGIBLE)
    right = edge(1, high - peak + _NEGLIGIBLE)
    step = max(min(width, 1.0) / 4, (left + right) / _MOST_PLACES)
    return np.arange(peak - left, peak + right, step)


def _exp(x: Floats) -> Floats:
    return np.exp(np.minimum(x, _LARGEST))
