"""Dask: counts of Dask arrays and of many stores, with one task for each part of the rows.

Parts are counted by tasks that share nothing; a task that is lost is run again. In memory, their
counts are merged as a tree. On disk, each writes a sorted run, and other tasks merge a range of all
of them (store/counted_parts.py): Dask moves no states then, only names of files.
"""

import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from itertools import accumulate, pairwise
from typing import Any, NamedTuple

try:
    import dask.array
except ImportError as error:
    raise ImportError("Dask arrays need dask: pip install 'dask[array]'") from error
import numpy as np
from dask.base import compute, get_scheduler
from dask.delayed import delayed
from dask.system import CPU_COUNT
from numpy.typing import NDArray

from tensorstate_gpu._arguments import positive_integer
from tensorstate_gpu._arrays.frameworks import loaded_module
from tensorstate_gpu._layers.counters import count_chunks
from tensorstate_gpu._process.memory_limit import get_memory_limit, memory_of_task
from tensorstate_gpu._states.packed_arguments import check_neurons, check_packed
from tensorstate_gpu._states.state_counts import StateCounts, merge
from tensorstate_gpu._states.stored_counts import Path, StoredCounts, runs_of
from tensorstate_gpu.errors import DamagedStore, LedgerError, NothingCaptured
from tensorstate_gpu.store.counted_parts import merge_range, write_share
from tensorstate_gpu.store.counts_record import Share
from tensorstate_gpu.store.files import files_at
from tensorstate_gpu.store.folder import Folder
from tensorstate_gpu.store.kept_counts import open_counts
from tensorstate_gpu.store.opening_stores import Unfinished, open_stores
from tensorstate_gpu.store.store import Store
from tensorstate_gpu.store.stored_layer import StoredLayer

Rows = NDArray[np.uint8]
Reader = Callable[..., Iterator[Rows]]  # of the rows of a part, in a task

_PARTS = "parts"  # the folder of sorted runs, next to the ranges; deleted at the end
_PART_OF_ARRAY = 1 << 28  # bytes of rows: all chunks of a part are in memory at the same time
_PART_OF_STORES = 1 << 30  # read chunk by chunk
_MERGED_AT_A_TIME = 8
_SHARE_OF_WORKER = 0.6  # of a worker's memory; the rest is for the interpreter and for results


