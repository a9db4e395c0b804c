"""CountsByGroup: a histogram of states for each group of instances, in memory or on disk."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Generic, TypeVar

from tensorstate_gpu._states.measured_counts import MeasuredCounts
from tensorstate_gpu.information.group_table import SampledInstances

Counts = TypeVar("Counts", bound=MeasuredCounts, covariant=True)


class CountsByGroup(Generic[Counts]):
    """How often each distinct state occurred in each of some groups of instances."""

    __slots__ = ("_parts", "_sample")

    def __init__(self, parts: Sequence[Counts], sample: SampledInstances) -> None:
        """``parts``: of each group; ``sample``: which instances these are."""
        self._parts, self._sample = tuple(parts), sample

    @property
    def parts(self) -> tuple[Counts, ...]:
        """The histogram of each group."""
        return self._parts

    @property
    def sample(self) -> SampledInstances:
        """Which instances these are."""
        return self._sample

    @property
    def neurons(self) -> int:
        return self._parts[0].neurons

    def _with(self, others: Sequence[object]) -> tuple[list[tuple[Counts, ...]], SampledInstances]:
        """Return the parts of each group, of these and other counts, and all instances.

        Raises TypeError for other types, ValueError for another number of groups.
        """
        samples, each = [self._sample], [self._parts]
        for other in others:
            if not isinstance(other, type(self)):
                raise TypeError(f"others must be {type(self).__name__}, got {type(other).__name__}")
            if len(self) != len(other):
                raise ValueError(f"cannot merge {len(self)} groups with {len(other)} groups")
            samples.append(other._sample)
            each.append(other._parts)
        return list(zip(*each, strict=True)), functools.reduce(SampledInstances.merge, samples)

    def __len__(self) -> int:
        """Return the number of groups."""
        return len(self._parts)
