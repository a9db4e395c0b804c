"""Which rows belong to which instance (model input), and the labels of the instances."""

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


class _Frozen:
    """Labels of a moment."""

    def __init__(self, pieces: Iterator[NDArray[Any]]) -> None:
        self._pieces = pieces

    def add(self, labels: NDArray[Any]) -> None:
        raise TypeError("labels of a moment that has passed are only read")

    def pieces(self) -> Iterator[NDArray[Any]]:
        return self._pieces


class Instances:
    """The ledger of a capture point: instances seen, states each gave, labels, rows expected.

    ``labels`` None: they are only counted, in memory that does not grow.
    """

    def __init__(self, labels: Labels | None = None) -> None:
        self.count = 0
        self.rows = 0
        self._labelled = 0
        self._labels = labels
        # Batches with as many states per instance as the one before extend its entry.
        self._runs: list[tuple[int, int]] = []

    @classmethod
    def resumed(
        cls, batches: Iterable[tuple[int, int]], labelled: int, labels: Labels | None
    ) -> "Instances":
        """The ledger of a capture that goes on."""
        self = cls(labels)
        for instances, per_instance in batches:
            self.add(instances, instances * per_instance, None)
        self._labelled = labelled
        return self

    def add(self, instances: int, rows: int, labels: NDArray[Any] | None) -> None:
        if not instances:
            return
        per_instance = rows // instances
        if self._runs and self._runs[-1][1] == per_instance:
            self._runs[-1] = (self._runs[-1][0] + instances, per_instance)
        else:
            self._runs.append((instances, per_instance))
        self.count += instances
        self.rows += rows
        if labels is not None:
            self._labelled += instances
            if self._labels is not None:
                self._labels.add(labels)

    @property
    def batches(self) -> tuple[tuple[int, int], ...]:
        """(instances, states per instance), batch after batch, equal ones joined."""
        return tuple(self._runs)

    def states_per_instance(self) -> int:
        sizes = {per_instance for _, per_instance in self._runs}
        if len(sizes) != 1:
            raise ValueError(f"instances differ in their number of states: {sorted(sizes)}")
        return sizes.pop()

    def of_rows(self, start: int, stop: int) -> NDArray[np.int64]:
        """The instance of each row in [start, stop)."""
        counts, sizes = np.array(self._runs, np.int64).reshape(-1, 2).T
        ends = np.cumsum(counts * sizes)
        first, last = np.searchsorted(ends, [start, stop - 1], side="right")
        row = int(ends[first - 1]) if first else 0
        instance = int(counts[:first].sum())
        pieces = []
        for count, size in self._runs[first : last + 1]:
            there = np.arange(max(start, row), min(stop, row + count * size))
            pieces.append(instance + (there - row) // max(size, 1))
            row, instance = row + count * size, instance + count
        return np.concatenate(pieces) if pieces else np.empty(0, np.int64)

    def require_labels(self) -> None:
        """ValueError when some instances have no label."""
        if missing := self.count - self._labelled:
            raise ValueError(f"{missing} of {self.count} instances were captured without labels")

    def label_pieces(self) -> Iterator[NDArray[Any]]:
        """The label of each instance, in pieces; ValueError when some have none."""
        self.require_labels()
        return self.given_labels()

    def first(self, count: int) -> list[tuple[int, int]]:
        """The batches of so many instances, from the first on."""
        batches = []
        for instances, each in self._runs:
            if count <= 0:
                break
            batches.append((min(instances, count), each))
            count -= instances
        return batches

    @property
    def labelled(self) -> int:
        """Instances that have a label."""
        return self._labelled

    def frozen(self) -> "Instances":
        """The ledger as it is now; its labels can be read once."""
        labels = None if self._labels is None else _Frozen(self.given_labels())
        return Instances.resumed(self._runs, self._labelled, labels)

    def given_labels(self) -> Iterator[NDArray[Any]]:
        """The labels of those instances that have one, in pieces."""
        return iter(()) if self._labels is None else self._labels.pieces()

    def weights(self, index: Any) -> NDArray[np.int64]:
        """How often an index (ints, slice or boolean mask) picks each instance."""
        chosen = np.arange(self.count)[_index(index, self.count)]
        return np.bincount(np.atleast_1d(chosen), minlength=self.count)


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


def _index(index: Any, count: int) -> Any:
    if isinstance(index, slice):
        return index
    array = np.asarray(unmasked(index, "index"))
    if array.size == 0 and array.dtype.kind == "f":
        array = array.astype(np.int64)  # an empty list
    if array.dtype.kind not in "iub" or array.ndim > 1:
        raise TypeError(
            "index must be an int, a slice, or a 1-D array of ints or bools, "
            f"got {type(index).__name__} of {array.dtype}, {array.ndim}-D"
        )
    if array.dtype.kind == "b" and array.shape != (count,):
        raise ValueError(f"index must be a mask of the {count} instances, got {array.shape}")
    if array.dtype.kind != "b" and array.size and not -count <= array.min() <= array.max() < count:
        raise IndexError(
            f"index must be within the {count} instances, got {array.min()} to {array.max()}"
        )
    return array


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
