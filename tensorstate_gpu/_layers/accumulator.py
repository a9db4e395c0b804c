"""What stands behind a capture point: all rows in order, or running counts.

An accumulator is mutable inside and read as immutable StateCounts: merging an immutable histogram
for each batch would cost the distinct states each time.
"""

import collections
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from tensorstate_gpu._arrays.backend_protocol import (
    Counter,
    DeviceBackend,
    Transfer,
    backend_for,
    device_of,
)
from tensorstate_gpu._arrays.dlpack import CPU
from tensorstate_gpu._layers.ledger import Instances, MemoryLabels, Sliding, check_labels
from tensorstate_gpu._layers.memory_rows import RowKeeper, Rows
from tensorstate_gpu._process.interrupts import finished_before_interrupt
from tensorstate_gpu._states.spilling_counter import SpillingCounter
from tensorstate_gpu._states.state_counts import StateCounts, check_unused_bits, merge_all


class Accumulator(ABC):
    """Takes packed rows of ``neurons`` neurons as they come, and keeps the ledger of them."""

    def __init__(self, neurons: int, instances: Instances) -> None:
        self.neurons = neurons
        self.row_bytes = (neurons + 7) // 8
        self.instances = instances
        self._snapshot: StateCounts | None = None

    def append(
        self, packed: Any, instances: int, labels: Any = None, *, trusted: bool = False
    ) -> None:
        """Keep a batch; TypeError or ValueError, and nothing kept, when its parts do not fit.

        ``packed``: uint8 (states, bytes), a native array of any backend.
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
        with finished_before_interrupt():
            self._snapshot = None
            if instances:
                self._keep(packed, instances, array)
            self.instances.add(instances, len(packed), array)

    def rewind(self, ledger: Callable[[], Instances]) -> None:
        """The end of what was captured is forgotten: what is left."""
        self.instances = ledger()
        self._snapshot = None

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
    def _keep(self, packed: Any, instances: int, labels: NDArray[Any] | None) -> None:
        """Keep the rows of one instance or more; ``labels``: one for each instance."""

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
    def receive(self, *, wait: bool) -> None:
        """Keep the batches that have come from a device; or wait for all that were sent."""

    @abstractmethod
    def discard(self) -> None:
        """Forget what is still under way: all rows are deleted."""


class RowsAccumulator(Accumulator):
    """Keeps every row, in memory or on disk; counts when it is asked."""

    def __init__(self, neurons: int, keeper: RowKeeper, instances: Instances | None = None) -> None:
        super().__init__(neurons, Instances(MemoryLabels()) if instances is None else instances)
        self._keeper = keeper
        self._device: tuple[int, int] = (CPU, 0)
        self._transfer: Transfer | None = None  # from that device
        # Instances and labels of the batches that are on their way.
        self._under_way: collections.deque[tuple[int, NDArray[Any] | None]] = collections.deque()

    @property
    def rows(self) -> int:
        return self._keeper.rows + (self._transfer.rows if self._transfer else 0)

    def _keep(self, packed: Any, instances: int, labels: NDArray[Any] | None) -> None:
        device = device_of(packed)
        if device != self._device:  # the model has moved
            self.receive(wait=True)
            self._transfer = None if device[0] == CPU else _device_backend(device).transfer()
            self._device = device
        if self._transfer is None or not len(packed):
            self.receive(wait=True)
            self._keeper.add(packed, instances, labels)
            return
        self.receive(wait=False)
        if labels is not None:
            labels = self._keeper.checked(labels)  # not when it has come: then it is too late
        self._transfer.send(packed)
        self._under_way.append((instances, labels))

    def receive(self, *, wait: bool) -> None:
        while self._transfer and (rows := self._transfer.oldest(wait=wait)) is not None:
            with finished_before_interrupt():  # else a batch could be kept twice
                self._keeper.add(rows, *self._under_way[0])
                self._transfer.drop_oldest()
                self._under_way.popleft()

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
        if labels is None:
            self.receive(wait=True)
            pieces = Sliding(ledger.label_pieces())
        else:
            pieces = Sliding([check_labels(labels, ledger.count)])
        counters = _LabelledCounters(self.row_bytes)
        for chunk, instances in self._chunks_with_instances():
            first, last = int(instances[0]), int(instances[-1])
            counters.add(chunk, pieces.between(first, last + 1)[instances - first])
        return counters.histograms(self.neurons)

    def chunks(self) -> Iterator[Rows]:
        self.receive(wait=True)
        return self._keeper.chunks()

    def _chunks_with_instances(self) -> Iterator[tuple[Rows, NDArray[np.int64]]]:
        row = 0
        for chunk in self.chunks():
            yield chunk, self.instances.of_rows(row, row + len(chunk))
            row += len(chunk)

    def discard(self) -> None:
        self._transfer = None
        self._under_way.clear()


class CountsAccumulator(Accumulator):
    """Keeps running counts only, one histogram per label; memory bounded by the distinct states."""

    def __init__(self, neurons: int) -> None:
        super().__init__(neurons, Instances())
        self._counters = _LabelledCounters(self.row_bytes)

    @property
    def rows(self) -> int:
        return self._counters.total

    def _keep(self, packed: Any, instances: int, labels: NDArray[Any] | None) -> None:
        if len(packed):
            row_labels = None if labels is None else labels.repeat(len(packed) // instances)
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

    def receive(self, *, wait: bool) -> None:
        """Nothing to do: batches are counted where they are."""

    def discard(self) -> None:
        """Nothing to do: no rows are under way."""


def _rows_not_kept() -> ValueError:
    return ValueError('only counts are kept; rows need keep="states"')


class _LabelledCounters:
    """One running count for each label and each device; None stands for no label."""

    def __init__(self, row_bytes: int) -> None:
        self._row_bytes = row_bytes
        self._counters: dict[tuple[Any, tuple[int, int]], Counter] = {}

    @property
    def total(self) -> int:
        return sum(counter.total for counter in self._counters.values())

    def add(self, packed: Any, row_labels: NDArray[Any] | None) -> None:
        """Count rows, under their labels where they are given (one for each row)."""
        device = device_of(packed)
        if row_labels is None:
            self._counter(None, device).add(packed)
            return
        backend = backend_for(device, "")
        mixed = row_labels.dtype.kind == "O"
        for label in set(row_labels.tolist()) if mixed else np.unique(row_labels).tolist():
            rows = backend.rows_where(packed, row_labels == label)
            self._counter(label, device).add(rows)

    def _counter(self, label: Any, device: tuple[int, int]) -> Counter:
        if (label, device) not in self._counters:
            self._counters[label, device] = _new_counter(self._row_bytes, device)
        return self._counters[label, device]

    def histograms(self, neurons: int) -> dict[Any, StateCounts]:
        """The counts so far; integers before strings, where there are both."""
        found: dict[Any, list[StateCounts]] = {}
        for (label, _), counter in self._counters.items():
            counts = StateCounts.trusted(*counter.result(), neurons)
            found.setdefault(label, []).append(counts)
        order = sorted(found, key=lambda label: (type(label).__name__, label))
        return {label: merge_all(found[label], neurons) for label in order}


def _new_counter(row_bytes: int, device: tuple[int, int] = (CPU, 0)) -> Counter:
    if device[0] == CPU:
        return backend_for(device, "cpu").counter(row_bytes)
    return SpillingCounter(_device_backend(device), row_bytes)


def _device_backend(device: tuple[int, int]) -> DeviceBackend:
    return cast(DeviceBackend, backend_for(device, ""))


def count_chunks(chunks: Iterator[Rows], neurons: int) -> StateCounts:
    """Count rows that come in pieces (rows, bytes)."""
    counter = _new_counter((neurons + 7) // 8)
    for chunk in chunks:
        counter.add(chunk)
    return StateCounts.trusted(*counter.result(), neurons)
