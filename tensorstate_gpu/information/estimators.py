"""Estimators of Shannon's entropy that correct the bias of the plug-in, from counts of counts.

N rows of D states are a sample; the plug-in is the entropy of the sample. Most corrections have one
form, with r(n) about -1 / (2 n), and p = n / N:

    H = plug-in + r(N) - sum of p * r(n)

All functions return nats.
"""

import math
from collections.abc import Callable
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from tensorstate_gpu._arguments import choice, positive_integer
from tensorstate_gpu.information.counts_of_counts import CountsOfCounts
from tensorstate_gpu.information.nsb import MOST_NEURONS, nemenman_shafee_bialek
from tensorstate_gpu.information.special_functions import digamma_over_log

Estimator = Literal[
    "plugin",
    "miller-madow",
    "grassberger",
    "jackknife",
    "chao-shen",
    "chao-wang-jost",
    "nsb",
    "unbiased",
]
Floats = NDArray[np.float64]
_ALMOST_ONE = math.nextafter(1.0, 0.0)
_STEP = 0.2  # of the trapezoidal rule


def check_estimator(estimator: object, order: float) -> None:
    """Raise ValueError for an unknown estimator, or one that does not define this order."""
    choice(estimator, "estimator", get_args(Estimator))
    if estimator == "unbiased" and order not in (2, 3, 4, 5):
        raise ValueError(f"the estimator 'unbiased' is for alpha 2, 3, 4 or 5, got {order}")
    if estimator not in ("plugin", "unbiased") and order != 1:
        raise ValueError(
            f"the estimator {estimator!r} is for alpha 1, got {order}; other orders have 'plugin' "
            "and, for 2 to 5, 'unbiased'"
        )


def estimate(
    sample: CountsOfCounts, estimator: Estimator, order: float, neurons: int | None
) -> float:
    """Return an entropy in bits, by any estimator but the plug-in. See `check_estimator`."""
    with np.errstate(under="ignore", over="ignore"):  # whatever the caller has set
        if estimator == "unbiased":
            nats = renyi(sample, int(order))
        elif estimator == "nsb":
            nats = nemenman_shafee_bialek(sample, _enough_neurons(sample, neurons))
        elif sample.distinct == 1:
            nats = 0.0
        else:
            nats = _CORRECTIONS[estimator](sample)
    return max(0.0, nats / math.log(2))


def _enough_neurons(sample: CountsOfCounts, neurons: int | None) -> int:
    if neurons is None:
        raise ValueError("the estimator 'nsb' needs neurons=, which a StateCounts knows")
    size = positive_integer(neurons, "neurons", MOST_NEURONS)
    if size < (sample.distinct - 1).bit_length():
        raise ValueError(f"{sample.distinct} states are more than {size} neurons can have")
    return size


def miller_madow(sample: CountsOfCounts) -> float:
    """Miller (1955): plus (D - 1) / (2 N)."""
    return plug_in(sample) + (sample.distinct - 1) / (2 * sample.rows)


def grassberger(sample: CountsOfCounts) -> float:
    """Grassberger (2003), equation 35. It does not correct the term of N."""
    return plug_in(sample) - _mean(_grassberger_rest, sample)


def jackknife(sample: CountsOfCounts) -> float:
    """Zahl (1977): the delete-one-row jackknife of the plug-in, in closed form."""
    return _corrected(sample, _jackknife_rest)


def chao_shen(sample: CountsOfCounts) -> float:
    """Chao and Shen (2003): shares scaled by the coverage, each divided by the chance to be seen.

    If all states were seen once, one of them is taken as seen twice: coverage 0 has no estimate.
    """
    rows = float(sample.rows)
    covered = (sample.rows - min(sample.seen(1), sample.rows - 1)) / rows

    def term(n: Floats) -> Floats:
        share = np.minimum(covered * (n / rows), _ALMOST_ONE)
        return share * np.log(share) / np.expm1(rows * np.log1p(-share))

    return sample.total(term)


def chao_wang_jost(sample: CountsOfCounts) -> float:
    """Chao, Wang and Jost (2013): Zhang's estimator, and a term for states that were not seen."""
    zhang = _corrected(sample, digamma_over_log)
    odds = singleton_odds(sample)
    if odds == 0:
        return zhang
    return zhang + sample.seen(1) / sample.rows * unseen_terms(float(sample.rows), odds)


