"""GroupSums: what an estimate needs of the counts of states by group. Those of samples add up."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from tensorstate_gpu.information.counts_of_counts import CountsOfCounts, tally
from tensorstate_gpu.information.group_coverage import GroupCoverage
from tensorstate_gpu.information.group_table import GroupTable, SampledInstances
from tensorstate_gpu.information.incidences import Incidences

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
_SMALL = 1 << 14  # groups, times states or their greatest count, that fit one table


@dataclass(frozen=True, eq=False)
class GroupSums:
    """Sums over the states of a sample: those of two samples without a common state add up.

    ``whole``: the counts of counts of all groups together. ``rests``: the same without each group.
    ``rows_by_group``, ``states_by_group``, (groups,): rows, and distinct states, of each group.
    ``rows_alone``, (groups,): rows of each group whose state occurs in no other.
    ``rows_left``, (groups,): rows of others whose states occur in this group, and in no third.
    ``in_groups``, (3, groups): states of each group that occur in one group, in two, and in three.
    ``squares``, (groups,): sums over the states of their squared count, by that in all groups.
    ``firing``, (groups, neurons): in how many rows of a group each neuron fires, if that is known.
    """

    whole: CountsOfCounts
    rests: tuple[CountsOfCounts, ...]
    rows_by_group: Ints
    states_by_group: Ints
    rows_alone: Ints
    rows_left: Ints
    in_groups: Ints
    squares: Floats
    instances: SampledInstances
    neurons: int | None
    firing: Ints | None

    @classmethod
    def of(cls, table: GroupTable) -> GroupSums:
        """Return those of a table."""
        whole = CountsOfCounts(*tally(table.total))
        in_groups, alone, left = table.of_few_groups()
        return cls(
            whole=whole,
            rests=_rests_of(table, whole),
            rows_by_group=table.rows_by_group,
            states_by_group=np.array([len(places) for places in table.places], np.int64),
            rows_alone=alone,
            rows_left=left,
            in_groups=in_groups,
            squares=np.array(
                [
                    float((counts**2.0 / table.total[places]).sum()) if len(places) else 0.0
                    for counts, places in zip(table.counts, table.places, strict=True)
                ]
            ),
            instances=table.instances,
            neurons=table.neurons,
            firing=table.firing,
        )

    @classmethod
    def together(cls, parts: Sequence[GroupSums]) -> GroupSums:
        """Return the sums of parts of one sample; no state of one is a state of another."""
        first = parts[0]
        return cls(
            whole=CountsOfCounts.together([part.whole for part in parts]),
            rests=tuple(
                map(CountsOfCounts.together, zip(*(part.rests for part in parts), strict=True))
            ),
            rows_by_group=_added([part.rows_by_group for part in parts]),
            states_by_group=_added([part.states_by_group for part in parts]),
            rows_alone=_added([part.rows_alone for part in parts]),
            rows_left=_added([part.rows_left for part in parts]),
            in_groups=_added([part.in_groups for part in parts]),
            squares=functools.reduce(np.add, (part.squares for part in parts)),
            instances=first.instances,
            neurons=first.neurons,
            firing=None if first.firing is None else _added([_firing(part) for part in parts]),
        )

    @property
    def rows(self) -> int:
        return int(self.rows_by_group.sum())

    @functools.cached_property
    def cover(self) -> GroupCoverage:
        """The coverage, and how much less it may be."""
        return GroupCoverage.of(
            self.rows_by_group,
            self.rows_alone,
            np.array(self.instances.by_group),
            np.array(self.instances.has_units),
        )

    def incidences(self) -> Incidences:
        """Return the rare states of the sample."""
        once, twice = ([rest.seen(times) for rest in self.rests] for times in (1, 2))
        return Incidences(
            np.array([self.rows, self.whole.seen(1), self.whole.seen(2)]),
            np.array([self.rows - self.rows_by_group, once, twice]),
            self.in_groups,
            self.rows_alone,
            self.rows_left,
        )

    @property
    def coverage(self) -> float:
        """The share of rows whose state also occurs in another group."""
        return float(self.cover.share)

    @property
    def least_coverage(self) -> float:
        """The least coverage that the source may have, with 95 % confidence."""
        return float(self.cover.least)


def _rests_of(table: GroupTable, whole: CountsOfCounts) -> tuple[CountsOfCounts, ...]:
    """Return the counts of counts without each group."""
    groups, states = len(table.places), len(table.total)
    most = int(table.total.max(initial=0)) + 1
    if groups * max(states, most) <= _SMALL:
        return _few_rests(table, most)
    return tuple(
        CountsOfCounts(*tally(table.total_without(group))) if len(places) else whole
        for group, places in enumerate(table.places)
    )


def _few_rests(table: GroupTable, most: int) -> tuple[CountsOfCounts, ...]:
    """Return the same of few states, of which a label may have: of all groups in one call each.

    ``most``: more than the greatest count.
    """
    groups = len(table.places)
    rests = np.tile(table.total, (groups, 1))
    of = np.repeat(np.arange(groups), [len(places) for places in table.places])
    rests[of, np.concatenate(table.places)] -= np.concatenate(table.counts)
    keys = (rests + most * np.arange(groups)[:, None]).ravel()
    states = np.bincount(keys, minlength=groups * most).reshape(groups, most)
    states[:, 0] = 0
    group, counts = np.nonzero(states)
    times = states[group, counts]
    ends = np.searchsorted(group, np.arange(groups + 1)).tolist()
    return tuple(
        CountsOfCounts(counts[start:stop], times[start:stop]) for start, stop in pairwise(ends)
    )


@runtime_checkable
class Summed(Protocol):
    """Histograms by group that add up what estimates need on their own, such as StoredGroups."""

    def group_sums(self) -> GroupSums: ...


def sums_of(groups: object) -> GroupSums:
    """Return the sums of histograms by group, or of an array (groups, states).

    Raises TypeError or ValueError as GroupTable.of() does.
    """
    return (
        groups.group_sums() if isinstance(groups, Summed) else GroupSums.of(GroupTable.of(groups))
    )


def _firing(part: GroupSums) -> Ints:
    assert part.firing is not None
    return part.firing


def _added(arrays: Sequence[Ints]) -> Ints:
    return functools.reduce(np.add, arrays)
