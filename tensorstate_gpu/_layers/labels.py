"""Labels of instances: dtypes, storage in memory, and sequential reading."""

from collections.abc import Iterable, Iterator
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Label = int | str | None  # None: of rows and instances that have none


class Labels(Protocol):
    """Storage for the labels of instances, in order."""

    def add(self, labels: NDArray[Any]) -> None: ...

    def pieces(self) -> Iterator[NDArray[Any]]:
        """Return an iterator over arrays that contain all labels, in order."""


class MemoryLabels:
    """Labels in memory."""

    def __init__(self) -> None:
        self._labels: list[NDArray[Any]] = []

    @classmethod
    def first(cls, pieces: Iterable[NDArray[Any]], count: int) -> "MemoryLabels":
        """Return the first labels of a series of arrays."""
        self = cls()
        for piece in pieces:
            self.add(piece[:count])
            count -= len(piece[:count])
        return self

    def add(self, labels: NDArray[Any]) -> None:
        self._labels.append(labels)

    def pieces(self) -> Iterator[NDArray[Any]]:
        if len({labels.dtype.kind == "U" for labels in self._labels}) > 1:
            # Keep strings and integers distinct: a common dtype would turn 1 into "1".
            return iter([labels.astype(object) for labels in self._labels])
        return iter(self._labels.copy())


class LabelSnapshot:
    """Read-only labels at one point in time."""

    def __init__(self, pieces: Iterator[NDArray[Any]]) -> None:
        self._pieces = pieces

    def add(self, labels: NDArray[Any]) -> None:
        raise TypeError("a snapshot of labels is read-only")

    def pieces(self) -> Iterator[NDArray[Any]]:
        return self._pieces


class SlidingReader:
    """Reads ranges of a long sequence, given as a series of arrays, in ascending order."""

    def __init__(self, pieces: Iterable[NDArray[Any]]) -> None:
        self._pieces = iter(pieces)
        self._buffered: list[NDArray[Any]] = []
        self._start = self._stop = 0  # the range that is buffered

    def read(self, start: int, stop: int) -> NDArray[Any]:
        """Return the values [start, stop), at least one. Raises IndexError past the end."""
        while self._stop < stop:
            piece = next(self._pieces, None)
            if piece is None:
                raise IndexError(f"there are {self._stop} values, not {stop}")
            self._buffered.append(piece)
            self._stop += len(piece)
        while self._start + len(self._buffered[0]) <= start:
            self._start += len(self._buffered.pop(0))
        buffered = self._buffered[0] if len(self._buffered) == 1 else np.concatenate(self._buffered)
        return buffered[start - self._start : stop - self._start]


# ---- labels as one column of a store or an export: all integers, or all strings -----------------

INTEGERS, STRINGS = "integers", "strings"


def label_kind(labels: NDArray[Any], what: str = "labels in a store") -> str:
    """Return INTEGERS or STRINGS; ``what`` begins the messages of errors.

    Raises TypeError for an array of both, and ValueError for integers that int64 cannot hold.
    """
    if labels.dtype.kind in "TU":
        return STRINGS
    if labels.dtype.kind == "O":
        raise TypeError(f"{what} must be all integers or all strings")
    if labels.dtype.kind == "u" and labels.size and labels.max() >= 2**63:
        raise ValueError(f"{what} must be below 2**63, got {labels.max()}")
    return INTEGERS


def empty_column(kind: str) -> NDArray[Any]:
    """Return an empty array to which labels of a kind can be appended."""
    return np.empty(0, np.int64 if kind == INTEGERS else np.dtypes.StringDType())


def to_column(labels: NDArray[Any], what: str = "labels in a store") -> NDArray[Any]:
    """Convert labels to the dtype of their column: int64, or NumPy's StringDType.

    Raises TypeError or ValueError as label_kind() does, and ValueError for invalid Unicode.
    """
    dtype = empty_column(label_kind(labels, what)).dtype
    try:
        return labels.astype(dtype, copy=False)
    except (TypeError, UnicodeError) as error:
        raise ValueError(f"{what} must be valid Unicode: {error}") from error


def from_column(labels: NDArray[Any]) -> NDArray[Any]:
    """Convert labels of a column to what users get: int64, or strings of fixed width."""
    return np.array(labels.tolist(), str) if labels.dtype.kind == "T" else labels
