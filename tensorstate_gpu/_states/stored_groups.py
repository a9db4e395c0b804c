"""StoredGroups: a histogram of states for each group of instances, which may outgrow memory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from tensorstate_gpu._arrays.layout import row_bytes
from tensorstate_gpu._process.memory_limit import working_memory
from tensorstate_gpu._process.progress import OnDone, with_progress
from tensorstate_gpu._states.backends import cpu
from tensorstate_gpu._states.counts_by_group import CountsByGroup
from tensorstate_gpu._states.grouped_counts import GroupedCounts
from tensorstate_gpu._states.merging_runs import merged_range, ranges_of
from tensorstate_gpu._states.sorted_runs import length
from tensorstate_gpu._states.state_counts import StateCounts
from tensorstate_gpu._states.stored_counts import StoredCounts, check_size, runs_of
from tensorstate_gpu._states.sums_over_states import sum_over_states
from tensorstate_gpu.information.group_sums import GroupSums
from tensorstate_gpu.information.group_table import SampledInstances

_COPIES = 8  # of the rows of a range, with the numbers of their states, until there are sums
Key = TypeVar("Key")
Loaded = TypeVar("Loaded", covariant=True)


class _Loadable(Protocol[Loaded]):
    def load(self) -> Loaded: ...


class StoredGroups(CountsByGroup[StoredCounts]):
    """How often each distinct state occurred in each group of instances, on disk.

    ``counted_groups()`` of a layer returns it where memory is short. The first estimate reads all
    counts, range by range, within get_memory_limit(); later ones take no time.
    """

    __module__ = "tensorstate_gpu"

    __slots__ = ("_tree",)

    def __init__(self, parts: Sequence[StoredCounts], sample: SampledInstances) -> None:
        super().__init__(tuple(parts), sample)
        self._tree: NDArray[np.float64] | None = None

    def together(self) -> StoredCounts:
        """Return the histogram of all groups together. Nothing is read before it is measured."""
        return self._parts[0].merge(*self._parts[1:])

    def merge(self, *others: object) -> StoredGroups:
        """Return the counts of all, which may be in memory, too: GroupedCounts.

        Nothing is read before it is measured. Raises TypeError for other types, and ValueError for
        other numbers of neurons or groups.
        """
        checked: Sequence[CountsByGroup[StoredCounts | StateCounts]]
        checked = self._checked(others, StoredGroups, GroupedCounts)
        merged = [
            own.merge(*(other.parts[group] for other in checked))
            for group, own in enumerate(self._parts)
        ]
        return StoredGroups(merged, self._sample_with(checked))

    def code_lengths(self) -> NDArray[np.float64]:
        """Return the bits of each group's rows by a dependence tree."""
        if self._tree is None:
            self._tree = super().code_lengths()
        return self._tree

    def group_sums(self, on_read: OnDone | None = None) -> GroupSums:
        """Return what estimates need, summed over ranges of states. Raises ValueError if empty.

        ``on_read`` is called with the rows that were read since the last call, if they must be.
        """
        if self._sums is None:
            sums: GroupSums | None = None
            for part in with_progress(self._ranges(), _rows, on_read):
                more = GroupSums.of(part.group_table())
                sums = more if sums is None else GroupSums.together([sums, more])
            self._sums = sums
        if self._sums is None or not self._sums.rows:
            raise ValueError("groups holds no rows; at least one is needed")
        return self._sums

    def load(self) -> GroupedCounts:
        """Return the counts in memory.

        Raises MemoryError if they are larger than a limit that was set; see set_memory_limit().
        """
        check_size(self._parts)
        return self._sampled([part.load() for part in self._parts])

    def __repr__(self) -> str:
        return (
            f"StoredGroups({len(self)} groups, {self._sample.number:,} instances, {self.neurons:,} "
            "neurons)"
        )

    def _ranges(self) -> Iterator[GroupedCounts]:
        """Yield the counts of all groups, range by range of the states."""
        width = row_bytes(self.neurons)
        by_group = [runs_of(part) for part in self._parts]
        runs = [run for each in by_group for run in each]
        most = max(1, working_memory() // (_COPIES * (width + 8)))
        for limits in ranges_of(runs, -(-sum(map(length, runs)) // most) or 1):
            if limits is None:
                continue
            parts = [merged_range(each, width, *limits) for each in by_group]
            counted = [StateCounts.trusted(*part, self.neurons) for part in parts]
            yield self._sampled(counted)

    def _sampled(self, parts: Sequence[StateCounts]) -> GroupedCounts:
        sample = self._sample
        return GroupedCounts(parts, sample.by_group, sample.fingerprint, sample.has_units)

    def _cofiring(self, group: int) -> NDArray[np.int64]:
        total = np.zeros((self.neurons, self.neurons), np.int64)
        for piece in self._parts[group].pieces():
            found = sum_over_states(piece.packed, piece.counts, cpu().cofiring)
            total += found[: self.neurons, : self.neurons]
        return total


def _rows(counts: GroupedCounts) -> int:
    return sum(part.total for part in counts.parts)


def load_each(counts: Mapping[Key, _Loadable[Loaded]]) -> dict[Key, Loaded]:
    """Return counts in memory, whether these are or not.

    Raises MemoryError if those that are not are together more than a limit that was set.
    """
    check_size([part for each in counts.values() for part in _on_disk(each)])
    return {key: each.load() for key, each in counts.items()}


def _on_disk(counts: object) -> Sequence[StoredCounts]:
    if isinstance(counts, StoredGroups):
        return counts.parts
    return [counts] if isinstance(counts, StoredCounts) else []
