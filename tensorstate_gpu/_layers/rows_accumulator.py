"""Every row of a layer, in memory or in a store; counted when asked."""

import collections
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tensorstate_gpu._arrays.backend_protocol import Transfer
from tensorstate_gpu._arrays.dlpack import CPU
from tensorstate_gpu._layers.accumulator import Accumulator
from tensorstate_gpu._layers.counters import (
    LabelledCounters,
    count_chunks,
    new_counter,
)
from tensorstate_gpu._layers.labels import Sliding, check_labels
from tensorstate_gpu._layers.ledger import Ledger
from tensorstate_gpu._layers.memory_rows import RowKeeper, Rows
from tensorstate_gpu._process.interrupts import finished_before_interrupt
from tensorstate_gpu._process.locks import ForkSafeLock
from tensorstate_gpu._states.backends import device_backend_for, device_of
from tensorstate_gpu._states.state_counts import StateCounts


class RowsAccumulator(Accumulator):
    """Keeps every row, in memory or on disk; counts when it is asked.

    ``lock``: held by whoever appends, and by bring().
    """

    def __init__(self, neurons: int, keeper: RowKeeper, lock: ForkSafeLock | None = None) -> None:
        super().__init__(neurons)
        self._keeper = keeper
        self._lock = ForkSafeLock() if lock is None else lock
        self._device: tuple[int, int] = (CPU, 0)
        self._transfer: Transfer | None = None  # from that device
        # Instances and labels of the batches that are on their way.
        self._under_way: collections.deque[tuple[int, NDArray[Any] | None]] = collections.deque()

    @property
    def ledger(self) -> Ledger:
        return self._keeper.ledger

    @property
    def rows(self) -> int:
        return self._keeper.rows + (self._transfer.rows if self._transfer else 0)

    def _keep(self, packed: Any, instances: int, labels: NDArray[Any] | None) -> None:
        device = device_of(packed)
        if device != self._device:  # the model has moved
            self.receive(wait=True)
            on_host = device[0] == CPU
            self._transfer = None if on_host else device_backend_for(device).transfer()
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
        self.ledger.add(instances, len(packed), labels)

    def receive(self, *, wait: bool) -> None:
        while self._transfer and (rows := self._transfer.oldest(wait=wait)) is not None:
            with finished_before_interrupt():  # else a batch could be kept twice
                self._keeper.add_entered(rows, *self._under_way[0])
                self._transfer.drop_oldest()
                self._under_way.popleft()

    def bring(self) -> None:
        """Keep all that is on its way, from any thread: a commit comes after that."""
        with self._lock:
            self.receive(wait=True)

    def _count(self) -> StateCounts:
        return count_chunks(self.chunks(), self.neurons)

    def histogram_of(self, index: Any) -> StateCounts:
        weights = self.ledger.weights(index)
        counter = new_counter(self.row_bytes)
        for chunk, instances in self._chunks_with_instances():
            row_weights = weights[instances]
            chosen = row_weights > 0
            counter.add(chunk[chosen], row_weights[chosen])
        return StateCounts.trusted(*counter.result(), self.neurons)

    def by_label(self, labels: Any = None) -> dict[Any, StateCounts]:
        ledger = self.ledger
        if labels is None:
            self.receive(wait=True)
            pieces = Sliding(ledger.label_pieces())
        else:
            pieces = Sliding([check_labels(labels, ledger.count)])
        counters = LabelledCounters(self.row_bytes)
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
            yield chunk, self.ledger.of_rows(row, row + len(chunk))
            row += len(chunk)

    def discard(self) -> None:
        self._transfer = None
        self._under_way.clear()
