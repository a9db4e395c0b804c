"""Packed rows in memory, in order. store.py holds the twin that keeps them on disk."""

from collections.abc import Iterator
from itertools import chain
from typing import Any, Protocol, cast

import numpy as np
from numpy.typing import NDArray

# Rows are gathered to chunks of this size: large enough that a chunk costs nothing to manage,
# small enough that a compressor works within the cache.
CHUNK_BYTES = 1 << 22

Rows = NDArray[np.uint8]


class RowKeeper(Protocol):
    """Keeps every packed row in order: in memory (here) or on disk (store.py)."""

    @property
    def rows(self) -> int:
        """Rows kept."""

    def append(self, packed: Rows) -> None:
        """Keep a copy of the rows."""

    def chunks(self) -> Iterator[Rows]:
        """All rows, in order, in pieces (rows, bytes) that must not be changed."""

    def flush(self) -> None:
        """Bring what is still buffered to where it is kept."""


class MemoryRows:
    """All rows in memory, in whole chunks, each encoded by a numcodecs codec if one is given."""

    def __init__(self, row_bytes: int, compressor: Any = None) -> None:
        self._row_bytes = row_bytes
        self._compressor = compressor
        self._chunk_rows = max(1, CHUNK_BYTES // row_bytes)
        self._full: list[Any] = []
        # Grows to a whole chunk, so that a small capture takes little memory.
        self._open = np.empty((0, self._row_bytes), np.uint8)
        self._filled = 0

    @property
    def rows(self) -> int:
        return len(self._full) * self._chunk_rows + self._filled

    def append(self, packed: Rows) -> None:
        done = 0
        while done < len(packed):
            count = min(len(packed) - done, self._chunk_rows - self._filled)
            self._make_room(self._filled + count)
            self._open[self._filled : self._filled + count] = packed[done : done + count]
            self._filled += count
            done += count
            if self._filled == self._chunk_rows:
                self._full.append(self._encode(self._open))
                self._open, self._filled = np.empty((0, self._row_bytes), np.uint8), 0

    def flush(self) -> None:
        """Nothing to do: memory is where the rows are kept."""

    def _make_room(self, rows: int) -> None:
        if rows > len(self._open):
            grown = np.empty((min(2 * rows, self._chunk_rows), self._row_bytes), np.uint8)
            grown[: self._filled] = self._open[: self._filled]
            self._open = grown

    def _encode(self, chunk: Rows) -> Any:
        return chunk if self._compressor is None else self._compressor.encode(chunk)

    def chunks(self) -> Iterator[Rows]:
        # What is there at the call; rows appended while the caller iterates are not seen.
        last = [self._open[: self._filled]] if self._filled else []
        return chain(map(self._decode, tuple(self._full)), last)

    def _decode(self, chunk: Any) -> Rows:
        if self._compressor is None:
            return cast(Rows, chunk)
        return np.frombuffer(self._compressor.decode(chunk), np.uint8).reshape(-1, self._row_bytes)
