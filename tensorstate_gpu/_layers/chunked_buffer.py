"""ChunkedBuffer: collects values into full chunks, for rows in memory and arrays in a store."""

from abc import ABC, abstractmethod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tensorstate_gpu._states.backends import cpu

# Large enough that managing a chunk costs nothing; small enough for a compressor to work in the
# CPU cache.
CHUNK_BYTES = 1 << 22
_SMALL = 1 << 20  # bytes, which one thread copies sooner than others would wake up


def chunk_size(chunk_bytes: int | None = None) -> int:
    """Return the bytes of a full chunk: the given number, or the default."""
    return CHUNK_BYTES if chunk_bytes is None else chunk_bytes


def copy_values(values: NDArray[Any], target: NDArray[Any]) -> None:
    """Copy values to an array of the same shape and dtype."""
    if values.nbytes <= _SMALL:
        target[:] = values
    else:
        cpu().copy_rows(values, target)


def copied(values: NDArray[Any]) -> NDArray[Any]:
    """Return a copy of values."""
    copy = np.empty_like(values)
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
        filled = self._filled + len(values)
        if filled <= len(self._buffer) and filled < self._chunk_rows:  # as most do
            copy_values(values, self._buffer[self._filled : filled])
            self._filled = filled
            return
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
        shape = (min(2 * room, self._chunk_rows), *self._buffer.shape[1:])
        buffer = np.empty(shape, self._buffer.dtype)
        buffer[: len(values)] = values
        return buffer

    def _new_full_buffer(self) -> NDArray[Any]:
        """Return a new buffer for a full chunk: a layer that fills one chunk usually fills more."""
        return np.empty((self._chunk_rows, *self._buffer.shape[1:]), self._buffer.dtype)
