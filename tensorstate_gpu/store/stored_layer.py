"""StoredLayer: the committed states of one layer, with the measures of a capture point."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from functools import cached_property, partial
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from tensorstate_gpu._layers.accumulator import Accumulator
from tensorstate_gpu._layers.batches import Batches
from tensorstate_gpu._layers.counts_accumulator import rows_not_kept
from tensorstate_gpu._layers.instance_notes import InstanceNotes, NoteColumn
from tensorstate_gpu._layers.labels import from_column
from tensorstate_gpu._layers.layer_facts import LayerFacts
from tensorstate_gpu._layers.layer_states import LayerStates
from tensorstate_gpu._layers.ledger import Ledger
from tensorstate_gpu._layers.rows_accumulator import RowsAccumulator
from tensorstate_gpu.errors import NothingCaptured
from tensorstate_gpu.store.columns import ArrayReader
from tensorstate_gpu.store.commit_record import LayerRecord
from tensorstate_gpu.store.files import Files
from tensorstate_gpu.store.keys import note_key, state_key
from tensorstate_gpu.store.labels import StoredLabels
from tensorstate_gpu.store.ledger_array import read_batches
from tensorstate_gpu.store.opened_counts import opened_counts

Rows = NDArray[np.uint8]


class StoredLayer(LayerStates):
    """The committed states of one layer. It has the same measures as a capture point.

    Rows are read chunk by chunk, and counted on demand, so a layer may exceed memory. A layer of
    keep="counts" has no rows: what needs them raises RowsNotKept.
    ``len(layer)`` is the number of rows; ``layer[start:stop]`` reads packed rows, uint8 (states,
    bytes). ``shape``, ``dtype`` and ``np.asarray(layer)`` are those of an array of them. A pickle
    refers to the store, and reads the same rows.
    """

    __module__ = "tensorstate_gpu.store"

    def __init__(self, files: Files, name: str, committed: LayerRecord | None) -> None:
        self.name = name
        self.committed = committed
        self._files = files

    def __getstate__(self) -> dict[str, Any]:
        # Without what is cached while the layer is read.
        return {"name": self.name, "committed": self.committed, "_files": self._files}

    # The record has these numbers, so that the ledger need not be read.

    @property
    def state_count(self) -> int:
        return 0 if self.committed is None else self.committed.rows

    @property
    def instance_count(self) -> int:
        if self.committed is not None and self.committed.unassigned:
            return super().instance_count  # from the ledger: the number may be unknown
        return 0 if self.committed is None else self.committed.instances

    @property
    def neurons(self) -> int | None:
        return None if self.committed is None else self.committed.neurons

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

    def facts(self) -> LayerFacts:
        return LayerFacts() if self.committed is None else self.committed.facts

    def attributes(self) -> dict[str, Any]:
        """Return how the states were captured, as JSON: neuron_axis, and threshold or firing."""
        return {} if self.committed is None else dict(self.committed.capture)

    def labels(self) -> NDArray[Any]:
        """Return the label of each instance. Raises ValueError if some instances have none."""
        with self._naming_layer():
            accumulator = self._require_accumulator()
            accumulator.chunks()  # raises an error where only counts are kept
            return np.concatenate(list(accumulator.ledger.note_pieces("labels")))

    def __repr__(self) -> str:
        return f"StoredLayer({self.name!r}, {len(self)} states of {self.neurons} neurons)"

    def __len__(self) -> int:
        return self.state_count

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, bytes), as of an array of the packed rows."""
        return len(self), 0 if self.committed is None else self.committed.row_bytes

    @property
    def dtype(self) -> np.dtype[np.uint8]:
        return np.dtype(np.uint8)

    @property
    def ndim(self) -> int:
        return 2

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> NDArray[Any]:
        """Return all packed rows, in order: uint8 (rows, bytes)."""
        if copy is False:
            raise ValueError(f"{self.name}: the rows are in a store, so an array of them is a copy")
        return self[:].astype(self.dtype if dtype is None else dtype, copy=False)

    def __getitem__(self, rows: slice) -> Rows:
        if not isinstance(rows, slice):
            raise TypeError(f"rows must be indexed by a slice, got {type(rows).__name__} {rows!r}")
        start, stop, step = rows.indices(len(self))
        if self.committed is not None and self.committed.counts is not None:
            raise rows_not_kept(f"{self._files}: {self.name!r}")
        if step != 1:
            raise ValueError(f"a slice of rows must have a step of 1, got {step}")
        if start >= stop:
            return np.empty((0, self.shape[1]), self.dtype)
        return np.concatenate(self._states.read(start, stop))

    @cached_property
    def _states(self) -> ArrayReader:
        return ArrayReader(
            self._files,
            state_key(self.name),
            self._require_committed.states,
            (self._require_committed.row_bytes,),
        )

    @property
    def _require_committed(self) -> LayerRecord:
        if self.committed is None:
            raise self._no_states_error()
        return self.committed

    def accumulator(self) -> Accumulator | None:
        """Return the accumulator of the rows; None if there are none."""
        return self._accumulator

    @cached_property
    def _accumulator(self) -> Accumulator | None:
        layer = self.committed
        if layer is None:
            return None
        if layer.counts is not None:
            return opened_counts(self._files, self.name, layer)[0]
        notes = {
            what: NoteColumn(
                what,
                StoredLabels(partial(self._note_pieces, what)),
                0 if array is None else array.rows,
            )
            for what, array in layer.notes.items()
        }
        ledger = Ledger.from_batches(read_batches(self._files, self.name, layer), notes)
        return RowsAccumulator(layer.neurons, _ReadOnlyRows(self._states, ledger))

    def _find_accumulator(self) -> Accumulator | None:
        return self._accumulator

    def _read_lock(self) -> AbstractContextManager[None]:
        return nullcontext()

    def _no_states_error(self) -> NothingCaptured:
        return NothingCaptured(f"{self._files} holds no states of {self.name!r}")

    def _note_pieces(self, what: str) -> Iterator[NDArray[Any]]:
        array = self._require_committed.notes[what]
        if array is None:
            return iter(())
        reader = ArrayReader(self._files, note_key(what, self.name), array, ())
        return map(from_column, reader.chunks())


class _ReadOnlyRows:
    """Rows of a store behind the interface of a RowStorage; adding rows raises TypeError."""

    def __init__(self, reader: ArrayReader, ledger: Ledger) -> None:
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

    def mark_pass_end(self) -> None:
        """Nothing to do: no batches come."""

    rewind_pass = mark_pass_end
