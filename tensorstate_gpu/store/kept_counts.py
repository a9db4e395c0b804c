"""Stores of counts: a histogram as a zarr v3 group, with the checksums of a store of states.

The arrays are those of a sorted run (kept_runs.py). The record, an attribute of the group, is
written last: without it there are no counts.
"""

import contextlib
import os
import pathlib
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple
from uuid import uuid4

from tensorstate_gpu._arguments import function
from tensorstate_gpu._arrays.layout import row_bytes
from tensorstate_gpu._process.new_files import check_new, new_folder, note_unwritten
from tensorstate_gpu._process.progress import ProgressCallback, complete
from tensorstate_gpu._states.sorted_runs import Histogram, JoinedRun, SortedRun, order_key
from tensorstate_gpu._states.stored_counts import Path, StoredCounts, runs_of
from tensorstate_gpu._states.tallies import Tally
from tensorstate_gpu.errors import LedgerError, NoStore
from tensorstate_gpu.store.counts_entry import RUN_ARRAYS
from tensorstate_gpu.store.counts_record import CountsRecord, Share, check_shares
from tensorstate_gpu.store.documents import KEY
from tensorstate_gpu.store.files import Files, files_at
from tensorstate_gpu.store.folder import Folder
from tensorstate_gpu.store.kept_runs import KeptRun, write_run
from tensorstate_gpu.store.opened_record import why_nothing_is_there


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

    Examples
    --------
    >>> import numpy as np
    >>> from tensorstate_gpu import count_states
    >>> _ = count_states(np.array([[3], [0], [3]], np.uint8), to="memory://counts")
    >>> open_counts("memory://counts").entropy()
    0.9182958340544896
    """
    found = find_counts(path)
    return joined(find_ranges(path)) if found is None else found.counts


def find_counts(path: Any) -> KeptCounts | None:
    """Open a store of counts; None if there is none, or one that is not complete."""
    files = files_at(path)
    record = find_record(files)
    if record is None:
        return None
    run = KeptRun(files, "", row_bytes(record.neurons), record.most, record.arrays)
    return KeptCounts(str(files), record, run)


def find_record(files: Files) -> CountsRecord | None:
    """Return the record of a store of counts; None if there are none, or not all of them."""
    try:
        data = files.read(KEY)
    except FileNotFoundError:
        return None
    return CountsRecord.from_bytes(data, str(files))


def range_path(path: Path, number: int) -> str:
    """Return where merge_range() writes a range of the counts at ``path``."""
    return f"{os.fspath(path).rstrip('/')}/{number}"


def range_paths(path: Any) -> list[str]:
    """Return where all ranges of the counts at a path are, or should be.

    Raises NoStore if not even one of them is there.
    """
    if isinstance(path, str | os.PathLike):
        for number in _numbers_at(path):
            record = find_record(files_at(range_path(path, number)))
            if record is not None and record.share is not None:
                return [range_path(path, each) for each in range(record.share.of)]
    files = files_at(path)
    raise NoStore(f"{files} holds no counts{why_nothing_is_there(files)}")


def _numbers_at(path: Path) -> Iterator[int]:
    """Yield 0, and then, if they can be listed, the numbers that are names of folders."""
    yield 0
    with contextlib.suppress(OSError):
        names = files_at(path).list_folders()
        yield from (int(name) for name in names if name.isdecimal())


def find_ranges(path: Any) -> list[KeptCounts]:
    """Open all ranges at a path.

    Raises NoStore if there are none, and ValueError if some are missing.
    """
    found = [each for each in map(find_counts, range_paths(path)) if each is not None]
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
    *,
    rows: int | None = None,
    progress: ProgressCallback | None = None,
) -> StoredCounts:
    """Write counts to a new store; see StoredCounts.save().

    ``rows``: how many were counted; LedgerError is raised for another number. ``progress`` is
    called with the blocks of runs that were merged so far, and all of them. Where a share is to be,
    the folders above it are created, and objects of a task that was killed are overwritten.
    """
    function(progress, "progress")
    files = check_place(path, share)
    if isinstance(files, Folder):
        with new_folder(files.path) as partial:
            _write(Folder(partial), counts, share, rows, progress)
    else:
        try:
            _write(files, counts, share, rows, progress)
        except BaseException:
            for key in files.list_sizes():
                files.delete(key)
            raise
    found = find_counts(path)
    if found is None:
        raise NoStore(f"{files} was deleted while it was opened")
    return found.counts


def check_place(path: Any, share: Share | None = None) -> Files:
    """Return the files of a new store of counts; where a share is to be, create the folders above.

    Raises what write_counts() would raise for the path, so that nothing is counted in vain.
    """
    files = files_at(path)
    if isinstance(files, Folder):
        if share is not None:
            _create_folders_above(files.path)
        check_new(files.path)
    elif files.has_content() and (share is None or not _is_half_written(files)):
        raise ValueError(f"{files} exists; it is not overwritten")
    return files


def _create_folders_above(path: pathlib.Path) -> None:
    try:
        # A file that is in the way is what check_new() tells of.
        with contextlib.suppress(FileExistsError, NotADirectoryError):
            path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        note_unwritten(error)
        raise


def _is_half_written(files: Files) -> bool:
    return all(key.partition("/")[0] in RUN_ARRAYS for key in files.list_sizes())


def _write(
    files: Files,
    counts: StoredCounts,
    share: Share | None,
    rows: int | None,
    progress: ProgressCallback | None,
) -> None:
    runs = runs_of(counts)
    pieces: Iterator[Histogram] = ((each.packed, each.counts) for each in counts.pieces())
    if progress is not None:
        pieces = _with_progress(pieces, runs, progress)
    run = write_run(files, "", row_bytes(counts.neurons), runs, pieces)
    if rows not in (None, run.tally.total):
        raise LedgerError(f"{rows} rows were captured, {run.tally.total} counted")
    record = CountsRecord(
        counts.neurons, run.most, run.tally, run.arrays, share, identity=uuid4().hex
    )
    files.write(KEY, record.to_bytes())
    files.sync()


def _with_progress(
    pieces: Iterator[Histogram], runs: Sequence[SortedRun], progress: ProgressCallback
) -> Iterator[Histogram]:
    done, total = 0, sum(len(run.fences) for run in runs)
    for rows, counts in pieces:
        yield rows, counts
        last = order_key(rows[-1])
        done = sum(bisect_right(run.fences, last) for run in runs)
        progress(done, total)
    if not done:  # there were no rows
        complete(progress, total)
