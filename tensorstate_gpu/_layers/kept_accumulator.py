"""KeptCountsAccumulator: running counts of a layer, of which a store keeps what was committed."""

from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Any, Protocol

from tensorstate_gpu._layers.batches import Batches
from tensorstate_gpu._layers.counts_accumulator import CountsAccumulator, rows_not_kept
from tensorstate_gpu._layers.instance_groups import SampleTallies
from tensorstate_gpu._layers.instance_notes import InstanceNotes
from tensorstate_gpu._layers.kept_counters import KeptCounters
from tensorstate_gpu._layers.ledger import Ledger
from tensorstate_gpu._layers.memory_rows import Rows
from tensorstate_gpu._layers.run_counters import RunCounters
from tensorstate_gpu._process.progress import OnDone
from tensorstate_gpu._states.state_counts import StateCounts


class CountsStorage(Protocol):
    """Where counts are kept."""

    def adding_batch(self, rows: int) -> AbstractContextManager[None]:
        """Context manager that blocks commits while a batch is added."""


class RunsAccumulator(CountsAccumulator):
    """Counts of a layer that stores keep as sorted runs; nothing is added.

    ``where``: the layer in errors.
    """

    def __init__(
        self,
        neurons: int,
        groups: int | None,
        counters: RunCounters,
        ledger: Ledger,
        samples: SampleTallies,
        where: str,
    ) -> None:
        super().__init__(neurons, groups)
        self.replace(ledger, counters, samples)
        self._where = where

    def _add(self, packed: Any, batches: Batches, notes: InstanceNotes) -> None:
        raise TypeError("committed states are only read")

    def counts_of(self, index: Any, on_counted: OnDone | None = None) -> StateCounts:
        raise rows_not_kept(self._where)

    def chunks(self) -> Iterator[Rows]:
        raise rows_not_kept(self._where)


class KeptCountsAccumulator(RunsAccumulator):
    """Running counts, of which a store has what was committed.

    ``storage``: the writer of the layer; None if nothing is added. ``where``: the layer in errors.
    """

    def __init__(
        self,
        neurons: int,
        groups: int | None,
        counters: KeptCounters,
        ledger: Ledger,
        samples: SampleTallies,
        storage: CountsStorage | None,
        where: str,
    ) -> None:
        super().__init__(neurons, groups, counters, ledger, samples, where)
        self._kept, self._storage = counters, storage
        if storage is not None:
            self.mark_pass_end()

    @property
    def kept(self) -> KeptCounters:
        """The counts, in memory and in the store."""
        return self._kept

    def _add(self, packed: Any, batches: Batches, notes: InstanceNotes) -> None:
        if self._storage is None:
            return super()._add(packed, batches, notes)
        with self._storage.adding_batch(len(packed)):
            return CountsAccumulator._add(self, packed, batches, notes)
