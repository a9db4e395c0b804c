"""GroupSums: what an estimate needs of the counts of states by group. Those of samples add up."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from tensorstate_gpu.information.counts_of_counts import CountsOfCounts, tally
from tensorstate_gpu.information.group_table import GroupTable, SampledInstances

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
_SMALL = 1 << 14  # groups, times states or their greatest count, that fit one table
ONE_SIDED = 1.645  # the 95 % quantile of the normal distribution


@dataclass(frozen=True, slots=True, eq=False)
class GroupSums:
    """Sums over the states of a sample: those of two samples without a common state add up.

    ``whole``: the counts of counts of all groups together. ``rests``: the same without each group.
    ``rows_by_group``, ``states_by_group``, (groups,): rows, and distinct states, of each group.
    ``rows_alone``, (groups,): rows of each group whose state occurs in no other.
    ``squares``, (groups,): sums over the states of their squared count, by that in all groups.
    ``firing``, (groups, neurons): in how many rows of a group each neuron fires, if that is known.
    """

    whole: CountsOfCounts
    rests: tuple[CountsOfCounts, ...]
    rows_by_group: Ints
    states_by_group: Ints
    rows_alone: Ints
    squares: Floats
    instances: SampledInstances
    neurons: int | None
    firing: Ints | None

    @classmethod
    def of(cls, table: GroupTable) -> GroupSums:
        """Return those of a table."""
        whole = CountsOfCounts(*tally(table.total))
        return cls(
            whole,
            _rests_of(table, whole),
            table.rows_by_group,
            np.array([len(places) for places in table.places], np.int64),
            table.rows_alone,
            np.array(
                [
                    float((counts**2.0 / table.total[places]).sum()) if len(places) else 0.0
                    for counts, places in zip(table.counts, table.places, strict=True)
                ]
            ),
            table.instances,
            table.neurons,
            table.firing,
        )

    @classmethod
    def together(cls, parts: Sequence[GroupSums]) -> GroupSums:
        """Return the sums of parts of one sample; no state of one is a state of another."""
        first = parts[0]
        return cls(
            CountsOfCounts.together([part.whole for part in parts]),
            tuple(map(CountsOfCounts.together, zip(*(part.rests for part in parts), strict=True))),
            _added([part.rows_by_group for part in parts]),
            _added([part.states_by_group for part in parts]),
            _added([part.rows_alone for part in parts]),
            functools.reduce(np.add, (part.squares for part in parts)),
            first.instances,
            first.neurons,
            None if first.firing is None else _added([_firing(part) for part in parts]),
        )

    @property
    def rows(self) -> int:
        return int(self.rows_by_group.sum())

    @property
    def coverage(self) -> float:
        """The share of rows whose state also occurs in another group.

        Good's coverage for rows that depend on each other within instances: a state of one instance
        alone was, as it were, seen once.
        """
        return 1 - int(self.rows_alone.sum()) / self.rows

    @property
    def least_coverage(self) -> float:
        """The least coverage that the source may have, with 95 % confidence."""
        return max(0.0, self.coverage - self.coverage_doubt)

    @property
    def coverage_doubt(self) -> float:
        """How much less than it seems the coverage may be, with 95 % confidence.

        At least 3 / M for M independent instances (the rule of three), and as Wilson's limit has
        it, as if all rows of an instance were alike, which is the most that its error can be
        ("Probable inference, the law of succession, and statistical inference", 1927). The limit of
        a normal distribution would be 0 if no state were alone, and samples that lack rare states
        by chance would look complete. Where instances belong together, so do not all count, it is
        at least what the coverages of the groups say: the error of a ratio of sums over clusters
        (Cochran, "Sampling techniques", 1977, 9A.1). Groups also tell of unequal sizes; without
        units, unequal instances count as fewer.
        """
        number = float(self.instances.number)
        if not self.instances.has_units:
            number /= self._effect_of_sizes
        alone = 1 - self.coverage
        doubt = max(
            _greatest_share(alone, max(1.0, number)) - alone,
            3 / max(3.0, self.effective_instances),
        )
        if self.instances.has_units:
            doubt = max(doubt, ONE_SIDED * self._coverage_error_by_groups())
        return doubt

    @property
    def effective_instances(self) -> float:
        """As how many independent instances with equally many rows these count."""
        return self.instances.effective / self._effect_of_sizes

    @property
    def _effect_of_sizes(self) -> float:
        """How many times fewer instances would do, if all had equally many rows.

        Kish, "Survey sampling" (1965): 1 + the variance of their numbers of rows by the squared
        mean. From the groups, in which these numbers add up; exactly 1 if all are equal.
        """
        number, rows = self.instances.number, self.rows
        groups = zip(self.rows_by_group.tolist(), self.instances.by_group, strict=True)
        squares = sum((own * number - instances * rows) ** 2 for own, instances in groups)
        # What the groups' own mean takes of the variance.
        rest = number**2 - sum(instances**2 for instances in self.instances.by_group)
        return 1 + number * squares / (rows**2 * rest) if rest else 1.0

    def _coverage_error_by_groups(self) -> float:
        shares = self.rows_by_group / self.rows
        differences = (1 - self.coverage) * shares - self.rows_alone / self.rows
        groups = 1 / float((shares**2).sum())  # of equal size, that would say as much
        if groups <= 1:
            return math.inf
        return math.sqrt(groups / (groups - 1) * float((differences**2).sum()))

    @property
    def clustering(self) -> float:
        """How much more often rows of a group have the same state than if rows were independent.

        1 if they are independent; 0 for a single state. Pearson's statistic of states and groups by
        its degrees of freedom: the mean design effect of Rao and Scott, "The analysis of
        categorical data from complex sample surveys" (1981).
        """
        present = np.flatnonzero(self.rows_by_group)
        freedom = (len(present) - 1) * (self.whole.distinct - 1)
        if not freedom:
            return 0.0
        squares = math.fsum((self.squares[present] / self.rows_by_group[present]).tolist())
        return max(0.0, self.rows * (squares - 1) / freedom)


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


def _greatest_share(share: float, number: float) -> float:
    """Return Wilson's upper limit of the share that this one of so many instances is a sample of.

    With 95 % confidence.
    """
    z = ONE_SIDED / number
    spread = math.sqrt(share * (1 - share) / number + z**2 / 4)
    return (share + ONE_SIDED * (z / 2 + spread)) / (1 + ONE_SIDED * z)


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
