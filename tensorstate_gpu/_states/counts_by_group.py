"""CountsByGroup: a histogram of states for each group of instances, in memory or on disk."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from tensorstate_gpu import information
from tensorstate_gpu._listed_names import ListedNames
from tensorstate_gpu._states.measured_counts import MeasuredCounts
from tensorstate_gpu.information import Estimate
from tensorstate_gpu.information.dependence_trees import code_lengths, with_constant
from tensorstate_gpu.information.estimates import Measure
from tensorstate_gpu.information.group_sums import GroupSums
from tensorstate_gpu.information.group_table import SampledInstances

Counts = TypeVar("Counts", bound=MeasuredCounts, covariant=True)
OtherCounts = TypeVar("OtherCounts", bound=MeasuredCounts)


class CountsByGroup(ListedNames, Generic[Counts]):
    """How often each distinct state occurred in each of some groups of instances."""

    __slots__ = ("_parts", "_sample", "_sums")
    _listed = "estimate load merge neurons parts sample sizes together"

    def __init__(self, parts: Sequence[Counts], sample: SampledInstances) -> None:
        """``parts``: of each group, which never change. ``sample``: which instances these are."""
        self._parts, self._sample = parts, sample
        self._sums: GroupSums | None = None

    @property
    def parts(self) -> tuple[Counts, ...]:
        """The histogram of each group."""
        return tuple(self._parts)

    @property
    def sizes(self) -> NDArray[np.int64]:
        """How many states each group has."""
        return np.array([len(part) for part in self._parts], np.int64)

    @property
    def sample(self) -> SampledInstances:
        """Which instances these are."""
        return self._sample

    @property
    def neurons(self) -> int:
        """How many neurons the states are of."""
        return self._parts[0].neurons

    def estimate(self, measure: Measure = "entropy") -> Estimate:
        """Return the entropy or efficiency of the source, with its error.

        See information.estimate. Raises ValueError if empty.
        """
        return information.estimate(self, measure)

    def group_sums(self) -> GroupSums:
        """Return what estimates need of all states. Raises ValueError if empty."""
        raise NotImplementedError

    def code_lengths(self) -> NDArray[np.float64]:
        """Return the bits of each group's rows by a dependence tree."""
        rows = self.group_sums().rows_by_group.tolist()
        return code_lengths(len(self), lambda g: with_constant(self._cofiring(g), rows[g]))

    def _cofiring(self, group: int) -> NDArray[np.int64]:
        """Return in how many rows of a group each two neurons fire together."""
        raise NotImplementedError

    def _checked(
        self, others: Sequence[object], *kinds: type[CountsByGroup[OtherCounts]]
    ) -> list[CountsByGroup[OtherCounts]]:
        """Return other counts. Raises TypeError unless they are of these kinds.

        Raises ValueError for another number of groups.
        """
        checked = []
        for other in others:
            if not isinstance(other, kinds):
                names = " or ".join(kind.__name__ for kind in kinds)
                raise TypeError(f"others must be {names}, got {type(other).__name__}")
            if len(self) != len(other):
                raise ValueError(f"cannot merge {len(self)} groups with {len(other)} groups")
            checked.append(other)
        return checked

    def _sample_with(self, others: Sequence[CountsByGroup[MeasuredCounts]]) -> SampledInstances:
        """Return the instances of these counts and others."""
        samples = [other._sample for other in others]
        return functools.reduce(SampledInstances.merge, samples, self._sample)

    def __len__(self) -> int:
        """Return the number of groups."""
        return len(self._parts)
