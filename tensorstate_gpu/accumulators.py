"""What stands behind a capture point: all rows in order, or running counts. Mutable inside.

Both kinds take packed rows as they come; a capture point reads them as immutable snapshots.
"""

from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from tensorstate_gpu._backend import Counter, backend_for
from tensorstate_gpu._dlpack import CPU

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
        for chunk in self._full:
            if self._compressor is not None:
                raw = self._compressor.decode(chunk)
                chunk = np.frombuffer(raw, np.uint8).reshape(-1, self._row_bytes)
            yield chunk
        if self._filled:
            yield self._open[: self._filled]


class LabelledCounts:
    """Running counts, one histogram for each label; memory bounded by the distinct states."""

    def __init__(self, row_bytes: int) -> None:
        self._row_bytes = row_bytes
        self._counters: dict[Any, Counter] = {}

    @property
    def rows(self) -> int:
        return sum(counter.total for counter in self._counters.values())

    def append(self, packed: Rows, row_labels: NDArray[Any] | None = None) -> None:
        """Count the rows, under their labels where they are given (one for each row)."""
        if row_labels is None:
            self._counter(None).add(packed)
            return
        for label in np.unique(row_labels):
            self._counter(label.item()).add(packed[row_labels == label])

    def _counter(self, label: Any) -> Counter:
        if label not in self._counters:
            self._counters[label] = new_counter(self._row_bytes)
        return self._counters[label]

    def results(self) -> dict[Any, tuple[Rows, NDArray[np.int64]]]:
        """Distinct rows in order and their counts, by label; None stands for no label."""
        return {label: counter.result() for label, counter in self._counters.items()}


def new_counter(row_bytes: int) -> Counter:
    """An empty running count on the CPU."""
    return backend_for((CPU, 0), "cpu").counter(row_bytes)
