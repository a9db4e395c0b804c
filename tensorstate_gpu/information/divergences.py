"""How much two distributions of states differ, in bits."""

from __future__ import annotations

import math

import numpy as np

from tensorstate_gpu._arguments import non_negative
from tensorstate_gpu._arrays.array_types import Weights
from tensorstate_gpu.information.aligned_weights import Distribution, Floats, aligned


def kl_divergence(first: Weights, second: Weights, *, smoothing: float = 0.0) -> float:
    """Return the Kullback-Leibler divergence of ``first`` from ``second``, in bits.

    The bits that a code for ``second`` wastes on a state of ``first``, on average.

    Parameters
    ----------
    first, second : StateCounts, or array_like of shape (states,)
        Two histograms of the same neurons, which are aligned in linear time; or two arrays of
        counts or other weights >= 0, in which the same entry is the same state. Arrays on a GPU are
        copied to the host.
    smoothing : float
        Pseudo-counts added to the counts of each state that occurs in either histogram, or to each
        entry of both arrays. 0, the default, adds none.

    Returns
    -------
    float
        Bits, >= 0. Without smoothing infinite if ``first`` has a state that ``second`` has not.

    Raises
    ------
    TypeError, ValueError
        As for `entropy`; if the numbers of neurons or of entries differ; if only one is a
        StateCounts; if ``smoothing`` is negative, NaN or infinite.

    Notes
    -----
    Kullback and Leibler, "On information and sufficiency" (1951). Of two samples, even from the
    same source, it is usually infinite, and any finite value depends on the smoothing.

    Examples
    --------
    >>> kl_divergence([1, 0], [1, 1])
    1.0
    >>> kl_divergence([1, 1], [1, 0])
    inf
    >>> round(kl_divergence([1, 1], [1, 0], smoothing=0.5), 6)
    0.207519
    """
    p, q = _smoothed(first, second, smoothing)
    return _expected(p, q, p.log2)


def cross_entropy(first: Weights, second: Weights, *, smoothing: float = 0.0) -> float:
    """Return the bits that a code for ``second`` needs for a state of ``first``, on average.

    Parameters
    ----------
    first, second, smoothing
        As for `kl_divergence`.

    Returns
    -------
    float
        Bits: the entropy of ``first`` and its divergence from ``second``. Without smoothing
        infinite if ``first`` has a state that ``second`` has not.

    Raises
    ------
    TypeError, ValueError
        As for `kl_divergence`.

    Notes
    -----
    Shannon, "A mathematical theory of communication" (1948).

    Examples
    --------
    >>> cross_entropy([2, 1, 1], [1, 1, 2])
    1.75
    """
    p, q = _smoothed(first, second, smoothing)
    return _expected(p, q, np.zeros_like(p.log2))


def js_divergence(first: Weights, second: Weights) -> float:
    """Return the Jensen-Shannon divergence of two distributions, in bits.

    The information that one state gives about which of the two it is from, if both are equally
    likely. Its root is a metric.

    Parameters
    ----------
    first, second
        As for `kl_divergence`.

    Returns
    -------
    float
        Bits, from 0 for equal distributions to 1 for distributions without a common state.

    Raises
    ------
    TypeError, ValueError
        As for `kl_divergence`.

    Notes
    -----
    Lin, "Divergence measures based on the Shannon entropy" (1991). Two samples of the same source
    differ too, the more the fewer their rows: compare with `permutation_test`.

    Examples
    --------
    >>> js_divergence([1, 1, 0], [0, 0, 5])
    1.0
    """
    p, q = (Distribution.of(weights).shares for weights in aligned(first, second))
    return float(js_divergences(p, q))


def js_divergences(p: Floats, q: Floats) -> Floats:
    """Return the same of many pairs of distributions, (..., states), whose sums are 1: (...)."""
    bits: Floats = np.clip((_half_information(p, q) + _half_information(q, p)) / 2, 0.0, 1.0)
    return bits


def total_variation(first: Weights, second: Weights) -> float:
    """Return the share of states that differ: half the sum of all differences of probabilities.

    Parameters
    ----------
    first, second
        As for `kl_divergence`.

    Returns
    -------
    float
        From 0 for equal distributions to 1 for distributions without a common state.

    Raises
    ------
    TypeError, ValueError
        As for `kl_divergence`.

    Examples
    --------
    >>> total_variation([3, 1], [1, 3])
    0.5
    """
    p, q = (Distribution.of(weights).shares for weights in aligned(first, second))
    return min(1.0, float(np.abs(p - q).sum()) / 2)


def _smoothed(
    first: Weights, second: Weights, smoothing: float
) -> tuple[Distribution, Distribution]:
    added = non_negative(smoothing, "smoothing")
    one, other = aligned(first, second)
    return Distribution.of(one, added), Distribution.of(other, added)


def _expected(p: Distribution, q: Distribution, log2: Floats) -> float:
    """Return the mean of log2 - log2 q over the states of p."""
    occurs = p.log2 > -math.inf
    if (q.log2[occurs] == -math.inf).any():
        return math.inf
    with np.errstate(under="ignore"):
        return max(0.0, float((p.shares[occurs] * (log2[occurs] - q.log2[occurs])).sum()))


def _half_information(p: Floats, q: Floats) -> Floats:
    """Return the sum of p log2(p / m), where m is the mean of p and q: (...)."""
    occurs = p > 0
    with np.errstate(under="ignore"):
        share = np.divide(p, p + q, out=np.full_like(p, 0.5), where=occurs)
        bits: Floats = (p * np.log2(2 * share)).sum(axis=-1)
    return bits
