"""StoredRows: what layers of one store and of several have in common: rows that are read."""

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import cached_property, partial
from typing import Any, Protocol

import google_crc32c
import numpy as np
from numpy.typing import DTypeLike, NDArray

from tensorstate_gpu._arguments import integer
from tensorstate_gpu._layers.accumulator import Accumulator
from tensorstate_gpu._layers.batches import Batch, Batches
from tensorstate_gpu._layers.counts_accumulator import rows_not_kept
from tensorstate_gpu._layers.instance_notes import NOTES, InstanceNotes, NoteColumn
from tensorstate_gpu._layers.layer_states import LayerStates
from tensorstate_gpu._layers.ledger import Ledger
from tensorstate_gpu._layers.rows_accumulator import RowsAccumulator
from tensorstate_gpu.store.commit_record import LayerRecord
from tensorstate_gpu.store.labels import StoredLabels

Rows = NDArray[np.uint8]


class RowReader(Protocol):
    """Reads the committed rows of a layer."""

    rows: int

    def chunks(self) -> Iterator[Rows]:
        """Read all rows, in order, in chunks."""

    def read(self, start: int, stop: int) -> Iterator[Rows]:
        """Read the rows [start, stop), in arrays of a chunk or less."""


class StoredRows(LayerStates):
    """Committed states that are read as an array of packed rows, uint8 (states, bytes)."""

    _listed = "dtype labels ndim shape unassigned_count"

    @property
    @abstractmethod
    def records(self) -> Sequence[LayerRecord]:
        """What is committed of it, in each of its stores that has rows of it."""

    @cached_property
    @abstractmethod
    def reader(self) -> RowReader:
        """What reads its rows. Raises NothingCaptured if there are none."""

    @property
    @abstractmethod
    def places(self) -> Sequence[str]:
        """The paths or URLs of its stores."""

    @abstractmethod
    def batches(self) -> Iterator[Batch]:
        """Read the ledger: its batches, in order."""

    @abstractmethod
    def note_pieces(self, what: str) -> Iterator[NDArray[Any]]:
        """Read the labels or the units, in order, in chunks."""

    # The records have these numbers, so that the ledger need not be read.

    @property
    def state_count(self) -> int:
        return sum(record.rows for record in self.records)

    @property
    def instance_count(self) -> int:
        if self.unassigned_count:
            return super().instance_count  # from the ledger: the number may be unknown
        return sum(record.instances for record in self.records)

    @property
    def unassigned_count(self) -> int:
        """Number of states that belong to no known instance."""
        return sum(record.unassigned for record in self.records)

    def note_count(self, what: str) -> int:
        """Return how many instances have a label, or a unit."""
        return sum(each.noted[what] for each in self.records)

    @property
    def keeps_counts(self) -> bool:
        """Whether counts are kept, and no rows."""
        return any(record.counts is not None for record in self.records)

    def _require_rows(self) -> None:
        if self.keeps_counts:
            raise rows_not_kept(f"{self.places[0]}: {self.name!r}")

    @property
    def neurons(self) -> int | None:
        return self.records[0].neurons if self.records else None

    @property
    def axis(self) -> int | None:
        """The axis of the neurons, as it was captured."""
        axis: int | None = self.attributes().get("neuron_axis")
        return axis

    @property
    def axis_origin(self) -> str | None:
        """Where the axis was known from: "given", "layer", "flow", "rule" or "guess"."""
        origin: str | None = self.attributes().get("axis_origin")
        return origin

    def attributes(self) -> dict[str, Any]:
        """Return how the states were captured, as JSON: neuron_axis, and threshold or firing."""
        return dict(self.records[0].capture) if self.records else {}

    def labels(self) -> NDArray[Any]:
        """Return the label of each instance. Raises ValueError if some instances have none."""
        self._require_rows()
        with self._naming_layer():
            return np.concatenate(list(self._require_accumulator().ledger.note_pieces("labels")))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r}, {len(self)} states of {self.neurons} neurons)"

    def __len__(self) -> int:
        return self.state_count

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, bytes), as of an array of the packed rows."""
        return len(self), self.records[0].row_bytes if self.records else 0

    @property
    def dtype(self) -> np.dtype[np.uint8]:
        """That of packed states: uint8."""
        return np.dtype(np.uint8)

    @property
    def ndim(self) -> int:
        """2: states and bytes."""
        return 2

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> NDArray[Any]:
        """Return all packed rows, in order: uint8 (rows, bytes)."""
        if copy is False:
            raise ValueError(f"{self.name}: the rows are in a store, so an array of them is a copy")
        return self[:].astype(self.dtype if dtype is None else dtype, copy=False)

    def __getitem__(self, index: slice | tuple[slice, ...]) -> Rows:
        """Read the rows of a slice; a tuple of slices also selects bytes, as Dask does."""
        rows, *others = index if isinstance(index, tuple) and index else (index,)
        if not isinstance(rows, slice):
            raise TypeError(f"rows must be indexed by a slice, got {type(rows).__name__} {rows!r}")
        self._require_rows()
        start, stop, step = rows.indices(len(self))
        if step != 1:
            raise ValueError(f"a slice of rows must have a step of 1, got {step}")
        if start >= stop:
            return np.empty((0, self.shape[1]), self.dtype)[:, *others]
        return np.concatenate(list(self.reader.read(start, stop)))[:, *others]

    def chunks(self, start: int = 0, stop: int | None = None) -> Iterator[Rows]:
        """Return an iterator over the packed rows [start, stop), by default all, in chunks."""
        start = integer(start, "start")
        stop = None if stop is None else integer(stop, "stop")
        if (start, stop) == (0, None):
            return super().chunks()
        self._require_rows()
        with self._naming_layer():
            self._require_accumulator()
        return self.reader.read(*slice(start, stop).indices(len(self))[:2])

    def identity(self) -> str:
        """Return a text that is another one for other states, wherever the stores are mounted."""
        arrays = [array for record in self.records for array in (record.states, *record.run_arrays)]
        found = [checksum for array in arrays for checksum in array.checksums]
        checksum = google_crc32c.value(np.array(found, "<u4").tobytes())
        store = self.places[0].rstrip("/").rpartition("/")[2] if self.places else "no store"
        others = f" and {len(self.places) - 1:,} more" if len(self.places) > 1 else ""
        return f"{self.name} of {store}{others}, {len(self):,} rows ({checksum:08x})"

    def accumulator(self) -> Accumulator | None:
        """Return the accumulator of the rows; None if there are none."""
        return self._accumulator

    @cached_property
    def _accumulator(self) -> Accumulator | None:
        return self._open_accumulator()

    def _open_accumulator(self) -> Accumulator | None:
        if not self.records:
            return None
        notes = {
            what: NoteColumn(
                what, StoredLabels(partial(self.note_pieces, what)), self.note_count(what)
            )
            for what in NOTES
        }
        ledger = Ledger.from_batches(self.batches(), notes)
        return RowsAccumulator(self.records[0].neurons, _ReadOnlyRows(self.reader, ledger))

    def _find_accumulator(self) -> Accumulator | None:
        return self._accumulator

    def _read_lock(self) -> AbstractContextManager[None]:
        return nullcontext()


class _ReadOnlyRows:
    """Rows of a store behind the interface of a RowStorage; adding rows raises TypeError."""

    def __init__(self, reader: RowReader, ledger: Ledger) -> None:
        self._reader, self.ledger = reader, ledger

    @property
    def rows(self) -> int:
        return self._reader.rows

    def chunks(self) -> Iterator[Rows]:
        return self._reader.chunks()

    def converted(self, notes: InstanceNotes) -> InstanceNotes:
        return notes

    def add(self, packed: Rows, batches: Batches, notes: InstanceNotes) -> None:
        raise TypeError("committed states are only read")

    add_arrived = add

    instances_in_pass = 0  # no batches come

    def mark_pass_end(self) -> None:
        """Nothing to do: no batches come."""

    rewind_pass = mark_pass_end
