"""Counting in parts, by tasks that share nothing but files: count_part() and then merge_range().

Each task writes one store of counts, which gets its name when it is complete. It says of which
whole it is a share, so that merging knows of shares that are missing or given twice.
"""

from collections.abc import Callable, Iterable, Iterator

import google_crc32c
import numpy as np
from numpy.typing import NDArray

from tensorstate_gpu._arguments import function, integer, listed, positive_integer
from tensorstate_gpu._arrays.array_types import DLPackArray
from tensorstate_gpu._arrays.dlpack import CPU
from tensorstate_gpu._layers.counters import count_chunks
from tensorstate_gpu._process.progress import (
    ProgressCallback,
    complete,
    counted_then_written,
    with_progress,
)
from tensorstate_gpu._states.merging_runs import ranges_of
from tensorstate_gpu._states.packed_arguments import borrow_packed, check_neurons
from tensorstate_gpu._states.sorted_runs import RangeOfRun
from tensorstate_gpu._states.stored_counts import Path, StoredCounts, runs_of
from tensorstate_gpu.store.counts_record import Share, check_shares
from tensorstate_gpu.store.files import real_place
from tensorstate_gpu.store.kept_counts import (
    KeptCounts,
    check_place,
    find_counts,
    find_ranges,
    joined,
    joined_runs,
    range_path,
    write_counts,
)
from tensorstate_gpu.store.stored_rows import StoredRows

Rows = NDArray[np.uint8]

_MOST_RANGES = 1 << 20  # each of which is a store
_BATCH_BYTES = 1 << 26  # of an array that are counted at a time


def count_part(
    states: StoredRows | DLPackArray,
    number: int,
    of: int,
    to: Path,
    *,
    neurons: int | None = None,
    name: str | None = None,
    progress: ProgressCallback | None = None,
) -> StoredCounts:
    """Count one of several parts of the rows, and write the counts to a new store.

    For tasks on several machines: each counts a part, and merge_counts() or merge_range() adds them
    up. A task that runs again finds the counts that it has written, and returns them.

    Parameters
    ----------
    states : layer of a Store, or uint8 array of shape (states, bytes) in host memory
        The same for all parts. It is read in pieces: an array may be a np.memmap.
    number, of : int
        Which part, from 0, and how many there are.
    to : str or path
        Where to write the counts; folders above it are created. For each part another one.
    neurons : int, optional
        How many bits of a row are neurons; by default those of the layer, or all of them.
    name : str, optional
        What the rows are called, so that parts of two arrays of the same shape are not confused.
        A layer of a store has a name, and checksums.
    progress : callable, optional
        Is called with the rows of the part counted and written so far, and with twice their number:
        each is counted, and then written with all that are equal.

    Raises
    ------
    TypeError, ValueError
        For other states, a part that does not exist, or other counts at ``to``.

    Examples
    --------
    >>> import numpy as np
    >>> rows = np.array([[3], [0], [3]], np.uint8)
    >>> paths = ["memory://part0", "memory://part1"]
    >>> for number, path in enumerate(paths):
    ...     part = count_part(rows, number, 2, path)
    >>> merge_counts(paths).load().counts
    array([1, 2])
    """
    number, of = _checked(number, of)
    rows, bits, whole = _described(states, neurons, name)
    start, stop = rows * number // of, rows * (number + 1) // of
    on_counted, on_written = counted_then_written(progress, stop - start)

    def count() -> StoredCounts:
        chunks = with_progress(_read(states, start, stop), len, on_counted)
        return StoredCounts(runs_of(count_chunks(chunks, bits)), bits)

    share = Share("part", number, of, whole)
    return write_share(to, share, bits, count, on_written)


def merge_range(
    paths: Iterable[Path],
    number: int,
    of: int,
    to: Path,
    *,
    progress: ProgressCallback | None = None,
) -> StoredCounts:
    """Add up one range of the states in several stores of counts, and write it.

    The states of all stores, in order, are divided into ranges of about as many. Each task merges
    one of them; all together they are the counts that ``store.open_counts(to)`` reads. A task that
    runs again finds the range that it has written, and returns it.

    Parameters
    ----------
    paths : iterable of str or path
        Stores of counts: parts, each of which must be there once, or whole ones.
    number, of : int
        Which range, from 0, and how many there are.
    to : str or path
        Where all ranges are written; this one is the store ``{to}/{number}``.
    progress : callable, optional
        Is called with the chunks merged so far, and all of the range.

    Raises
    ------
    TypeError, ValueError
        If a part is missing or given twice, for different numbers of neurons, a range that does not
        exist, or other counts at ``to``.

    Examples
    --------
    >>> import numpy as np
    >>> from tensorstate_gpu.store import open_counts
    >>> _ = count_part(np.array([[3], [0], [3]], np.uint8), 0, 1, "memory://all")
    >>> for number in range(2):
    ...     part = merge_range(["memory://all"], number, 2, "memory://ranges")
    >>> open_counts("memory://ranges").load().counts
    array([1, 2])
    """
    number, of = _checked(number, positive_integer(of, "of", _MOST_RANGES))
    kept = _opened(paths)
    if find_counts(to) is not None:
        raise ValueError(f"{to} exists; it is not overwritten")
    runs, bits = joined_runs(kept), kept[0].record.neurons
    ranges = ranges_of(runs, of)
    limits = ranges[number]
    parts = [] if limits is None else [RangeOfRun(run, *limits) for run in runs]
    checksums = sorted(each.record.checksum for each in kept)
    whole = f"{len(kept)} stores of counts ({_checksum(repr((checksums, ranges)))})"
    share = Share("range", number, of, whole)
    target = range_path(to, number)
    return write_share(target, share, bits, lambda: StoredCounts(parts, bits), progress)


