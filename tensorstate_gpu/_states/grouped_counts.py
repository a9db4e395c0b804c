"""GroupedCounts: an immutable histogram of states for each group of instances."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from tensorstate_gpu._arguments import integer, shown
from tensorstate_gpu._arrays.frameworks import ranks_of
from tensorstate_gpu._arrays.ranks_protocol import Ranks
from tensorstate_gpu._states.counts_by_group import CountsByGroup
from tensorstate_gpu._states.histogram_pairs import few_code_lengths, merged_groups
from tensorstate_gpu._states.rank_exchange import agreed, check_sum, same_on_all
from tensorstate_gpu._states.rank_sums import RankSums
from tensorstate_gpu._states.state_counts import StateCounts, gathered, merge_all, owned
from tensorstate_gpu._states.states_by_group import StatesByGroup, neurons_of, sizes_of
from tensorstate_gpu._states.sums_over_states import TOO_MANY
from tensorstate_gpu._states.tables_by_group import (
    cofiring,
    many_samples,
    table_of_groups,
    table_of_pairs,
)
from tensorstate_gpu.information import Estimate
from tensorstate_gpu.information.estimates import Measure
from tensorstate_gpu.information.group_sums import GroupSums
from tensorstate_gpu.information.group_table import GroupTable, SampledInstances
from tensorstate_gpu.information.information_estimates import information_of_sums
from tensorstate_gpu.information.many_samples import ManySamples

LabelT = TypeVar("LabelT")


class GroupedCounts(CountsByGroup[StateCounts]):
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
        If the numbers of neurons or of groups differ, if there is only one group, or if instances
        are no integers, or negative.
    """

    __module__ = "tensorstate_gpu"

    __slots__ = ()
    _listed = "merge_ranks"

    def __init__(
        self,
        parts: Sequence[StateCounts],
        instances: Sequence[int],
        fingerprint: int = 0,
        has_units: bool = False,
    ) -> None:
        numbers = tuple(integer(number, "instances") for number in instances)
        if min(numbers, default=0) < 0:
            raise ValueError(f"instances must not be negative, got {shown(min(numbers))}")
        if sum(numbers) >= 2**63:
            raise ValueError(f"instances must be fewer than 2**63, got {shown(sum(numbers))}")
        sample = SampledInstances(numbers, int(fingerprint), bool(has_units))
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
        _check_sum(parts)
        super().__init__(tuple(parts), sample)

    @classmethod
    def of_sample(cls, parts: Sequence[StateCounts], sample: SampledInstances) -> GroupedCounts:
        """Return the histograms of groups of these instances, as many as it has groups.

        They are of the same neurons, which is not checked.
        """
        self = cls.__new__(cls)
        fixed = parts if isinstance(parts, StatesByGroup) else tuple(parts)
        CountsByGroup.__init__(self, fixed, sample)
        return self

    @property
    def sizes(self) -> NDArray[np.int64]:
        """How many states each group has."""
        return sizes_of(self._parts)

    @property
    def neurons(self) -> int:
        return neurons_of(self._parts)

    def load(self) -> GroupedCounts:
        """Return these counts: they are in memory. StoredGroups.load() reads some from disk."""
        return self

    def together(self) -> StateCounts:
        """Return the histogram of all groups together."""
        return merge_all(list(self._parts), self.neurons)

    def group_sums(self) -> GroupSums:
        """Return what estimates need of all states. Raises ValueError if empty."""
        if self._sums is None:
            self._sums = GroupSums.of(GroupTable.of(self))
        return self._sums

    def merge(self, *others: object) -> GroupedCounts:
        """Return the counts of all.

        Raises TypeError for other types, and ValueError for other numbers of neurons or groups.
        """
        checked = self._checked(others, GroupedCounts)
        merged = merged_groups([self._parts, *(other._parts for other in checked)], self.neurons)
        if not isinstance(merged, StatesByGroup):
            _check_sum(merged)
        return GroupedCounts.of_sample(merged, self._sample_with(checked))

    def merge_ranks(self, process_group: object = None) -> RankGroups:
        """Return the counts of all ranks of a job. Collective; see StateCounts.merge_ranks()."""
        ranks = ranks_of(process_group)
        own = self.neurons, self._sample, sum(part.total for part in self._parts)
        neurons, samples, totals = zip(*agreed(ranks, lambda: own), strict=True)
        same_on_all(neurons, "the number of neurons")
        same_on_all([len(sample.by_group) for sample in samples], "the number of groups")
        check_sum(totals)
        sample = functools.reduce(SampledInstances.merge, samples)
        return RankGroups.of(ranks, owned(ranks, self._parts), sample)

    def group_table(self) -> GroupTable:
        """Return the counts with a number for each state, for estimates."""
        return table_of_groups(self._parts, self._sample)

    def pairs_with(self, others: Sequence[object]) -> tuple[NDArray[np.int64], GroupTable]:
        """Return what estimates need of the pairs of histogram and state of these and others.

        And the rows of each histogram by group, (histograms, groups). No two have a common pair.
        """
        each = [one._parts for one in (self, *others)]  # type: ignore[attr-defined]
        return table_of_pairs(each, self._sample)

    def many_with(self, others: Sequence[GroupedCounts]) -> ManySamples:
        """Return what estimates need of each of these histograms and others, all with rows."""
        each = [self, *others]
        return many_samples([one._parts for one in each], [one._sample for one in each])

    def code_lengths(self) -> NDArray[np.float64]:
        """Return the bits of each group's rows by a dependence tree."""
        few = few_code_lengths(self._parts, self.neurons)
        return super().code_lengths() if few is None else few

    def _cofiring(self, group: int) -> NDArray[np.int64]:
        return cofiring(self._parts[group])

    def __add__(self, other: object) -> GroupedCounts:
        return self.merge(other) if isinstance(other, GroupedCounts) else NotImplemented

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, GroupedCounts)
            and self._sample == other._sample
            and self.parts == other.parts
        )

    def __hash__(self) -> int:
        return hash((self._sample, self.parts))

    def __repr__(self) -> str:
        rows = sum(part.total for part in self._parts)
        return (
            f"GroupedCounts({len(self)} groups, {self._sample.number:,} instances, {rows:,} "
            f"states, {self.neurons:,} neurons)"
        )

    def __reduce__(self) -> tuple[object, ...]:
        sample = self._sample
        return GroupedCounts, (self.parts, sample.by_group, sample.fingerprint, sample.has_units)


