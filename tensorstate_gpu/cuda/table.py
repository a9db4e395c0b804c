"""The base class of the hash tables for narrow and for wide rows: batches, refused rows, growth."""

from abc import ABC, abstractmethod
from collections.abc import Iterable
from contextlib import suppress

import numpy as np
from numpy.typing import NDArray

from tensorstate_gpu._arrays.cupy_types import DeviceArray
from tensorstate_gpu._process.interrupts import deferred_interrupts

from . import device
from .estimate import REGISTERS, estimated_distinct
from .host_copy import AsyncHostCopy
from .merge import Histogram, HostHistogram
from .refused import MOST_BYTES, Refused, Report, reports_of

FIRST_SLOTS = 1 << 14
BLOCKS = 4  # of each multiprocessor, for kernels without a large cache
_MOST_GROWTH = 8  # at a time, for it is not known how many of the refused rows are distinct
_MOST_BATCHES = 8  # of which it is not known how many of their rows were refused
# What makes a report worth the host's time: half as many batches, or so many bytes of rows, whose
# memory is not to wait.
_LEAST_REPORTED = 1 << 20
_SLOTS_AT_ONCE = 1 << 16  # that move to the host


class Table(ABC):
    """A table of rows and their counts.

    A batch is counted by one launch, without waiting. The device refuses rows for which the table
    has no room, and lists them. When it has reported how many they are, the table grows and counts
    them. Its size thus depends on the distinct rows alone.
    """

    _row_bytes: int
    _size: int  # the number of slots that rows may take: a power of 2
    _slots: DeviceArray  # uint64 (slots, 2): the mark of a row, or 0, and its count

    def __init__(self, row_bytes: int, slots: int) -> None:
        self._row_bytes, self._size = row_bytes, slots
        # The number of distinct rows; then for each unsettled batch that of its refused rows.
        self._numbers = device.library().zeros(2 + _MOST_BATCHES, np.uint64)
        at = device.address(self._numbers)
        self._places_at = [np.uint64(at + 8 * i) for i in range(2 + _MOST_BATCHES)]
        self._free_places = _places()
        self._unsettled: list[Refused] = []
        self._waiting = 0  # bytes of their rows
        self._copy: AsyncHostCopy | None = None  # of the numbers; the same for all reports
        self._report: Report | None = None  # until it is read
        self._reports = reports_of(device.index())

    def __len__(self) -> int:
        """Return the number of distinct rows. Waits for the device."""
        self.finish()
        return int(device.to_host(self._numbers)[0])

    @property
    def room(self) -> int:
        """The number of distinct rows from which on the table refuses new ones."""
        return self._room(self._size)

    def make_room(self, distinct: int) -> None:
        """Grow for about so many distinct rows. Raises MemoryError without memory for them."""
        slots = self._size
        while self._room(slots) < distinct + distinct // 8:
            slots *= 2
        if slots > self._size:
            self._grow(slots)

    def estimate(self, rows: DeviceArray) -> int:
        """Return about how many of some rows are distinct. Waits for the device."""
        ranks = device.library().zeros(REGISTERS, np.uint32)
        self._rank(aligned(rows), ranks)
        return estimated_distinct(device.to_host(ranks))

    def add(self, rows: DeviceArray, weights: DeviceArray | None = None) -> None:
        """Count contiguous rows (states, bytes), each int64 ``weights`` times (default: once).

        Raises MemoryError, and counts none of the rows, if the device's memory is full.
        """
        if rows.data.ptr % 16:
            rows = aligned(rows)
        if self._report is not None:
            self._settle(wait=False)
        self._reports.make_room(rows.nbytes)
        while len(self._unsettled) >= (2 if self._waiting > MOST_BYTES else _MOST_BATCHES):
            self._settle(wait=True)  # what was refused may be refused again
        self._queue(rows, weights)
        is_due = self._waiting >= _LEAST_REPORTED or len(self._unsettled) >= _MOST_BATCHES // 2
        if is_due and self._report is None:
            with suppress(MemoryError):  # the rows are counted; the next batch asks again
                self._ask_for_report()

    def _ask_for_report(self) -> None:
        if self._copy is None:
            self._copy = AsyncHostCopy(self._numbers)
        else:
            self._copy.copy(self._numbers)
        self._report = Report(self._copy, self._unsettled.copy(), self._reports)

    def finish(self) -> None:
        """Count the refused rows as well. Waits for the device.

        Raises MemoryError if the table cannot grow; no row is lost.
        """
        while self._unsettled:
            with deferred_interrupts():  # in between, some are counted, and refused as well
                self._settle(wait=True)

    def _queue(self, rows: DeviceArray, weights: DeviceArray | None) -> None:
        refused = Refused(
            device.empty(rows.shape, np.uint8),
            None if weights is None else device.empty(weights.shape, np.int64),
            self._free_places[-1],
        )
        self._count(rows, weights, refused)
        self._free_places.pop()
        self._unsettled.append(refused)
        self._waiting += rows.size

    def _settle(self, *, wait: bool) -> None:
        """Count the rows that the device has refused, in a larger table.

        Without ``wait``, do nothing if the report that was asked for has not arrived.
        """
        report, numbers, batches = self._report, None, self._unsettled.copy()
        if report is not None:
            numbers = report.copy.numpy() if wait else report.copy.arrived()
            batches = report.batches
        elif wait:
            numbers = device.to_host(self._numbers)
        if numbers is None:
            return
        self._report = None
        distinct, refusals = int(numbers[0]), {each: int(numbers[each.place]) for each in batches}
        if any(refusals.values()):
            self._grow_for(distinct, sum(refusals.values()))
        elif distinct > self.room:
            with suppress(MemoryError):  # it is only slow
                self._grow_for(distinct, 0)
        for refused, number in refusals.items():
            if number:
                self._queue(*refused.first(number))
                self._numbers[refused.place : refused.place + 1].fill(0)
            self._unsettled.remove(refused)
            self._waiting -= refused.nbytes
            self._free_places.append(refused.place)

    def _grow_for(self, distinct: int, more: int) -> None:
        """Grow for more rows. Raises MemoryError if there is no memory for twice the slots."""
        slots = 2 * self._size
        while self._room(slots) < distinct + more and slots < _MOST_GROWTH * self._size:
            slots *= 2
        while True:
            try:
                return self._grow(slots)
            except MemoryError:
                if slots == 2 * self._size:
                    raise
                slots //= 2

    def drain(self, others: Iterable[NDArray[np.uint8]] = ()) -> HostHistogram:
        """Move rows and counts to NumPy arrays, and empty the table; needs no device memory.

        A row that was refused may be there more than once. ``others``: rows that are not in the
        table, and count once each. Raises MemoryError, and changes nothing, without host memory.
        """
        numbers = device.to_host(self._numbers)
        parts = [self._on_host(start) for start in range(0, len(self._slots), _SLOTS_AT_ONCE)]
        for refused in self._unsettled:
            number = int(numbers[refused.place])
            if not number:
                continue
            left, weights = refused.first(number)
            once = np.ones(len(left), np.int64)
            parts.append(
                (device.to_host(left), once if weights is None else device.to_host(weights))
            )
        parts += [(rows, np.ones(len(rows), np.int64)) for rows in others]
        rows, counts = (np.concatenate(column) for column in zip(*parts, strict=True))
        self._slots.fill(0)
        self._numbers.fill(0)
        self._unsettled, self._report, self._free_places = [], None, _places()
        self._waiting = 0
        return rows, counts

    def _on_host(self, start: int) -> HostHistogram:
        """Copy the rows of some slots, and their counts, to NumPy arrays."""
        part = slice(start, start + _SLOTS_AT_ONCE)
        marks, counts = device.to_host(self._slots[part]).T
        counted = np.flatnonzero(counts)
        return self._rows_on_host(part, marks)[counted], counts[counted].view(np.int64)

    def entries(self) -> Histogram:
        """Return the distinct rows (distinct, bytes), in no order, and their int64 counts."""
        self.finish()
        counted = device.library().flatnonzero(self._slots[:, 1])
        slots = self._slots[counted]
        return self._rows(counted, slots[:, 0]), slots[:, 1].copy().view(np.int64)

    @abstractmethod
    def _room(self, slots: int) -> int:
        """Return how many rows a table of ``slots`` slots takes."""

    @abstractmethod
    def _grow(self, slots: int) -> None:
        """Move everything to a table of ``slots`` slots; or raise, and leave all unchanged."""

    @abstractmethod
    def _count(self, rows: DeviceArray, weights: DeviceArray | None, refused: Refused) -> None:
        """Queue the counting of rows, or raise."""

    @abstractmethod
    def _rank(self, rows: DeviceArray, registers: DeviceArray) -> None:
        """Raise the registers of the estimate, uint32 (REGISTERS,)."""

    def _use(self) -> tuple[np.uint64, np.uint64]:
        """Return where the device counts the rows of the table, and from when on it takes none."""
        return self._places_at[0], np.uint64(self.room)

    @abstractmethod
    def _rows(self, slots: DeviceArray, marks: DeviceArray) -> DeviceArray:
        """Return the rows (slots, bytes) of slots that hold ``marks``."""

    @abstractmethod
    def _rows_on_host(self, slots: slice, marks: NDArray[np.uint64]) -> NDArray[np.uint8]:
        """Like _rows(), in host memory, of any slots: of empty ones, the bytes have no meaning."""


def _places() -> list[int]:
    """Return where the numbers of refused rows may be: one more than there are batches."""
    return list(range(1, 2 + _MOST_BATCHES))


def aligned(rows: DeviceArray) -> DeviceArray:
    """Return rows of which kernels may read 16 bytes at once."""
    return rows.copy() if rows.data.ptr % 16 else rows


def power_of_2_below(number: int) -> int:
    return 1 << number.bit_length() - 1


def pointer(array: DeviceArray | None) -> np.uint64:
    """Return a device array's address as a kernel argument; 0 for None."""
    return np.uint64(0 if array is None else array.data.ptr)
