"""Ledger: which rows belong to which instance (model input)."""

from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tensorstate_gpu._arrays.host_arrays import host_array
from tensorstate_gpu._layers.batches import (
    Batch,
    Batches,
    appended,
    cached_totals,
    first,
    is_unassigned,
    rows_of,
    totals,
)
from tensorstate_gpu._layers.instance_notes import NOTES, NOTHING, InstanceNotes, NoteColumn
from tensorstate_gpu.errors import InputsUnknown


class Position(NamedTuple):
    """How much a layer had at one time: instances, rows, and notes by name."""

    instances: int
    rows: int
    notes: Mapping[str, int]


class Ledger:
    """The instances of a layer: how many states each has, their notes, and which rows are due.

    add() enters a batch once. Its rows may still be in transit from a device; mark_stored() reports
    their arrival. ``notes``: the labels and the units of the instances, by name.
    """

    def __init__(self, notes: dict[str, NoteColumn] | None = None) -> None:
        self.instances = 0  # as far as their number is known
        self.rows = 0
        self.unassigned_rows = 0  # that belong to no known instance
        self.stored = (0, 0)  # instances and rows that have arrived
        self.notes = {name: NoteColumn(name) for name in NOTES} if notes is None else notes
        self._batches: list[Batch] = []

    @classmethod
    def from_batches(cls, batches: Iterable[Batch], notes: dict[str, NoteColumn]) -> "Ledger":
        """Return a ledger with the batches of another one, all of them stored."""
        self = cls(notes)
        self._batches = list(batches)
        self.instances, self.rows, self.unassigned_rows = totals(self._batches)
        self.stored = self.instances, self.rows
        return self

    def add(
        self, batches: Batches, notes: InstanceNotes = NOTHING, *, stored: bool = False
    ) -> None:
        """Enter batches, with the notes of all their instances; ``stored``: they have arrived."""
        appended(self._batches, batches)
        instances, rows, unassigned = cached_totals(batches)
        self.instances += instances
        self.rows += rows
        self.unassigned_rows += unassigned
        if stored:
            self.stored = self.stored[0] + instances, self.stored[1] + rows
        if notes is NOTHING:  # as most have
            return
        for name, values in zip(NOTES, notes, strict=True):
            if values is not None:
                self.notes[name].add(values)

    def mark_stored(self, batches: Batches) -> None:
        """Record that the rows of the next batches have arrived."""
        instances, rows, _ = cached_totals(batches)
        self.stored = self.stored[0] + instances, self.stored[1] + rows

    @property
    def batches(self) -> Batches:
        """The batches, in order; see batches.py. Equal consecutive ones are merged."""
        return tuple(self._batches)

    @property
    def count(self) -> int:
        """Number of instances. Raises InputsUnknown if some have an unknown number."""
        if self.unassigned_rows and any(is_unassigned(b) and not b[0] for b in self._batches):
            raise InputsUnknown(
                "the number of inputs is not known: nothing told how many some passes had"
            )
        return self.instances

    def states_per_instance(self) -> int:
        self.require_assigned()
        sizes = {per_instance for _, per_instance in self._batches}
        if len(sizes) != 1:
            raise ValueError(f"instances differ in their number of states: {sorted(sizes)}")
        return sizes.pop()

    def instances_of_rows(self, start: int, stop: int) -> NDArray[np.int64]:
        """Return the instance of each row in [start, stop).

        Of rows that belong to no known instance, the first that they may belong to.
        """
        counts, sizes = np.array(self._batches, np.int64).reshape(-1, 2).T
        ends = np.cumsum(np.where(sizes < 0, -sizes, counts * sizes))
        first, last = np.searchsorted(ends, [start, stop - 1], side="right")
        row = int(ends[first - 1]) if first else 0
        instance = int(counts[:first].sum())
        parts = []
        for batch in self._batches[first : last + 1]:
            following = row + rows_of(batch)
            rows = np.arange(max(start, row), min(stop, following))
            # All rows of a batch without known instances are put down to the first one.
            each = rows_of(batch) if is_unassigned(batch) else batch[1]
            parts.append(instance + (rows - row) // max(each, 1))
            row, instance = following, instance + batch[0]
        return np.concatenate(parts) if parts else np.empty(0, np.int64)

    def assigned(self, start: int, stop: int) -> NDArray[np.bool_]:
        """Return of each row in [start, stop) whether its instance is known."""
        result = np.ones(stop - start, bool)
        row = 0
        for batch in self._batches if self.unassigned_rows else ():
            following = row + rows_of(batch)
            if batch[0] == 0 and is_unassigned(batch):  # later ones have unknown numbers
                following = stop
            if is_unassigned(batch) and row < stop and following > start:
                result[max(row - start, 0) : following - start] = False
            row = following
        return result

    def require_assigned(self) -> None:
        """Raise InputsUnknown if some rows belong to no known instance."""
        if self.unassigned_rows:
            raise InputsUnknown(
                f"{self.unassigned_rows} of {self.rows} states belong to no known input"
            )

    def all_have(self, what: str) -> bool:
        """Return whether each instance has a label (or a unit), and each row its instance."""
        return not self.unassigned_rows and self.notes[what].count == self.count

    def note_pieces(self, what: str) -> Iterator[NDArray[Any]]:
        """Return the label (or the unit) of each instance, as a series of arrays.

        Raises LabelsMissing if some instances have none, InputsUnknown if some rows belong to no
        known instance.
        """
        self.require_assigned()
        self.notes[what].require(self.count)
        return self.notes[what].pieces()

    def first_batches(self, instances: int, rows: int, *, start: int = 0) -> list[Batch]:
        """Return the batches up to these numbers of instances and rows, from number ``start`` on.

        ``instances`` and ``rows`` count from there.
        """
        return first(islice(self._batches, start, None), instances, rows)

    def position(self) -> Position:
        """Return how much there is now."""
        notes = {what: column.count for what, column in self.notes.items()}
        return Position(self.instances, self.rows, notes)

    def first(self, position: Position, notes: dict[str, NoteColumn]) -> "Ledger":
        """Return a ledger of what there was at a position, with these notes; all of it stored."""
        return Ledger.from_batches(self.first_batches(position.instances, position.rows), notes)

    def snapshot(self) -> "Ledger":
        """Return a copy of the current ledger. Its notes can be read once."""
        notes = {name: column.snapshot() for name, column in self.notes.items()}
        return Ledger.from_batches(self._batches, notes)

    def selection_counts(self, index: Any) -> NDArray[np.int64]:
        """Return how often an index (ints, slice or boolean mask) selects each instance.

        Raises InputsUnknown if it selects some, but not all, of the instances whose rows cannot be
        told apart.
        """
        chosen = np.arange(self.count)[_validated_index(index, self.count)]
        weights = np.bincount(np.atleast_1d(chosen), minlength=self.count)
        instance = 0
        for count, each in self._batches if self.unassigned_rows else ():
            if each < 0 and np.ptp(weights[instance : instance + count]):
                self.require_assigned()
            instance += count
        return weights


def _validated_index(index: Any, count: int) -> Any:
    """Return which of ``count`` instances are meant: a slice, or an array of ints or bools.

    Raises TypeError, ValueError or IndexError for anything else.
    """
    if isinstance(index, slice):
        return index
    array = host_array(index, "index")
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
        given = f"{array.min()} to {array.max()}" if array.size > 1 else f"{array.min()}"
        raise IndexError(f"index must be within the {count} instances, got {given}")
    return array
