"""Labels of instances: checked, kept in memory, and read piece by piece."""

from collections.abc import Iterable, Iterator
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from tensorstate_gpu._arguments import unmasked


class Labels(Protocol):
    """Keeps the labels of instances, in order."""

    def add(self, labels: NDArray[Any]) -> None: ...

    def pieces(self) -> Iterator[NDArray[Any]]:
        """All labels, in order, in pieces."""


class MemoryLabels:
    """Labels in memory."""

    def __init__(self) -> None:
        self._labels: list[NDArray[Any]] = []

    def add(self, labels: NDArray[Any]) -> None:
        self._labels.append(labels)

    def pieces(self) -> Iterator[NDArray[Any]]:
        if len({labels.dtype.kind == "U" for labels in self._labels}) > 1:
            # Strings and integers stay what they are: a common dtype would turn 1 into "1".
            return iter([labels.astype(object) for labels in self._labels])
        return iter(self._labels.copy())


class FrozenLabels:
    """Labels of a moment."""

    def __init__(self, pieces: Iterator[NDArray[Any]]) -> None:
        self._pieces = pieces

    def add(self, labels: NDArray[Any]) -> None:
        raise TypeError("labels of a moment that has passed are only read")

    def pieces(self) -> Iterator[NDArray[Any]]:
        return self._pieces


class Sliding:
    """Reads pieces of a long sequence at places that only move forward."""

    def __init__(self, pieces: Iterable[NDArray[Any]]) -> None:
        self._pieces = iter(pieces)
        self._held: list[NDArray[Any]] = []
        self._start = self._stop = 0  # of what is held

    def between(self, start: int, stop: int) -> NDArray[Any]:
        """The values [start, stop), at least one; IndexError when there are no more."""
        while self._stop < stop:
            piece = next(self._pieces, None)
            if piece is None:
                raise IndexError(f"there are {self._stop} values, not {stop}")
            self._held.append(piece)
            self._stop += len(piece)
        while self._start + len(self._held[0]) <= start:
            self._start += len(self._held.pop(0))
        held = self._held[0] if len(self._held) == 1 else np.concatenate(self._held)
        return held[start - self._start : stop - self._start]


def check_labels(labels: Any, instances: int) -> NDArray[Any]:
    """Labels as an array of one integer or string per instance; TypeError or ValueError."""
    if isinstance(labels, (list, tuple)):
        array = _plain_labels(labels)
    else:
        array = np.asarray(unmasked(labels, "labels")).copy()  # np.array() warns on torch tensors
        if array.ndim == 1 and array.dtype.kind == "O":
            array = _plain_labels(array)
    if array.size and array.dtype.kind not in "iuUb":
        raise TypeError(f"labels must be integers or strings, got {array.dtype}")
    if array.shape != (instances,):
        raise ValueError(
            f"labels must be 1-D, one for each of the {instances} instances, got {array.shape}"
        )
    return array.astype(np.int64) if array.dtype.kind == "b" else array


def _plain_labels(labels: Iterable[Any]) -> NDArray[Any]:
    """Labels one by one: NumPy alone would turn ["1", 1] into twice "1", and "a\\0" into "a"."""
    if any(isinstance(label, str) for label in labels):
        for label in labels:
            if not isinstance(label, str):
                raise TypeError(
                    f"labels must be all integers or all strings, got {type(label).__name__} too"
                )
            if label.endswith("\0"):
                raise ValueError(f"labels must not end with a zero character, got {label!r}")
    try:
        return np.array([label.item() if hasattr(label, "item") else label for label in labels])
    except ValueError as error:
        raise ValueError(f"labels must be integers or strings: {error}") from error
