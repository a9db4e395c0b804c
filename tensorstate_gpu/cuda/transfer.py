"""Packed rows on their way to the host, through pinned memory, while the model goes on."""

from collections import deque
from typing import Any

from numpy.typing import NDArray

from tensorstate_gpu._arrays.cupy_types import DeviceArray

from . import device

_MOST_BYTES = 1 << 25  # under way at once, for each capture point


class Transfer:
    """Batches of rows that come to the host in the order in which they were sent."""

    def __init__(self) -> None:
        self._owner_stream = device.OwnerStream()
        self._in_flight: deque[device.AsyncHostCopy] = deque()
        self._bytes = 0
        self.rows = 0  # sent, and not dropped yet

    def send(self, rows: DeviceArray) -> None:
        """Queue the copying of contiguous rows (states, bytes); MemoryError keeps none of them."""
        with self._owner_stream.entered():
            self._in_flight.append(device.AsyncHostCopy(device.library().ascontiguousarray(rows)))
        self._bytes += rows.size
        self.rows += len(rows)

    def oldest(self, *, wait: bool) -> NDArray[Any] | None:
        """The first batch under way; None where there is none, or it has not come and need not.

        Where too much is under way, it is waited for all the same.
        """
        if not self._in_flight:
            return None
        batch = self._in_flight[0]
        if not (wait or self._bytes > _MOST_BYTES or batch.has_arrived):
            return None
        return batch.numpy()

    def drop_oldest(self) -> None:
        """Forget the first batch: it is kept elsewhere."""
        rows = self._in_flight.popleft().numpy()
        self._bytes -= rows.size
        self.rows -= len(rows)
