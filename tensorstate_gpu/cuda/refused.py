"""Rows that tables on the device refuse, and the reports of how many they are."""

import weakref
from collections import deque
from functools import lru_cache

from tensorstate_gpu._arrays.cupy_types import DeviceArray
from tensorstate_gpu._process.fork_safe_lock import ForkSafeLock

from .host_copy import AsyncHostCopy

# Bytes of memory for refused rows, of all tables of a device, before a report of them arrives. For
# more, the host waits for the oldest report: it gets as far ahead of the device as it takes to pack
# so much, which is 2 GiB of float32 activations. Each table may have 1 MiB besides, of which it has
# asked for no report, or a batch whose report is asked for with the next one.
MOST_BYTES = 1 << 26


class Refused:
    """Memory for those rows of a batch for which a table has no room, and for their weights.

    ``place`` is that of their number among the table's numbers. No memory is left when it is known
    that there are no such rows.
    """

    __slots__ = ("nbytes", "place", "rows", "weights")

    def __init__(self, rows: DeviceArray, weights: DeviceArray | None, place: int) -> None:
        self.rows: DeviceArray | None = rows
        self.weights, self.place, self.nbytes = weights, place, rows.nbytes

    def first(self, number: int) -> tuple[DeviceArray, DeviceArray | None]:
        """Return so many refused rows, at least one, and their weights."""
        assert self.rows is not None
        return self.rows[:number], None if self.weights is None else self.weights[:number]

    def drop(self) -> None:
        self.rows = self.weights = None


class Report:
    """What a table's numbers are behind some batches, on its way to the host.

    It lives until its table has read it: the copy is then used for the next one.
    """

    def __init__(self, copy: AsyncHostCopy, batches: list[Refused], reports: "Reports") -> None:
        self.copy, self.batches = copy, batches
        reports.asked.append((weakref.ref(self), reports.before))

    def drop_empty(self, *, wait: bool) -> bool:
        """Free the memory of batches of which nothing was refused; return whether that is known."""
        numbers = self.copy.numpy() if wait else self.copy.arrived()
        if numbers is None:
            return False
        for refused in self.batches:
            if not numbers[refused.place]:
                refused.drop()
        return True


class Reports:
    """The reports of all tables of a device, in the order in which they were asked for.

    A table looks for its own when its layer gets another batch: in a large model, after all others.
    Of batches of which nothing was refused, as of most, memory is freed here before that. Another
    thread may be using that table: it reads the same numbers, and needs no lists without rows.
    """

    def __init__(self) -> None:
        self._lock = ForkSafeLock()
        # With the bytes of rows of all batches before the last one that it is about.
        self.asked: deque[tuple[weakref.ref[Report], int]] = deque()
        self.before = self._bytes = 0  # of all batches but the last one, and of all

    def make_room(self, nbytes: int) -> None:
        """Free memory of which reports have arrived, before so much is taken for another batch.

        While there would be too much of it, wait for the oldest report. Raises what CUDA does if
        the host must not wait now: that is why this comes before the batch is counted.
        """
        with self._lock:
            while self.asked:
                get_oldest, before = self.asked[0]
                oldest, too_much = get_oldest(), self._bytes + nbytes - before > MOST_BYTES
                if oldest is not None and not oldest.drop_empty(wait=too_much):
                    break
                self.asked.popleft()
            self.before, self._bytes = self._bytes, self._bytes + nbytes


@lru_cache
def reports_of(device: int) -> Reports:
    """Return the reports of a device's tables."""
    return Reports()
