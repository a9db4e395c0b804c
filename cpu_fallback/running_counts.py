"""Running counts: in hash tables while rows repeat, otherwise in sorted batches that are merged.

Small batches wait, to be counted together: in a forward pass, a layer's table has left the caches
when its next batch comes. When each was counted as it came, a captured pass of LeNet-5 took 16 %
longer than a bare one on a Zen 5, and 8 % when they waited (`make bench ARGS="-k test_capture"`).

Sorted histograms are kept in falling sizes, and merged when two are of similar size, so each state
is merged about as often as the number of states has doubled. They take 8 bytes more than their
rows; a table takes four times as much, and half of that again while it grows.
"""

from contextlib import suppress

import numpy as np
from numpy.typing import NDArray

from tensorstate_gpu._process.interrupts import deferred_interrupts
from tensorstate_gpu._process.num_threads import prefer_single_thread

from .count import DIRECT, count, new_table
from .merge import Histogram, count_weighted, in_order, merge
from .sort import parts_to_sort
from .table import Table, never_stop
from .threads import run, thread_ranges
from .waiting_rows import room_for_rows

_MOST_IN_TABLES = 1 << 21  # states of up to 64 bytes: beyond, sorting is faster on two threads
_MOST_COLLECTED = 1 << 26  # bytes of rows that are sorted at a time
_MOST_WAITING = 1 << 21  # bytes of rows that wait for a table
_BATCHES_WAITING = 8
_MANY_AT_FIRST, _REPEATED = 1 << 15, 1.25  # rows, and for each state, that are worth a table


