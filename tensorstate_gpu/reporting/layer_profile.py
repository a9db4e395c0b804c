"""LayerProfile: what figures show of a layer besides its measures, small whatever its states."""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray

from tensorstate_gpu._process.progress import OnDone
from tensorstate_gpu._states.state_counts import RankCounts, StateCounts
from tensorstate_gpu._states.stored_counts import StoredCounts
from tensorstate_gpu.information.counts_of_counts import CountsOfCounts
from tensorstate_gpu.neurons.samples import sample_of
from tensorstate_gpu.reporting.positions import FiringMap

Ints = NDArray[np.int64]
Counts = StateCounts | StoredCounts | RankCounts
# Of pairs of neurons, times 64 distinct states: 256 neurons with 16,000. Every report computes it,
# also one of which no page is made, so it has to be little: 5 ms of an EPYC core.
MOST_PAIRS_OF_WORDS = 2**24


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class LayerProfile:
    """How often each neuron of a layer fires, and how often its states repeat.

    ``firing``, (neurons,): in how many of ``states`` states each neuron fires.
    ``repetitions``: how many distinct states occurred how often.
    ``cofiring``, (neurons, neurons): in how many states both of two neurons fire; None if that
    would take long, or if no rank has all states.
    ``first_map``: the share of neurons that fire at each position of the first
    input; None for a layer without positions or rows.
    """

    layer: str
    states: int
    firing: Ints
    repetitions: CountsOfCounts
    cofiring: Ints | None
    first_map: FiringMap | None = None

    @classmethod
    def of(
        cls,
        layer: str,
        counts: Counts,
        first_map: FiringMap | None = None,
        on_read: OnDone | None = None,
    ) -> LayerProfile:
        """Return the profile of a histogram of at least one state.

        ``on_read`` is called with the states that were read from files since the last call.
        """
        return cls(
            layer,
            counts.total,
            firing_counts(counts, on_read),
            CountsOfCounts.of(counts, "counts", needed_by="a profile"),
            _cofiring(counts),
            first_map,
        )

    @property
    def dead(self) -> int:
        """How many neurons never fired."""
        return int((self.firing == 0).sum())

    @property
    def always_on(self) -> int:
        """How many neurons fired in every state."""
        return int((self.firing == self.states).sum())


def firing_counts(counts: Counts, on_read: OnDone | None = None) -> Ints:
    """Return in how many states of a histogram each neuron fires; it has at least one state."""
    if isinstance(counts, RankCounts):
        return counts.firing_counts()
    return sample_of(counts, None, on_read).firing_counts()


def _cofiring(counts: Counts) -> Ints | None:
    words = counts.neurons**2 * -(-len(counts) // 64)
    if isinstance(counts, RankCounts) or words >= MOST_PAIRS_OF_WORDS:
        return None
    return sample_of(counts, None).cofiring()
