"""What stands behind a capture point: all rows in order, or running counts.

An accumulator is mutable inside and read as immutable StateCounts: merging an immutable histogram
for each batch would cost the distinct states each time.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tensorstate_gpu._backend import Counter, backend_for
from tensorstate_gpu._dlpack import CPU
from tensorstate_gpu._instances import Instances, check_labels
from tensorstate_gpu._interrupts import finished_before_interrupt
from tensorstate_gpu.counts import StateCounts, check_unused_bits, merge_all
from tensorstate_gpu.memory_rows import RowKeeper, Rows


class Accumulator(ABC):
    """Takes packed rows of ``neurons`` neurons as they come, and keeps the ledger of them."""

    def __init__(self, neurons: int) -> None:
        self.neurons = neurons
        self.row_bytes = (neurons + 7) // 8
        self.instances = Instances()
        self._snapshot: StateCounts | None = None

    def append(
        self, packed: Rows, instances: int, labels: Any = None, *, trusted: bool = False
    ) -> None:
        """Keep a batch; TypeError or ValueError, and nothing kept, when its parts do not fit.

        ``trusted``: bits beyond the neurons, which our own packing never sets, are not looked for.
        """
        if packed.dtype != np.uint8 or packed.ndim != 2 or packed.shape[1] != self.row_bytes:
            raise ValueError(
                f"packed must be uint8 of shape (states, {self.row_bytes}), "
                f"got {packed.dtype} of shape {packed.shape}"
            )
        if not trusted:
            check_unused_bits(packed, self.neurons)
        if instances < 0 or (len(packed) % instances if instances else len(packed)):
            raise ValueError(f"{len(packed)} rows do not divide into {instances} instances")
        array = None if labels is None else check_labels(labels, instances)
        row_labels = array.repeat(len(packed) // max(instances, 1)) if array is not None else None
        with finished_before_interrupt():
            self._snapshot = None
            if len(packed):
                self._keep(packed, row_labels)
            self.instances.add(instances, len(packed), array)

    def histogram(self) -> StateCounts:
        """All rows so far, counted."""
        if self._snapshot is None:
            counts = self._count()
            if counts.total != self.instances.rows:
                raise RuntimeError(
                    f"{self.instances.rows} rows were captured, {counts.total} counted"
                )
            self._snapshot = counts
        return self._snapshot

    @property
    @abstractmethod
    def rows(self) -> int:
        """Rows really kept, counted apart from the ledger."""

    @abstractmethod
    def _keep(self, packed: Rows, row_labels: NDArray[Any] | None) -> None: ...

    @abstractmethod
    def _count(self) -> StateCounts: ...

    @abstractmethod
    def histogram_of(self, index: Any) -> StateCounts:
        """The rows of some instances, counted; ValueError where rows are not kept."""

    @abstractmethod
    def by_label(self, labels: Any = None) -> dict[Any, StateCounts]:
        """One histogram per label, in order; by default for the labels given with the rows."""

    @abstractmethod
    def chunks(self) -> Iterator[Rows]:
        """All rows, in order, in pieces; ValueError where rows are not kept."""

    @abstractmethod
    def flush(self) -> None:
        """Bring what is still buffered to where it is kept."""


class RowsAccumulator(Accumulator):
    """Keeps every row, in memory or on disk; counts when it is asked."""

    def __init__(self, neurons: int, keeper: RowKeeper) -> None:
        super().__init__(neurons)
        self._keeper = keeper

    @property
    def rows(self) -> int:
        return self._keeper.rows

    def _keep(self, packed: Rows, row_labels: NDArray[Any] | None) -> None:
        self._keeper.append(packed)

    def _count(self) -> StateCounts:
        return count_chunks(self.chunks(), self.neurons)

    def histogram_of(self, index: Any) -> StateCounts:
        weights = self.instances.weights(index)
        counter = _new_counter(self.row_bytes)
        for chunk, instances in self._chunks_with_instances():
            row_weights = weights[instances]
            chosen = row_weights > 0
            counter.add(chunk[chosen], row_weights[chosen])
        return StateCounts.trusted(*counter.result(), self.neurons)

    def by_label(self, labels: Any = None) -> dict[Any, StateCounts]:
        ledger = self.instances
        array = ledger.labels() if labels is None else check_labels(labels, ledger.count)
        counters = _LabelledCounters(self.row_bytes)
        for chunk, instances in self._chunks_with_instances():
            counters.add(chunk, array[instances])
        return counters.histograms(self.neurons)

    def chunks(self) -> Iterator[Rows]:
        return self._keeper.chunks()

    def _chunks_with_instances(self) -> Iterator[tuple[Rows, NDArray[np.int64]]]:
        row = 0
        for chunk in self.chunks():
            yield chunk, self.instances.of_rows(row, row + len(chunk))
            row += len(chunk)

    def flush(self) -> None:
        self._keeper.flush()


class CountsAccumulator(Accumulator):
    """Keeps running counts only, one histogram per label; memory bounded by the distinct states."""

    def __init__(self, neurons: int) -> None:
        super().__init__(neurons)
        self.instances = Instances(keep_labels=False)
        self._counters = _LabelledCounters(self.row_bytes)

    @property
    def rows(self) -> int:
        return self._counters.total

    def _keep(self, packed: Rows, row_labels: NDArray[Any] | None) -> None:
        self._counters.add(packed, row_labels)

    def _count(self) -> StateCounts:
        return merge_all(list(self._counters.histograms(self.neurons).values()), self.neurons)

    def histogram_of(self, index: Any) -> StateCounts:
        raise _rows_not_kept()

    def by_label(self, labels: Any = None) -> dict[Any, StateCounts]:
        if labels is not None:
            raise ValueError(
                'only counts are kept: give labels during capture, or use keep="states"'
            )
        self.instances.require_labels()
        return self._counters.histograms(self.neurons)

    def chunks(self) -> Iterator[Rows]:
        raise _rows_not_kept()

    def flush(self) -> None:
        """Nothing to do: the counts are kept in memory."""


def _rows_not_kept() -> ValueError:
    return ValueError('only counts are kept; rows need keep="states"')


class _LabelledCounters:
    """One running count for each label; None stands for no label."""

    def __init__(self, row_bytes: int) -> None:
        self._row_bytes = row_bytes
        self._counters: dict[Any, Counter] = {}

    @property
    def total(self) -> int:
        return sum(counter.total for counter in self._counters.values())

    def add(self, packed: Rows, row_labels: NDArray[Any] | None) -> None:
        """Count rows, under their labels where they are given (one for each row)."""
        if row_labels is None:
            self._counter(None).add(packed)
            return
        mixed = row_labels.dtype.kind == "O"
        for label in set(row_labels.tolist()) if mixed else np.unique(row_labels).tolist():
            self._counter(label).add(packed[row_labels == label])

    def _counter(self, label: Any) -> Counter:
        if label not in self._counters:
            self._counters[label] = _new_counter(self._row_bytes)
        return self._counters[label]

    def histograms(self, neurons: int) -> dict[Any, StateCounts]:
        """The counts so far; integers before strings, where there are both."""
        order = sorted(self._counters, key=lambda label: (type(label).__name__, label))
        return {
            label: StateCounts.trusted(*self._counters[label].result(), neurons) for label in order
        }


def _new_counter(row_bytes: int) -> Counter:
    return backend_for((CPU, 0), "cpu").counter(row_bytes)


def count_chunks(chunks: Iterator[Rows], neurons: int) -> StateCounts:
    """Count rows that come in pieces (rows, bytes)."""
    counter = _new_counter((neurons + 7) // 8)
    for chunk in chunks:
        counter.add(chunk)
    return StateCounts.trusted(*counter.result(), neurons)