def merge_counts(
    paths: Iterable[Path], to: Path | None = None, *, progress: ProgressCallback | None = None
) -> StoredCounts:
    """Add up all counts in several stores of counts.

    Parameters
    ----------
    paths : iterable of str or path
        Stores of counts: parts, each of which must be there once, or whole ones.
    to : str or path, optional
        Where to write the sum. Without it, nothing is read before the result is measured, and the
        stores must be kept as long as it is used.
    progress : callable, optional
        With ``to``: is called with the chunks merged so far, and all of them.

    Raises
    ------
    TypeError, ValueError
        If a part is missing or given twice, for different numbers of neurons, or if ``to`` exists.

    Examples
    --------
    >>> import numpy as np
    >>> from tensorstate_gpu import count_states
    >>> for day in range(2):
    ...     counts = count_states(np.array([[3], [day]], np.uint8), to=f"memory://day{day}")
    >>> merge_counts(["memory://day0", "memory://day1"]).load().counts
    array([1, 1, 2])
    """
    if progress is not None and to is None:
        raise TypeError("progress needs to=")
    counts = joined(_opened(paths))
    return counts if to is None else write_counts(to, counts, progress=progress)


def write_share(
    path: Path,
    share: Share,
    neurons: int,
    count: Callable[[], StoredCounts],
    progress: ProgressCallback | None = None,
) -> StoredCounts:
    """Write what ``count`` returns, unless an earlier run of this task has written it.

    Raises ValueError if something else is at the path.
    """
    function(progress, "progress")
    there = _find_share(path, share, neurons)
    if there is not None:
        complete(progress, 1)
        return there
    try:
        check_place(path, share)
        counts = count()
        return write_counts(path, counts, share, progress=progress)
    except (OSError, ValueError):
        # Another run of the same task was faster: folders are not replaced.
        there = _find_share(path, share, neurons)
        if there is None:
            raise
        complete(progress, 1)
        return there


def _find_share(path: Path, share: Share, neurons: int) -> StoredCounts | None:
    found = find_counts(path)
    if found is None:
        return None
    if (found.record.share, found.record.neurons) != (share, neurons):
        there = found.record.share or "a whole"
        raise ValueError(f"{found.place} exists: it is {there}, not {share}; it is not overwritten")
    return found.counts


def _checked(number: int, of: int) -> tuple[int, int]:
    of, number = positive_integer(of, "of"), integer(number, "number")
    if not 0 <= number < of:
        raise ValueError(f"number must be from 0 to {of - 1}, got {number}: there are {of}")
    return number, of


def _described(
    states: StoredRows | DLPackArray, neurons: int | None, name: str | None
) -> tuple[int, int, str]:
    """Return the rows, the neurons, and a text that tells these states from others."""
    if not isinstance(name, str | None):
        raise TypeError(f"name must be a str, got {type(name).__name__}")
    if isinstance(states, StoredRows):
        if neurons not in (None, states.neurons):
            raise ValueError(f"{states.name} has {states.neurons} neurons, not {neurons}")
        return len(states), states.max_entropy(), name or states.identity()
    _, packed = borrow_packed(states)
    if packed.device[0] != CPU:
        raise ValueError("states must be in host memory: parts are counted on the CPU")
    rows, width = packed.shape
    bits = 8 * width if neurons is None else check_neurons(neurons, width, "neurons")
    return rows, bits, name or f"an array of {rows:,} rows of {width} bytes"


def _read(states: StoredRows | DLPackArray, start: int, stop: int) -> Iterator[Rows]:
    if isinstance(states, StoredRows):
        return states.chunks(start, stop)
    rows = borrow_packed(states)[1].numpy()[start:stop]
    step = _BATCH_BYTES // rows.shape[1] + 1
    return (rows[first : first + step] for first in range(0, len(rows), step))


def _opened(paths: Iterable[Path]) -> list[KeptCounts]:
    """Open stores of counts. Raises ValueError unless they can be added up."""
    if isinstance(paths, str):
        raise TypeError("paths must be a list of paths, got a str")
    kept: list[KeptCounts] = []
    for path in listed(paths, "paths", "paths"):
        found = find_counts(path)
        kept += find_ranges(path) if found is None else [found]
    if not kept:
        raise ValueError("paths is empty: there is nothing to merge")
    _check_once((each.place, real_place(each.place)) for each in kept)
    check_shares((each.place, each.record.share) for each in kept)
    _check_once((each.place, each.record.identity or each.place) for each in kept)
    for each in kept:
        if each.record.neurons != kept[0].record.neurons:
            raise ValueError(
                f"{kept[0].place} has counts of {kept[0].record.neurons} neurons, {each.place} of "
                f"{each.record.neurons}"
            )
    return kept


def _check_once(places: Iterable[tuple[str, str]]) -> None:
    """Raise ValueError if two places have the same identity: states would be counted twice."""
    seen: dict[str, str] = {}
    for place, identity in places:
        if identity in seen:
            other = seen[identity]
            also = "" if other == place else f": it is the same as {other}, or a copy"
            raise ValueError(f"{place} is given twice{also}")
        seen[identity] = place


def _checksum(text: str) -> str:
    return f"{google_crc32c.value(text.encode()):08x}"
