"""Pairs: the states of groups of several histograms, in arrays."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tensorstate_gpu._states.backends import cpu
from tensorstate_gpu._states.state_counts import MANY, StateCounts, merge_all
from tensorstate_gpu._states.states_by_group import StatesByGroup, neurons_of, sizes_of
from tensorstate_gpu._states.sums_over_states import merged_at_once
from tensorstate_gpu.information.dependence_trees import MOST_CELLS, code_lengths_together

Ints = NDArray[np.int64]


class Pairs(NamedTuple):
    """The states of groups of histograms, one after the other: a histogram's groups in order.

    ``packed``, ``counts``: the states, and how often they occurred. ``histograms``, ``groups``: of
    each of them.
    """

    packed: NDArray[np.uint8]
    counts: Ints
    histograms: Ints
    groups: Ints

    @classmethod
    def of(cls, each: Sequence[Sequence[StateCounts]]) -> Pairs:
        """Read histograms, each of which is one for each group; of as many groups."""
        every = [StatesByGroup.of(parts) for parts in each]
        lengths = np.diff([one.edges for one in every]).ravel()
        numbers = np.repeat(np.arange(len(lengths)), lengths)
        histograms, groups = np.divmod(numbers, len(each[0]))
        packed = np.concatenate([one.packed for one in every])
        return cls(packed, np.concatenate([one.counts for one in every]), histograms, groups)

    def numbered(self) -> tuple[Ints, Ints]:
        """Return the number of each pair of histogram and state, and of each number, the first."""
        keys = self.histograms.astype(np.uint32).view(np.uint8).reshape(-1, 4)
        distinct, _, places = cpu().unique(np.hstack([keys, self.packed]))
        histograms = np.ascontiguousarray(distinct[:, :4]).view(np.uint32)[:, 0]
        return places, histograms.astype(np.int64)

    def firing(self, histograms: int, groups: int, neurons: int) -> Ints:
        """Return in how many rows each neuron fires, (histograms, groups, neurons)."""
        fires = np.unpackbits(self.packed, axis=1, count=neurons, bitorder="little")
        parts = self.histograms * groups + self.groups
        sums = _sums_by_part(fires * self.counts[:, None], parts, histograms * groups)
        return sums.reshape(histograms, groups, neurons)

    def cofiring(self, chosen: Ints, groups: int, neurons: int) -> Ints:
        """Return in how many rows each two neurons fire, of some histograms, in order.

        (chosen, groups, neurons + 1, neurons + 1): before all others is one that always fires, as
        by with_constant().
        """
        own = np.flatnonzero(np.isin(self.histograms, chosen))
        fires = np.ones((len(own), neurons + 1), np.uint8)
        fires[:, 1:] = np.unpackbits(self.packed[own], axis=1, count=neurons, bitorder="little")
        both = (fires * self.counts[own, None])[:, :, None] * fires[:, None]
        parts = np.searchsorted(chosen, self.histograms[own]) * groups + self.groups[own]
        sums = _sums_by_part(both, parts, len(chosen) * groups)
        return sums.reshape(len(chosen), groups, neurons + 1, neurons + 1)


def merged_groups(each: Sequence[Sequence[StateCounts]], neurons: int) -> Sequence[StateCounts]:
    """Merge histograms of as many groups: many small ones at once, others group by group.

    Raises ValueError if their numbers of neurons differ.
    """
    groups = len(each[0])
    if len(each) > MANY and set(map(neurons_of, each)) == {neurons}:
        states = sum(int(sizes_of(parts).sum()) for parts in each)
        if 0 < states < MANY * len(each) * groups:
            return _merged_at_once(Pairs.of(each), groups, neurons)
    return [merge_all([*parts], neurons) for parts in zip(*each, strict=True)]


def _merged_at_once(pairs: Pairs, groups: int, neurons: int) -> StatesByGroup:
    keys = pairs.groups.astype("<u4").view(np.uint8).reshape(-1, 4)
    rows, counts = merged_at_once([(np.hstack([pairs.packed, keys]), pairs.counts)])
    numbers = np.ascontiguousarray(rows[:, -4:]).view("<u4")[:, 0]
    edges = np.searchsorted(numbers, np.arange(groups + 1))
    return StatesByGroup(np.ascontiguousarray(rows[:, :-4]), counts, edges, neurons)


def few_code_lengths(parts: Sequence[StateCounts], neurons: int) -> NDArray[np.float64] | None:
    """Return the bits of each group's rows by a dependence tree; None of a histogram with many."""
    if max(len(parts), int(sizes_of(parts).sum())) * (neurons + 1) ** 2 > MOST_CELLS:
        return None
    both = Pairs.of([parts]).cofiring(np.zeros(1, np.int64), len(parts), neurons)
    lengths: NDArray[np.float64] = code_lengths_together(both)[0]
    return lengths


def _sums_by_part(values: Ints, parts: Ints, number: int) -> Ints:
    """Return the sums of values of each part, which are in order."""
    found = np.zeros((number, *values.shape[1:]), np.int64)
    starts = np.flatnonzero(np.diff(parts, prepend=-1))
    found[parts[starts]] = np.add.reduceat(values, starts, axis=0)
    return found
