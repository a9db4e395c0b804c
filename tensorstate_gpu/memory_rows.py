"""Packed rows in memory, in order; and what this shares with stored_rows.py, its twin on disk."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

# Rows are gathered to chunks of this size: large enough that a chunk costs nothing to manage,
# small enough that a compressor works within the cache.
CHUNK_BYTES = 1 << 22

Rows = NDArray[np.uint8]


class RowKeeper(ABC):
    """Keeps every packed row, in order and in whole chunks: in memory or on disk.

    What follows the last whole chunk waits in a buffer.
    """

    outlives_process = False  # whether what is not flushed when the program ends is lost

    def __init__(self, row_bytes: int, chunk_rows: int, base: int = 0) -> None:
        self._row_bytes = row_bytes
        self._chunk_rows = chunk_rows
        self._base = base  # rows before the buffer
        # Grows to a whole chunk, so that a small capture takes little memory.
        self._buffer = np.empty((0, row_bytes), np.uint8)
        self._filled = 0

    @property
    def rows(self) -> int:
        """Rows kept."""
        return self._base + self._filled

    def append(self, packed: Rows) -> None:
        """Keep a copy of the rows: all, or none where an exception is raised."""
        room = self._chunk_rows - self._filled
        head, rest = packed[:room], packed[room:]
        if self._filled + len(head) > len(self._buffer):
            self._buffer = self._grown(self._buffer[: self._filled], self._filled + len(head))
        self._buffer[self._filled : self._filled + len(head)] = head
        if len(packed) < room:
            self._filled += len(head)
            return
        last = len(rest) - len(rest) % self._chunk_rows
        following = self._grown(rest[last:], len(rest) - last)
        starts = range(0, last, self._chunk_rows)
        self._write([self._buffer, *(rest[i : i + self._chunk_rows] for i in starts)])
        self._base += self._chunk_rows + last
        self._buffer, self._filled = following, len(rest) - last

    @abstractmethod
    def _write(self, chunks: Sequence[Rows]) -> None:
        """Keep whole chunks behind those there are, all or none; only the first is a buffer."""

    @abstractmethod
    def flush(self) -> None:
        """Bring what is still buffered to where it is kept."""

    @abstractmethod
    def chunks(self) -> Iterator[Rows]:
        """All rows that are there at the call, in order, in read-only pieces (rows, bytes)."""

    def _grown(self, rows: Rows, room: int) -> Rows:
        """A new buffer that begins with ``rows``, with room for that many and more."""
        buffer = np.empty((min(2 * room, self._chunk_rows), self._row_bytes), np.uint8)
        buffer[: len(rows)] = rows
        return buffer


class MemoryRows(RowKeeper):
    """All rows in memory, each whole chunk encoded by a numcodecs codec if one is given."""

    def __init__(self, row_bytes: int, compressor: Any = None) -> None:
        super().__init__(row_bytes, max(1, CHUNK_BYTES // row_bytes))
        self._compressor = compressor
        self._full: list[Any] = []

    def _write(self, chunks: Sequence[Rows]) -> None:
        if self._compressor is None:
            kept = [chunks[0], *(chunk.copy() for chunk in chunks[1:])]
        else:
            # A codec may give back its input, and only the first chunk is ours to keep.
            kept = [
                self._compressor.encode(chunk) for chunk in (chunks[0], *map(np.copy, chunks[1:]))
            ]
        self._full += kept

    def flush(self) -> None:
        """Nothing to do: memory is where the rows are kept."""

    def chunks(self) -> Iterator[Rows]:
        last = [_read_only(self._buffer[: self._filled])] if self._filled else []
        return chain(map(self._decode, tuple(self._full)), last)

    def _decode(self, chunk: Any) -> Rows:
        if self._compressor is None:
            return _read_only(cast(Rows, chunk))
        decoded = np.frombuffer(self._compressor.decode(chunk), np.uint8)
        return _read_only(decoded.reshape(-1, self._row_bytes))


def _read_only(rows: Rows) -> Rows:
    view = rows.view()
    view.flags.writeable = False
    return view


def check_compressor(compressor: Any) -> None:
    """TypeError or ValueError for what cannot encode bytes and give the same ones back."""
    if not callable(getattr(compressor, "encode", None)) or not callable(
        getattr(compressor, "decode", None)
    ):
        raise TypeError(
            "compressor must be a numcodecs codec (with encode and decode), "
            f"got {type(compressor).__name__} {compressor!r}"
        )
    sample = np.arange(512, dtype=np.uint16).view(np.uint8).reshape(-1, 4)
    try:
        decoded = bytes(compressor.decode(compressor.encode(sample)))
    except Exception as error:  # codecs raise errors of every kind
        raise TypeError(f"compressor {compressor!r} cannot encode bytes: {error}") from error
    if decoded != sample.tobytes():
        raise ValueError(f"compressor {compressor!r} does not give back the bytes it was given")
