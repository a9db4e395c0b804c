"""Sums over states with their repetitions, such as in how many of them each neuron fires."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from tensorstate_gpu._states.state_counts import StateCounts


def sum_over_states(
    states: StateCounts, of_rows: Callable[[NDArray[np.uint8]], NDArray[np.int64]]
) -> NDArray[np.int64]:
    """Return the sum over all states, from sums over some of the distinct ones. Exact.

    ``of_rows``: returns the sum over rows (states, bytes), each once. It is called for each binary
    digit of the counts: few states occur often, so most calls are for few rows.
    """
    packed, counts = states.packed, states.counts
    total = of_rows(packed[counts & 1 == 1])
    for digit in range(1, int(counts.max(initial=0)).bit_length()):
        total += of_rows(packed[counts >> digit & 1 == 1]) << digit
    return total
