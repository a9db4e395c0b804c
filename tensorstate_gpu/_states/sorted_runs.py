"""Sorted runs: histograms in order, in files or in memory, of which any range can be read."""

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from itertools import accumulate, pairwise
from typing import NoReturn, Protocol, overload

import numpy as np
from numpy.typing import NDArray

from tensorstate_gpu._process.scratch_file import ScratchFile

Histogram = tuple[NDArray[np.uint8], NDArray[np.int64]]  # as a backend returns them


def rows_of(histogram: Histogram) -> int:
    """Return how many rows were counted."""
    return int(histogram[1].sum())


# A block is the least that is read. Blocks of wide rows are larger, because the first row of each
# stays in memory.
_BLOCK_BYTES, _LEAST_BLOCK_ROWS = 1 << 15, 128


def rows_of_block(row_bytes: int) -> int:
    """Return how many rows a full block has."""
    return max(_LEAST_BLOCK_ROWS, _BLOCK_BYTES // row_bytes)


def order_key(row: NDArray[np.uint8]) -> bytes:
    """Return bytes that are in the order of packed rows as little-endian integers."""
    return row.tobytes()[::-1]


def narrowest(most: int) -> np.dtype[np.unsignedinteger]:
    """Return the smallest type of counts up to ``most``."""
    # Not np.min_scalar_type(): zarr does not know the "unsigned long long" that it may return.
    size = next(size for size in (1, 2, 4, 8) if most < 2 ** (8 * size))
    found: np.dtype[np.unsignedinteger] = np.dtype(f"u{size}")
    return found


class SortedRun(Protocol):
    """Distinct rows in order, and their counts, in blocks.

    ``fences``: the order_key() of the first row of each block. ``sizes``: the number of rows of
    each block; of a RangeOfRun, the first and the last may have fewer. ``most``: no count is
    greater.
    """

    most: int

    @property
    def fences(self) -> Sequence[bytes]: ...

    @property
    def sizes(self) -> Sequence[int]: ...

    def read(self, first: int, last: int) -> Histogram:
        """Return the blocks [first, last)."""


def length(run: SortedRun) -> int:
    """Return the number of distinct rows in a run."""
    return sum(run.sizes)


def part_of(run: SortedRun, low: bytes | None, high: bytes | None) -> Histogram:
    """Return the rows from ``low`` on that are below ``high``; None for no limit."""
    blocks = blocks_between(run, low, high)
    return _cut(*run.read(blocks.start, blocks.stop), low, high)


def blocks_between(run: SortedRun, low: bytes | None, high: bytes | None) -> slice:
    """Return which blocks of a run may have rows from ``low`` on that are below ``high``."""
    first = 0 if low is None else max(0, bisect_right(run.fences, low) - 1)
    last = len(run.fences) if high is None else bisect_left(run.fences, high)
    return slice(first, max(first, last))


def _cut(
    rows: NDArray[np.uint8], counts: NDArray[np.int64], low: bytes | None, high: bytes | None
) -> Histogram:
    start = 0 if low is None else place_of(rows, low)
    stop = len(rows) if high is None else place_of(rows, high)
    return rows[start:stop], counts[start:stop]


def place_of(rows: NDArray[np.uint8], key: bytes) -> int:
    """Return the place of the first of some rows in order that is not below a key."""
    return bisect_left(range(len(rows)), key, key=lambda place: order_key(rows[place]))


class MemoryRun:
    """A histogram in memory as a sorted run."""

    def __init__(self, rows: NDArray[np.uint8], counts: NDArray[np.int64]) -> None:
        self._rows, self._counts, self._step = rows, counts, rows_of_block(rows.shape[1])
        starts = range(0, len(rows), self._step)
        self.fences = [order_key(rows[start]) for start in starts]
        self.sizes = [min(self._step, len(rows) - start) for start in starts]
        self.most = int(counts.max(initial=0))

    def read(self, first: int, last: int) -> Histogram:
        part = slice(first * self._step, last * self._step)
        return self._rows[part], self._counts[part]


class RangeOfRun:
    """The rows of a run from ``low`` on that are below ``high``, as a run; None for no limit."""

    def __init__(self, run: SortedRun, low: bytes | None, high: bytes | None) -> None:
        self._run, self._low, self._high = run, low, high
        blocks = blocks_between(run, low, high)
        self._first = blocks.start
        self.fences = [fence if low is None else max(fence, low) for fence in run.fences[blocks]]
        self.sizes, self.most = run.sizes[blocks], run.most

    def read(self, first: int, last: int) -> Histogram:
        rows, counts = self._run.read(self._first + first, self._first + last)
        return _cut(rows, counts, self._low, self._high)


class RowsBehindPrefix:
    """The blocks [first, last) of a run, whose rows have the same highest bytes, without these.

    ``row_bytes``: of what is left of a row.
    """

    __slots__ = ("_first", "_last", "_row_bytes", "_run", "most")

    def __init__(self, run: SortedRun, first: int, last: int, row_bytes: int) -> None:
        self._run, self._first, self._last, self._row_bytes = run, first, last, row_bytes
        self.most = run.most

    # There may be as many of these as labels and groups: the run has what they need.

    @property
    def fences(self) -> Sequence[bytes]:
        return _FencesBehindPrefix(self._run.fences, self._first, self._last, self._row_bytes)

    @property
    def sizes(self) -> Sequence[int]:
        return self._run.sizes[self._first : self._last]

    def read(self, first: int, last: int) -> Histogram:
        rows, counts = self._run.read(self._first + first, self._first + last)
        return np.ascontiguousarray(rows[:, : self._row_bytes]), counts


class _FencesBehindPrefix(Sequence[bytes]):
    """The fences [first, last) without their highest bytes. Looking one up copies no others."""

    def __init__(self, fences: Sequence[bytes], first: int, last: int, row_bytes: int) -> None:
        self._fences, self._blocks, self._row_bytes = fences, range(first, last), row_bytes

    def __len__(self) -> int:
        return len(self._blocks)

    @overload
    def __getitem__(self, index: int) -> bytes: ...
    @overload
    def __getitem__(self, index: slice) -> list[bytes]: ...
    def __getitem__(self, index: int | slice) -> bytes | list[bytes]:
        if isinstance(index, slice):
            return [self._fences[block][-self._row_bytes :] for block in self._blocks[index]]
        return self._fences[self._blocks[index]][-self._row_bytes :]


class JoinedRun:
    """Runs, each of which is above the previous one, as one run; there is at least one."""

    def __init__(self, runs: Sequence[SortedRun]) -> None:
        self._runs = tuple(runs)
        self._starts = [0, *accumulate(len(run.fences) for run in runs)]
        self.fences = [fence for run in runs for fence in run.fences]
        self.sizes = [size for run in runs for size in run.sizes]
        self.most = max(run.most for run in runs)

    def read(self, first: int, last: int) -> Histogram:
        places = zip(self._runs, pairwise(self._starts), strict=True)
        parts = [
            run.read(max(first - start, 0), min(last, stop) - start)
            for run, (start, stop) in places
            if start < last and first < stop
        ]
        rows, counts = zip(*parts or [self._runs[0].read(0, 0)], strict=True)
        return np.concatenate(rows), np.concatenate(counts)


class ScratchRun:
    """A sorted run in a file without a name: the rows and counts of each block, as they are.

    The counts of a block have the smallest type that holds them, and are behind its rows. What is
    read is checked. Blocks may be small and many, as those of many labels.
    """

    def __init__(self, row_bytes: int) -> None:
        self._row_bytes, self._file = row_bytes, ScratchFile()
        self._starts, self._count_bytes, self._checksums = array("Q"), array("B"), array("I")
        self.fences: list[bytes] = []
        self.sizes = array("Q")
        self.most = 0

    @classmethod
    def of(
        cls, row_bytes: int, pieces: Iterable[Histogram], block_rows: int | None = None
    ) -> "ScratchRun":
        """Write histograms, each of which is above the previous one, in blocks of so many rows."""
        run = cls(row_bytes)
        step = block_rows or rows_of_block(row_bytes)
        for rows, counts in pieces:
            starts = range(0, len(rows), step)
            for start, most in zip(starts, np.maximum.reduceat(counts, starts), strict=True):
                run._append(rows[start : start + step], counts[start : start + step], int(most))
        return run

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            "counts in temporary files cannot be copied or pickled: save(path) writes a histogram "
            "to a store of its own, and load() reads counts into memory"
        )

    def _append(self, rows: NDArray[np.uint8], counts: NDArray[np.int64], most: int) -> None:
        small = counts.astype(narrowest(most))
        whole = np.ascontiguousarray(rows)
        start = self._file.append(whole)
        self._file.append(small)
        self._starts.append(start)
        self._count_bytes.append(small.itemsize)
        self._checksums.append(_checksum(whole, small))
        self.fences.append(order_key(rows[0]))
        self.sizes.append(len(rows))
        self.most = max(self.most, most)

    def read(self, first: int, last: int) -> Histogram:
        size = sum(self.sizes[first:last])
        rows, counts = np.empty((size, self._row_bytes), np.uint8), np.empty(size, np.int64)
        done = 0
        for block in range(first, last):
            part = slice(done, done + self.sizes[block])
            start = self._starts[block]
            self._file.read(start, rows[part])
            small = np.empty(self.sizes[block], f"u{self._count_bytes[block]}")
            self._file.read(start + rows[part].nbytes, small)
            if _checksum(rows[part], small) != self._checksums[block]:
                raise OSError("a temporary file is damaged: it is not what was written")
            counts[part] = small
            done = part.stop
        return rows, counts


def _checksum(rows: NDArray[np.uint8], counts: NDArray[np.unsignedinteger]) -> int:
    import google_crc32c  # counts that stay in memory do without it

    return int(google_crc32c.extend(google_crc32c.value(rows.ravel()), counts.view(np.uint8)))
