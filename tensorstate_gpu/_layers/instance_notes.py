"""InstanceNotes: the labels and units of instances (model inputs), and where a ledger has them."""

from collections.abc import Iterator
from typing import Any, NamedTuple

from numpy.typing import NDArray

from tensorstate_gpu._arrays.label_arrays import validated_labels
from tensorstate_gpu._layers.labels import Labels, LabelSnapshot
from tensorstate_gpu.errors import LabelsMissing


class InstanceNotes(NamedTuple):
    """What is known of the instances of a batch: one entry for each, or None.

    ``units`` says which instances belong together: frames of a clip, views of one image.
    """

    labels: NDArray[Any] | None = None
    units: NDArray[Any] | None = None

    @property
    def length(self) -> int | None:
        """For how many instances there are entries; None if there are none."""
        for values in self:
            if values is not None:
                return len(values)
        return None


NOTHING = InstanceNotes()
NOTES = InstanceNotes._fields
_REMEDIES = {
    "labels": "capture inside `with run.labels(y_batch):` or, where rows are kept, give them now: "
    "counts_by(labels)",
    "units": "capture inside `with run.labels(y_batch, units=...):`",
}


def validated_notes(labels: object, units: object, instances: int) -> InstanceNotes:
    """Return notes as arrays. Raises TypeError or ValueError for what is no label or unit."""
    return InstanceNotes(
        None if labels is None else validated_labels(labels, instances),
        None if units is None else validated_labels(units, instances, "units"),
    )


class NoteColumn:
    """The labels of a ledger's instances, or their units, of which some may be missing.

    Without ``storage``, instances that have one are only counted, in constant memory.
    """

    def __init__(self, what: str, storage: Labels | None = None, count: int = 0) -> None:
        self._what, self._storage = what, storage
        self.count = count

    def add(self, values: NDArray[Any] | None) -> None:
        """Enter the values of a batch of instances, if they have any."""
        if values is not None:
            self.count += len(values)
            if self._storage is not None:
                self._storage.add(values)

    def pieces(self) -> Iterator[NDArray[Any]]:
        """Return the values of the instances that have one, as a series of arrays."""
        return iter(()) if self._storage is None else self._storage.pieces()

    def require(self, instances: int) -> None:
        """Raise LabelsMissing if some of the instances have none."""
        if missing := instances - self.count:
            raise LabelsMissing(
                f"{missing} of {instances} instances were captured without {self._what}; "
                f"{_REMEDIES[self._what]}"
            )

    def snapshot(self) -> "NoteColumn":
        """Return a copy that does not change, and can be read once."""
        storage = None if self._storage is None else LabelSnapshot(self.pieces())
        return NoteColumn(self._what, storage, self.count)
