"""Sorting and counting packed states."""

from collections.abc import Sequence
from typing import Any, Protocol, cast, overload, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from tensorstate_gpu._arguments import integer
from tensorstate_gpu._arrays.array_types import ArrayT, CudaArray, DLPackArray
from tensorstate_gpu._arrays.backend_protocol import Backend
from tensorstate_gpu._arrays.dlpack import CPU, Tensor, export_like
from tensorstate_gpu._arrays.frameworks import PaddedHistogram, dask_counting, jax_counts
from tensorstate_gpu._process.memory_limit import explicit_memory_limit
from tensorstate_gpu._process.progress import (
    OnDone,
    ProgressCallback,
    counted_then_written,
    with_progress,
)
from tensorstate_gpu._states.backends import cpu, device_backend_for
from tensorstate_gpu._states.external_counter import ExternalCounter
from tensorstate_gpu._states.packed_arguments import borrow_packed, check_neurons, warn_if_unpacked
from tensorstate_gpu._states.sorted_runs import SortedRun
from tensorstate_gpu._states.spilling_counter import SpillingCounter
from tensorstate_gpu._states.state_counts import StateCounts
from tensorstate_gpu._states.stored_counts import Path, StoredCounts, check_place, saved

_STREAMED_BYTES = 1 << 26  # of a mapped file that are counted at a time


@runtime_checkable
class HasHistogram(Protocol):
    """An object that counts its own states: a capture point, or a layer of a store."""

    name: str

    @property
    def neurons(self) -> int | None: ...

    @property
    def state_count(self) -> int: ...

    @overload
    def histogram(self) -> StateCounts: ...
    @overload
    def histogram(self, *, to: Path, progress: ProgressCallback | None = ...) -> StoredCounts: ...


@overload
def sort_states(
    states: NDArray[np.uint8], state_count: int | None = None
) -> tuple[NDArray[np.int64], NDArray[np.int64]]: ...
@overload
def sort_states(states: ArrayT, state_count: int | None = None) -> tuple[ArrayT, ArrayT]: ...
@overload
def sort_states(states: CudaArray, state_count: int | None = None) -> tuple[Any, Any]: ...
def sort_states(states: Any, state_count: int | None = None) -> tuple[Any, Any]:
    """Sort packed states, so that equal ones become neighbours.

    Parameters
    ----------
    states : uint8 array of shape (states, bytes)
        Or unpacked states, a bool array (states, neurons).
    state_count : int, optional
        Only the first ``state_count`` rows are read; all by default.

    Returns
    -------
    edges : int64 array of shape (distinct + 1,)
        ``states[index][edges[i]:edges[i + 1]]`` are equal; ``edges[0]`` is 0, ``edges[-1]`` is
        ``state_count``.
    index : int64 array of shape (state_count,)
        The stable order of the rows as little-endian integers; that of bool states is the same as
        that of their packed ones.

    Raises
    ------
    TypeError, ValueError
        For states that are not 2-D uint8 or bool, or a ``state_count`` greater than the rows.

    Examples
    --------
    >>> import numpy as np
    >>> edges, index = sort_states(np.array([[3], [0], [3]], np.uint8), 3)
    >>> edges, index
    (array([0, 1, 3]), array([1, 0, 2]))
    """
    backend, packed = borrow_packed(states, or_bool=True)
    rows = packed.shape[0]
    count = rows if state_count is None else integer(state_count, "state_count")
    if not 0 <= count <= rows:
        raise ValueError(f"state_count must be between 0 and the {rows} rows, got {count}")
    with backend.working_on(packed):
        edges, index = backend.sort(backend.view(packed)[:count])
        return export_like(edges, states), export_like(index, states)


