"""The hypergeometric distribution, from ratios of successive probabilities: nothing overflows."""

import math

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def from_ratios(ratios: Floats) -> Floats:
    """Return probabilities that add up to 1, from the ratio of each to the one before."""
    logs = np.concatenate([[0.0], np.cumsum(np.log(ratios))])
    weights: Floats = np.exp(logs - logs.max())
    weights /= weights.sum()
    return weights


def hypergeometric(marked: int, drawn: int, total: int) -> tuple[int, Floats]:
    """Return how probable each number of marked rows is among those drawn, from the least on.

    Leaves out numbers without any noticeable probability.
    """
    share = marked / total
    mean = drawn * share
    spread = 10 * math.sqrt(mean * (1 - share)) + 40
    low = max(0, drawn - (total - marked), math.floor(mean - spread))
    high = min(marked, drawn, math.ceil(mean + spread))
    j = np.arange(low, high, dtype=np.float64)
    return low, from_ratios(
        (marked - j) * (drawn - j) / ((j + 1) * ((total - marked - drawn) + j + 1))
    )
