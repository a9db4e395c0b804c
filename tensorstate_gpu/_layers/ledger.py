"""Which rows belong to which instance (model input)."""

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tensorstate_gpu._arguments import unmasked
from tensorstate_gpu._layers.labels import FrozenLabels, Labels
from tensorstate_gpu.errors import LabelsMissing


class Ledger:
    """Instances seen, states each gave, labels, and so the rows that must be there.

    A batch is entered once, by add(). Its rows may still be on their way from a device: keep() says
    that they have come. ``labels`` None: they are only counted, in memory that does not grow.
    """

    def __init__(self, labels: Labels | None = None) -> None:
        self.count = 0
        self.rows = 0
        self.kept = 0  # instances whose rows have come
        self._labelled = 0
        self._labels = labels
        # Batches with as many states per instance as the one before extend its entry.
        self._runs: list[tuple[int, int]] = []

    @classmethod
    def resumed(
        cls, batches: Iterable[tuple[int, int]], labelled: int, labels: Labels | None
    ) -> "Ledger":
        """The ledger of a capture that goes on."""
        self = cls(labels)
        for instances, per_instance in batches:
            self.add(instances, instances * per_instance, None)
        self._labelled = labelled
        self.kept = self.count
        return self

    def add(self, instances: int, rows: int, labels: NDArray[Any] | None) -> None:
        """Enter a batch of one instance or more."""
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

    def keep(self, instances: int) -> None:
        """The rows of the next ``instances`` have come."""
        self.kept += instances

    @property
    def kept_batches(self) -> tuple[tuple[int, int], ...]:
        """As ``batches``, of those instances whose rows have come."""
        return self.batches if self.kept == self.count else tuple(self.first(self.kept))

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
            raise LabelsMissing(f"{missing} of {self.count} instances were captured without labels")

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

    def frozen(self) -> "Ledger":
        """The ledger as it is now; its labels can be read once."""
        labels = None if self._labels is None else FrozenLabels(self.given_labels())
        return Ledger.resumed(self._runs, self._labelled, labels)

    def given_labels(self) -> Iterator[NDArray[Any]]:
        """The labels of those instances that have one, in pieces."""
        return iter(()) if self._labels is None else self._labels.pieces()

    def weights(self, index: Any) -> NDArray[np.int64]:
        """How often an index (ints, slice or boolean mask) picks each instance."""
        chosen = np.arange(self.count)[_index(index, self.count)]
        return np.bincount(np.atleast_1d(chosen), minlength=self.count)


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
