"""LayerWriter: writes the rows, the ledger, the labels and the units of one layer to a store."""

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from functools import partial
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from tensorstate_gpu._arrays.layout import row_bytes
from tensorstate_gpu._layers.batches import Batch, Batches
from tensorstate_gpu._layers.instance_notes import NOTES, InstanceNotes, NoteColumn
from tensorstate_gpu._layers.layer_facts import LayerFacts
from tensorstate_gpu._layers.ledger import Ledger, Position
from tensorstate_gpu.errors import LedgerError
from tensorstate_gpu.store.columns import Column, ColumnSnapshot
from tensorstate_gpu.store.commit_progress import CommitProgress
from tensorstate_gpu.store.commit_record import LayerRecord
from tensorstate_gpu.store.files import Files
from tensorstate_gpu.store.keys import state_key
from tensorstate_gpu.store.labels import StoredLabels
from tensorstate_gpu.store.ledger_array import LedgerArray, LedgerSnapshot, read_batches
from tensorstate_gpu.store.note_array import NoteArray
from tensorstate_gpu.store.written_layer import WrittenLayer

Rows = NDArray[np.uint8]


class RunContext(Protocol):
    """What a layer writer needs of the run's writer; RunWriter implements it."""

    files: Files
    compressor: Any
    progress: CommitProgress

    @property
    def layers(self) -> int:
        """The number of layers."""

    def column(
        self,
        key: str,
        empty: NDArray[Any],
        dimension_names: Sequence[str],
        compressor: Any,
        most_chunk_bytes: int | None = None,
    ) -> Column:
        """Return a growing array that the background threads write."""

    def adding_batch(
        self, layer: WrittenLayer, rows: int, *, has_arrived: bool = False
    ) -> AbstractContextManager[None]:
        """Context manager that blocks commits while a batch is added."""

    def check_writable(self) -> None:
        """Wait for queue space. Raises the error of a background thread."""

    def read(self, column: Column) -> Iterator[NDArray[Any]]:
        """Return an iterator over the values that a column has now."""


class RowSource(Protocol):
    """The code that adds the rows of a layer: a RowsAccumulator."""

    def drain(self) -> None:
        """Store all batches that are in transit from a device."""


class LayerSnapshot(NamedTuple):
    """A layer at one point in time, to be committed."""

    ledger: LedgerSnapshot
    states: ColumnSnapshot
    notes: dict[str, ColumnSnapshot | None]
    facts: LayerFacts

    def size(self) -> int:
        """Bytes of memory that the snapshot holds."""
        columns = (self.ledger.array, self.states, *self.notes.values())
        return sum(column.partial_chunk.nbytes for column in columns if column is not None)

    def position(self) -> tuple[int, ...]:
        """Return how many instances, states and notes there are. More are only appended."""
        notes = (0 if column is None else column.rows for column in self.notes.values())
        return self.ledger.instances, self.states.rows, *notes


