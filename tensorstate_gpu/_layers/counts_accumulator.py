"""CountsAccumulator: running counts of a layer, without its rows."""

import copy
from collections.abc import Iterator
from typing import Any

from numpy.typing import NDArray

from tensorstate_gpu._layers.accumulator import Accumulator
from tensorstate_gpu._layers.batches import Batches, is_unassigned, sizes_of
from tensorstate_gpu._layers.counters import LabelledCounters
from tensorstate_gpu._layers.instance_notes import InstanceNotes
from tensorstate_gpu._layers.ledger import Ledger
from tensorstate_gpu._layers.memory_rows import Rows
from tensorstate_gpu._states.state_counts import StateCounts, merge_all
from tensorstate_gpu.errors import RowsNotKept


class CountsAccumulator(Accumulator):
    """Keeps only running counts, one histogram per label. Distinct states bound its memory."""

    def __init__(self, neurons: int) -> None:
        super().__init__(neurons)
        self._ledger = Ledger()
        self._counters = LabelledCounters(self.row_bytes)

    @property
    def ledger(self) -> Ledger:
        return self._ledger

    @property
    def rows(self) -> int:
        return self._counters.total

    def copy(self) -> "CountsAccumulator":
        """Return an independent copy, in host memory."""
        twin = CountsAccumulator(self.neurons)
        twin._ledger, twin._counters = copy.deepcopy(self._ledger), copy.copy(self._counters)
        return twin

    def _add(self, packed: Any, batches: Batches, notes: InstanceNotes) -> None:
        labels = None
        if notes.labels is not None and not any(map(is_unassigned, batches)):
            labels = notes.labels.repeat(sizes_of(batches))
        self._count_rows(packed, labels)
        self._ledger.add(batches, notes)
        self._ledger.mark_stored(batches)

    def _count_rows(self, packed: Any, row_labels: NDArray[Any] | None = None) -> None:
        if len(packed):
            self._counters.add(packed, row_labels)

    def _compute_histogram(self) -> StateCounts:
        return merge_all(list(self._counters.histograms(self.neurons).values()), self.neurons)

    def histogram_of(self, index: Any) -> StateCounts:
        raise _rows_unavailable_error()

    def histograms_by_label(self, labels: Any = None) -> dict[Any, StateCounts]:
        if labels is not None:
            raise RowsNotKept(
                'only counts are kept: give labels during capture, or use keep="states"'
            )
        self._ledger.note_pieces("labels")  # raises an error if some are missing
        return self._counters.histograms(self.neurons)

    def chunks(self) -> Iterator[Rows]:
        raise _rows_unavailable_error()

    def collect_transferred(self, *, wait: bool) -> None:
        """Nothing to do: batches are counted on their own device."""

    def cancel_transfers(self) -> None:
        """Nothing to do: no rows are in transit."""


def _rows_unavailable_error() -> RowsNotKept:
    return RowsNotKept('only counts are kept; rows need keep="states"')
