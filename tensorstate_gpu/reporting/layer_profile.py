"""LayerProfile: what figures show of a layer besides its measures, small whatever its states."""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray

from tensorstate_gpu._states.state_counts import StateCounts
from tensorstate_gpu._states.stored_counts import StoredCounts
from tensorstate_gpu.information.counts_of_counts import CountsOfCounts
from tensorstate_gpu.neurons.samples import sample_of

Ints = NDArray[np.int64]
# Of pairs of neurons, times 64 distinct states: 256 neurons with 16,000. Every report computes it,
# also one of which no page is made, so it has to be little: 5 ms of an EPYC core.
MOST_PAIRS_OF_WORDS = 2**24


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class LayerProfile:
    """How often each neuron of a layer fires, and how often its states repeat.

    ``firing``, (neurons,): in how many of ``states`` states each neuron fires.
    ``repetitions``: how many distinct states occurred how often.
    ``cofiring``, (neurons, neurons): in how many states both of two neurons fire; None if that
    would take long.
    """

    layer: str
    states: int
    firing: Ints
    repetitions: CountsOfCounts
    cofiring: Ints | None

    @classmethod
    def of(cls, layer: str, counts: StateCounts | StoredCounts) -> LayerProfile:
        """Return the profile of a histogram of at least one state."""
        sample = sample_of(counts, None)
        words = counts.neurons**2 * -(-len(counts) // 64)
        return cls(
            layer,
            counts.total,
            sample.firing_counts(),
            CountsOfCounts.of(counts, "counts", needed_by="a profile"),
            sample.cofiring() if words < MOST_PAIRS_OF_WORDS else None,
        )
