"""How many rows have states that a reference has not, and how many are to be expected."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from tensorstate_gpu._arrays.array_types import Weights
from tensorstate_gpu.information.aligned_weights import Floats, aligned
from tensorstate_gpu.information.counts_of_counts import CountsOfCounts
from tensorstate_gpu.information.coverages import coverage
from tensorstate_gpu.information.hypergeometric import from_ratios, hypergeometric

_SUMMED = 1000  # unseen rows up to which the distribution is summed; the cost is their square


@dataclass(frozen=True, slots=True)
class UnseenShare:
    """The share of new rows whose state the reference has not.

    ``expected``: the share if both are samples of the same source. ``p_value``: how probable at
    least this share then is.
    """

    __module__ = "tensorstate_gpu.information"

    value: float
    expected: float
    p_value: float

    def __float__(self) -> float:
        return self.value


def unseen_share(new: Weights, reference: Weights) -> UnseenShare:
    """Return the share of new rows whose state does not occur in the reference.

    Parameters
    ----------
    new, reference : StateCounts, or array_like of integers of shape (states,)
        Two histograms of the same neurons; or two arrays of counts in which the same entry is the
        same state.

    Returns
    -------
    UnseenShare
        The share, its expected value, which is 1 - `coverage` of the reference, and a p-value.

    Raises
    ------
    TypeError, ValueError
        As for `kl_divergence`, and if the counts are not integers.

    Notes
    -----
    Good (1953) for the expected value. The p-value is that of a random division of all rows: the
    number of states that occur once and fall into ``new`` has a hypergeometric distribution; a
    state of n rows falls into it with probability (share of new rows) ** n, as if independently of
    the others. Their sum is exact up to 1,000 rows, and beyond a normal distribution. Rows count as
    independent: where those of an input are alike, the p-value is too small.

    A high share does not show that inputs are foreign, nor a low one that they are not: networks
    answer many foreign inputs with states that they know.

    Examples
    --------
    >>> share = unseen_share(new=[4, 0, 1], reference=[6, 2, 0])
    >>> share.value, share.expected
    (0.2, 0.0)
    """
    counts, known = aligned(new, reference, ("new", "reference"))
    sample = CountsOfCounts.of(counts, "new", needed_by="unseen_share")
    expected = 1 - coverage(known)
    together = CountsOfCounts.of(
        counts.astype(np.uint64) + known.astype(np.uint64),
        "new + reference",
        needed_by="unseen_share",
    )
    unseen = int(counts[known == 0].astype(np.float64).sum())
    with np.errstate(under="ignore"):
        p_value = _probability_of_at_least(unseen, together, sample.rows)
    return UnseenShare(min(1.0, unseen / sample.rows), expected, p_value)


def _probability_of_at_least(unseen: int, together: CountsOfCounts, new: int) -> float:
    """Return how probable it is that so many rows or more have states only in a random part.

    The part has ``new`` of all rows.
    """
    total, singletons = together.rows, together.seen(1)
    can_fall = (together.counts > 1) & (together.counts <= new)
    n, states = together.counts[can_fall].astype(np.float64), together.states[can_fall]
    log_chance = math.log(new / total) if 2 * new < total else math.log1p((new - total) / total)
    chances = np.exp(n * log_chance)
    probable = states * chances > 1e-18
    n, states, chances = n[probable], states[probable].astype(np.float64), chances[probable]
    if unseen > _SUMMED:
        share, left = singletons / total, (total - new) / max(total - 1, 1)
        mean = new * share + float((states * n * chances).sum())
        variance = float((states * n**2 * chances * (1 - chances)).sum())
        return _normal_tail(unseen - 0.5 - mean, variance + new * share * (1 - share) * left)
    fewer = _below(unseen, *hypergeometric(singletons, new, total))
    for count, number, chance in zip(n, states, chances, strict=True):
        if count < unseen:
            falling = _binomial(int(number), float(chance))
            fewer = np.convolve(fewer, _spaced(falling, int(count), unseen))[:unseen]
        else:
            fewer *= (1 - chance) ** number
    return max(0.0, 1 - float(fewer.sum()))


def _below(stop: int, least: int, chances: Floats) -> Floats:
    """Return the probabilities of 0 to stop - 1."""
    return np.concatenate([np.zeros(least), chances, np.zeros(stop)])[:stop]


def _spaced(chances: Floats, step: int, stop: int) -> Floats:
    """Return the probabilities of 0 to stop - 1 for ``step`` times a number."""
    result = np.zeros(stop)
    multiples = result[::step]
    multiples[: len(chances)] = chances[: len(multiples)]
    return result


def _binomial(number: int, chance: float) -> Floats:
    j = np.arange(number, dtype=np.float64)
    odds = chance / max(1 - chance, 1e-300)
    return from_ratios((number - j) / (j + 1) * odds)


def _normal_tail(distance: float, variance: float) -> float:
    if variance == 0:
        return float(distance <= 0)
    return math.erfc(distance / math.sqrt(2 * variance)) / 2
