"""RowsAccumulator: every row of a layer, in memory or in a store; counted on demand."""

import collections
from collections.abc import Callable, Iterator, Mapping
from operator import methodcaller
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tensorstate_gpu._arrays.backend_protocol import Transfer
from tensorstate_gpu._arrays.dlpack import CPU
from tensorstate_gpu._arrays.label_arrays import validated_labels
from tensorstate_gpu._layers.accumulator import Accumulator
from tensorstate_gpu._layers.batches import Batches
from tensorstate_gpu._layers.counters import (
    WeightedRows,
    count_chunks,
    count_weighted,
)
from tensorstate_gpu._layers.instance_groups import (
    GROUPS,
    Hashes,
    SampleTallies,
    groups_of,
    instance_hashes,
)
from tensorstate_gpu._layers.instance_notes import NOTHING, InstanceNotes
from tensorstate_gpu._layers.labels import Label, SlidingReader
from tensorstate_gpu._layers.ledger import Ledger
from tensorstate_gpu._layers.memory_rows import Rows, RowStorage
from tensorstate_gpu._layers.run_counters import RunCounters
from tensorstate_gpu._process.fork_safe_lock import ForkSafeLock
from tensorstate_gpu._process.interrupts import deferred_interrupts
from tensorstate_gpu._process.progress import OnDone, with_progress
from tensorstate_gpu._states.backends import device_backend_for, device_of
from tensorstate_gpu._states.grouped_counts import GroupedCounts
from tensorstate_gpu._states.state_counts import StateCounts
from tensorstate_gpu._states.stored_counts import StoredCounts
from tensorstate_gpu._states.stored_groups import StoredGroups
from tensorstate_gpu.information.group_table import SampledInstances

_INSTANCES = 1 << 16  # whose notes are read at a time


