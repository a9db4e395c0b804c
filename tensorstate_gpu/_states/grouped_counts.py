"""GroupedCounts: an immutable histogram of states for each group of instances."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tensorstate_gpu import information
from tensorstate_gpu._states.backends import cpu
from tensorstate_gpu._states.state_counts import StateCounts, merge_all
from tensorstate_gpu._states.sums_over_states import sum_over_states
from tensorstate_gpu.information import Estimate
from tensorstate_gpu.information.estimates import Measure
from tensorstate_gpu.information.group_table import GroupTable, SampledInstances


class GroupedCounts:
    """How often each distinct state occurred in each of some groups of instances.

    An instance is in one group with all its rows. What a measure would be without each group shows
    its error: ``information.estimate`` and estimate().

    Parameters
    ----------
    parts : sequence of StateCounts
        One for each group, of the same neurons; at least two. Empty ones are allowed.
    instances : sequence of int
        The number of instances in each group.
    fingerprint : int
        The sum of the hashes of all instances, modulo 2**64, by which samples of the same instances
        are recognised.
    has_units : bool
        Whether several instances may belong together, such as frames of a clip.

    Raises
    ------
    TypeError, ValueError
        If the numbers of neurons or of groups differ, or if there is only one group.
    """

    __module__ = "tensorstate_gpu"

    __slots__ = ("_parts", "_sample")

    def __init__(
        self,
        parts: Sequence[StateCounts],
        instances: Sequence[int],
        fingerprint: int = 0,
        has_units: bool = False,
    ) -> None:
        sample = SampledInstances(tuple(map(int, instances)), int(fingerprint), bool(has_units))
        for part in parts:
            if not isinstance(part, StateCounts):
                raise TypeError(f"parts must be StateCounts, got {type(part).__name__}")
        if len({part.neurons for part in parts}) > 1:
            raise ValueError("parts must be of the same neurons")
        if not 2 <= len(parts) == len(sample.by_group):
            raise ValueError(
                f"parts and instances must be of the same two or more groups, got {len(parts)} and "
                f"{len(sample.by_group)}"
            )
        self._parts, self._sample = tuple(parts), sample

    @property
    def parts(self) -> tuple[StateCounts, ...]:
        """The histogram of each group."""
        return self._parts

    @property
    def sample(self) -> SampledInstances:
        """Which instances these are."""
        return self._sample

    @property
    def neurons(self) -> int:
        return self._parts[0].neurons

    def together(self) -> StateCounts:
        """Return the histogram of all groups together."""
        return merge_all(list(self._parts), self.neurons)

    def estimate(self, measure: Measure = "entropy") -> Estimate:
        """Return the entropy or efficiency of the source, with its error.

        See information.estimate. Raises ValueError if empty.
        """
        return information.estimate(self, measure)

    def merge(self, other: object) -> GroupedCounts:
        """Return the counts of both. Raises ValueError for other numbers of neurons or groups."""
        if not isinstance(other, GroupedCounts):
            raise TypeError(f"other must be GroupedCounts, got {type(other).__name__}")
        if len(self._parts) != len(other._parts):
            raise ValueError(
                f"cannot merge {len(self._parts)} groups with {len(other._parts)} groups"
            )
        parts = [one.merge(two) for one, two in zip(self._parts, other._parts, strict=True)]
        merged = self._sample.merge(other._sample)
        return GroupedCounts(parts, merged.by_group, merged.fingerprint, merged.has_units)

    def group_table(self) -> GroupTable:
        """Return the counts with a number for each state, for estimates."""
        packed = np.concatenate([part.packed for part in self._parts])
        distinct, _, numbers = cpu().unique(packed)
        ends = np.cumsum([len(part) for part in self._parts])[:-1]
        counts = [part.counts for part in self._parts]
        total = np.zeros(len(distinct), np.int64)
        np.add.at(total, numbers, np.concatenate(counts))
        sums = [sum_over_states(part, cpu().firing_counts) for part in self._parts]
        firing = np.array(sums)[:, : self.neurons]
        places = tuple(np.split(numbers, ends))
        return GroupTable(
            total, places, tuple(counts), self._sample, self.neurons, firing, self._cofiring
        )

    def _cofiring(self, group: int) -> NDArray[np.int64]:
        both = sum_over_states(self._parts[group], cpu().cofiring)
        return both[: self.neurons, : self.neurons]

    def __add__(self, other: object) -> GroupedCounts:
        return self.merge(other) if isinstance(other, GroupedCounts) else NotImplemented

    def __len__(self) -> int:
        """Return the number of groups."""
        return len(self._parts)

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, GroupedCounts)
            and self._sample == other._sample
            and self._parts == other._parts
        )

    def __hash__(self) -> int:
        return hash((self._sample, self._parts))

    def __repr__(self) -> str:
        rows = sum(part.total for part in self._parts)
        return (
            f"GroupedCounts({len(self)} groups, {self._sample.number:,} instances, {rows:,} "
            f"states, {self.neurons:,} neurons)"
        )

    def __reduce__(self) -> tuple[object, ...]:
        sample = self._sample
        return GroupedCounts, (self._parts, sample.by_group, sample.fingerprint, sample.has_units)
