"""StatesByGroup: the histograms of groups, in one array until one of them is asked for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import overload

import numpy as np
from numpy.typing import NDArray

from tensorstate_gpu._states.packed_arguments import check_unused_bits
from tensorstate_gpu._states.state_counts import StateCounts
from tensorstate_gpu._states.sums_over_states import check_total

Ints = NDArray[np.int64]


class StatesByGroup(Sequence[StateCounts]):
    """The histograms of groups. As objects of their own, those of 100,000 labels are millions.

    ``packed``, ``counts``: the states of each group in turn, in order, and how often they occurred.
    ``edges``, (groups + 1,): where each group begins, and the last one ends. ``neurons``: of all.
    """

    __slots__ = ("_each", "counts", "edges", "neurons", "packed")

    def __init__(self, packed: NDArray[np.uint8], counts: Ints, edges: Ints, neurons: int) -> None:
        self.packed, self.counts, self.edges, self.neurons = packed, counts, edges, neurons
        packed.flags.writeable = counts.flags.writeable = False
        self._each: tuple[StateCounts, ...] | None = None

    @classmethod
    def of(cls, parts: Sequence[StateCounts]) -> StatesByGroup:
        """Return the histograms of groups in one array; at least one, of the same neurons."""
        if isinstance(parts, StatesByGroup):
            return parts
        filled = [part for part in parts if len(part)] or parts[:1]
        packed = np.concatenate([part.packed for part in filled])
        counts = np.concatenate([part.counts for part in filled])
        return cls(packed, counts, np.cumsum([0, *map(len, parts)]), parts[0].neurons)

    @classmethod
    def apart(
        cls,
        packed: NDArray[np.uint8],
        counts: Ints,
        numbers: NDArray[np.unsignedinteger],
        groups: int,
        neurons: int,
    ) -> Iterator[tuple[int, StatesByGroup]]:
        """Yield each label that has states, by its number, and its histograms of groups.

        ``numbers``, (states,), in order: that of the label, times ``groups``, plus the group. There
        is one at least. Raises ValueError for bits beyond ``neurons``, and OverflowError for more
        rows than int64 holds.
        """
        check_unused_bits(packed, neurons)
        check_total(counts)
        packed.flags.writeable = counts.flags.writeable = False  # also of what slices are of
        labels = int(numbers[-1]) // groups + 1
        lengths = np.bincount(numbers, minlength=labels * groups).reshape(labels, groups)
        edges = np.zeros((labels, groups + 1), np.int64)
        np.cumsum(lengths, axis=1, out=edges[:, 1:])
        ends = np.cumsum(edges[:, -1]).tolist()
        for label in np.flatnonzero(edges[:, -1]).tolist():
            own = slice(ends[label - 1] if label else 0, ends[label])
            yield label, cls(packed[own], counts[own], edges[label], neurons)

    def __len__(self) -> int:
        """Return the number of groups."""
        return len(self.edges) - 1

    @overload
    def __getitem__(self, group: int) -> StateCounts: ...
    @overload
    def __getitem__(self, group: slice) -> Sequence[StateCounts]: ...
    def __getitem__(self, group: int | slice) -> StateCounts | Sequence[StateCounts]:
        return self._cut()[group]

    def __iter__(self) -> Iterator[StateCounts]:
        return iter(self._cut())

    def _cut(self) -> tuple[StateCounts, ...]:
        if self._each is None:
            self._each = tuple(
                StateCounts.unchecked(self.packed[own], self.counts[own], self.neurons)
                for own in map(slice, *zip(*pairwise(self.edges.tolist()), strict=True))
            )
        return self._each


def neurons_of(parts: Sequence[StateCounts]) -> int:
    """Return how many neurons the histograms of groups have, and cut none of them."""
    return parts.neurons if isinstance(parts, StatesByGroup) else parts[0].neurons


def sizes_of(parts: Sequence[StateCounts]) -> Ints:
    """Return how many states each group has, (groups,), and cut none of them."""
    if isinstance(parts, StatesByGroup):
        return np.diff(parts.edges)
    return np.array([len(part) for part in parts], np.int64)
