"""Running counts on a device that go on in the host's memory where the device has no more."""

from contextlib import suppress

import numpy as np
from numpy.typing import NDArray

from tensorstate_gpu._arrays.array_types import NativeArray
from tensorstate_gpu._arrays.backend_protocol import Counter, DeviceBackend, HostBackend
from tensorstate_gpu._states.backends import cpu

Histogram = tuple[NDArray[np.uint8], NDArray[np.int64]]

_LEAST_ROWS = 1 << 12  # not cut any further where memory is short


class SpillingCounter:
    """A device's Counter, and behind it one of the host; reading merges the two."""

    def __init__(self, backend: DeviceBackend, row_bytes: int) -> None:
        self._backend, self._row_bytes = backend, row_bytes
        self._counter = backend.counter(row_bytes)
        self._drained: list[Histogram] = []  # on their way to the host's counter
        self._spilled: Counter | None = None

    @property
    def total(self) -> int:
        drained = sum(int(counts.sum()) for _, counts in self._drained)
        return self._counter.total + drained + (self._spilled.total if self._spilled else 0)

    def add(self, packed: NativeArray, weights: NativeArray | None = None) -> None:
        """As Counter.add; MemoryError where the host has no room either, and none is counted."""
        try:
            self._counter.add(packed, weights)
        except MemoryError:
            self._drained.append(self._counter.drain())
            self._drained += self._add_by_halves(packed, weights)
            with suppress(MemoryError):  # the rows are counted; a reader tries again
                self._spill()

    def _add_by_halves(self, packed: NativeArray, weights: NativeArray | None) -> list[Histogram]:
        """Count rows, cut in halves where they do not fit; give what had to make way for others."""
        try:
            self._counter.add(packed, weights)
            return []
        except MemoryError:
            if len(packed) < 2 * _LEAST_ROWS:
                raise
            self._counter.drain()  # nothing is in it, but the keys of rows that were taken back
        half = len(packed) // 2
        drained = []
        for part in (slice(0, half), slice(half, None)):
            drained += self._add_by_halves(packed[part], None if weights is None else weights[part])
            if part.start == 0:
                drained.append(self._counter.drain())
        return drained

    def _spill(self) -> None:
        """Add what was drained to the host's counter; what does not fit there yet stays."""
        while self._drained:
            if self._spilled is None:
                self._spilled = _host().counter(self._row_bytes)
            self._spilled.add(*self._drained[-1])
            self._drained.pop()

    def result(self) -> Histogram:
        """Distinct rows in order (distinct, bytes), and their int64 counts: NumPy arrays."""
        try:
            rows, counts = map(self._backend.to_host, self._counter.result())
        except MemoryError:  # to sort them there takes more memory than to hold them
            self._drained.append(self._counter.drain())
            rows, counts = np.empty((0, self._row_bytes), np.uint8), np.empty(0, np.int64)
        self._spill()
        if self._spilled is None:
            return rows, counts
        parts = [part for part in (self._spilled.result(), (rows, counts)) if len(part[1])]
        return _host().merge(parts, self._row_bytes)


def _host() -> HostBackend:
    return cpu()