def _check_sum(parts: Sequence[StateCounts]) -> None:
    """Raise OverflowError for groups that have more rows together than int64 holds."""
    if sum(part.total for part in parts) >= 2**63:
        raise OverflowError(TOO_MANY)


class RankGroups:
    """How often each distinct state occurred in each group of instances, on all ranks of a job.

    Each rank owns a part of the states. ``GroupedCounts.merge_ranks()`` and ``Run.sync()`` return
    it. What estimates need is known to every rank; only gather() communicates.
    """

    __slots__ = ("_own", "_ranks", "_sums")

    def __init__(self, own: GroupedCounts, sums: RankSums, ranks: Ranks) -> None:
        """``own``: what this rank owns of the states. ``sums``: over those of all ranks."""
        self._own, self._sums, self._ranks = own, sums, ranks

    @classmethod
    def of(cls, ranks: Ranks, parts: Sequence[StateCounts], sample: SampledInstances) -> RankGroups:
        """Add up what estimates need. Collective.

        ``parts``: of each group, the states that this rank owns. ``sample``: that of all ranks.
        """
        own = GroupedCounts.of_sample(parts, sample)
        return cls(own, RankSums.of(ranks, own.group_table), ranks)

    @classmethod
    def of_each(
        cls, ranks: Ranks, each: Sequence[tuple[Sequence[StateCounts], SampledInstances]]
    ) -> list[RankGroups]:
        """Like of(), of many. Collective. Their upper bounds do not use how neurons fire."""
        owns = [GroupedCounts.of_sample(*one) for one in each]
        sums = RankSums.of_each(ranks, (own.group_table() for own in owns))
        return [cls(own, of_own, ranks) for own, of_own in zip(owns, sums, strict=True)]

    def estimate_information(self, by_label: Mapping[LabelT, RankGroups]) -> Estimate:
        """Return how much the state of a row tells about its label, in bits, with its error.

        See information.estimate_mutual_information. ``by_label``: the same counts by label.
        Raises ValueError if that is empty.
        """
        if not by_label:
            raise ValueError("by_label is empty; at least one label is needed")
        return information_of_sums([each._sums.sums for each in by_label.values()], self._sums.sums)

    @property
    def sample(self) -> SampledInstances:
        """Which instances all ranks have."""
        return self._own.sample

    def __len__(self) -> int:
        """Return the number of groups."""
        return len(self._own)

    def estimate(self, measure: Measure = "entropy") -> Estimate:
        """Return the entropy or efficiency of the source of all ranks' states, with its error.

        See information.estimate. Raises ValueError if empty.
        """
        return self._sums.estimate(measure)

    def gather(self, dst: int = 0) -> GroupedCounts | None:
        """Return the counts of all states at rank ``dst`` of the group, None at the others.

        Collective. Raises as RankCounts.gather() does.
        """
        parts = gathered(self._ranks, self._own.parts, dst)
        if parts is None:
            return None
        return GroupedCounts.of_sample(parts, self.sample)

    def __repr__(self) -> str:
        return f"RankGroups({len(self)} groups, {self.sample.number:,} instances)"