def renyi(sample: CountsOfCounts, order: int) -> float:
    """Return the entropy of an integer order from the unbiased estimate of the sum of p**order.

    Infinite if no state occurred ``order`` times.
    """
    rows = float(sample.rows)

    def chance_of_coincidence(n: Floats) -> Floats:
        chance = np.where(n >= order, 1.0, 0.0)
        for taken in range(order):
            chance *= (n - taken) / max(rows - taken, 1.0)
        return chance

    total = sample.total(chance_of_coincidence)
    return math.log(total) / (1 - order) if total > 0 else math.inf


def singleton_odds(sample: CountsOfCounts) -> float:
    """Return (1 - A) / A for Chao and Jost's (2012) A, the mean share of states seen once.

    A is 2 f2 / ((N - 1) f1 + 2 f2), with one less in f1 and one more in f2 if no state was seen
    twice. As odds, also an A near 0 or 1 keeps its digits.
    """
    return odds_of(sample.rows, sample.seen(1), sample.seen(2))


def odds_of(rows: int, once: int, twice: int) -> float:
    """Return the same of so many rows, with so many states that were seen once, and twice."""
    if twice:
        return (rows - 1) * once / (2 * twice)
    return (rows - 1) * max(once - 1, 0) / 2


def plug_in(sample: CountsOfCounts) -> float:
    rows = float(sample.rows)
    return sample.total(lambda n: n / rows * np.log(rows / n))


def _corrected(sample: CountsOfCounts, rest: Callable[[Floats], Floats]) -> float:
    """Return the plug-in + r(N) - mean of r(n)."""
    of_all = float(rest(np.array([float(sample.rows)]))[0])
    return plug_in(sample) + of_all - _mean(rest, sample)


def _mean(value: Callable[[Floats], Floats], sample: CountsOfCounts) -> float:
    """Return the mean over the rows of a value of their state's count."""
    rows = float(sample.rows)
    return sample.total(lambda n: n / rows * value(n))


def _jackknife_rest(n: Floats) -> Floats:
    """Return r(n) = n ln n - (n - 1) ln(n - 1) - ln n - 1; the 1 makes it small for large n."""
    return -1 - (n - 1) * np.log1p(-1 / np.maximum(n, 2))


def _grassberger_rest(n: Floats) -> Floats:
    """Return r(n) = psi(n) + (-1)**n / 2 * [psi((n + 1) / 2) - psi(n / 2)] - ln n."""
    sign = 1 - 2 * (n % 2)
    difference = np.log1p(1 / n) + digamma_over_log((n + 1) / 2) - digamma_over_log(n / 2)
    return digamma_over_log(n) + sign / 2 * difference


def unseen_terms(rows: float, odds: float) -> float:
    """Return the sum over s >= 0 of x**(s + 1) / (N + s), for x = odds / (1 + odds).

    The sum is the integral over t from 0 of x exp(-N t) / (1 - x exp(-t)). With t = exp(u), the
    trapezoidal rule has converged at this step, and below ``lowest`` the integrand is negligible.
    """
    lowest = -math.log(max(odds, rows)) - 40
    t = np.exp(np.arange(lowest, math.log(50 / rows) + _STEP, _STEP))
    return _STEP * float(np.sum(odds * t * np.exp(-rows * t) / (1 - odds * np.expm1(-t))))


def unseen_terms_of(rows: Floats, odds: Floats) -> Floats:
    """Return the same of several numbers, (numbers,): the more there are, the sooner each."""
    lowest, highest = -np.log(np.maximum(odds, rows)) - 40, np.log(50 / rows) + _STEP
    points = np.arange(0.0, float((highest - lowest).max(initial=0)), _STEP)
    t = np.exp(lowest[:, None] + points)
    seen, unseen = np.exp(-rows[:, None] * t), odds[:, None] * t
    sums: Floats = (unseen * seen / (1 - odds[:, None] * np.expm1(-t))).sum(axis=1)
    return _STEP * sums


_CORRECTIONS: dict[str, Callable[[CountsOfCounts], float]] = {
    "miller-madow": miller_madow,
    "grassberger": grassberger,
    "jackknife": jackknife,
    "chao-shen": chao_shen,
    "chao-wang-jost": chao_wang_jost,
}
