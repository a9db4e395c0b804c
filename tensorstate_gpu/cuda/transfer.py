"""Transfers of packed rows to the host, through pinned memory, while the model continues."""

from collections import deque
from typing import Any

from numpy.typing import NDArray

from tensorstate_gpu._arrays.cupy_library import is_ours_alone
from tensorstate_gpu._arrays.cupy_types import DeviceArray

from . import host_copy

_MOST_BYTES = 1 << 25  # in flight at the same time, for each capture point


class Transfer:
    """Batches of rows that arrive at the host in the order in which they were sent."""

    def __init__(self) -> None:
        self._stream = host_copy.copy_stream()
        self._in_flight: deque[tuple[host_copy.AsyncHostCopy, int, int]] = deque()  # rows, bytes
        self._free: host_copy.AsyncHostCopy | None = None  # that of a batch that was dropped
        self._bytes = 0
        self.rows = 0  # sent and not dropped yet

    def send(self, rows: DeviceArray) -> None:
        """Queue a copy of rows (states, bytes). After a MemoryError none is queued.

        Rows that others may know are first copied on the device, which takes it little time: later
        work on the current stream may write to them, and does not wait for their arrival.
        """
        kept = rows if is_ours_alone(rows) else rows.copy()
        number, size = rows.shape[0], rows.size
        copy, self._free = self._free, None
        if copy is not None and copy.shape == rows.shape:
            copy.copy(kept)
        else:
            copy = host_copy.AsyncHostCopy(kept, self._stream)
        self._in_flight.append((copy, number, size))
        self._bytes += size
        self.rows += number

    def oldest(self, *, wait: bool) -> NDArray[Any] | None:
        """Return the first batch in flight, or None if there is none.

        If it has not arrived, return None, unless ``wait`` is true or too much is in flight.
        """
        if not self._in_flight:
            return None
        batch, _, _ = self._in_flight[0]
        return batch.numpy() if wait or self._bytes > _MOST_BYTES else batch.arrived()

    def drop_oldest(self) -> None:
        """Remove the first batch, after the caller has stored it."""
        copy, number, size = self._in_flight.popleft()
        copy.array, self._free = None, copy
        self._bytes -= size
        self.rows -= number
