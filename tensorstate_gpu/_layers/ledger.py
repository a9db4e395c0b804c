"""Ledger: which rows belong to which instance (model input)."""

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tensorstate_gpu._arguments import unmasked
from tensorstate_gpu._layers.labels import Labels, LabelSnapshot
from tensorstate_gpu.errors import LabelsMissing

Batch = tuple[int, int]  # instances, and states of each


class Ledger:
    """The instances of a layer: how many states each has, their labels, and which rows are due.

    add() enters a batch once. Its rows may still be in transit from a device; mark_stored() reports
    their arrival. Without ``labels``, labelled instances are only counted, in constant memory.
    """

    def __init__(self, labels: Labels | None = None) -> None:
        self.count = 0
        self.rows = 0
        self.stored = 0  # instances whose rows have arrived
        self._labelled = 0
        self._labels = labels
        # Pairs (instances, states per instance). Consecutive batches with equal states are merged.
        self._batches: list[Batch] = []

    @classmethod
    def from_batches(
        cls, batches: Iterable[Batch], labelled: int, labels: Labels | None
    ) -> "Ledger":
        """Return a ledger with the batches of another one, all of them stored."""
        self = cls(labels)
        self._batches = list(batches)
        self.stored = self.count = sum(instances for instances, _ in self._batches)
        self.rows = sum(instances * each for instances, each in self._batches)
        self._labelled = labelled
        return self

    def add(self, instances: int, rows: int, labels: NDArray[Any] | None) -> None:
        """Enter a batch of at least one instance."""
        per_instance = rows // instances
        if self._batches and self._batches[-1][1] == per_instance:
            self._batches[-1] = (self._batches[-1][0] + instances, per_instance)
        else:
            self._batches.append((instances, per_instance))
        self.count += instances
        self.rows += rows
        if labels is not None:
            self._labelled += instances
            if self._labels is not None:
                self._labels.add(labels)

    def mark_stored(self, instances: int) -> None:
        """Record that the rows of the next ``instances`` have arrived."""
        self.stored += instances

    @property
    def batches(self) -> tuple[Batch, ...]:
        """Pairs (instances, states per instance), in order. Equal consecutive ones are merged."""
        return tuple(self._batches)

    def states_per_instance(self) -> int:
        sizes = {per_instance for _, per_instance in self._batches}
        if len(sizes) != 1:
            raise ValueError(f"instances differ in their number of states: {sorted(sizes)}")
        return sizes.pop()

    def instances_of_rows(self, start: int, stop: int) -> NDArray[np.int64]:
        """Return the instance of each row in [start, stop)."""
        counts, sizes = np.array(self._batches, np.int64).reshape(-1, 2).T
        ends = np.cumsum(counts * sizes)
        first, last = np.searchsorted(ends, [start, stop - 1], side="right")
        row = int(ends[first - 1]) if first else 0
        instance = int(counts[:first].sum())
        parts = []
        for count, size in self._batches[first : last + 1]:
            rows = np.arange(max(start, row), min(stop, row + count * size))
            parts.append(instance + (rows - row) // max(size, 1))
            row, instance = row + count * size, instance + count
        return np.concatenate(parts) if parts else np.empty(0, np.int64)

    def require_labels(self) -> None:
        """Raise LabelsMissing if some instances have no label."""
        if missing := self.count - self._labelled:
            raise LabelsMissing(f"{missing} of {self.count} instances were captured without labels")

    def label_pieces(self) -> Iterator[NDArray[Any]]:
        """Return the label of each instance, as a series of arrays.

        Raises LabelsMissing if some instances have no label.
        """
        self.require_labels()
        return self.available_label_pieces()

    def first_batches(self, count: int, *, start: int = 0) -> list[Batch]:
        """Return the batches of the first ``count`` instances, from batch number ``start`` on."""
        batches = []
        for instances, each in self._batches[start:]:
            if count <= 0:
                break
            batches.append((min(instances, count), each))
            count -= instances
        return batches

    @property
    def labelled(self) -> int:
        """Number of instances that have a label."""
        return self._labelled

    def snapshot(self) -> "Ledger":
        """Return a copy of the current ledger. Its labels can be read once."""
        labels = None if self._labels is None else LabelSnapshot(self.available_label_pieces())
        return Ledger.from_batches(self._batches, self._labelled, labels)

    def available_label_pieces(self) -> Iterator[NDArray[Any]]:
        """Return the labels of the instances that have one, as a series of arrays."""
        return iter(()) if self._labels is None else self._labels.pieces()

    def selection_counts(self, index: Any) -> NDArray[np.int64]:
        """Return how often an index (ints, slice or boolean mask) selects each instance."""
        chosen = np.arange(self.count)[_validated_index(index, self.count)]
        return np.bincount(np.atleast_1d(chosen), minlength=self.count)


def _validated_index(index: Any, count: int) -> Any:
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
