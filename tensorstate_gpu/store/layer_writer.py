"""LayerWriter: writes the rows, the ledger and the labels of one layer to a store."""

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray
from zarr.codecs import ZstdCodec

from tensorstate_gpu._arrays.layout import row_bytes
from tensorstate_gpu._layers.labels import (
    INTEGERS,
    STRINGS,
    empty_column,
    from_column,
    label_kind,
    to_column,
)
from tensorstate_gpu._layers.layer_facts import LayerFacts
from tensorstate_gpu._layers.ledger import Batch, Ledger
from tensorstate_gpu.errors import LedgerError
from tensorstate_gpu.store.columns import ArrayReader, Column, ColumnSnapshot
from tensorstate_gpu.store.commit_record import LayerRecord
from tensorstate_gpu.store.files import Files
from tensorstate_gpu.store.keys import label_key, state_key
from tensorstate_gpu.store.labels import StoredLabels
from tensorstate_gpu.store.ledger_array import LedgerArray, LedgerSnapshot, read_batches

Rows = NDArray[np.uint8]


class RunContext(Protocol):
    """What a layer writer needs of the run's writer; RunWriter implements it."""

    files: Files
    compressor: Any

    def column(
        self,
        key: str,
        empty: NDArray[Any],
        dimension_names: Sequence[str],
        compressor: Any,
        most_chunk_bytes: int | None = None,
    ) -> Column:
        """Return a growing array that the background threads write."""

    def adding_batch(self, layer: "LayerWriter", rows: int) -> AbstractContextManager[None]:
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
    labels: ColumnSnapshot | None
    facts: LayerFacts

    def size(self) -> int:
        """Bytes of memory that the snapshot holds."""
        columns = (self.ledger.array, self.states, self.labels)
        return sum(column.partial_chunk.nbytes for column in columns if column is not None)

    def position(self) -> tuple[int, int, int]:
        """Return how many instances, states and labels there are. More are only appended."""
        labels = 0 if self.labels is None else self.labels.rows
        return self.ledger.instances, self.states.rows, labels