@overload
def count_states(
    states: DLPackArray | CudaArray | HasHistogram, neurons: int | None = None
) -> StateCounts: ...
@overload
def count_states(
    states: DLPackArray | CudaArray | HasHistogram,
    neurons: int | None = None,
    *,
    to: Path,
    progress: ProgressCallback | None = None,
) -> StoredCounts: ...
@overload
def count_states(
    states: object, neurons: int | None = None, *, size: int, fill_value: int = 0
) -> PaddedHistogram: ...
def count_states(
    states: Any,
    neurons: int | None = None,
    *,
    size: int | None = None,
    fill_value: int | None = None,
    to: Path | None = None,
    progress: ProgressCallback | None = None,
) -> StateCounts | StoredCounts | PaddedHistogram:
    """Count how often each distinct packed state occurs: exactly, byte by byte.

    Parameters
    ----------
    states : uint8 array of shape (states, bytes), capture point or layer of a Store
        A layer of a store is counted chunk by chunk: it may be larger than memory. So may a
        np.memmap. Of a Dask array, tasks of about 256 MB are counted on the cluster.
    neurons : int, optional
        How many bits of a row are neurons; all of them by default.
    size : int, optional
        For JAX, also inside ``jit``, ``vmap`` and ``scan``: the number of distinct states that
        the result has room for, with the conventions of ``jnp.unique``. It says whether there
        were more. Bits beyond ``neurons`` are not looked for there.
    fill_value : int
        With ``size``: the bytes of rows that are not needed, 0 by default.
    to : str or path, optional
        Where to write the counts, in a new store: they may be larger than memory.
        get_memory_limit() bounds what is in memory meanwhile. Arrays may be np.memmap.
    progress : callable, optional
        With ``to``: is called with the rows counted and written so far, and with twice their
        number: each is counted, and then written with all that are equal. Not for Dask arrays,
        whose schedulers show how far they are.

    Returns
    -------
    StateCounts; with ``to`` a StoredCounts; with ``size`` a PaddedCounts, a pytree of arrays

    Raises
    ------
    TypeError, ValueError
        For packed states that are not 2-D uint8, or have bits set beyond ``neurons``; for ``to``,
        if the path exists.
    MemoryError
        Without ``to``, if the counts are larger than a limit that was set; see set_memory_limit.

    Examples
    --------
    >>> import numpy as np
    >>> counts = count_states(np.array([[3], [0], [3]], np.uint8), neurons=2)
    >>> counts.state_ids(), counts.counts
    ([b'\\x00', b'\\x03'], array([1, 2]))
    """
    if size is not None:
        if to is not None or progress is not None:
            raise TypeError("size excludes to and progress")
        return jax_counts().count(states, neurons, size, fill_value or 0)
    if fill_value is not None:
        raise TypeError("fill_value needs size=")
    if progress is not None and to is None:
        raise TypeError("progress needs to=")
    dask = dask_counting(states)
    if dask is not None:
        if progress is not None:
            raise TypeError("progress is not for Dask arrays: dask.diagnostics has ProgressBar")
        return cast(StateCounts | StoredCounts, dask.count_array(states, neurons, to))
    # A test of a protocol looks for each of its attributes: as long as counting a few rows.
    if not isinstance(states, np.ndarray) and isinstance(states, HasHistogram):
        if neurons not in (None, states.neurons):
            raise ValueError(f"{states.name} has {states.neurons} neurons, not {neurons}")
        return states.histogram() if to is None else states.histogram(to=to, progress=progress)
    backend, packed = borrow_packed(states)
    number, width = packed.shape
    bits = 8 * width if neurons is None else check_neurons(neurons, width, "neurons")
    on_counted, on_written = counted_then_written(progress, number)
    if to is not None:
        check_place(to)
    with backend.working_on(packed):
        if packed.device[0] == CPU and (to is not None or _needs_files(packed)):
            stored = StoredCounts(_runs(packed.numpy(), on_counted), bits)
            return stored.load() if to is None else stored.save(to, progress=on_written)
        is_file = isinstance(states, np.memmap) and states.nbytes > _STREAMED_BYTES
        count = _count_by_parts if is_file else _count_rows
        rows, counts = count(backend, packed)
    if neurons is None and len(rows) > 1:  # one state says too little
        warn_if_unpacked(rows)
    counted = StateCounts.trusted(rows, counts, bits)
    return counted if to is None else saved(counted, to, progress=on_written)


def _needs_files(packed: Tensor) -> bool:
    """Return whether counting takes more than a limit that was set."""
    limit = explicit_memory_limit()
    rows, width = packed.shape
    # Where all rows differ: keys, order, and the result, of which the rows are a copy.
    return limit is not None and rows * (width + 40) > limit


def _runs(rows: NDArray[np.uint8], on_counted: OnDone | None) -> Sequence[SortedRun]:
    """Count rows in bounded memory."""
    counter = ExternalCounter(rows.shape[1])
    step = counter.rows_at_a_time
    parts = (rows[start : start + step] for start in range(0, len(rows), step))
    for part in with_progress(parts, len, on_counted):
        counter.add(part)
    return counter.runs()


def _count_by_parts(
    backend: Backend, packed: Tensor
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Count rows of a file, which may exceed memory: only distinct ones take any."""
    rows, width = backend.view(packed), packed.shape[1]
    counter, step = cpu().counter(width), _STREAMED_BYTES // width + 1
    for start in range(0, packed.shape[0], step):
        counter.add(rows[start : start + step])
    return counter.result()


def _count_rows(backend: Backend, packed: Tensor) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Return the distinct rows and their counts, in host memory."""
    rows = backend.view(packed)
    try:
        distinct, counts = backend.count(rows)
        return backend.to_host(distinct), backend.to_host(counts)
    except MemoryError:
        if packed.device[0] == CPU:
            raise
    counter = SpillingCounter(device_backend_for(packed.device), packed.shape[1])
    counter.add(rows)
    return counter.result()
