"""CountsAccumulator: running counts of a layer, without its rows."""

import copy
from collections.abc import Iterator, Mapping, Sequence
from operator import methodcaller
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tensorstate_gpu._layers.accumulator import Accumulator
from tensorstate_gpu._layers.batches import Batches, is_unassigned, sizes_of
from tensorstate_gpu._layers.counters import ByRow, LabelledCounters, RunsByKind
from tensorstate_gpu._layers.instance_groups import SampleTallies, groups_of, instance_hashes
from tensorstate_gpu._layers.instance_notes import InstanceNotes, NoteColumn
from tensorstate_gpu._layers.labels import Label
from tensorstate_gpu._layers.ledger import Ledger
from tensorstate_gpu._layers.memory_rows import Rows
from tensorstate_gpu._process.progress import OnDone
from tensorstate_gpu._states.grouped_counts import GroupedCounts
from tensorstate_gpu._states.state_counts import StateCounts
from tensorstate_gpu._states.stored_counts import StoredCounts
from tensorstate_gpu._states.stored_groups import StoredGroups
from tensorstate_gpu.errors import RowsNotKept
from tensorstate_gpu.information.group_table import SampledInstances


class FixedCounts(NamedTuple):
    """The counts of a layer at one point in time. They do not change when more is counted.

    ``labels``: those of the numbers in the runs, in order.
    """

    runs: RunsByKind
    labels: Sequence[Label]
    ledger: Ledger
    samples: SampleTallies


