"""The CPU backend: serial Numba kernels on the library's own thread pool, for NumPy arrays."""

from contextlib import AbstractContextManager, nullcontext
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tensorstate_gpu._arrays.dlpack import Tensor

from .bits import distances, transpose
from .count import count
from .merge import merge
from .neurons import cofiring, firing_counts
from .pack import compress
from .pack_by_function import compress_by_function
from .packer import packer
from .row_sets import isin, unique
from .running_counts import Counter as counter
from .sort import sort
from .stage import append_to_stage
from .threads import in_parallel
from .unpack import decompress, popcount

__all__ = [
    "append_to_stage",
    "cofiring",
    "compress",
    "compress_by_function",
    "copy_rows",
    "count",
    "counter",
    "decompress",
    "distances",
    "firing_counts",
    "isin",
    "merge",
    "namespace",
    "packer",
    "popcount",
    "rows_where",
    "sort",
    "to_host",
    "transpose",
    "unique",
    "view",
    "with_columns",
    "working_on",
]

_NOTHING = nullcontext()


def working_on(
    tensor: Tensor, *, exports: bool = True, recorded: bool = False
) -> AbstractContextManager[None]:
    """Do nothing: the CPU has no streams."""
    return _NOTHING


def view(tensor: Tensor) -> NDArray[Any]:
    """Return the same memory as a NumPy array of unsigned integers."""
    return tensor.numpy()


def namespace() -> ModuleType:
    """Return NumPy."""
    return np


def to_host(array: NDArray[Any]) -> NDArray[Any]:
    """Return the array, which is in host memory already."""
    return array


def copy_rows(rows: NDArray[Any], target: NDArray[Any]) -> None:
    """Copy rows to others of the same shape and dtype, on several threads if they are large.

    The pages of new memory are what takes long: on the host of an H200, eight threads filled them
    five times as fast as one.
    """

    def task(start: int, stop: int) -> None:
        target[start:stop] = rows[start:stop]

    in_parallel(task, len(rows), rows.nbytes)


def rows_where(packed: NDArray[np.uint8], chosen: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Return the rows that a mask selects."""
    return packed[chosen]


def with_columns(packed: NDArray[np.uint8], columns: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return rows with more bytes behind them.

    Row by row as items of one size: five times as fast as np.concatenate(), which copies bytes.
    """
    rows, more = np.ascontiguousarray(packed), np.ascontiguousarray(columns)
    items = [np.dtype((np.void, part.shape[1])) for part in (rows, more)]
    wider = np.empty(len(rows), np.dtype([("row", items[0]), ("more", items[1])]))
    wider["row"], wider["more"] = rows.view(items[0])[:, 0], more.view(items[1])[:, 0]
    return wider.view(np.uint8).reshape(len(rows), -1)
