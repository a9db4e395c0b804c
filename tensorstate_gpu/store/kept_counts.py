"""Stores of counts: a histogram as a zarr v3 group, with the checksums of a store of states.

``states`` is an array (distinct, bytes) in order, ``counts`` how often each occurred, in the
smallest unsigned type that holds them. Both have chunks of the same rows, whose first rows are
``fences``. The record, an attribute of the group, is written last: without it there are no counts.
"""

import os
from bisect import bisect_right
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tensorstate_gpu._arrays.layout import row_bytes
from tensorstate_gpu._process.interrupts import deferred_interrupts
from tensorstate_gpu._process.new_files import new_folder
from tensorstate_gpu._process.progress import ProgressCallback
from tensorstate_gpu._states.sorted_runs import (
    Histogram,
    JoinedRun,
    SortedRun,
    narrowest,
    order_key,
)
from tensorstate_gpu._states.stored_counts import Path, StoredCounts, runs_of
from tensorstate_gpu._states.tallies import Tally
from tensorstate_gpu.errors import NoStore
from tensorstate_gpu.store.buffer_pool import BufferPool
from tensorstate_gpu.store.columns import ArrayReader, Column
from tensorstate_gpu.store.commit_record import KEY, ArrayRecord
from tensorstate_gpu.store.counts_record import CountsRecord, Share, check_shares
from tensorstate_gpu.store.files import Files, files_at
from tensorstate_gpu.store.folder import Folder

ARRAYS = ("states", "counts", "fences")
# Rows of a chunk, of which the first stays in memory; see also sorted_runs.
_CHUNK_BYTES, _LEAST_CHUNK_ROWS = 1 << 20, 128


class KeptRun:
    """The histogram of a store of counts as a sorted run; its blocks are the chunks."""

    def __init__(self, files: Files, record: CountsRecord) -> None:
        self._made_of = files, record
        width = row_bytes(record.neurons)
        shapes: dict[str, tuple[int, ...]] = {"states": (width,), "counts": (), "fences": (width,)}
        self._readers = {
            name: ArrayReader(files, name, record.arrays[name], shape)
            for name, shape in shapes.items()
        }
        self._width, self.most = width, record.most
        self.fences = [order_key(row) for part in self._readers["fences"].chunks() for row in part]
        states = record.arrays["states"]
        starts = range(0, states.rows, states.chunk_rows)
        self.sizes = [min(states.chunk_rows, states.rows - start) for start in starts]

    def __reduce__(self) -> tuple[type["KeptRun"], tuple[Files, CountsRecord]]:
        return KeptRun, self._made_of  # another process reads the same files

    def read(self, first: int, last: int) -> Histogram:
        chunks = range(first, last)
        rows = [self._readers["states"].chunk(index) for index in chunks]
        # Each to int64: together with an array of uint64 they would become floats.
        counts = [self._readers["counts"].chunk(index).astype(np.int64) for index in chunks]
        none = np.empty((0, self._width), np.uint8), np.empty(0, np.int64)
        return np.concatenate([none[0], *rows]), np.concatenate([none[1], *counts])


class KeptCounts(NamedTuple):
    """A store of counts that was opened: its place, its record, and its histogram."""

    place: str
    record: CountsRecord
    run: KeptRun

    @property
    def counts(self) -> StoredCounts:
        return StoredCounts([self.run], self.record.neurons, self.record.tally)


def open_counts(path: Any) -> StoredCounts:
    """Return the counts that ``count_states(..., to=path)`` or ``StoredCounts.save`` has written.

    Parameters
    ----------
    path : str, path or obstore store
        As for `Store`. Also what merge_range() has written all ranges to.

    Returns
    -------
    StoredCounts
        It reads from there: keep the store as long as it is used.

    Raises
    ------
    TypeError, ValueError
        For a path that is none, or where ranges are missing; NoStore, UnknownFormat or
        DamagedStore, which are ValueErrors.
    """
    found = find_counts(path)
    return joined(find_ranges(path)) if found is None else found.counts


def find_counts(path: Any) -> KeptCounts | None:
    """Open a store of counts; None if there is none, or one that is not complete."""
    files = files_at(path)
    try:
        data = files.read(KEY)
    except (FileNotFoundError, IsADirectoryError):
        return None
    record = CountsRecord.from_bytes(data, str(files))
    return KeptCounts(str(files), record, KeptRun(files, record))


