"""Values gathered to whole chunks: what rows in memory and arrays in a store have in common."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

# Large enough that a chunk costs nothing to manage, small enough that a compressor works within
# the cache.
CHUNK_BYTES = 1 << 22


def chunk_size(chunk_bytes: int | None = None) -> int:
    """Bytes of a whole chunk: as chosen, or the default."""
    return CHUNK_BYTES if chunk_bytes is None else chunk_bytes


class ChunkedBuffer(ABC):
    """Takes values in pieces of any size and passes them on in whole chunks.

    What follows the last whole chunk waits in a buffer. ``empty``: an array without values, of
    their type and shape.
    """

    def __init__(self, empty: NDArray[Any], chunk_rows: int) -> None:
        self._chunk_rows = chunk_rows
        self._base = 0  # rows before the buffer
        # Grows to a whole chunk, so that a small capture takes little memory.
        self._buffer = empty
        self._filled = 0

    @property
    def rows(self) -> int:
        """Rows kept."""
        return self._base + self._filled

    def append(self, values: NDArray[Any]) -> None:
        """Keep a copy of the values: all, or none where an exception is raised."""
        room = self._chunk_rows - self._filled
        head, rest = values[:room], values[room:]
        if self._filled + len(head) > len(self._buffer):
            self._buffer = self._grown(self._buffer[: self._filled], self._filled + len(head))
        self._buffer[self._filled : self._filled + len(head)] = head
        if len(values) < room:
            self._filled += len(head)
            return
        last = len(rest) - len(rest) % self._chunk_rows
        following = self._whole()
        following[: len(rest) - last] = rest[last:]
        starts = range(0, last, self._chunk_rows)
        whole = self._buffer[: self._chunk_rows]  # it was made longer where chunks were cut smaller
        self._write([whole, *(rest[i : i + self._chunk_rows] for i in starts)])
        self._base += self._chunk_rows + last
        self._buffer, self._filled = following, len(rest) - last

    @abstractmethod
    def _write(self, chunks: Sequence[NDArray[Any]]) -> None:
        """Keep whole chunks behind those there are, all or none; only the first is a buffer."""

    def _grown(self, values: NDArray[Any], room: int) -> NDArray[Any]:
        """A new buffer that begins with ``values``, with room for that many and more."""
        shape = (min(2 * room, self._chunk_rows), *self._buffer.shape[1:])
        buffer = np.empty(shape, self._buffer.dtype)
        buffer[: len(values)] = values
        return buffer

    def _whole(self) -> NDArray[Any]:
        """A new buffer of a whole chunk: who has filled one is likely to fill another."""
        return np.empty((self._chunk_rows, *self._buffer.shape[1:]), self._buffer.dtype)
