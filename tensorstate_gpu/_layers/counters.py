"""Running counts: one counter per label and device."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tensorstate_gpu._arrays.backend_protocol import Counter
from tensorstate_gpu._arrays.dlpack import CPU
from tensorstate_gpu._arrays.layout import row_bytes
from tensorstate_gpu._layers.memory_rows import Rows
from tensorstate_gpu._states.backends import backend_for, cpu, device_backend_for, device_of
from tensorstate_gpu._states.spilling_counter import SpillingCounter
from tensorstate_gpu._states.state_counts import StateCounts, merge_all


class LabelledCounters:
    """One running count per label and device. The label None stands for rows without labels.

    Copies are independent, and in host memory.
    """

    def __init__(self, row_bytes: int) -> None:
        self._row_bytes = row_bytes
        self._counters: dict[tuple[Any, tuple[int, int]], Counter] = {}

    @property
    def total(self) -> int:
        return sum(counter.total for counter in self._counters.values())

    def add(self, packed: Any, row_labels: NDArray[Any] | None) -> None:
        """Count rows, by their labels if there are any (one per row)."""
        device = device_of(packed)
        if row_labels is None:
            self._counter(None, device).add(packed)
            return
        backend = backend_for(device, "")
        mixed = row_labels.dtype.kind == "O"
        for label in set(row_labels.tolist()) if mixed else np.unique(row_labels).tolist():
            rows = backend.rows_where(packed, row_labels == label)
            self._counter(label, device).add(rows)

    def __getstate__(self) -> dict[str, Any]:
        counters = ((label, counter.result()) for (label, _), counter in self._counters.items())
        return {"row_bytes": self._row_bytes, "counters": list(counters)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["row_bytes"])  # type: ignore[misc]
        for label, (rows, counts) in state["counters"]:
            self._counter(label, (CPU, 0)).add(rows, counts)

    def _counter(self, label: Any, device: tuple[int, int]) -> Counter:
        if (label, device) not in self._counters:
            self._counters[label, device] = new_counter(self._row_bytes, device)
        return self._counters[label, device]

    def histograms(self, neurons: int) -> dict[Any, StateCounts]:
        """Return the counts by label. Integers are sorted before strings."""
        by_label: dict[Any, list[StateCounts]] = {}
        for (label, _), counter in self._counters.items():
            counts = StateCounts.trusted(*counter.result(), neurons)
            by_label.setdefault(label, []).append(counts)
        order = sorted(by_label, key=lambda label: (type(label).__name__, label))
        return {label: merge_all(by_label[label], neurons) for label in order}


def new_counter(row_bytes: int, device: tuple[int, int] = (CPU, 0)) -> Counter:
    if device[0] == CPU:
        return cpu().counter(row_bytes)
    return SpillingCounter(device_backend_for(device), row_bytes)


def count_chunks(chunks: Iterator[Rows], neurons: int) -> StateCounts:
    """Count rows that are given in chunks (rows, bytes)."""
    counter = new_counter(row_bytes(neurons))
    for chunk in chunks:
        counter.add(chunk)
    return StateCounts.trusted(*counter.result(), neurons)
