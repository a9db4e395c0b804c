"""Sorted runs in a store: three arrays with the checksums of a store, below a key.

``states`` is an array (distinct, bytes) in order, ``counts`` how often each occurred, in the
smallest unsigned type that holds them. Both have chunks of the same rows, whose first rows are
``fences``.
"""

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tensorstate_gpu._process.interrupts import deferred_interrupts
from tensorstate_gpu._states.merging_runs import MOST
from tensorstate_gpu._states.sorted_runs import Histogram, SortedRun, length, narrowest, order_key
from tensorstate_gpu._states.tallies import Tally
from tensorstate_gpu.errors import DamagedStore
from tensorstate_gpu.store.array_record import ArrayRecord
from tensorstate_gpu.store.buffer_pool import BufferPool
from tensorstate_gpu.store.columns import ArrayReader, Column
from tensorstate_gpu.store.files import Files

# Rows of a chunk, of which the first stays in memory; see also sorted_runs.
_CHUNK_BYTES, _LEAST_CHUNK_ROWS = 1 << 20, 128


def run_arrays(row_bytes: int) -> dict[str, tuple[int, ...]]:
    """Return the shape of one value of each array of a run."""
    return {"states": (row_bytes,), "counts": (), "fences": (row_bytes,)}


def array_key(under: str, name: str) -> str:
    """Return the key of an array of a run that is below a key; "" is the whole store."""
    return f"{under}/{name}" if under else name


class KeptRun:
    """A histogram in a store as a sorted run; its blocks are the chunks.

    ``under``: the key of its arrays. ``most``: no count is greater.
    """

    def __init__(
        self, files: Files, under: str, row_bytes: int, most: int, arrays: Mapping[str, ArrayRecord]
    ) -> None:
        self._made_of = files, under, row_bytes, most, arrays
        self._readers = {
            name: ArrayReader(files, array_key(under, name), arrays[name], shape)
            for name, shape in run_arrays(row_bytes).items()
        }
        self._width, self.most = row_bytes, most
        with _telling_of_merges():
            fences = [row for part in self._readers["fences"].chunks() for row in part]
        self.fences = [order_key(row) for row in fences]
        states = arrays["states"]
        starts = range(0, states.rows, states.chunk_rows)
        self.sizes = [min(states.chunk_rows, states.rows - start) for start in starts]

    def __reduce__(self) -> tuple[type["KeptRun"], tuple[object, ...]]:
        return KeptRun, self._made_of  # another process reads the same files

    def read(self, first: int, last: int) -> Histogram:
        chunks = range(first, last)
        with _telling_of_merges():
            rows = [self._readers["states"].chunk(index) for index in chunks]
            # Each to int64: together with an array of uint64 they would become floats.
            counts = [self._readers["counts"].chunk(index).astype(np.int64) for index in chunks]
        none = np.empty((0, self._width), np.uint8), np.empty(0, np.int64)
        return np.concatenate([none[0], *rows]), np.concatenate([none[1], *counts])


@contextlib.contextmanager
def _telling_of_merges() -> Iterator[None]:
    """Let an error of a missing file say what a reader does about it beside a writer."""
    try:
        yield
    except DamagedStore as error:
        if isinstance(error.__cause__, FileNotFoundError):
            error.add_note(
                "If a writer is at work, it has merged this into another file since the store was "
                "opened: open it again."
            )
        raise


class WrittenRun(NamedTuple):
    """What was written of a run: its arrays, and what its counts are."""

    arrays: dict[str, ArrayRecord]
    tally: Tally
    most: int


def write_run(
    files: Files,
    under: str,
    row_bytes: int,
    sources: Sequence[SortedRun],
    pieces: Iterable[Histogram],
) -> WrittenRun:
    """Write histograms, each of which is above the previous one, as a run below a key.

    ``sources``: the runs of which the pieces are the sums.
    """
    rows_at_most = max(1, sum(map(length, sources)))
    chunk_rows = min(max(_LEAST_CHUNK_ROWS, _CHUNK_BYTES // row_bytes), rows_at_most)
    dtype = narrowest(min(MOST, sum(run.most for run in sources)))
    states = _column(files, under, "states", np.empty((0, row_bytes), np.uint8), chunk_rows)
    numbers = _column(files, under, "counts", np.empty(0, dtype), chunk_rows)
    fence_rows = min(chunk_rows, -(-rows_at_most // chunk_rows))
    fences = _column(files, under, "fences", np.empty((0, row_bytes), np.uint8), fence_rows)
    tally, most = Tally(), 0
    for rows, counts in pieces:
        fences.append(rows[-states.rows % chunk_rows :: chunk_rows])
        states.append(rows)
        numbers.append(counts.astype(dtype))
        tally.add(counts)
        most = max(most, int(counts.max(initial=0)))
    columns = {"states": states, "counts": numbers, "fences": fences}
    return WrittenRun({name: _finished(column) for name, column in columns.items()}, tally, most)


def _column(files: Files, under: str, name: str, empty: NDArray[Any], chunk_rows: int) -> Column:
    chunk_bytes = chunk_rows * empty.itemsize * int(np.prod(empty.shape[1:]))
    dimensions = ("state", "byte")[: empty.ndim] if name != "fences" else ("fence", "byte")
    return Column(
        files,
        array_key(under, name),
        empty,
        _at_once,
        BufferPool(chunk_bytes),
        dimensions,
        None,
        chunk_bytes,
    )


def _at_once(work: Callable[[], None], size: int = 0, *, exclusive: bool = False) -> None:
    work()


def _finished(column: Column) -> ArrayRecord:
    """Write the last chunk of a column and its shape. Return its entry in the record."""
    snapshot = column.snapshot()
    with deferred_interrupts():
        column.write_partial_chunk(snapshot)
        column.update_metadata(snapshot.rows, {})
    return column.commit_entry(snapshot)