def count_array(
    states: "dask.array.Array", neurons: int | None, to: Path | None
) -> StateCounts | StoredCounts:
    """Count the rows of a Dask array; see count_states()."""
    check_packed(states.dtype.name, states.shape, "states")
    sizes = states.chunks[0]
    if any(size != size for size in sizes):  # NaN: not known
        raise ValueError("states has chunks of unknown sizes: call compute_chunk_sizes() first")
    width = states.shape[1]
    bits = 8 * width if neurons is None else check_neurons(neurons, width, "neurons")
    blocks = states.rechunk({1: -1}).to_delayed()[:, 0].tolist()
    groups = _grouped(sizes, max(1, _PART_OF_ARRAY // width))
    parts = [_Part(_blocks, (blocks[group],)) for group in groups]
    job = _Job(f"{states.name}, {states.shape[0]:,} rows", bits, states.shape[0], parts)
    return job.counts(to, None)


def count_stores(
    paths: object,
    layer: str | None = None,
    *,
    client: object = None,
    to: Path | None = None,
    part_bytes: int = _PART_OF_STORES,
    unfinished: Unfinished = "refuse",
) -> StateCounts | StoredCounts:
    """Count the states of a layer in one or several stores, on a Dask cluster.

    Parameters
    ----------
    paths : str or path, or an iterable of them
        Stores that all workers can read; as for `open_stores`, which also says what they must have
        in common.
    layer : str, optional
        Its name; not needed if stores have one layer.
    client : distributed.Client, optional
        By default that of the program, or else threads of this process.
    to : str or path, optional
        Where to write the counts, in a folder or an object store that all workers can write to.
        They may then be larger than memory. If the call fails, what tasks have written stays there,
        and the same call goes on from it.
    part_bytes : int
        How many bytes of rows one task counts. A task reads them chunk by chunk.
    unfinished : "refuse" or "accept"
        As for `open_stores`.

    Returns
    -------
    StateCounts; with ``to`` a StoredCounts

    Raises
    ------
    TypeError, ValueError
        For stores that cannot be read as one (see `open_stores`), or if ``to`` exists.

    Examples
    --------
    >>> import numpy as np
    >>> import tensorstate_gpu as ts
    >>> with ts.Store("memory://of-dask", "x") as store:
    ...     point = ts.CapturePoint("layer", store)
    ...     point.declare(neurons=2)
    ...     point.append(np.array([[1], [3], [3]], np.uint8), instances=3)
    >>> count_stores("memory://of-dask").counts
    array([1, 2])
    """
    _check_client(client)
    stores = open_stores(paths, unfinished=unfinished)
    if layer is None and len(stores) != 1:
        raise ValueError(f"{stores} have the layers {stores.names}: layer= says which")
    joined = stores[stores.names[0] if layer is None else layer]
    if not len(joined):
        raise NothingCaptured(f"the stores hold no states of {joined.name!r}")
    layers = [store[joined.name] for store in stores.parts if store.names]
    layers = [each for each in layers if len(each)]
    rows, row_bytes = joined.shape
    number = -(-rows * row_bytes // positive_integer(part_bytes, "part_bytes"))
    parts = [
        _Part(_layers, (_slices(layers, rows * part // number, rows * (part + 1) // number),))
        for part in range(number)
    ]
    return _Job(joined.identity(), joined.max_entropy(), rows, parts).counts(to, client)


def _check_client(client: object) -> None:
    """Raise TypeError for what Dask cannot run tasks with; else it says so late."""
    try:
        get_scheduler(scheduler=client)
    except (RuntimeError, TypeError, ValueError) as error:
        raise TypeError(f"client must be a distributed.Client, got {client!r}: {error}") from error


class _Part(NamedTuple):
    """How a task reads its rows."""

    read: Reader
    arguments: tuple[object, ...]


class _Job(NamedTuple):
    """All parts of a whole, which is described by a text."""

    whole: str
    neurons: int
    rows: int
    parts: Sequence[_Part]

    def counts(self, to: Path | None, client: object) -> StateCounts | StoredCounts:
        counts = self._in_memory(client) if to is None else self._on_disk(to, client)
        if counts.total != self.rows:
            raise LedgerError(f"there are {self.rows:,} rows, {counts.total:,} were counted")
        return counts

    def _in_memory(self, client: object) -> StateCounts:
        tasks = [delayed(_count)(read, arguments, self.neurons) for read, arguments in self.parts]
        while len(tasks) > 1:
            starts = range(0, len(tasks), _MERGED_AT_A_TIME)
            tasks = [delayed(merge)(tasks[k : k + _MERGED_AT_A_TIME]) for k in starts]
        (counts,) = compute(*tasks, scheduler=client)
        result: StateCounts = counts
        return result

    def _on_disk(self, to: Path, client: object) -> StoredCounts:
        path = _absolute(to)
        _check_new(path)
        of = max(1, len(self.parts))
        runs = [
            delayed(_write_part)(*part, Share("part", number, of, self.whole), self.neurons, path)
            for number, part in enumerate(self.parts)
        ]
        ranges = [delayed(_merge_range)(runs, number, of, path) for number in range(of)]
        compute(*ranges, scheduler=client)
        _delete_parts(path)
        return open_counts(path)


# ---- tasks ---------------------------------------------------------------------------------------


def _count(read: Reader, arguments: tuple[object, ...], neurons: int) -> StateCounts:
    with _memory_of_thread():
        counts = count_chunks(read(*arguments), neurons)
        return counts if isinstance(counts, StateCounts) else counts.load()


def _write_part(
    read: Reader, arguments: tuple[object, ...], share: Share, neurons: int, to: str
) -> str:
    """Write the sorted run of a part. Return its path."""

    def count() -> StoredCounts:
        return StoredCounts(runs_of(count_chunks(read(*arguments), neurons)), neurons)

    path = f"{to}/{_PARTS}/{share.number}"
    with _memory_of_thread():
        write_share(path, share, neurons, count)
    return path


def _merge_range(paths: list[str], number: int, of: int, to: str) -> None:
    with _memory_of_thread():
        merge_range(paths, number, of, to)


def _blocks(blocks: list[Rows]) -> Iterator[Rows]:
    return map(np.ascontiguousarray, blocks)


def _layers(slices: list[tuple[str, str, str, int, int]]) -> Iterator[Rows]:
    """Read rows of stores; each slice is a path, a layer and its identity, and which rows."""
    for path, name, identity, start, stop in slices:
        layer = Store(path)[name]
        if layer.identity() != identity:
            raise DamagedStore(f"{path} has changed while it was counted")
        yield from layer.chunks(start, stop)


def _memory_of_thread() -> AbstractContextManager[None]:
    """Use no more than this thread's share of the memory of a worker, or of this process."""
    distributed = loaded_module("distributed")
    try:
        worker: Any = distributed and distributed.get_worker()
    except ValueError:  # not in a task of a worker
        worker = None
    if worker is None:
        return memory_of_task(get_memory_limit() // CPU_COUNT)
    limit = worker.memory_manager.memory_limit  # None: not limited
    size = get_memory_limit() if limit is None else int(_SHARE_OF_WORKER * limit)
    return memory_of_task(size // worker.state.nthreads)


# ---- parts ---------------------------------------------------------------------------------------


def _grouped(sizes: Sequence[int], rows: int) -> list[slice]:
    """Divide chunks into groups of neighbours with about so many rows."""
    stops = list(accumulate(sizes))
    edges = [0]
    for index, stop in enumerate(stops):
        begun = stops[edges[-1] - 1] if edges[-1] else 0
        if stop - begun >= rows or index + 1 == len(stops):
            edges.append(index + 1)
    return [slice(first, last) for first, last in pairwise(edges)]


def _slices(
    layers: Sequence[StoredLayer], start: int, stop: int
) -> list[tuple[str, str, str, int, int]]:
    """Return which rows of each store are the rows [start, stop) of all of them together."""
    edges = [0, *accumulate(map(len, layers))]
    return [
        (each.place, each.name, each.identity(), max(start, first) - first, min(stop, last) - first)
        for each, (first, last) in zip(layers, pairwise(edges), strict=True)
        if first < stop and start < last
    ]


# ---- files ---------------------------------------------------------------------------------------


def _absolute(to: Path) -> str:
    """Return a path that means the same to workers, whose current folder is another one."""
    if not isinstance(to, str | os.PathLike) or not isinstance(text := os.fspath(to), str):
        raise TypeError(f"to must be a str or a path, got {type(to).__name__}")
    return text if "://" in text else os.path.abspath(os.path.expanduser(text))


def _check_new(path: str) -> None:
    """Raise ValueError if there is anything but what tasks of a call that failed have written."""
    files = files_at(path)
    if files.has_content() and not files.list_sizes(_PARTS):
        raise ValueError(f"{path} exists; it is not overwritten")


def _delete_parts(path: str) -> None:
    """Delete the sorted runs, and what tasks that were killed have left."""
    files = files_at(path)
    if not isinstance(files, Folder):
        for key in files.list_sizes(_PARTS):
            files.delete(key)
        return
    for folder in (files.path / _PARTS, *files.path.glob(".*.partial")):
        shutil.rmtree(folder)
