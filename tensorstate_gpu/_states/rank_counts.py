"""RankCounts: the histogram of all ranks of a job, of which each rank owns a part of the states."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tensorstate_gpu._arguments import integer
from tensorstate_gpu._arrays.frameworks import ranks_of
from tensorstate_gpu._arrays.ranks_protocol import Ranks
from tensorstate_gpu._states.measured_counts import MeasuredCounts
from tensorstate_gpu._states.rank_exchange import (
    Tally,
    agreed,
    check_sum,
    exchange,
    same_on_all,
    summarised,
)
from tensorstate_gpu._states.state_counts import StateCounts, merge_all


class RankCounts(MeasuredCounts):
    """How often each distinct state occurred on all ranks of a job.

    Each rank owns a part of the states, so none needs room for all. What the measures need of them
    is known to every rank: how many states occurred how often. So measures are the same on all
    ranks, and no rank waits for another; only gather() communicates.

    ``StateCounts.merge_ranks()`` and ``Run.sync()`` return it. Copies cannot communicate.
    """

    __module__ = "tensorstate_gpu"

    __slots__ = ("_firing", "_own", "_ranks", "_tally")

    def __init__(
        self, own: StateCounts, tally: Tally, firing: NDArray[np.int64], ranks: Ranks
    ) -> None:
        """``tally``: counts that occur, and how many states have each. ``firing``: by neuron."""
        self._own, self._tally, self._firing, self._ranks = own, tally, firing, ranks

    @property
    def own(self) -> StateCounts:
        """The states that this rank owns, and no other, with the counts of all ranks."""
        return self._own

    @property
    def neurons(self) -> int:
        return self._own.neurons

    @property
    def total(self) -> int:
        counts, states = self._tally
        return int(counts @ states)

    def __len__(self) -> int:
        return int(self._tally[1].sum())

    def counts_of_counts(self) -> Tally:
        """Return each count that occurs, ascending, and the number of states that have it."""
        counts, states = self._tally
        return counts.copy(), states.copy()

    def firing_counts(self) -> NDArray[np.int64]:
        """Return in how many states, with repetitions, each neuron fires: (neurons,)."""
        return self._firing.copy()

    def gather(self, dst: int = 0) -> StateCounts | None:
        """Return the whole histogram at rank ``dst`` of the group, None at the others. Collective.

        Raises RuntimeError for a copy, and ValueError, on every rank, if there is no such rank.
        """
        whole = gathered(self._ranks, [self._own], dst)
        return None if whole is None else whole[0]


def merged_on_ranks(counts: StateCounts, process_group: object) -> RankCounts:
    """Return the sum of the histograms of all ranks; see StateCounts.merge_ranks()."""
    ranks = ranks_of(process_group)
    own = counts.neurons, counts.total
    neurons, totals = zip(*agreed(ranks, lambda: own), strict=True)
    same_on_all(neurons, "the number of neurons")
    check_sum(totals)
    return with_tallies(ranks, owned(ranks, [counts]))[0]


def owned(ranks: Ranks, parts: Sequence[StateCounts]) -> list[StateCounts]:
    """Return of each histogram what this rank owns, with the counts of all ranks.

    Collective; every rank has as many parts, of the same neurons.
    """
    neurons = parts[0].neurons
    histograms = [(part.packed, part.counts) for part in parts]
    return [StateCounts.trusted(*part, neurons) for part in exchange(ranks, histograms, neurons)]


def gathered(ranks: Ranks, owns: Sequence[StateCounts], dst: int) -> list[StateCounts] | None:
    """Return whole histograms at rank ``dst``, None at the others. Collective.

    ``owns``: what this rank owns of each.
    """
    if not 0 <= integer(dst, "dst") < ranks.size:
        raise ValueError(f"dst must be from 0 to {ranks.size - 1}, got {dst}")
    of_ranks = ranks.gathered(list(owns), dst)
    if of_ranks is None:
        return None
    return [merge_all(list(parts), parts[0].neurons) for parts in zip(*of_ranks, strict=True)]


def with_tallies(ranks: Ranks, owns: Sequence[StateCounts]) -> list[RankCounts]:
    """Return the counts of all ranks, from what this rank owns of each. Collective."""
    summaries = summarised(ranks, [(own.packed, own.counts) for own in owns])
    return [
        RankCounts(own, tally, firing[: own.neurons], ranks)
        for own, (tally, firing) in zip(owns, summaries, strict=True)
    ]