class Counter:
    """Running counts of packed states; see the Backend protocol. Not thread-safe.

    ``budget``: the bytes that it should not exceed. It never refuses rows: see is_full. Without a
    budget, rows that wait take up to _MOST_WAITING bytes, if other counters have not taken all that
    there may be (waiting_rows.py), and those collected to be sorted up to twice as much memory as
    the distinct ones do, or up to 8 MiB where these are few.
    """

    def __init__(self, row_bytes: int, budget: int | None = None) -> None:
        self._row_bytes, self._budget = row_bytes, budget
        self._most_in_tables = _MOST_IN_TABLES * 64 // max(64, row_bytes)
        if budget is not None:
            self._most_in_tables = min(self._most_in_tables, budget // (8 * (row_bytes + 16)))
        self._tables = [new_table(row_bytes)]  # one for each thread, if batches are large
        self._in_tables = 0  # rows
        self._is_sorting = False  # since most rows were new
        self._collected = np.empty((0, row_bytes), np.uint8)
        self._filled = 0  # rows of it
        self._runs: list[Histogram] = []  # in order each, and in falling sizes
        self._total = 0

    @property
    def total(self) -> int:
        return self._total

    @property
    def is_full(self) -> bool:
        """Whether its histograms take so much of the budget that they should be taken away."""
        return self._budget is not None and 3 * self.nbytes > self._budget

    @property
    def nbytes(self) -> int:
        """How many bytes its histograms take. Tables are small beside those, if there are any."""
        return sum(map(_nbytes, self._runs))

    def add(self, packed: NDArray[np.uint8], weights: NDArray[np.int64] | None = None) -> None:
        if weights is None and self._may_wait(packed):
            self._collect(packed)
            self._total += len(packed)
            return
        rows = np.ascontiguousarray(packed)
        added = len(rows) if weights is None else int(weights.sum())
        if len(rows):
            self._add(rows, weights)
        self._total += added

    def _add(self, rows: NDArray[np.uint8], weights: NDArray[np.int64] | None) -> None:
        if weights is None and self._may_be_new(rows):
            self._add_first(count(rows), len(rows))
        elif self._fits_tables(rows):
            self._add_to_tables(rows, weights)
        elif weights is None:
            self._add_histogram(count(rows))
        else:
            self._add_histogram(count_weighted(rows, weights))

    def _may_be_new(self, rows: NDArray[np.uint8]) -> bool:
        """Tell whether these rows show if most rows are new, and whether it matters.

        A table of few bytes becomes an array of counts, to which new states are no problem. Wide
        rows gain little, for sorting moves them.
        """
        is_first = not self._is_sorting and not self._in_tables
        return is_first and len(rows) >= _MANY_AT_FIRST and DIRECT < self._row_bytes <= 8

    def _add_first(self, histogram: Histogram, rows: int) -> None:
        """Add the first histogram, of so many rows: to a table, unless most rows were new.

        A new state takes several times as long in a table as a row that is sorted.
        """
        states = histogram[0]
        if self._fits_tables(states) and rows >= _REPEATED * len(states):
            self._add_to_tables(*histogram, rows)
        else:
            self._is_sorting = True
            self._push(histogram)

    def clear(self) -> None:
        """Forget all rows, but not whether most were new. Memory for collected rows is kept.

        Raises MemoryError, and forgets nothing, if there is none for a new table.
        """
        self._tables, self._in_tables = [new_table(self._row_bytes)], 0
        self._runs, self._filled, self._total = [], 0, 0

    # ---- batches that are counted together -----------------------------------------------------

    def _may_wait(self, rows: NDArray[np.uint8]) -> bool:
        if self._is_sorting:
            return len(rows) < self.rows_at_a_time
        return 2 * rows.size <= _MOST_WAITING and self._budget is None

    def _collect(self, rows: NDArray[np.uint8]) -> None:
        """Keep a copy of rows, to count many at a time, or count them."""
        if self._filled + len(rows) > len(self._collected):
            self._count_collected()  # may raise: before these rows are taken
            if not self._may_wait(rows):  # any longer
                self._add(np.ascontiguousarray(rows), None)
                return
            most = self._room_to_collect(len(rows))
            if len(self._collected) < most:
                self._collected = np.empty((0, self._row_bytes), np.uint8)  # frees it first
                self._collected = self._room_for(len(rows), most)
            if len(self._collected) < len(rows):  # other layers have it
                self._count_waiting(np.ascontiguousarray(rows))
                return
        self._collected[self._filled : self._filled + len(rows)] = rows
        self._filled += len(rows)

    def _room_for(self, least: int, most: int) -> NDArray[np.uint8]:
        if self._is_sorting:
            return np.empty((most, self._row_bytes), np.uint8)
        return room_for_rows(least, most, self._row_bytes)

    def _room_to_collect(self, rows: int) -> int:
        """Return for how many rows to make room, with a batch of ``rows``."""
        if self._is_sorting:
            return self.rows_at_a_time
        return min(_BATCHES_WAITING * rows, _MOST_WAITING // self._row_bytes)

    def _count_collected(self) -> None:
        if not self._filled:
            return
        # Interrupted, for example while somebody reads, rows could be counted and wait on.
        with deferred_interrupts():
            rows = self._collected[: self._filled]
            if self._is_sorting:
                self._push(count(rows))
            else:
                self._count_waiting(rows)
            self._filled = 0

    def _count_waiting(self, rows: NDArray[np.uint8]) -> None:
        """Count rows in a table, or beside it if there is no memory to make that larger."""
        try:
            with prefer_single_thread():  # most batches come in forward passes
                self._add(rows, None)
        except MemoryError:
            self._push(count(rows))

    # ---- while rows repeat ---------------------------------------------------------------------

    def _fits_tables(self, rows: NDArray[np.uint8]) -> bool:
        return not self._is_sorting and 2 * len(rows) <= self._most_in_tables

    def _add_to_tables(
        self,
        rows: NDArray[np.uint8],
        weights: NDArray[np.int64] | None,
        counted: int | None = None,
    ) -> None:
        """``counted``: how many rows these were before they had weights."""
        parts = thread_ranges(len(rows), len(rows) * (64 + self._row_bytes))
        if len(parts) == 1:
            self._tables[0].add(rows, weights, 0, len(rows), never_stop)
        else:
            self._add_in_parallel(rows, weights, parts)
        self._in_tables += len(rows) if counted is None else counted
        if self._has_outgrown_tables():
            with suppress(MemoryError):  # the rows are counted; the next batch tries again
                self._empty_tables()

    def _add_in_parallel(
        self,
        rows: NDArray[np.uint8],
        weights: NDArray[np.int64] | None,
        parts: list[tuple[int, int]],
    ) -> None:
        more = max(0, len(parts) - len(self._tables))
        self._tables += [new_table(self._row_bytes) for _ in range(more)]

        added: list[tuple[Table, int, int]] = []

        def add(table: Table, start: int, stop: int) -> None:
            table.add(rows, weights, start, stop, never_stop)
            added.append((table, start, stop))

        try:
            run(add, [(table, *part) for table, part in zip(self._tables, parts, strict=False)])
        except MemoryError:
            for table, *part in added:
                table.take_back(rows, weights, *part)
            raise

    def _has_outgrown_tables(self) -> bool:
        """Return whether there are too many states, or so many that rows should repeat more.

        Rows drawn from 1.4 million states have repeated by 5 % when 130,000 of them are known.
        """
        known, most = sum(map(len, self._tables)), self._most_in_tables
        if known > most:
            return True
        least = 1.5 if known > most // 4 else 1.05 if known > most // 16 else 0.0
        return self._in_tables < least * known

    def _empty_tables(self) -> None:
        """Move everything from the tables to histograms; nothing, if there is no memory for it."""
        histograms = self._histograms_of_tables()
        self._tables, self._in_tables = [new_table(self._row_bytes)], 0
        self._is_sorting = True
        for histogram in histograms:
            self._push(histogram)

    def _histograms_of_tables(self) -> list[Histogram]:
        return [_ordered(table) for table in self._tables if len(table)]

    # ---- while most rows are new ---------------------------------------------------------------

    def _add_histogram(self, histogram: Histogram) -> None:
        rows, counts = histogram
        if self._fits_tables(rows):
            self._add_to_tables(rows, counts)
        else:
            self._empty_tables()
            self._push(histogram)

    @property
    def rows_at_a_time(self) -> int:
        """The number of rows to sort at a time."""
        if self._budget is not None:
            # Sorting takes up to 40 bytes more than the rows and a copy of them.
            return max(1, 2 * self._budget // 3 // (2 * self._row_bytes + 40))
        distinct = sum(len(counts) for _, counts in self._runs)
        least = self._most_in_tables // 16
        return max(least, min(2 * distinct, _MOST_COLLECTED // self._row_bytes))

    def _push(self, histogram: Histogram) -> None:
        self._runs.append(histogram)
        with suppress(MemoryError):  # everything is counted; who reads it tries again
            while self._last_two_are_similar() and self._has_room_to_merge():
                self._merge_last_two()

    def _last_two_are_similar(self) -> bool:
        sizes = [len(counts) for _, counts in self._runs[-2:]]
        return len(sizes) == 2 and sizes[0] <= 2 * sizes[1]

    def _has_room_to_merge(self) -> bool:
        if self._budget is None:
            return True
        return 3 * (self.nbytes + sum(map(_nbytes, self._runs[-2:]))) <= 2 * self._budget

    def _merge_last_two(self) -> None:
        self._runs[-2:] = [merge(self._runs[-2:], self._row_bytes)]

    # ---- reading -------------------------------------------------------------------------------

    def histograms(self) -> list[Histogram]:
        """Return histograms, each in order, which together are the counts. For reading only."""
        self._count_collected()
        return [*self._runs, *self._histograms_of_tables()]

    def result(self) -> Histogram:
        if not self._is_sorting:
            return merge(self.histograms(), self._row_bytes)
        self._count_collected()
        while len(self._runs) > 1:
            self._merge_last_two()
        rows, counts = self._runs[0] if self._runs else merge([], self._row_bytes)
        return rows.view(), counts.view()  # the caller may make them read-only


def _ordered(table: Table) -> Histogram:
    rows, counts = table.entries()
    threads = len(parts_to_sort(len(rows)))
    return in_order(rows, counts, threads)


def _nbytes(histogram: Histogram) -> int:
    rows, counts = histogram
    return rows.nbytes + counts.nbytes
