"""ExternalCounter: running counts in bounded memory, of which the rest is in temporary files."""

from contextlib import suppress

import numpy as np
from numpy.typing import NDArray

from tensorstate_gpu._arrays.backend_protocol import HostCounter
from tensorstate_gpu._process.interrupts import deferred_interrupts
from tensorstate_gpu._process.memory_limit import working_memory
from tensorstate_gpu._states.backends import cpu
from tensorstate_gpu._states.merging_runs import loaded, merged, rows_of_large_block
from tensorstate_gpu._states.sorted_runs import (
    Histogram,
    MemoryRun,
    ScratchRun,
    SortedRun,
    length,
)

_MOST_NUMBERS = 12  # bytes of the number of a row's label and group
_COPIES = 4  # of counts, until they are apart by label and group
_MOST_RUNS = 64  # then the shorter half becomes one: rows that return do not fill the disk


def may_outgrow_memory(rows: int, row_bytes: int) -> bool:
    """Return whether counting so many rows may need files: they may be all distinct."""
    return rows * (row_bytes + _MOST_NUMBERS + 8) * _COPIES > working_memory()


class ExternalCounter:
    """Counts rows in a Counter of the host; when that is full, its counts become a sorted run.

    A batch is counted whole, or not at all if add() raises an error. A run that cannot be written
    raises OSError in the next call, before it takes any row; what was added so far stays in memory,
    and each later call tries again.

    ``budget``: the bytes that it may use; by default those of working_memory().
    """

    def __init__(self, row_bytes: int, budget: int | None = None) -> None:
        self._row_bytes = row_bytes
        self._budget = working_memory() if budget is None else budget
        self._counter = self._new_counter()
        self._runs: list[ScratchRun] = []
        self._in_runs = 0  # rows

    @property
    def total(self) -> int:
        return self._in_runs + self._counter.total

    @property
    def nbytes(self) -> int:
        """How many bytes its histograms in memory take."""
        return self._counter.nbytes

    @property
    def has_spilled(self) -> bool:
        """Whether a part of the counts is in files."""
        return bool(self._runs)

    @property
    def rows_at_a_time(self) -> int:
        """The number of rows up to which a batch is counted whole or not at all."""
        return self._counter.rows_at_a_time

    def add(self, packed: NDArray[np.uint8], weights: NDArray[np.int64] | None = None) -> None:
        """Count the rows of ``packed`` (states, bytes), each ``weights`` times (default: once)."""
        if self._counter.is_full:
            self._spill()
        if len(packed) <= self.rows_at_a_time:
            self._counter.add(packed, weights)
        else:
            self._add_apart(packed, weights)

    def _add_apart(self, packed: NDArray[np.uint8], weights: NDArray[np.int64] | None) -> None:
        """Count a batch part by part. An error leaves the counts without all of it."""
        apart = ExternalCounter(self._row_bytes, self._budget // 2)
        step = apart.rows_at_a_time
        for start in range(0, len(packed), step):
            part = slice(start, start + step)
            apart.add(packed[part], None if weights is None else weights[part])
        if not apart._runs:
            self._counter.add(*apart._counter.result())
            return
        apart._spill()
        self._runs += apart._runs
        self._in_runs += apart._in_runs
        if len(self._runs) >= _MOST_RUNS:
            with suppress(OSError, MemoryError):  # all is counted; the next spill tries again
                self._compact()

    def _spill(self) -> None:
        """Move all counts from memory to a run."""
        # Meanwhile most of the budget is the counter's.
        run, total = self._written(self._runs_in_memory(), self._budget // 4), self._counter.total
        with deferred_interrupts():  # in between, they are nowhere
            self._counter.clear()  # or MemoryError: then they are still in memory, and in no run
            self._runs.append(run)
            self._in_runs += total
        if len(self._runs) >= _MOST_RUNS:
            self._compact()

    def _new_counter(self) -> HostCounter:
        return cpu().counter(self._row_bytes, self._budget)

    def _runs_in_memory(self) -> list[MemoryRun]:
        return [MemoryRun(*histogram) for histogram in self._counter.histograms()]

    def _written(self, runs: list[MemoryRun] | list[ScratchRun], budget: int) -> ScratchRun:
        pieces = merged(runs, self._row_bytes, budget)
        block = rows_of_large_block(len(self._runs), self._row_bytes, self._budget)
        return ScratchRun.of(self._row_bytes, pieces, block)

    def _compact(self) -> None:
        """Merge the shorter half of the runs."""
        runs = sorted(self._runs, key=length)
        half = len(runs) // 2
        self._runs = [*runs[half:], self._written(runs[:half], self._budget // 2)]

    def runs(self) -> list[SortedRun]:
        """Return sorted runs that together are the counts. Memory is for whoever merges them."""
        if self._runs:
            if self._counter.total:
                self._spill()
            self._counter = self._new_counter()  # without the memory that clear() keeps
        return [*self._runs] if self._runs else [*self._runs_in_memory()]

    def result(self) -> Histogram:
        """Return the distinct rows in order, and their int64 counts, in memory."""
        if not self._runs:
            return self._counter.result()
        return loaded(self.runs(), self._row_bytes, self._budget // 4)
