"""Pairs: the states of groups of several histograms, in arrays."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tensorstate_gpu._states.backends import cpu
from tensorstate_gpu._states.state_counts import StateCounts

Ints = NDArray[np.int64]
NONE: Ints = np.zeros(0, np.int64)


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
        every = list(chain.from_iterable(each))
        lengths = np.array([len(part) for part in every], np.int64)
        filled = [every[place] for place in np.flatnonzero(lengths).tolist()]
        if not filled:
            return cls(np.zeros((0, 0), np.uint8), NONE, NONE, NONE)
        numbers = np.repeat(np.arange(len(every)), lengths)
        histograms, groups = np.divmod(numbers, len(each[0]))
        packed = np.concatenate([part.packed for part in filled])
        return cls(packed, np.concatenate([part.counts for part in filled]), histograms, groups)

    def numbered(self) -> tuple[Ints, Ints]:
        """Return the number of each pair of histogram and state, and of each number, the first."""
        keys = self.histograms.astype(np.uint32).view(np.uint8).reshape(-1, 4)
        distinct, _, places = cpu().unique(np.hstack([keys, self.packed]))
        histograms = np.ascontiguousarray(distinct[:, :4]).view(np.uint32)[:, 0]
        return places, histograms.astype(np.int64)

    def firing(self, histograms: int, groups: int, neurons: int) -> Ints:
        """Return in how many rows each neuron fires, (histograms, groups, neurons)."""
        found = np.zeros((histograms, groups, neurons), np.int64)
        fires = np.unpackbits(self.packed, axis=1, count=neurons, bitorder="little")
        parts = self.histograms * groups + self.groups
        starts = np.flatnonzero(np.diff(parts, prepend=-1))
        sums = np.add.reduceat(fires * self.counts[:, None], starts, axis=0)
        found.reshape(-1, neurons)[parts[starts]] = sums
        return found