class LayerWriter:
    """Writes the batches of one capture point; memory_rows.py is its counterpart in memory.

    Rows, ledger and notes (labels, units) of a batch are added under the run's lock, so that a
    commit contains the whole batch or nothing of it.
    """

    def __init__(
        self,
        run: RunContext,
        name: str,
        neurons: int,
        capture: dict[str, Any],
        committed: LayerRecord | None,
        facts: Callable[[], LayerFacts],
    ) -> None:
        self._facts = facts
        self.name, self.neurons, self.capture = name, neurons, capture
        self._run = run
        self._row_source: RowSource | None = None
        empty = np.empty((0, row_bytes(neurons)), np.uint8)
        # Names of its own: xarray takes dimensions of one name for the same one, of one size.
        dimensions = f"{name}_state", f"{name}_byte"
        self._states = run.column(state_key(name), empty, dimensions, run.compressor)
        self._notes = {what: NoteArray(name, what, run.column) for what in NOTES}
        self._ledger_array = LedgerArray(name, run.column)
        # What this writer committed last: the position of the snapshot, and its record.
        self._last_commit: tuple[tuple[int, ...], LayerRecord] | None = None
        batches: list[Batch] = []
        if committed is not None:
            self._resume(committed)
            batches = read_batches(run.files, name, committed)
        self.ledger = self._new_ledger(batches)
        self.mark_pass_end()

    def _new_ledger(self, batches: Iterable[Batch]) -> Ledger:
        notes = {
            what: NoteColumn(what, StoredLabels(partial(array.pieces, self._run.read)), array.rows)
            for what, array in self._notes.items()
        }
        return Ledger.from_batches(batches, notes)

    def drain_from(self, source: RowSource) -> None:
        """Set the object that adds the rows. drain() makes it store batches in transit."""
        self._row_source = source

    def drain(self) -> None:
        """Store all batches that are in transit from a device."""
        if self._row_source is not None:
            self._row_source.drain()

    def _resume(self, committed: LayerRecord) -> None:
        self._states.resume(committed.states)
        self._ledger_array.resume(committed)
        for what, array in self._notes.items():
            array.resume(self._run.files, committed.notes[what])

    # ---- called by accumulators ----------------------------------------------------------------

    @property
    def rows(self) -> int:
        """Number of rows: committed, written or buffered."""
        return self._states.rows

    @property
    def instance_count(self) -> int:
        """Number of instances whose rows are stored, as far as it is known."""
        return self.ledger.stored[0]

    @property
    def runs_always(self) -> bool:
        """Whether the layer runs in every pass of its model, as far as is known."""
        return self._facts().runs_always

    def add(self, packed: Rows, batches: Batches, notes: InstanceNotes) -> None:
        """Store batches and enter them in the ledger.

        Raises TypeError if the labels are of another type than earlier ones.
        """
        with self._run.adding_batch(self, len(packed)):
            self._append(packed, notes)
            self.ledger.add(batches, notes)
            self.ledger.mark_stored(batches)

    def add_arrived(self, packed: Rows, batches: Batches, notes: InstanceNotes) -> None:
        """Store the rows of the next batches that the ledger already lists."""
        with self._run.adding_batch(self, len(packed), has_arrived=True):
            self._append(packed, notes)
            self.ledger.mark_stored(batches)

    def _append(self, packed: Rows, notes: InstanceNotes) -> None:
        converted = self.converted(notes)
        self._states.append(packed)
        for what, values in converted._asdict().items():
            self._notes[what].append(values)

    def converted(self, notes: InstanceNotes) -> InstanceNotes:
        """Return notes in the dtypes of their arrays. Raises TypeError or ValueError."""
        each = notes._asdict().items()
        return InstanceNotes(**{what: self._notes[what].converted(values) for what, values in each})

    def import_capture(self, chunks: Iterable[Rows], ledger: Ledger) -> Iterator[int]:
        """Store rows and notes that were captured elsewhere, in a layer that is still empty.

        Yield the number of rows after each chunk. The ledger has them at the end.
        """
        for chunk in chunks:
            self._run.check_writable()
            with self._run.adding_batch(self, len(chunk)):
                self._states.append(chunk)
            yield len(chunk)
        for what, array in self._notes.items():
            array.import_pieces(ledger.notes[what].pieces())
        self.ledger = self._new_ledger(ledger.batches)

    def chunks(self) -> Iterator[Rows]:
        """Return an iterator over the current rows, in order, in read-only chunks."""
        return self._run.read(self._states)

    @property
    def instances_in_pass(self) -> int:
        """Number of instances since the last mark, also of those whose rows are in transit."""
        return self.ledger.instances - self._pass_end.instances

    @property
    def stored_in_pass(self) -> int:
        """Number of instances that are stored, less those that there were at the last mark."""
        return self.ledger.stored[0] - self._pass_end.instances

    def mark_pass_end(self) -> None:
        """Remember the end of a forward pass, to which rewind_pass() returns."""
        self._pass_end = self.ledger.position()

    def rewind_pass(self) -> None:
        """Discard what was added since the last mark. All jobs must be done."""
        self.rewind(self._pass_end)

    def rewind(self, position: Position) -> None:
        """Discard what was added after a position. All jobs must be done."""
        self._states.rewind(position.rows)
        for what, array in self._notes.items():
            array.rewind(position.notes[what])
        batches = self.ledger.first_batches(position.instances, position.rows)
        self.ledger = self._new_ledger(batches)
        self._ledger_array.rewind(self.ledger)
        self._last_commit = None
        self.mark_pass_end()

    # ---- called by commits ---------------------------------------------------------------------

    def snapshot(self) -> LayerSnapshot:
        """Return the current state of the layer, for a commit."""
        notes = {what: array.snapshot() for what, array in self._notes.items()}
        ledger = self._ledger_array.snapshot(self.ledger)
        return LayerSnapshot(ledger, self._states.snapshot(), notes, self._facts())

    def write_partial_chunks(self, snapshot: LayerSnapshot) -> None:
        """Write the last, partial chunks of the layer's arrays."""
        if not self._is_committed(snapshot):
            self._states.write_partial_chunk(snapshot.states)
            self._ledger_array.write_partial_chunk(snapshot.ledger)
            for what, array in self._notes.items():
                array.write_partial_chunk(snapshot.notes[what])

    def commit_entry(self, snapshot: LayerSnapshot) -> LayerRecord:
        """Return the entry for the commit record, after all chunks were written."""
        if self._last_commit is None or not self._is_committed(snapshot):
            notes = {
                what: array.commit_entry(snapshot.notes[what])
                for what, array in self._notes.items()
            }
            ledger = snapshot.ledger
            if ledger.states != snapshot.states.rows:
                raise LedgerError(f"{snapshot.states.rows} rows are stored, {ledger.states} due")
            layer = LayerRecord(
                neurons=self.neurons,
                capture=self.capture,
                instances=ledger.instances,
                batches=ledger.last,
                states=self._states.commit_entry(snapshot.states),
                labels=notes["labels"],
                ledger=self._ledger_array.commit_entry(ledger),
                units=notes["units"],
                unassigned=ledger.unassigned,
            )
            self._last_commit = snapshot.position(), layer
        return dataclasses.replace(self._last_commit[1], facts=snapshot.facts)

    def delete_replaced(self) -> None:
        """Nothing to do: commits replace no files of rows."""

    def _is_committed(self, snapshot: LayerSnapshot) -> bool:
        return self._last_commit is not None and self._last_commit[0] == snapshot.position()

    def update_metadata(self, layer: LayerRecord) -> None:
        """Write the committed number of rows to the arrays' zarr.json, for zarr clients."""
        about = {"name": self.name, "neurons": layer.neurons, **layer.capture}
        each = {"states_per_instance": layer.states_per_instance}
        self._states.update_metadata(layer.states.rows, about | each)
        for what, array in self._notes.items():
            array.update_metadata(layer.notes[what])
        self._ledger_array.update_metadata(layer.ledger, self.name)
