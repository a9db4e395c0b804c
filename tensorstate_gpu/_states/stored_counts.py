"""StoredCounts: an immutable histogram of states on disk, which may be larger than memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from tensorstate_gpu._arguments import positive_integer
from tensorstate_gpu._arrays.host_arrays import host_array
from tensorstate_gpu._arrays.layout import row_bytes
from tensorstate_gpu._process.memory_limit import explicit_memory_limit, working_memory
from tensorstate_gpu._process.progress import OnDone, ProgressCallback, with_progress
from tensorstate_gpu._states.keeping import Path as Path
from tensorstate_gpu._states.keeping import keeper
from tensorstate_gpu._states.measured_counts import MeasuredCounts
from tensorstate_gpu._states.merging_runs import loaded, merged
from tensorstate_gpu._states.packed_arguments import check_packed
from tensorstate_gpu._states.sorted_runs import (
    Histogram,
    MemoryRun,
    SortedRun,
    order_key,
    part_of,
    rows_of,
)
from tensorstate_gpu._states.state_counts import StateCounts
from tensorstate_gpu._states.tallies import Tally


class StoredCounts(MeasuredCounts):
    """How often each distinct state occurred, on disk; measured as a StateCounts.

    ``count_states(..., to=path)`` and ``layer.histogram(to=path)`` return it, and so does
    ``store.open_counts(path)``. The first measure reads all counts once, unless they were written
    to a path; later ones take no time. Reading takes get_memory_limit() bytes at most.

    Examples
    --------
    >>> import numpy as np
    >>> import tensorstate_gpu as ts
    >>> counts = ts.count_states(np.array([[3], [0], [3]], np.uint8), to="memory://stored")
    >>> counts.total, len(counts), f"{counts.entropy():.3f} bits"
    (3, 2, '0.918 bits')
    """

    __module__ = "tensorstate_gpu"

    __slots__ = ("_neurons", "_runs", "_tally")

    def __init__(self, runs: Sequence[SortedRun], neurons: int, tally: Tally | None = None) -> None:
        """``tally``: how many states occurred how often, if that is known."""
        self._runs, self._neurons, self._tally = tuple(runs), neurons, tally

    @property
    def neurons(self) -> int:
        return self._neurons

    @property
    def total(self) -> int:
        return self.tally().total

    def __len__(self) -> int:
        return self.tally().distinct

    def tally(self, on_read: OnDone | None = None) -> Tally:
        """Return how many states occurred how often.

        ``on_read`` is called with the rows that were read since the last call, if they must be.
        """
        if self._tally is None:
            tally = Tally()
            for _, counts in with_progress(self._merged(), rows_of, on_read):
                tally.add(counts)
            self._tally = tally
        return self._tally

    def counts_of_counts(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return each count that occurs, ascending, and the number of states that have it."""
        return self.tally().arrays()

    def pieces(self) -> Iterator[StateCounts]:
        """Yield all states in order, with their counts, in histograms of about a million states."""
        for rows, counts in self._merged():
            yield StateCounts.trusted(rows, counts, self._neurons)

    def count_of(self, state: bytes | NDArray[np.uint8]) -> int:
        """Return how often a packed state occurred: bytes, or uint8 of shape (bytes,).

        Raises TypeError or ValueError for anything else.
        """
        row = (
            np.frombuffer(state, np.uint8)
            if isinstance(state, bytes)
            else host_array(state, "state")
        )
        check_packed(row.dtype.name, (1, *row.shape), "state")
        if len(row) != row_bytes(self._neurons):
            raise ValueError(f"state must have {row_bytes(self._neurons)} bytes, got {len(row)}")
        key = order_key(row)
        # The smallest key above it has one byte more.
        return sum(int(part_of(run, key, key + b"\0")[1].sum()) for run in self._runs)

    def top(self, most: int = 10) -> StateCounts:
        """Return the most frequent states, with their counts; of equally frequent ones the first.

        They are in the order of states, as in every histogram; fewer if there are fewer.
        """
        number = positive_integer(most, "most")
        width = row_bytes(self._neurons)
        rows, counts = np.empty((0, width), np.uint8), np.empty(0, np.int64)
        for more_rows, more_counts in self._merged():
            least = counts.min() if len(counts) == number else 0
            chosen = more_counts > least
            rows = np.concatenate([rows, more_rows[chosen]])
            counts = np.concatenate([counts, more_counts[chosen]])
            kept = np.sort(np.argsort(-counts, kind="stable")[:number])
            rows, counts = rows[kept], counts[kept]
        return StateCounts.trusted(rows, counts, self._neurons)

    def load(self) -> StateCounts:
        """Return the histogram in memory.

        Raises MemoryError if it is larger than a limit that was set; see set_memory_limit().
        """
        check_size([self])
        rows, counts = loaded(self._runs, row_bytes(self._neurons), working_memory() // 4)
        return StateCounts.trusted(rows, counts, self._neurons)

    def merge(self, *others: StoredCounts | StateCounts) -> StoredCounts:
        """Return the sum of all these histograms. Nothing is read before it is measured.

        Raises TypeError for other types, and ValueError if the numbers of neurons differ.
        """
        runs = list(self._runs)
        for other in others:
            runs += runs_of(other)
            if other.neurons != self._neurons:
                raise ValueError(
                    f"cannot merge counts of {self._neurons} neurons with {other.neurons}"
                )
        return StoredCounts(runs, self._neurons)

    def save(self, path: Path, *, progress: ProgressCallback | None = None) -> StoredCounts:
        """Write the counts to a new store of counts; see `store.open_counts`. Return them there.

        ``progress`` is called with the number of blocks merged and written so far, and that of all.
        Raises ValueError if the path exists. The store gets its name when it is complete; nothing
        is left after an error or an interrupt.
        """
        written: StoredCounts = keeper().write_counts(path, self, progress=progress)
        return written

    def to_parquet(self, path: Path, *, progress: ProgressCallback | None = None) -> None:
        """Write all states and counts to a new Parquet file, as StateCounts.to_parquet() does."""
        from tensorstate_gpu._states.arrow_counts import counts_schema
        from tensorstate_gpu._states.parquet import write_batches

        schema = counts_schema(row_bytes(self._neurons), self._neurons)
        batches = (batch for piece in self.pieces() for batch in piece.to_arrow().to_batches())
        write_batches(schema, batches, path, progress)

    def _merged(self) -> Iterator[Histogram]:
        return merged(self._runs, row_bytes(self._neurons), working_memory() // 3)


def runs_of(counts: StoredCounts | StateCounts) -> Sequence[SortedRun]:
    """Return sorted runs that together are a histogram. Raises TypeError for other objects."""
    if isinstance(counts, StoredCounts):
        return counts._runs
    if not isinstance(counts, StateCounts):
        raise TypeError(f"others must be StoredCounts or StateCounts, got {type(counts).__name__}")
    return [MemoryRun(counts.packed, counts.counts)] if len(counts) else []


def check_place(path: Path) -> None:
    """Raise what save() would raise for a path, so that nothing is counted in vain."""
    keeper().check_place(path)


def saved(
    counts: StoredCounts | StateCounts,
    path: Path,
    *,
    rows: int | None = None,
    progress: ProgressCallback | None = None,
) -> StoredCounts:
    """Write a histogram to a new store of counts; see StoredCounts.save().

    ``rows``: how many were counted. Raises LedgerError for another number, and writes nothing.
    """
    stored = StoredCounts(runs_of(counts), counts.neurons)
    written: StoredCounts = keeper().write_counts(path, stored, rows=rows, progress=progress)
    return written


def check_size(counts: Sequence[StoredCounts]) -> None:
    """Raise MemoryError if histograms are together larger than a limit that was set."""
    limit, states = explicit_memory_limit(), sum(map(len, counts))
    size = states * (row_bytes(counts[0].neurons) + 8) if counts else 0
    if limit is not None and size > limit:
        raise MemoryError(
            f"{states:,} distinct states with their counts are {size:,} bytes, more than the "
            f"memory limit of {limit:,} bytes: to=path, counted_by() and counted_groups() leave "
            "them on disk; or raise the limit by set_memory_limit()"
        )
