"""Sums over states with their repetitions, such as in how many of them each neuron fires."""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from tensorstate_gpu._states.backends import cpu

Histogram = tuple[NDArray[np.uint8], NDArray[np.int64]]
TOO_MANY = "counts add up to more than int64 holds"


def sum_over_states(
    packed: NDArray[np.uint8],
    counts: NDArray[np.int64],
    of_rows: Callable[[NDArray[np.uint8]], NDArray[np.int64]],
) -> NDArray[np.int64]:
    """Return the sum over states, each as often as it occurred, from sums over some. Exact.

    ``packed``: the distinct states, (distinct, bytes).
    ``of_rows``: returns the sum over rows (states, bytes), each once. It is called for each binary
    digit of the counts: few states occur often, so most calls are for few rows.
    """
    total = of_rows(packed[counts & 1 == 1])
    for digit in range(1, int(counts.max(initial=0)).bit_length()):
        total += of_rows(packed[counts >> digit & 1 == 1]) << digit
    return total


def check_total(counts: NDArray[np.int64]) -> None:
    """Raise OverflowError for counts that add up to more than int64 holds."""
    if counts.sum(dtype=np.float64) >= 2**62 and sum(counts.tolist()) >= 2**63:
        raise OverflowError(TOO_MANY)


def merged_at_once(histograms: Sequence[Histogram]) -> Histogram:
    """Merge many small histograms, as of labels: in pairs, each takes several calls."""
    rows, counts = (np.concatenate(each) for each in zip(*histograms, strict=True))
    check_total(counts)
    packed, _, places = cpu().unique(rows)
    sums = np.zeros(len(packed), np.int64)
    np.add.at(sums, places, counts)
    return packed, sums
