"""StoredGroups: a histogram of states for each group of instances, which may outgrow memory."""

from collections.abc import Iterator, Sequence
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from tensorstate_gpu._arrays.layout import row_bytes
from tensorstate_gpu._process.memory_limit import working_memory
from tensorstate_gpu._states.backends import cpu
from tensorstate_gpu._states.grouped_counts import GroupedCounts
from tensorstate_gpu._states.merging_runs import merged_range, ranges_of
from tensorstate_gpu._states.sorted_runs import length
from tensorstate_gpu._states.state_counts import StateCounts
from tensorstate_gpu._states.stored_counts import StoredCounts, load_all, runs_of
from tensorstate_gpu._states.sums_over_states import sum_over_states
from tensorstate_gpu.information import Estimate
from tensorstate_gpu.information.dependence_trees import code_lengths, with_constant
from tensorstate_gpu.information.estimates import Measure, estimate_of_sums, needs_tree
from tensorstate_gpu.information.group_sums import GroupSums
from tensorstate_gpu.information.group_table import SampledInstances

_COPIES = 8  # of the rows of a range, with the numbers of their states, until there are sums
_Sums = tuple[GroupSums, NDArray[np.float64] | None]


class StoredGroups:
    """How often each distinct state occurred in each group of instances, on disk.

    ``counted_groups()`` of a layer returns it where memory is short. The first estimate reads all
    counts, range by range, within get_memory_limit(); later ones take no time.
    """

    __module__ = "tensorstate_gpu"

    __slots__ = ("_parts", "_sample", "_sums")

    def __init__(self, parts: Sequence[StoredCounts], sample: SampledInstances) -> None:
        """``parts``: of each group; ``sample``: which instances these are."""
        self._parts, self._sample = tuple(parts), sample
        self._sums: _Sums | None = None

    @property
    def parts(self) -> tuple[StoredCounts, ...]:
        """The histogram of each group."""
        return self._parts

    @property
    def sample(self) -> SampledInstances:
        """Which instances these are."""
        return self._sample

    @property
    def neurons(self) -> int:
        return self._parts[0].neurons

    def __len__(self) -> int:
        """Return the number of groups."""
        return len(self._parts)

    def together(self) -> StoredCounts:
        """Return the histogram of all groups together. Nothing is read before it is measured."""
        return self._parts[0].merge(*self._parts[1:])

    def estimate(self, measure: Measure = "entropy") -> Estimate:
        """Return the entropy or efficiency of the source, with its error.

        See information.estimate. Raises ValueError if empty.
        """
        if self._sums is None:
            self._sums = self._added_up()
        sums, tree = self._sums
        if not sums.rows:
            raise ValueError("groups holds no rows; at least one is needed")
        return estimate_of_sums(sums, tree, measure, self.neurons)

    def load(self) -> GroupedCounts:
        """Return the counts in memory. Raises MemoryError if they are more than the limit."""
        return load_all_groups([self])[0]

    def __repr__(self) -> str:
        return (
            f"StoredGroups({len(self)} groups, {self._sample.number:,} instances, {self.neurons:,} "
            "neurons)"
        )

    def _added_up(self) -> _Sums:
        """Return what estimates need, summed over ranges of states."""
        sums: GroupSums | None = None
        for part in self._ranges():
            more = GroupSums.of(part.group_table())
            sums = more if sums is None else GroupSums.together([sums, more])
        assert sums is not None  # there is a range, also without rows
        if not sums.rows or not needs_tree(sums):
            return sums, None
        rows = sums.rows_by_group.tolist()
        return sums, code_lengths(len(self), lambda g: with_constant(self._cofiring(g), rows[g]))

    def _ranges(self) -> Iterator[GroupedCounts]:
        """Yield the counts of all groups, range by range of the states."""
        width, sample = row_bytes(self.neurons), self._sample
        by_group = [runs_of(part) for part in self._parts]
        runs = [run for each in by_group for run in each]
        most = max(1, working_memory() // (_COPIES * (width + 8)))
        for limits in ranges_of(runs, -(-sum(map(length, runs)) // most) or 1):
            if limits is None:
                continue
            parts = [merged_range(each, width, *limits) for each in by_group]
            counted = [StateCounts.trusted(*part, self.neurons) for part in parts]
            yield GroupedCounts(counted, sample.by_group, sample.fingerprint, sample.has_units)

    def _cofiring(self, group: int) -> NDArray[np.int64]:
        """Return in how many rows of a group each two neurons fire together."""
        total = np.zeros((self.neurons, self.neurons), np.int64)
        for piece in self._parts[group].pieces():
            found = sum_over_states(piece.packed, piece.counts, cpu().cofiring)
            total += found[: self.neurons, : self.neurons]
        return total


def load_all_groups(groups: Sequence[StoredGroups]) -> list[GroupedCounts]:
    """Return the counts by group of several labels in memory.

    Raises MemoryError if they are more than the limit, all together.
    """
    parts = iter(load_all([part for each in groups for part in each.parts]))
    found = []
    for each in groups:
        sample, own = each.sample, list(islice(parts, len(each)))
        found.append(GroupedCounts(own, sample.by_group, sample.fingerprint, sample.has_units))
    return found