class CountsAccumulator(Accumulator):
    """Keeps only running counts, one histogram per label.

    Distinct states bound its memory, but for batches that wait to be counted: on CPUs up to 2 MiB.

    ``groups``: for how many groups of instances each is kept; None for no groups.
    ``first``: the number of the first instance, which decides its group where it has no unit.
    """

    def __init__(self, neurons: int, groups: int | None = None, first: int = 0) -> None:
        super().__init__(neurons)
        self._ledger = Ledger()
        self._groups, self._first = groups, first
        self._counters = LabelledCounters(self.row_bytes, groups or 1)
        self._samples = SampleTallies(groups or 1)
        self._pass_end = self._ledger.position(), self._samples

    @property
    def ledger(self) -> Ledger:
        return self._ledger

    @property
    def groups(self) -> int | None:
        """For how many groups of instances counts are kept; None for no groups."""
        return self._groups

    @property
    def counters(self) -> LabelledCounters:
        """The counts by label and group."""
        return self._counters

    @property
    def samples(self) -> SampleTallies:
        """The instances by label and group."""
        return self._samples

    def replace(self, ledger: Ledger, counters: LabelledCounters, samples: SampleTallies) -> None:
        """Go on from these counts, and from what is known of their instances."""
        self._ledger, self._counters, self._samples = ledger, counters, samples

    @property
    def rows(self) -> int:
        return self._counters.total

    def copy(self) -> "CountsAccumulator":
        """Return an independent copy, in host memory."""
        twin = CountsAccumulator(self.neurons, self._groups, self._first)
        twin._ledger, twin._counters = copy.deepcopy(self._ledger), copy.copy(self._counters)
        twin._samples = copy.deepcopy(self._samples)
        return twin

    def fixed(self) -> FixedCounts:
        """Return the current counts. What is in files stays there; device counts are copied."""
        counters, ledger = self._counters, self._ledger.snapshot()
        return FixedCounts(counters.runs(), counters.labels, ledger, self._samples.copy())

    def _add(self, packed: Any, batches: Batches, notes: InstanceNotes) -> None:
        labels = groups = hashes = by_row = None
        by_instance = notes.labels is not None or self._groups is not None
        if by_instance and not any(map(is_unassigned, batches)):
            labels, sizes = notes.labels, sizes_of(batches)
            by_row = methodcaller("repeat", sizes)
            if self._groups is not None:
                first = self._first + self._ledger.instances
                hashes = instance_hashes(first, len(sizes), notes.units)
                groups = groups_of(hashes, self._groups)
        self._count_rows(packed, labels, groups, by_row)
        if hashes is not None:
            self._samples.add(hashes, notes.labels, has_units=notes.units is not None)
        self._ledger.add(batches, notes, stored=True)

    @property
    def instances_in_pass(self) -> int:
        return self._ledger.instances - self._pass_end[0].instances

    def mark_pass_end(self) -> None:
        samples = self._samples if self._groups is None else self._samples.copy()
        self._pass_end = self._ledger.position(), samples
        self._counters.hold()

    def rewind_pass(self) -> None:
        self._counters.take_back()
        position, self._samples = self._pass_end
        notes = {what: NoteColumn(what, count=count) for what, count in position.notes.items()}
        self._ledger = self._ledger.first(position, notes)

    def release_pass(self) -> None:
        self._counters.release()

    def _count_rows(
        self,
        packed: Any,
        labels: NDArray[Any] | None = None,
        groups: NDArray[np.integer] | None = None,
        by_row: ByRow | None = None,
    ) -> None:
        if not len(packed):
            return
        try:
            self._counters.add(packed, labels, groups, by_row)
        except MemoryError as error:
            raise MemoryError(
                f"none of {len(packed):,} rows was counted: {error}. What was captured before can "
                "be read. A store takes any number of rows (storage_path=), and counts them later; "
                "or leave out layers (exclude=)"
            ) from error

    def _compute_counts(self, on_counted: OnDone | None) -> StateCounts | StoredCounts:
        return self._counters.counted(self.neurons, on_counted)

    def counts_of(self, index: Any, on_counted: OnDone | None = None) -> StateCounts:
        raise rows_not_kept()

    def _compute_by_label(
        self, labels: Any, on_counted: OnDone | None
    ) -> Mapping[Any, StateCounts | StoredCounts]:
        _refuse_labels(labels)
        self._ledger.note_pieces("labels")  # raises an error if some are missing
        return self._counters.counted_by(self.neurons, on_counted)

    def _compute_groups(
        self, groups: int | None, on_counted: OnDone | None
    ) -> GroupedCounts | StoredGroups:
        self._require_groups(groups)
        self._ledger.require_assigned()
        parts = self._counters.counted_by_group(self.neurons, on_counted, by_label=False)
        return self._samples.with_all_counts(parts)

    def _compute_groups_by_label(
        self, groups: int | None, labels: Any, on_counted: OnDone | None
    ) -> dict[Any, GroupedCounts | StoredGroups]:
        self._require_groups(groups)
        _refuse_labels(labels)
        self._ledger.note_pieces("labels")  # raises an error if some are missing
        parts = self._counters.counted_by_group(self.neurons, on_counted, by_label=True)
        return self._samples.with_counts(parts)

    def samples_by_label(self, groups: int | None) -> dict[Label, SampledInstances]:
        self._require_groups(groups)
        self._ledger.require_assigned()
        return self._samples.copy().by_label

    def _require_groups(self, groups: int | None) -> None:
        """Raise an error if counts are not kept by group, or for other groups than these."""
        if self._groups is None:
            raise RowsNotKept(
                'only counts are kept, and not by group: keep="counts" needs groups=32, or another '
                "number, for standard errors"
            )
        if groups not in (None, self._groups):
            raise RowsNotKept(f"counts are kept for {self._groups} groups, not for {groups}")
        if self._ledger.notes["units"].count:
            self._ledger.note_pieces("units")  # raises an error if some are missing

    def chunks(self) -> Iterator[Rows]:
        raise rows_not_kept()

    def collect_transferred(self, *, wait: bool) -> None:
        """Nothing to do: batches are counted on their own device."""

    def cancel_transfers(self) -> None:
        """Nothing to do: no rows are in transit."""


def _refuse_labels(labels: Any) -> None:
    if labels is not None:
        raise RowsNotKept('only counts are kept: give labels during capture, or use keep="states"')


def rows_not_kept(where: str = "") -> RowsNotKept:
    """Return the error that only counts are kept; ``where``: in which store."""
    kept = f"{where} keeps counts only" if where else "only counts are kept"
    return RowsNotKept(f'{kept}; rows need keep="states"')
