"""Rényi entropies, including Shannon's: pure functions of counts, in bits.

Estimators that correct the plug-in are in `estimators`. Of the plug-in, all terms are computed from
weights relative to the largest one, w = c / max(c), with S = sum of w. The entropy of Rényi (1961)
then splits into two terms that are never negative,

    H_alpha = log2(S) + log2(T / S) / (1 - alpha),        T = sum of w ** alpha,

so nothing cancels, and for a uniform histogram (T = S) the result is exactly log2(S).
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tensorstate_gpu._arguments import order as check_order
from tensorstate_gpu._arrays.array_types import Weights
from tensorstate_gpu.information.counts_argument import agreed_neurons
from tensorstate_gpu.information.counts_argument import weights as check_weights
from tensorstate_gpu.information.counts_of_counts import CountsOfCounts, tallied, tally
from tensorstate_gpu.information.estimators import Estimator, check_estimator, estimate

_CHUNK = 1 << 16  # weights at a time, so that temporary arrays stay in the cache
_NEAR_ONE = 0.5  # |alpha - 1| below which 1 / (1 - alpha) would magnify rounding errors


def entropy(
    counts: Weights,
    alpha: float = 1.0,
    estimator: Estimator = "plugin",
    neurons: int | None = None,
) -> float:
    """Return the Rényi entropy of order ``alpha``, in bits.

    Order 1 is Shannon's entropy, 0 Hartley's (log2 of the number of states that occur), infinity
    the min-entropy (-log2 of the most frequent state's share).

    Parameters
    ----------
    counts : array_like of shape (states,), or an object with such an array as ``.counts``
        How often each state occurred, or any finite non-negative weights with a positive sum; they
        need not sum to 1. Arrays and tensors, sequences, a StateCounts. Weights on a GPU are summed
        there. Estimators other than "plugin" need integers, of at most 2**63 - 1; from a GPU they
        copy how many states occurred how often.
    alpha : float
        Order, from 0 to infinity.
    estimator : str
        How to conclude from the sample to its source. "plugin", the default, takes the shares of
        the sample for those of the source. For order 1: "miller-madow", "grassberger", "jackknife",
        "chao-shen", "chao-wang-jost" and "nsb"; for orders 2, 3, 4 and 5: "unbiased". The time of
        "nsb" grows with how many different counts there are: with ten thousands of them it takes
        seconds, with a million minutes.
    neurons : int, optional
        For "nsb": 2**neurons states are possible. At most 2**24; by default the neurons of a
        StateCounts.

    Returns
    -------
    float
        Bits. The plug-in is at most log2(states), exactly k for a uniform histogram of 2**k states.
        Others may be greater, also than ``neurons``. "unbiased" is infinite if no state occurred
        ``alpha`` times.

    Raises
    ------
    TypeError, ValueError
        If ``counts`` does not hold real numbers, is not one-dimensional, is empty, holds negative,
        NaN or infinite weights, or holds only zeros; if ``alpha`` is not a number, negative or NaN;
        if the estimator is unknown, not defined for this order, or needs integer counts; if "nsb"
        has no ``neurons``, or too few for the states that occurred; if ``neurons`` are not those of
        a StateCounts.

    Notes
    -----
    Rényi, "On measures of entropy and information" (1961), equation 1.21; the limit alpha = 1 is
    Shannon, "A mathematical theory of communication" (1948), section 6. Estimators: Miller (1955);
    Zahl (1977), the jackknife; Grassberger (https://arxiv.org/abs/physics/0307138), equation 35;
    Chao and Shen (2003); Chao, Wang and Jost (2013); Nemenman, Shafee and Bialek
    (https://arxiv.org/abs/physics/0108025). "unbiased" is the logarithm of an unbiased sum of
    p**alpha. None is right where most states were seen once: see `coverage`.

    Examples
    --------
    >>> entropy([1, 1, 1, 1])
    2.0
    >>> entropy([0.5, 0.25, 0.25])
    1.5
    >>> entropy([3, 1, 0], alpha=0), entropy([2, 1, 1], alpha=math.inf)
    (1.0, 1.0)
    >>> round(entropy([4, 3, 1, 1, 1], estimator="chao-wang-jost"), 6)
    2.618477
    """
    order = check_order(alpha, "alpha")
    check_estimator(estimator, order)
    known = agreed_neurons(counts, neurons)
    if estimator == "plugin":
        found = tallied(counts, "counts")
        if found is not None:
            return _plug_in(found.counts, order, found.states)
        weights = check_weights(counts, "counts")
        repeated = _repeated_counts(weights)
        if repeated is not None:
            return _plug_in(repeated[0], order, repeated[1])
        return _plug_in(weights, order)
    sample = CountsOfCounts.of(counts, "counts", needed_by=f"the estimator {estimator!r}")
    return estimate(sample, estimator, order, known)


def effective_states(
    counts: Weights,
    alpha: float = 1.0,
    estimator: Estimator = "plugin",
    neurons: int | None = None,
) -> float:
    """Return the number of equally likely states that have this entropy: 2 ** entropy.

    Parameters
    ----------
    counts, alpha, estimator, neurons
        As for `entropy`.

    Returns
    -------
    float
        Of states; infinity if it is more than a float holds.

    Raises
    ------
    TypeError, ValueError
        As for `entropy`.

    Notes
    -----
    Hill, "Diversity and evenness" (1973): the Hill number of order ``alpha``.

    Examples
    --------
    >>> effective_states([5, 5, 5, 5])
    4.0
    >>> effective_states([2, 1, 1], alpha=0)
    3.0
    """
    if check_order(alpha, "alpha") == 0 and estimator == "plugin":
        agreed_neurons(counts, neurons)
        found = tallied(counts, "counts")
        if found is not None:
            return float(found.distinct)
        return float(np.count_nonzero(check_weights(counts, "counts")))
    bits = entropy(counts, alpha, estimator, neurons)
    return math.exp2(bits) if bits < sys.float_info.max_exp else math.inf


def _repeated_counts(
    weights: NDArray[Any],
) -> tuple[NDArray[np.int64], NDArray[np.int64]] | None:
    """Return the counts that occur, and how many states have each: far fewer terms to sum.

    None if weights are not many counts, on the host, that repeat. Great counts may be listed twice.
    """
    if len(weights) <= _CHUNK or not isinstance(weights, np.ndarray) or weights.dtype.kind == "f":
        return None
    if int(weights.max()) >= 2**63:
        return None
    counts, states = tally(weights.astype(np.int64, copy=False))
    if len(counts) > len(weights) // 16:
        return None
    order = np.argsort(counts)  # the sum does not depend on the order of the weights
    return counts[order], states[order]


def _plug_in(weights: NDArray[Any], order: float, states: NDArray[np.int64] | None = None) -> float:
    """Return the entropy of weights; ``states``: how many states have each, by default one."""
    if order == 0:
        return math.log2(int(np.count_nonzero(weights) if states is None else states.sum()))
    top = int(weights.argmax())
    scale = float(weights[top])

    def total(term: Callable[[NDArray[Any], NDArray[Any]], NDArray[Any]]) -> float:
        return math.fsum(
            float(term(w, log).sum() if times is None else term(w, log) @ times)
            for w, log, times in _relative_weights(weights, top, scale, states)
        )

    # Underflow to 0 is the correct limit here, whatever the caller has set with np.seterr.
    with np.errstate(under="ignore", over="ignore"):
        rest = total(lambda w, _: w)
        return _log2_1p(rest) + _excess_over_top_weight(total, rest, order)


def _excess_over_top_weight(total: Callable[..., float], rest: float, order: float) -> float:
    """Return log2(T / S) / (1 - alpha), with S = 1 + rest: the largest weight, 1, is separate."""
    if math.isinf(order):
        return 0.0
    if order == 1:
        return -total(lambda w, log: w * log) / (1 + rest) / math.log(2)
    if abs(order - 1) >= _NEAR_ONE:
        powers = total(lambda _, log: np.exp(order * log))
        return (_log2_1p(powers) - _log2_1p(rest)) / (1 - order)
    # Weights below exp(-700) contribute nothing here, but their powers could become infinite.
    growth = total(lambda w, log: w * np.expm1((order - 1) * np.maximum(log, -700.0)))
    return math.log1p(growth / (1 + rest)) / (1 - order) / math.log(2)


def _relative_weights(
    weights: NDArray[Any], top: int, scale: float, states: NDArray[np.int64] | None
) -> Iterator[tuple[NDArray[Any], NDArray[Any], NDArray[np.float64] | None]]:
    """Yield chunks of the positive weights except the largest: relative to it, and their logs.

    Also yields how many states have each, if ``states`` says so; then all weights are positive. The
    largest is excluded because 1 + 1e-20 is 1: the contribution of rare states would be lost.
    """
    if states is not None:
        yield np.ones(1), np.zeros(1), (states[top : top + 1] - 1).astype(np.float64)
    for begin, end in ((0, top), (top + 1, len(weights))):
        part = weights[begin:end]
        size = _CHUNK if isinstance(part, np.ndarray) else max(len(part), 1)  # one chunk on a GPU
        for start in range(0, len(part), size):
            chunk = part[start : start + size].astype(np.float64)
            chunk = chunk[chunk > 0]
            times = None
            if states is not None:
                times = states[begin:end][start : start + size].astype(np.float64)
            ratio = chunk / scale
            if ratio.size and float(ratio.min()) < sys.float_info.min:  # the quotient is subnormal
                yield ratio, np.log(chunk) - math.log(scale), times
            elif ratio.size:
                yield ratio, np.log(ratio), times


def _log2_1p(x: float) -> float:
    """Return log2(1 + x)."""
    # math.log2 is exact at powers of two, log1p exact near 0.
    return math.log2(1 + x) if x >= 1 else math.log1p(x) / math.log(2)
