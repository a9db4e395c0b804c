"""Transfers of packed rows to the host, through pinned memory, while the model continues."""

from collections import deque
from typing import Any

from numpy.typing import NDArray

from tensorstate_gpu._arrays.cupy_types import DeviceArray

from . import device

_MOST_BYTES = 1 << 25  # in flight at the same time, for each capture point


class Transfer:
    """Batches of rows that arrive at the host in the order in which they were sent."""

    def __init__(self) -> None:
        self._stream = device.copy_stream()
        self._in_flight: deque[device.AsyncHostCopy] = deque()
        self._bytes = 0
        self.rows = 0  # sent and not dropped yet

    def send(self, rows: DeviceArray) -> None:
        """Queue a copy of rows (states, bytes). After a MemoryError none is queued.

        The device copies them first, which takes it little time: later work on the current stream
        may write to them, and does not wait until they have arrived.
        """
        self._in_flight.append(device.AsyncHostCopy(rows.copy(), self._stream))
        self._bytes += rows.size
        self.rows += len(rows)

    def oldest(self, *, wait: bool) -> NDArray[Any] | None:
        """Return the first batch in flight, or None if there is none.

        If it has not arrived, return None, unless ``wait`` is true or too much is in flight.
        """
        if not self._in_flight:
            return None
        batch = self._in_flight[0]
        if not (wait or self._bytes > _MOST_BYTES or batch.has_arrived):
            return None
        return batch.numpy()

    def drop_oldest(self) -> None:
        """Remove the first batch, after the caller has stored it."""
        rows = self._in_flight.popleft().numpy()
        self._bytes -= rows.size
        self.rows -= len(rows)