def range_path(path: Path, number: int) -> str:
    """Return where merge_range() writes a range of the counts at ``path``."""
    return f"{os.fspath(path).rstrip('/')}/{number}"


def find_ranges(path: Any) -> list[KeptCounts]:
    """Open all ranges at a path.

    Raises NoStore if there are none, and ValueError if some are missing.
    """
    first = find_counts(range_path(path, 0)) if isinstance(path, str | os.PathLike) else None
    if first is None or first.record.share is None:
        raise NoStore(f"{files_at(path)} holds no counts")
    others = (find_counts(range_path(path, number)) for number in range(1, first.record.share.of))
    found = [first, *(each for each in others if each is not None)]
    check_shares((each.place, each.record.share) for each in found)
    return found


def joined(kept: Sequence[KeptCounts]) -> StoredCounts:
    """Return the sum of stores of counts, which have all shares of a whole or none."""
    runs = joined_runs(kept)
    tally = Tally.sum(each.record.tally for each in kept) if len(runs) == 1 else None
    return StoredCounts(runs, kept[0].record.neurons, tally)


def joined_runs(kept: Sequence[KeptCounts]) -> list[SortedRun]:
    """Return runs that together are all counts. The ranges of a whole are one run."""
    ranges: dict[str, dict[int, KeptRun]] = {}  # by the whole or the place
    for each in kept:
        share = each.record.share
        if share is None or share.kind == "part":
            ranges[each.place] = {0: each.run}
        else:
            ranges.setdefault(share.whole, {})[share.number] = each.run
    return [JoinedRun([runs[number] for number in sorted(runs)]) for runs in ranges.values()]


def write_counts(
    path: Any,
    counts: StoredCounts,
    share: Share | None = None,
    progress: ProgressCallback | None = None,
) -> StoredCounts:
    """Write counts to a new store; see StoredCounts.save().

    ``progress`` is called with the blocks of runs that were merged so far, and all of them. Where a
    share is to be, the folders above it are created, and objects of a task that was killed are
    overwritten.
    """
    files = files_at(path)
    if isinstance(files, Folder):
        if share is not None:
            files.path.parent.mkdir(parents=True, exist_ok=True)
        with new_folder(files.path) as partial:
            _write(Folder(partial), counts, share, progress)
    else:
        if files.has_content() and (share is None or not _is_half_written(files)):
            raise ValueError(f"{files} exists; it is not overwritten")
        try:
            _write(files, counts, share, progress)
        except BaseException:
            for key in files.list_sizes():
                files.delete(key)
            raise
    found = find_counts(path)
    if found is None:
        raise NoStore(f"{files} was deleted while it was opened")
    return found.counts


def _is_half_written(files: Files) -> bool:
    return all(key.partition("/")[0] in ARRAYS for key in files.list_sizes())


def _write(
    files: Files, counts: StoredCounts, share: Share | None, progress: ProgressCallback | None
) -> None:
    width, runs = row_bytes(counts.neurons), runs_of(counts)
    chunk_rows = max(_LEAST_CHUNK_ROWS, _CHUNK_BYTES // width)
    dtype = narrowest(sum(run.most for run in runs))
    states = _column(files, "states", np.empty((0, width), np.uint8), chunk_rows)
    numbers = _column(files, "counts", np.empty(0, dtype), chunk_rows)
    fences = _column(files, "fences", np.empty((0, width), np.uint8), chunk_rows)
    tally, most = Tally(), 0
    for piece in counts.pieces():
        fences.append(piece.packed[-states.rows % chunk_rows :: chunk_rows])
        states.append(piece.packed)
        numbers.append(piece.counts.astype(dtype))
        tally.add(piece.counts)
        most = max(most, int(piece.counts.max()))
        if progress is not None:
            last = order_key(piece.packed[-1])
            done = sum(bisect_right(run.fences, last) for run in runs)
            progress(done, sum(len(run.fences) for run in runs))
    arrays = {column.key: _finished(column) for column in (states, numbers, fences)}
    record = CountsRecord(counts.neurons, most, tally, arrays, share)
    files.write(KEY, record.to_bytes())
    files.sync()


def _column(files: Files, key: str, empty: NDArray[Any], chunk_rows: int) -> Column:
    chunk_bytes = chunk_rows * empty.itemsize * int(np.prod(empty.shape[1:]))
    dimensions = ("state", "byte")[: empty.ndim] if key != "fences" else ("fence", "byte")
    return Column(
        files, key, empty, _at_once, BufferPool(chunk_bytes), dimensions, None, chunk_bytes
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
