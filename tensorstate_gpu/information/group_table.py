"""GroupTable: how often each state occurred in each group of instances, for jackknives."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from tensorstate_gpu.information.counts_argument import count_table
from tensorstate_gpu.information.dependence_trees import code_lengths, with_constant
from tensorstate_gpu.information.group_coverage import effective_instances, independent_instances

Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class SampledInstances:
    """Which instances a sample has: their number in each group, and the sum of their units' hashes.

    Samples of the same instances are equal. ``has_units``: whether instances may belong together.
    """

    by_group: tuple[int, ...]
    fingerprint: int = 0  # modulo 2**64
    has_units: bool = False

    @property
    def number(self) -> int:
        return sum(self.by_group)

    @property
    def independent(self) -> int:
        """How many instances are known not to depend on each other."""
        return int(independent_instances(np.array(self.by_group), np.array(self.has_units)))

    @property
    def effective(self) -> float:
        """As how many independent instances these count: all, or about as many as their units."""
        return float(effective_instances(np.array(self.by_group), np.array(self.has_units)))

    def without_instances(self) -> SampledInstances:
        """Return a sample of no instances, in as many groups."""
        return SampledInstances((0,) * len(self.by_group), 0, self.has_units)

    def merge(self, other: SampledInstances) -> SampledInstances:
        """Return the sample of both. They have the same number of groups."""
        return SampledInstances(
            tuple(a + b for a, b in zip(self.by_group, other.by_group, strict=True)),
            (self.fingerprint + other.fingerprint) % 2**64,
            self.has_units or other.has_units,
        )

    def beside(self, other: SampledInstances) -> SampledInstances:
        """Return the sample of both, in which each keeps its groups: none has instances of both."""
        return SampledInstances(
            self.by_group + other.by_group,
            (self.fingerprint + other.fingerprint) % 2**64,
            self.has_units or other.has_units,
        )


@dataclass(frozen=True, slots=True, eq=False)
class GroupTable:
    """Counts of states by group, without the zeros.

    ``total``, (states,): the counts of all groups together. ``places`` and ``counts``: for each
    group, the numbers of the states that occur in it, each once, and how often they do.
    ``firing``, (groups, neurons): in how many rows of a group each neuron fires, if that is known.
    ``cofiring``: returns (neurons, neurons) for a group, in how many of its rows both of two fire.
    """

    total: Ints
    places: tuple[Ints, ...]
    counts: tuple[Ints, ...]
    instances: SampledInstances
    neurons: int | None = None
    firing: Ints | None = None
    cofiring: Callable[[int], Ints] | None = None

    @classmethod
    def of(cls, groups: object) -> GroupTable:
        """Read an object that has a table, or an array (groups, states), whose rows are instances.

        Raises TypeError or ValueError for anything else, and for a table without rows.
        """
        table = groups.group_table() if isinstance(groups, Grouped) else _of_array(groups)
        if not table.rows:
            raise ValueError("groups holds no rows; at least one is needed")
        return table

    def code_lengths(
        self, over_ranks: Callable[[Callable[[], Ints]], Ints] | None = None
    ) -> NDArray[np.float64]:
        """Return the bits of each group's rows by a dependence tree, where cofiring is known."""
        assert self.cofiring is not None
        cofiring, each = self.cofiring, self.rows_by_group.tolist()
        return code_lengths(
            len(each), lambda group: with_constant(cofiring(group), each[group]), over_ranks
        )

    @property
    def rows(self) -> int:
        return int(self.total.sum())

    @property
    def rows_by_group(self) -> Ints:
        sums = (int(counts.sum()) if len(counts) else 0 for counts in self.counts)
        return np.fromiter(sums, np.int64, len(self.counts))

    def of_few_groups(self) -> tuple[Ints, Ints, Ints]:
        """Return what of each group occurs in few others.

        How many of its states occur in one group, in two, and in three: (3, groups). How many of
        its rows have a state that occurs in no other; and how many rows of others have a state
        that occurs in this group, and in no third: (groups,).
        """
        groups = np.zeros(len(self.total), np.int64)
        for places in filter(len, self.places):
            groups[places] += 1
        states = np.zeros((3, len(self.places)), np.int64)
        alone, left = np.zeros((2, len(self.places)), np.int64)
        for group, (at, counts) in enumerate(zip(self.places, self.counts, strict=True)):
            if len(at):
                among = groups[at]
                states[:, group] = np.bincount(among, minlength=4)[1:4]
                alone[group] = counts[among == 1].sum()
                left[group] = (self.total[at[among == 2]] - counts[among == 2]).sum()
        return states, alone, left

    def total_without(self, group: int) -> Ints:
        """Return the counts of all groups together but one; states may have none left."""
        rest = self.total.copy()
        rest[self.places[group]] -= self.counts[group]
        return rest


@runtime_checkable
class Grouped(Protocol):
    """Histograms by group that know their states, such as GroupedCounts."""

    def group_table(self) -> GroupTable: ...


_MOST_GROUPS = 100_000  # of an array, each of which takes some 0.5 ms: more are states, as a rule


def _of_array(groups: object) -> GroupTable:
    accepted = "be GroupedCounts, or integers of shape (groups, states)"
    counts = count_table(groups, "groups", accepted)
    if len(counts) > _MOST_GROUPS:
        raise ValueError(
            f"groups must be at most {_MOST_GROUPS:,}, got {len(counts):,}, of {counts.shape[1]:,} "
            "states: an array has the shape (groups, states)"
        )
    places = tuple(np.flatnonzero(row) for row in counts)
    by_group = tuple(counts.sum(axis=1).tolist())
    return GroupTable(
        counts.sum(axis=0),
        places,
        tuple(row[where] for row, where in zip(counts, places, strict=True)),
        SampledInstances(by_group),
    )
