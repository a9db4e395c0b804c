"""Coverage: which share of the source's rows has states that the sample contains."""

from __future__ import annotations

from typing import Literal, get_args

from tensorstate_gpu._arguments import choice
from tensorstate_gpu._arrays.array_types import Weights
from tensorstate_gpu.information.counts_of_counts import CountsOfCounts
from tensorstate_gpu.information.estimators import singleton_odds

CoverageEstimator = Literal["turing", "chao-jost"]


def coverage(counts: Weights, estimator: CoverageEstimator = "turing") -> float:
    """Return the estimated probability that one row more has a state that already occurred.

    It says how far estimates of entropy can be trusted: from 0.95 on they are good; below 0.9 they
    say more about the sample than about its source.

    Parameters
    ----------
    counts : array_like of integers, (states,), or an object with such an array as ``.counts``
        How often each state occurred.
    estimator : str
        "turing": 1 minus the share of rows whose state occurred once. "chao-jost" also uses the
        states that occurred twice.

    Returns
    -------
    float
        From 0 to 1; 0 for a single row. By Turing also 0 if no state occurred twice.

    Raises
    ------
    TypeError, ValueError
        As for `entropy`, if the counts are not integers, or if the estimator is unknown.

    Notes
    -----
    Good, "The population frequencies of species and the estimation of population parameters"
    (1953), after Turing: 1 - f1 / N. Chao and Jost, "Coverage-based rarefaction and extrapolation"
    (2012), equation 4a. Both assume independent rows: rows of one model input are often alike,
    and then its neighbours, not the sample, make the coverage high.

    Examples
    --------
    >>> coverage([4, 3, 1, 1, 1])
    0.7
    >>> coverage([1, 1, 1])
    0.0
    """
    choice(estimator, "estimator", get_args(CoverageEstimator))
    sample = CountsOfCounts.of(counts, "counts", needed_by="coverage")
    rows, singletons = sample.rows, sample.seen(1)
    if estimator == "turing" or rows == 1:
        return (rows - singletons) / rows
    odds = singleton_odds(sample)
    return 1 - singletons / rows * (odds / (1 + odds))