class LayerWriter:
    """Writes the batches of one capture point; memory_rows.py is its counterpart in memory.

    Rows, ledger and labels of a batch are added under the run's lock, so that a commit contains the
    whole batch or nothing of it.
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
        self._states = run.column(state_key(name), empty, ("state", "byte"), run.compressor)
        self._labels: Column | None = None
        self._labels_kind = ""
        self._ledger_array = LedgerArray(name, run.column)
        # What this writer committed last: the position of the snapshot, and its record.
        self._last_commit: tuple[tuple[int, int, int], LayerRecord] | None = None
        batches: list[Batch] = []
        if committed is not None:
            self._resume(committed)
            batches = read_batches(run.files, name, committed)
        self.ledger = self._new_ledger(batches)
        self.mark_pass_end()

    def _new_ledger(self, batches: Iterable[Batch]) -> Ledger:
        labelled = 0 if self._labels is None else self._labels.rows
        return Ledger.from_batches(batches, labelled, StoredLabels(self.label_pieces))

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
        if committed.labels is not None:
            reader = ArrayReader(self._run.files, label_key(self.name), committed.labels, ())
            strings = reader.document()["data_type"] == "string"
            self._open_labels(STRINGS if strings else INTEGERS).resume(committed.labels)

    def _open_labels(self, kind: str) -> Column:
        # Labels compress well, and are few compared with the rows.
        self._labels_kind = kind
        self._labels = self._run.column(
            label_key(self.name), empty_column(kind), ("instance",), ZstdCodec(level=1)
        )
        return self._labels

    # ---- called by accumulators ----------------------------------------------------------------

    @property
    def rows(self) -> int:
        """Number of rows: committed, written or buffered."""
        return self._states.rows

    @property
    def instance_count(self) -> int:
        """Number of instances whose rows are stored."""
        return self.ledger.stored

    def add(self, packed: Rows, instances: int, labels: NDArray[Any] | None) -> None:
        """Store a batch and enter it in the ledger.

        Raises TypeError if the labels are of another type than earlier ones.
        """
        with self._run.adding_batch(self, len(packed)):
            self._append(packed, labels)
            self.ledger.add(instances, len(packed), labels)
            self.ledger.mark_stored(instances)

    def add_arrived(self, packed: Rows, instances: int, labels: NDArray[Any] | None) -> None:
        """Store the rows of the next batch that the ledger already lists."""
        with self._run.adding_batch(self, len(packed)):
            self._append(packed, labels)
            self.ledger.mark_stored(instances)

    def _append(self, packed: Rows, labels: NDArray[Any] | None) -> None:
        converted = None if labels is None else self.convert_labels(labels)
        self._states.append(packed)
        if converted is not None and self._labels is not None:
            self._labels.append(converted)

    def convert_labels(self, labels: NDArray[Any]) -> NDArray[Any]:
        """Return labels in the dtype of their column. Raises TypeError or ValueError."""
        converted, kind = to_column(labels), label_kind(labels)
        if self._labels is None:
            self._open_labels(kind)
        if kind != self._labels_kind:
            raise TypeError(
                f"{self.name}: labels in this store are {self._labels_kind}, got {kind}"
            )
        return converted

    def import_capture(self, chunks: Iterable[Rows], ledger: Ledger) -> None:
        """Store rows and labels that were captured elsewhere, in a layer that is still empty."""
        for chunk in chunks:
            self._run.check_writable()
            with self._run.adding_batch(self, len(chunk)):
                self._states.append(chunk)
        for converted in map(self.convert_labels, ledger.available_label_pieces()):
            assert self._labels is not None
            self._labels.append(converted)
        self.ledger = self._new_ledger(ledger.batches)

    def chunks(self) -> Iterator[Rows]:
        """Return an iterator over the current rows, in order, in read-only chunks."""
        return self._run.read(self._states)

    def label_pieces(self) -> Iterator[NDArray[Any]]:
        """Return an iterator over the current labels, in order, in chunks."""
        return iter(()) if self._labels is None else map(from_column, self._run.read(self._labels))

    def mark_pass_end(self) -> None:
        """Remember the end of a forward pass, to which rewind() returns."""
        self._pass_end = self.ledger.count, self.ledger.rows, self.ledger.labelled

    def rewind(self) -> None:
        """Discard what was added since the last mark. All jobs must be done."""
        instances, rows, labelled = self._pass_end
        self._states.rewind(rows)
        if self._labels is not None:
            self._labels.rewind(labelled)
        self.ledger = self._new_ledger(self.ledger.first_batches(instances))
        self._ledger_array.rewind(self.ledger)
        self._last_commit = None

    # ---- called by commits ---------------------------------------------------------------------

    def snapshot(self) -> LayerSnapshot:
        """Return the current state of the layer, for a commit."""
        labels = None if self._labels is None else self._labels.snapshot()
        ledger = self._ledger_array.snapshot(self.ledger)
        return LayerSnapshot(ledger, self._states.snapshot(), labels, self._facts())

    def write_partial_chunks(self, snapshot: LayerSnapshot) -> None:
        """Write the last, partial chunks of the layer's arrays."""
        if not self._is_committed(snapshot):
            self._states.write_partial_chunk(snapshot.states)
            self._ledger_array.write_partial_chunk(snapshot.ledger)
            if self._labels is not None and snapshot.labels is not None:
                self._labels.write_partial_chunk(snapshot.labels)

    def commit_entry(self, snapshot: LayerSnapshot) -> LayerRecord:
        """Return the entry for the commit record, after all chunks were written."""
        if self._last_commit is None or not self._is_committed(snapshot):
            labels = None
            if self._labels is not None and snapshot.labels is not None and snapshot.labels.rows:
                labels = self._labels.commit_entry(snapshot.labels)
            ledger = snapshot.ledger
            if ledger.states != snapshot.states.rows:
                raise LedgerError(f"{snapshot.states.rows} rows are stored, {ledger.states} due")
            layer = LayerRecord(
                self.neurons,
                self.capture,
                ledger.instances,
                ledger.last,
                self._states.commit_entry(snapshot.states),
                labels,
                self._ledger_array.commit_entry(ledger),
            )
            self._last_commit = snapshot.position(), layer
        return dataclasses.replace(self._last_commit[1], facts=snapshot.facts)

    def _is_committed(self, snapshot: LayerSnapshot) -> bool:
        return self._last_commit is not None and self._last_commit[0] == snapshot.position()

    def update_metadata(self, layer: LayerRecord) -> None:
        """Write the committed number of rows to the arrays' zarr.json, for zarr clients."""
        about = {"name": self.name, "neurons": layer.neurons, **layer.capture}
        each = {"states_per_instance": layer.states_per_instance}
        self._states.update_metadata(layer.states.rows, about | each)
        if self._labels is not None and layer.labels is not None:
            self._labels.update_metadata(layer.labels.rows, {"name": self.name})
        self._ledger_array.update_metadata(layer.ledger, self.name)