class RowsAccumulator(Accumulator):
    """Keeps every row, in memory or in a store, and counts on demand.

    ``lock``: acquired by drain() and by the code that appends.
    """

    def __init__(self, neurons: int, storage: RowStorage, lock: ForkSafeLock | None = None) -> None:
        super().__init__(neurons)
        self._storage = storage
        self._lock = ForkSafeLock() if lock is None else lock
        self._transfers: dict[tuple[int, int], Transfer] = {}  # by device
        # The batches that are in transit, in order, with their notes.
        self._in_flight: collections.deque[tuple[Transfer, Batches, InstanceNotes]] = (
            collections.deque()
        )

    @property
    def ledger(self) -> Ledger:
        return self._storage.ledger

    @property
    def rows(self) -> int:
        return self._storage.rows + sum(each.rows for each in self._transfers.values())

    def why_refused(self, notes: InstanceNotes) -> str | None:
        try:
            self._storage.converted(notes)
        except (TypeError, ValueError) as error:
            return str(error)
        return None

    def _add(self, packed: Any, batches: Batches, notes: InstanceNotes) -> None:
        """Store a batch. Rows on a device come to the host while the model continues, in order.

        The ledger has them at once: chunks() waits for those that are under way.
        """
        device = None if type(packed) is np.ndarray else device_of(packed)
        if device is None or device[0] == CPU or not len(packed):
            if self._in_flight:
                self.collect_transferred(wait=True)
            self._storage.add(packed, batches, notes)
            return
        if device not in self._transfers:
            self._transfers[device] = device_backend_for(device).transfer()
        transfer = self._transfers[device]
        while self._in_flight and (rows := self._in_flight[0][0].oldest(wait=False)) is not None:
            self._store_arrived(rows)  # append() defers interrupts
        converted = notes
        if notes is not NOTHING:
            converted = self._storage.converted(notes)  # raises now, not after the transfer
        try:
            transfer.send(packed)
        except MemoryError:  # no pinned memory, perhaps
            self.collect_transferred(wait=True)
            self._storage.add(device_backend_for(device).to_host(packed), batches, notes)
            return
        self._in_flight.append((transfer, batches, converted))
        self._storage.ledger.add(batches, converted)

    def collect_transferred(self, *, wait: bool) -> None:
        while self._in_flight and (rows := self._in_flight[0][0].oldest(wait=wait)) is not None:
            with deferred_interrupts():  # an interrupt in between would store the batch twice
                self._store_arrived(rows)

    def _store_arrived(self, rows: Rows) -> None:
        """Store the rows of the first batch in transit, which is no longer."""
        transfer, batches, notes = self._in_flight[0]
        self._storage.add_arrived(rows, batches, notes)
        transfer.drop_oldest()
        self._in_flight.popleft()

    def drain(self) -> None:
        """Store all batches in transit. Commits call it, in any thread."""
        with self._lock:
            self.collect_transferred(wait=True)

    def _compute_counts(self, on_counted: OnDone | None) -> StateCounts | StoredCounts:
        return count_chunks(with_progress(self.chunks(), len, on_counted), self.neurons)

    def counts_of(self, index: Any, on_counted: OnDone | None = None) -> StateCounts | StoredCounts:
        weights = self.ledger.selection_counts(index)
        return count_weighted(self._weighted_chunks(weights, on_counted), self.neurons)

    def _weighted_chunks(
        self, weights: NDArray[np.int64], on_read: OnDone | None
    ) -> Iterator[WeightedRows]:
        """Return the rows of instances that have a weight, with the weights of their instances."""
        once = weights.max(initial=0) <= 1
        for chunk, instances in self._chunks_with_instances(on_read):
            row_weights = weights[instances]
            chosen = row_weights > 0
            yield chunk[chosen], None if once else row_weights[chosen]

    def _compute_by_label(
        self, labels: Any, on_counted: OnDone | None
    ) -> Mapping[Any, StateCounts | StoredCounts]:
        self.collect_transferred(wait=True)
        pieces = self._label_reader(labels)()
        counters = RunCounters(self.row_bytes)
        for chunk, instances in self._chunks_with_instances(on_counted):
            first, last = int(instances[0]), int(instances[-1])
            by_row = methodcaller("take", instances - first)
            counters.add(chunk, pieces.read(first, last + 1), by_row=by_row)
        return counters.counted_by(self.neurons, on_counted)

    def _compute_groups(
        self, groups: int | None, on_counted: OnDone | None
    ) -> GroupedCounts | StoredGroups:
        self.collect_transferred(wait=True)
        self.ledger.require_assigned()
        samples, counters = self._count_by_group(groups, lambda: None, on_counted)
        parts = counters.counted_by_group(self.neurons, on_counted, by_label=False)
        return samples.with_all_counts(parts)

    def _compute_groups_by_label(
        self, groups: int | None, labels: Any, on_counted: OnDone | None
    ) -> dict[Any, GroupedCounts | StoredGroups]:
        self.collect_transferred(wait=True)
        read = self._label_reader(labels)
        read()  # raises an error if some are missing
        samples, counters = self._count_by_group(groups, read, on_counted)
        parts = counters.counted_by_group(self.neurons, on_counted, by_label=True)
        return samples.with_counts(parts)

    def _count_by_group(
        self,
        given: int | None,
        labels: Callable[[], SlidingReader | None],
        on_counted: OnDone | None,
    ) -> tuple[SampleTallies, RunCounters]:
        """Count instances, and their rows. ``labels`` returns a reader of labels, or None."""
        groups = GROUPS if given is None else given
        counters = RunCounters(self.row_bytes, groups)
        samples = self._samples(groups, _Notes(labels(), self._unit_reader()))
        notes = _Notes(labels(), self._unit_reader())
        for chunk, instances in self._chunks_with_instances(on_counted):
            first, last = int(instances[0]), int(instances[-1])
            hashes, own = notes.read(first, last + 1)
            by_row = methodcaller("take", instances - first)
            counters.add(chunk, own, groups_of(hashes, groups), by_row)
        return samples, counters

    def samples_by_label(self, groups: int | None) -> dict[Label, SampledInstances]:
        self.ledger.require_assigned()
        labels = self._label_reader(None)() if self.ledger.all_have("labels") else None
        notes = _Notes(labels, self._unit_reader())
        return self._samples(GROUPS if groups is None else groups, notes).by_label

    def _samples(self, groups: int, notes: "_Notes") -> SampleTallies:
        """Count instances, with and without rows."""
        samples = SampleTallies(groups)
        starts = range(0, self.ledger.count, _INSTANCES)
        pieces = (notes.read(at, min(at + _INSTANCES, self.ledger.count)) for at in starts)
        samples.add_pieces(pieces, has_units=notes.has_units)
        return samples

    def _label_reader(self, labels: Any) -> Callable[[], SlidingReader]:
        """Return what returns a reader of captured or given labels, one for each instance."""
        if labels is None:
            return lambda: SlidingReader(self.ledger.note_pieces("labels"))
        self.ledger.require_assigned()
        given = validated_labels(labels, self.ledger.count)
        return lambda: SlidingReader([given])

    def _unit_reader(self) -> SlidingReader | None:
        """Return a reader of the units; None if none were given."""
        if not self.ledger.notes["units"].count:
            return None
        return SlidingReader(self.ledger.note_pieces("units"))

    def chunks(self) -> Iterator[Rows]:
        self.collect_transferred(wait=True)
        return self._storage.chunks()

    def _chunks_with_instances(
        self, on_done: OnDone | None = None
    ) -> Iterator[tuple[Rows, NDArray[np.int64]]]:
        row = 0
        for chunk in with_progress(self.chunks(), len, on_done):
            yield chunk, self.ledger.instances_of_rows(row, row + len(chunk))
            row += len(chunk)

    @property
    def instances_in_pass(self) -> int:
        return self._storage.instances_in_pass

    def mark_pass_end(self) -> None:
        self._storage.mark_pass_end()

    def rewind_pass(self) -> None:
        self.collect_transferred(wait=True)
        self._storage.rewind_pass()

    def release_pass(self) -> None:
        """Nothing to do: a mark is a few numbers."""

    def cancel_transfers(self) -> None:
        self._transfers.clear()
        self._in_flight.clear()


class _Notes:
    """Reads the hashes of the units of instances, and their labels if there are any, in order."""

    def __init__(self, labels: SlidingReader | None, units: SlidingReader | None) -> None:
        self._labels, self._units = labels, units
        self.has_units = units is not None

    def read(self, start: int, stop: int) -> tuple[Hashes, NDArray[Any] | None]:
        """Return those of instances [start, stop)."""
        units = None if self._units is None else self._units.read(start, stop)
        labels = None if self._labels is None else self._labels.read(start, stop)
        return instance_hashes(start, stop - start, units), labels
