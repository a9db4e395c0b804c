"""Running counts on a device that continue in host memory, or in files, when it is full."""

from contextlib import suppress

import numpy as np
from numpy.typing import NDArray

from tensorstate_gpu._arrays.array_types import NativeArray
from tensorstate_gpu._arrays.backend_protocol import Counter, DeviceBackend, HostBackend
from tensorstate_gpu._process.interrupts import deferred_interrupts
from tensorstate_gpu._states.backends import cpu
from tensorstate_gpu._states.external_counter import ExternalCounter
from tensorstate_gpu._states.sorted_runs import Histogram, MemoryRun, SortedRun

_LEAST_ROWS = 1 << 12  # smaller batches are not split further when memory is short


class SpillingCounter:
    """The counter of a device, and one of the host for the overflow. Reading merges the two.

    ``budget``: the bytes that the host's counter may use, which continues in files; None if it is
    in memory, however much it takes. A file that cannot be written raises OSError in the next call
    of add(), before it takes any row; what was counted stays in memory until it can be.
    """

    def __init__(self, backend: DeviceBackend, row_bytes: int, budget: int | None = None) -> None:
        self._backend, self._row_bytes, self._budget = backend, row_bytes, budget
        self._counter = backend.counter(row_bytes)
        self._drained: list[Histogram] = []  # waiting to be added to the host's counter
        self._has_failed = False  # to write a file
        self._spilled: Counter | None = None

    @property
    def total(self) -> int:
        drained = sum(int(counts.sum()) for _, counts in self._drained)
        return self._counter.total + drained + (self._spilled.total if self._spilled else 0)

    @property
    def nbytes(self) -> int:
        return 0 if self._spilled is None else self._spilled.nbytes

    def add(self, packed: NativeArray, weights: NativeArray | None = None) -> None:
        """Like Counter.add(). Raises MemoryError, and counts no row, if host memory is full too."""
        if self._has_failed:
            self._spill()
        try:
            self._counter.add(packed, weights)
        except MemoryError:
            self._drained.append(self._counter.drain())
            self._drained += self._add_by_halves(packed, weights)
            with suppress(MemoryError, OSError):  # the rows are counted; the next call tries again
                self._spill()

    def to_host(self, rows: NativeArray) -> NDArray[np.uint8]:
        """Return rows that were added before, in host memory."""
        return self._counter.to_host(rows)

    def _add_by_halves(self, packed: NativeArray, weights: NativeArray | None) -> list[Histogram]:
        """Count rows, by halves if they do not fit. Return the counts that had to be drained."""
        try:
            self._counter.add(packed, weights)
            return []
        except MemoryError:
            if len(packed) < 2 * _LEAST_ROWS:
                raise
        half = len(packed) // 2
        drained = []
        for part in (slice(0, half), slice(half, None)):
            drained += self._add_by_halves(packed[part], None if weights is None else weights[part])
            if part.start == 0:
                drained.append(self._counter.drain())
        return drained

    def _spill(self) -> None:
        """Add the drained counts to the host's counter. What does not fit stays in the list."""
        self._has_failed = False
        while self._drained:
            if self._spilled is None:
                self._spilled = self._new_host_counter()
            with deferred_interrupts():  # in between, counts would be added again
                try:
                    self._spilled.add(*self._drained[-1])
                except OSError:
                    self._has_failed = True
                    raise
                self._drained.pop()

    def _new_host_counter(self) -> Counter:
        if self._budget is None:
            return _host().counter(self._row_bytes)
        return ExternalCounter(self._row_bytes, self._budget)

    def result(self) -> Histogram:
        """Return the distinct rows in order and their int64 counts, as NumPy arrays."""
        own = self._of_device()
        self._spill()
        if self._spilled is None:
            return own
        parts = [part for part in (self._spilled.result(), own) if len(part[1])]
        return _host().merge(parts, self._row_bytes)

    def runs(self) -> list[SortedRun]:
        """Return sorted runs that together are the counts: what is in files stays there."""
        own = self._of_device()
        self._spill()
        of_host = [] if self._spilled is None else runs_of_counter(self._spilled)
        return [*of_host, MemoryRun(*own)] if len(own[1]) else of_host

    def _of_device(self) -> Histogram:
        """Return what the device has, in host memory; what cannot be sorted there is drained."""
        try:
            rows, counts = map(self._backend.to_host, self._counter.result())
            return rows, counts
        except MemoryError:  # sorting on the device takes more memory than the table
            with deferred_interrupts():  # in between, counts would be nowhere
                self._drained.append(self._counter.drain())
            return np.empty((0, self._row_bytes), np.uint8), np.empty(0, np.int64)


def runs_of_counter(counter: Counter) -> list[SortedRun]:
    """Return sorted runs that together are what a counter has."""
    if isinstance(counter, ExternalCounter | SpillingCounter):
        return counter.runs()
    return [MemoryRun(*counter.result())]


def _host() -> HostBackend:
    return cpu()
