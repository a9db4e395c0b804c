"""Accumulator: base class of what a capture point collects, rows or running counts.

An accumulator is mutable; reading it returns immutable histograms. Merging an immutable histogram
for every batch would copy all distinct states each time.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from typing import Any

import numpy as np

from tensorstate_gpu._arrays.layout import row_bytes
from tensorstate_gpu._layers.batches import Batches, cached_totals, divided
from tensorstate_gpu._layers.instance_notes import NOTHING, InstanceNotes
from tensorstate_gpu._layers.labels import Label
from tensorstate_gpu._layers.ledger import Ledger
from tensorstate_gpu._layers.memory_rows import Rows
from tensorstate_gpu._process.interrupts import deferred_interrupts
from tensorstate_gpu._process.progress import OnDone, readings
from tensorstate_gpu._states.external_counter import may_outgrow_memory
from tensorstate_gpu._states.grouped_counts import GroupedCounts
from tensorstate_gpu._states.packed_arguments import check_unused_bits
from tensorstate_gpu._states.state_counts import StateCounts
from tensorstate_gpu._states.stored_counts import StoredCounts
from tensorstate_gpu._states.stored_groups import StoredGroups
from tensorstate_gpu.errors import LedgerError
from tensorstate_gpu.information.group_table import SampledInstances


class Accumulator(ABC):
    """Collects packed rows of ``neurons`` neurons batch by batch, and keeps their ledger."""

    def __init__(self, neurons: int) -> None:
        self.neurons = neurons
        self.row_bytes = row_bytes(neurons)
        # The last counts, with the ledger and the number of rows that it was computed from.
        self._cached_counts: tuple[Ledger, int, StateCounts | StoredCounts] | None = None
        # The same by group, with the number of instances and that of groups.
        self._cached_groups: (
            tuple[tuple[Ledger, int, int, int | None], GroupedCounts | StoredGroups] | None
        ) = None

    @property
    @abstractmethod
    def ledger(self) -> Ledger:
        """Everything captured, including batches in transit from a device."""

    def append(
        self,
        packed: Any,
        instances: int | Batches,
        notes: InstanceNotes = NOTHING,
        *,
        trusted: bool = False,
    ) -> None:
        """Add a batch. Raises ValueError, and adds nothing, if its parts do not fit.

        ``packed``: uint8 (states, bytes), a native array of any backend.
        ``instances``: whose rows these are: a number of instances, in equal parts, or batches.
        ``notes``: of each of the instances.
        ``trusted``: skip the check for bits beyond the last neuron, which our own packing never
        sets.
        """
        # Of another width, NumPy would spread one byte over the others.
        if packed.dtype != np.uint8 or packed.ndim != 2 or packed.shape[1] != self.row_bytes:
            raise ValueError(
                f"packed must be uint8 of shape (states, {self.row_bytes}), "
                f"got {packed.dtype} of shape {packed.shape}"
            )
        if not trusted:
            check_unused_bits(packed, self.neurons)
        batches = divided(len(packed), instances) if isinstance(instances, int) else instances
        count, rows, _ = cached_totals(batches)
        if rows != len(packed) or (notes is not NOTHING and notes.length not in (None, count)):
            raise ValueError(
                f"{rows} rows and notes of {count} instances are due, got {len(packed)} rows and "
                f"notes of {notes.length}"
            )
        with deferred_interrupts():
            if batches:
                self._add(packed, batches, notes)

    def why_refused(self, notes: InstanceNotes) -> str | None:
        """Return why notes cannot be kept beside those of earlier batches; None if they can."""
        return None

    def histogram(self, on_counted: OnDone | None = None) -> StateCounts:
        """Count all rows so far. Raises MemoryError beyond a memory limit that was set."""
        loaded = self.counted(on_counted).load()
        self._cached_counts = self.ledger, self.ledger.rows, loaded
        return loaded

    def counted(self, on_counted: OnDone | None = None) -> StateCounts | StoredCounts:
        """Count all rows so far: on disk, where memory is short."""
        counts = self._cached(on_counted)
        if counts is not None:
            return counts
        with self._readings(on_counted, 2) as on_read:
            counts = self._compute_counts(on_read)
            _tally([counts], on_read)
        if counts.total != self.ledger.rows:
            raise LedgerError(f"{self.ledger.rows} rows were captured, {counts.total} counted")
        self._cached_counts = self.ledger, self.ledger.rows, counts
        return counts

    def unchecked_counts(self, on_counted: OnDone | None = None) -> StateCounts | StoredCounts:
        """Like counted(), for a caller that compares their total with the ledger itself.

        On disk, the total is known when all of them have been read.
        """
        counts = self._cached(on_counted)
        if counts is not None:
            return counts
        with readings(on_counted, self.ledger.rows, 1) as on_read:
            return self._compute_counts(on_read)

    def _cached(self, on_counted: OnDone | None) -> StateCounts | StoredCounts | None:
        if self._cached_counts is None:
            return None
        ledger, rows, counts = self._cached_counts
        if ledger is not self.ledger or rows != ledger.rows:
            return None
        if on_counted is not None:
            on_counted(rows)  # they are counted already
        return counts

    @property
    @abstractmethod
    def rows(self) -> int:
        """Number of rows that are really there, counted independently of the ledger."""

    @abstractmethod
    def _add(self, packed: Any, batches: Batches, notes: InstanceNotes) -> None:
        """Add the rows of at least one batch, with the notes of all its instances."""

    def _readings(
        self, on_counted: OnDone | None, times: int
    ) -> AbstractContextManager[OnDone | None]:
        """Return what is told of all rows as often as counts may be read: once, in memory."""
        rows = self.ledger.rows
        return readings(on_counted, rows, times if may_outgrow_memory(rows, self.row_bytes) else 1)

    # ``on_counted`` is called with the rows that were read since the last call.

    @abstractmethod
    def _compute_counts(self, on_counted: OnDone | None) -> StateCounts | StoredCounts: ...

    @abstractmethod
    def counts_of(self, index: Any, on_counted: OnDone | None = None) -> StateCounts | StoredCounts:
        """Count the rows of some instances. Raises ValueError if only counts are kept."""

    def counted_by_label(
        self, labels: Any = None, on_counted: OnDone | None = None
    ) -> Mapping[Any, StateCounts | StoredCounts]:
        """Return one histogram per label, sorted by label: on disk, where memory is short."""
        with self._readings(on_counted, 2) as on_read:
            return self._compute_by_label(labels, on_read)

    @abstractmethod
    def _compute_by_label(
        self, labels: Any, on_counted: OnDone | None
    ) -> Mapping[Any, StateCounts | StoredCounts]: ...

    def counted_groups(
        self, groups: int | None, on_counted: OnDone | None = None
    ) -> GroupedCounts | StoredGroups:
        """Return the counts by group of instances: on disk, where memory is short."""
        now = self.ledger, self.ledger.rows, self.ledger.count, groups
        if self._cached_groups is None or self._cached_groups[0] != now:
            with self._readings(on_counted, 3) as on_read:
                counted = self._compute_groups(groups, on_read)
                _tally(counted.parts, on_read)
            if (rows := sum(part.total for part in counted.parts)) != self.ledger.rows:
                raise LedgerError(f"{self.ledger.rows} rows were captured, {rows} counted")
            self._cached_groups = now, counted
        elif on_counted is not None:
            on_counted(self.ledger.rows)  # they are counted already
        return self._cached_groups[1]

    @abstractmethod
    def _compute_groups(
        self, groups: int | None, on_counted: OnDone | None
    ) -> GroupedCounts | StoredGroups: ...

    def counted_groups_by_label(
        self, groups: int | None, labels: Any = None, on_counted: OnDone | None = None
    ) -> dict[Any, GroupedCounts | StoredGroups]:
        """Return the counts by group for each label: on disk, where memory is short."""
        with self._readings(on_counted, 2) as on_read:
            return self._compute_groups_by_label(groups, labels, on_read)

    @abstractmethod
    def _compute_groups_by_label(
        self, groups: int | None, labels: Any, on_counted: OnDone | None
    ) -> dict[Any, GroupedCounts | StoredGroups]: ...

    @abstractmethod
    def samples_by_label(self, groups: int | None) -> dict[Label, SampledInstances]:
        """Return which instances have each label, also those without rows; by None, all of them.

        The latter where not all have a label. Raises InputsUnknown if rows belong to no known
        instance, LabelsMissing if only some have a unit, and RowsNotKept where counts are not kept
        by group.
        """

    @abstractmethod
    def chunks(self) -> Iterator[Rows]:
        """Return all rows, in order, in chunks. Raises ValueError if only counts are kept."""

    @abstractmethod
    def collect_transferred(self, *, wait: bool) -> None:
        """Store the batches that have arrived from a device; ``wait``: wait for all of them."""

    @abstractmethod
    def cancel_transfers(self) -> None:
        """Drop batches in transit, because all rows will be deleted."""

    @property
    @abstractmethod
    def instances_in_pass(self) -> int:
        """Number of instances since the last mark, also of those whose rows are in transit."""

    @abstractmethod
    def mark_pass_end(self) -> None:
        """Remember what there is at the end of a forward pass, and how to return to it."""

    @abstractmethod
    def rewind_pass(self) -> None:
        """Discard what was added since the last mark, once."""

    @abstractmethod
    def release_pass(self) -> None:
        """Free memory that only rewind_pass() needs: it will not be called."""


def _tally(counts: Iterable[StateCounts | StoredCounts], on_read: OnDone | None) -> None:
    """Read what is on disk for its total; later measures need it, too."""
    for each in counts:
        if isinstance(each, StoredCounts):
            each.tally(on_read)
