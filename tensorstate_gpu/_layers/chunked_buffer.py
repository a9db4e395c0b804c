"""ChunkedBuffer: collects values into full chunks, for rows in memory and arrays in a store."""

import math
import mmap
from abc import ABC, abstractmethod
from contextlib import suppress
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tensorstate_gpu._states.backends import cpu

# Large enough that managing a chunk costs nothing; small enough for a compressor to work in the
# CPU cache.
CHUNK_BYTES = 1 << 22
_SMALL = 1 << 20  # bytes, which one thread copies sooner than others would wake up
_HUGE_PAGE = 1 << 21
# An enlarged buffer has room for so many times its values: what is not touched yet takes no memory,
# and what is copied is touched again.
_GROWTH = 8


def chunk_size(chunk_bytes: int | None = None) -> int:
    """Return the bytes of a full chunk: the given number, or the default."""
    return CHUNK_BYTES if chunk_bytes is None else chunk_bytes


def new_array(shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Return a new array, on Linux in huge pages if it is large. Raises MemoryError.

    The first touch of a page of 4 KiB takes about 2 us on a virtual machine, that of a huge page
    0.25 ms. Apart from malloc, it takes no memory that the framework has freed, touched, and will
    ask for again in the next pass.
    """
    size = math.prod(shape) * dtype.itemsize
    if size < _HUGE_PAGE or dtype.hasobject or not hasattr(mmap, "MADV_HUGEPAGE"):
        return np.empty(shape, dtype)
    try:  # one page more, to begin with a whole one; what is not touched takes no memory
        pages = mmap.mmap(-1, size + 2 * _HUGE_PAGE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    except OSError as error:
        raise MemoryError(f"no memory for {size:,} bytes ({error})") from error
    with suppress(OSError):  # a system without huge pages
        pages.madvise(mmap.MADV_HUGEPAGE)
    memory = np.frombuffer(pages, np.uint8)
    start = -memory.ctypes.data % _HUGE_PAGE
    return memory[start : start + size].view(dtype).reshape(shape)


def copy_values(values: NDArray[Any], target: NDArray[Any]) -> None:
    """Copy values to an array of the same shape and dtype."""
    if values.nbytes <= _SMALL:
        target[:] = values
    else:
        cpu().copy_rows(values, target)


def copied(values: NDArray[Any]) -> NDArray[Any]:
    """Return a copy of values."""
    copy = new_array(values.shape, values.dtype)
    copy_values(values, copy)
    return copy


class ChunkedBuffer(ABC):
    """Takes values in batches of any size and passes them on in full chunks.

    The values after the last full chunk are buffered. ``empty``: an array without values that has
    their dtype and shape.
    """

    def __init__(self, empty: NDArray[Any], chunk_rows: int) -> None:
        self._chunk_rows = chunk_rows
        self._base = 0  # rows before the buffer
        # Starts small and grows to a full chunk, so that a small capture needs little memory.
        self._buffer = empty
        self._filled = 0

    @property
    def rows(self) -> int:
        """Number of rows."""
        return self._base + self._filled

    def append(self, values: NDArray[Any]) -> None:
        """Store a copy of the values: all of them, or none if an exception is raised."""
        room = self._chunk_rows - self._filled
        head, rest = values[:room], values[room:]
        if self._filled + len(head) > len(self._buffer):
            self._buffer = self._enlarged(self._buffer[: self._filled], self._filled + len(head))
        copy_values(head, self._buffer[self._filled : self._filled + len(head)])
        if len(values) < room:
            self._filled += len(head)
            return
        last = len(rest) - len(rest) % self._chunk_rows
        following = self._new_full_buffer()
        copy_values(rest[last:], following[: len(rest) - last])
        full = self._buffer[: self._chunk_rows]  # a commit may have made the chunks smaller
        self._write_chunks(full, rest[:last])
        self._base += self._chunk_rows + last
        self._buffer, self._filled = following, len(rest) - last

    @abstractmethod
    def _write_chunks(self, first: NDArray[Any], others: NDArray[Any]) -> None:
        """Append full chunks, all or none: the first, which needs no copy, and any number more."""

    def _split(self, values: NDArray[Any]) -> list[NDArray[Any]]:
        """Return the full chunks of which ``values`` consist, without a copy."""
        starts = range(0, len(values), self._chunk_rows)
        return [values[i : i + self._chunk_rows] for i in starts]

    def _enlarged(self, values: NDArray[Any], room: int) -> NDArray[Any]:
        """Return a new buffer that begins with ``values`` and holds at least ``room`` rows."""
        shape = (min(_GROWTH * room, self._chunk_rows), *self._buffer.shape[1:])
        buffer = new_array(shape, self._buffer.dtype)
        buffer[: len(values)] = values
        return buffer

    def _new_full_buffer(self) -> NDArray[Any]:
        """Return a new buffer for a full chunk: a layer that fills one chunk usually fills more."""
        return new_array((self._chunk_rows, *self._buffer.shape[1:]), self._buffer.dtype)
