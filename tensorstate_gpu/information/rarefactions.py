"""Rarefaction: the entropy that fewer rows of the same sample would show."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from tensorstate_gpu._arguments import positive_integer
from tensorstate_gpu._arrays.array_types import Weights
from tensorstate_gpu.information.counts_of_counts import CountsOfCounts
from tensorstate_gpu.information.hypergeometric import hypergeometric

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
_FEW = 100  # expected rows of a state up to which many states are computed at a time
_BLOCK = 1 << 14  # of them
_MANY = 1e4  # expected rows of a state from which three moments of their number suffice


def rarefaction(counts: Weights, rows: int) -> float:
    """Return the expected plug-in entropy of ``rows`` rows drawn from the sample, in bits.

    Compare networks, or layers, at equal numbers of rows. The curve over ``rows`` shows whether the
    entropy of the whole sample has settled: where it gains 1 bit per doubling, it measures the
    sample.

    Parameters
    ----------
    counts : array_like of integers, (states,), or an object with such an array as ``.counts``
        How often each state occurred.
    rows : int
        Rows to draw, without replacement: from 1 to all.

    Returns
    -------
    float
        Bits. For all rows the plug-in entropy.

    Raises
    ------
    TypeError, ValueError
        As for `entropy`, if the counts are not integers, or if there are fewer than ``rows`` rows.

    Notes
    -----
    Exact: the number of rows drawn of a state has a hypergeometric distribution (Hurlbert, "The
    nonconcept of species diversity", 1971, applied to the entropy). Where a state is expected more
    than 10,000 times, the sum over its distribution is its expansion in moments, with an error
    below 1e-11 bits.

    Examples
    --------
    >>> rarefaction([5, 5], rows=10)
    1.0
    >>> round(rarefaction([5, 5], rows=2), 6)
    0.555556
    """
    sample = CountsOfCounts.of(counts, "counts", needed_by="rarefaction")
    drawn, total = positive_integer(rows, "rows", None), sample.rows
    if drawn > total:
        raise ValueError(f"rows must be at most the {total} rows of the sample, got {drawn}")
    return rarefied(sample, drawn)


def rarefied(sample: CountsOfCounts, drawn: int, moments_from: float = _MANY) -> float:
    """Return the expected entropy of some rows of a sample that has as many.

    ``moments_from``: the expected number of rows of a state from which moments suffice. From 100
    on, the result is exact to about 1e-8 bits, and takes no long time whatever the counts.
    """
    states, nats = sample.states.astype(np.float64), 0.0
    with np.errstate(under="ignore"):
        for places, terms in _terms(sample.counts, drawn, sample.rows, moments_from):
            nats += float(states[places] @ terms)
    return max(0.0, nats / math.log(2))


def drawn_terms(counts: Ints, drawn: int, total: int) -> Floats:
    """Return what a state adds to the expected entropy of drawn rows, in nats, for each count."""
    found = np.zeros(len(counts))
    with np.errstate(under="ignore"):
        for places, terms in _terms(counts, drawn, total, _MANY):
            found[places] = terms
    return found


def _terms(
    counts: Ints, drawn: int, total: int, moments_from: float
) -> Iterator[tuple[Ints, Floats]]:
    """Yield places of counts, and the expected -(j / m) ln(j / m) of each: j of m rows drawn."""
    n = counts.astype(np.float64)
    means = n * (drawn / total)
    many = means >= moments_from
    few = (means < min(_FEW, moments_from)) & (n <= (total - drawn) / 2)
    places = np.flatnonzero(many)
    yield places, _by_moments(n[places], float(drawn), float(total))
    for block in _blocks(np.flatnonzero(few)):
        yield block, _by_ratios(n[block], float(drawn), float(total))
    for place in np.flatnonzero(~many & ~few):
        yield np.array([place]), np.array([_by_distribution(int(counts[place]), drawn, total)])


def _blocks(places: Ints) -> list[Ints]:
    """Return places in parts, so that temporary arrays stay in the cache."""
    return [places[start : start + _BLOCK] for start in range(0, len(places), _BLOCK)]


def _by_ratios(n: Floats, drawn: float, total: float) -> Floats:
    """Return the expected -(j / m) ln(j / m) of j of m drawn rows, of many counts at a time.

    Of few expected rows, j = 0 is probable enough to begin with.
    """
    weight, norm, sums = np.ones_like(n), np.ones_like(n), np.zeros_like(n)
    most = float(n.max(initial=0)) * drawn / total
    for j in range(int(min(drawn, n.max(initial=0), most + 12 * math.sqrt(most) + 40))):
        weight *= (n - j).clip(min=0) * (drawn - j) / ((j + 1) * (total - n - drawn + j + 1))
        norm += weight
        share = (j + 1) / drawn
        sums -= weight * (share * math.log(share))
    result: Floats = sums / norm
    return result


def _by_moments(n: Floats, drawn: float, total: float) -> Floats:
    """Return the expected -(j / m) ln(j / m) of j of m drawn rows, by derivatives at the mean."""
    share, rest = n / total, (total - drawn) / max(total - 1, 1)
    mean = drawn * share
    variance = mean * (1 - share) * rest
    third = variance * (1 - 2 * share) * ((total - 2 * drawn) / max(total - 2, 1))
    change = variance / 2 - third / (6 * mean) + variance**2 / (4 * mean**2)
    return -share * np.log(share) - change / (mean * drawn)


def _by_distribution(n: int, drawn: int, total: int) -> float:
    """Return the same as a sum over j, as far as it has any probability."""
    least, chances = hypergeometric(n, drawn, total)
    share = np.arange(least, least + len(chances)) / drawn
    return -float((chances * share * np.log(np.where(share > 0, share, 1.0))).sum())
