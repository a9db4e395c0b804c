"""MemoryRows: packed rows in memory; store/layer_writer.py is its counterpart on disk."""

import copy
from collections.abc import Iterator
from itertools import chain
from typing import Any, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from tensorstate_gpu._layers.batches import Batches
from tensorstate_gpu._layers.chunked_buffer import ChunkedBuffer, chunk_size, copied
from tensorstate_gpu._layers.instance_notes import NOTES, InstanceNotes, NoteColumn
from tensorstate_gpu._layers.labels import MemoryLabels
from tensorstate_gpu._layers.ledger import Ledger

Rows = NDArray[np.uint8]


class RowStorage(Protocol):
    """Stores every packed row, in order, with the ledger: in memory or on disk."""

    @property
    def ledger(self) -> Ledger:
        """The batches, and how many of them are stored."""

    @property
    def rows(self) -> int:
        """Number of stored rows, counted independently of the ledger."""

    def add(self, packed: Rows, batches: Batches, notes: InstanceNotes) -> None:
        """Enter batches and store a copy of their rows: all, or none if this raises."""

    def add_arrived(self, packed: Rows, batches: Batches, notes: InstanceNotes) -> None:
        """Store the rows of the next batches that the ledger already lists."""

    def converted(self, notes: InstanceNotes) -> InstanceNotes:
        """Return notes in the form in which they are stored. Raises TypeError or ValueError."""

    def chunks(self) -> Iterator[Rows]:
        """Return the current rows, in order, in read-only chunks (rows, bytes)."""

    @property
    def instances_in_pass(self) -> int:
        """Number of instances since the last mark, also of those whose rows are in transit."""

    def mark_pass_end(self) -> None:
        """Remember the end of a forward pass, to which rewind_pass() returns."""

    def rewind_pass(self) -> None:
        """Discard what was added since the last mark."""


class MemoryRows(ChunkedBuffer):
    """All rows in memory. A numcodecs codec, if given, encodes each full chunk."""

    def __init__(self, row_bytes: int, compressor: Any = None) -> None:
        chunk_rows = max(1, chunk_size() // row_bytes)
        super().__init__(np.empty((0, row_bytes), np.uint8), chunk_rows)
        self._row_bytes = row_bytes
        self._compressor = compressor
        self._full: list[Any] = []
        self.ledger = Ledger({name: NoteColumn(name, MemoryLabels()) for name in NOTES})
        self.mark_pass_end()

    def copy(self) -> "MemoryRows":
        """Return an independent copy. It shares the full chunks, which never change."""
        twin = copy.copy(self)
        twin._buffer = self._buffer[: self._filled].copy()
        twin._full = self._full.copy()
        twin.ledger = copy.deepcopy(self.ledger)
        return twin

    def add(self, packed: Rows, batches: Batches, notes: InstanceNotes) -> None:
        self.append(packed)
        self.ledger.add(batches, notes, stored=True)

    def add_arrived(self, packed: Rows, batches: Batches, notes: InstanceNotes) -> None:
        self.append(packed)
        self.ledger.mark_stored(batches)

    def converted(self, notes: InstanceNotes) -> InstanceNotes:
        """Return them unchanged: memory can hold any labels."""
        return notes

    def _write_chunks(self, first: Rows, others: Rows) -> None:
        if self._compressor is None:
            self._full += [first, *self._split(copied(others))]
        else:  # a codec may return its input
            chunks = (first, *map(copied, self._split(others)))
            self._full += [self._compressor.encode(chunk) for chunk in chunks]

    @property
    def instances_in_pass(self) -> int:
        return self.ledger.instances - self._pass_end.instances

    def mark_pass_end(self) -> None:
        self._pass_end = self.ledger.position()

    def rewind_pass(self) -> None:
        position = self._pass_end
        full = position.rows // self._chunk_rows
        if full < len(self._full):  # the last row is in a full chunk
            self._buffer = self._decode(self._full[full]).copy()
            self._base = full * self._chunk_rows
            del self._full[full:]
        self._filled = position.rows - self._base
        notes = {
            what: NoteColumn(
                what, MemoryLabels.first(self.ledger.notes[what].pieces(), count), count
            )
            for what, count in position.notes.items()
        }
        self.ledger = self.ledger.first(position, notes)

    def chunks(self) -> Iterator[Rows]:
        last = [_read_only(self._buffer[: self._filled])] if self._filled else []
        return chain(map(self._decode, tuple(self._full)), last)

    def _decode(self, chunk: Any) -> Rows:
        if self._compressor is None:
            return _read_only(cast(Rows, chunk))
        decoded = np.frombuffer(self._compressor.decode(chunk), np.uint8)
        return _read_only(decoded.reshape(-1, self._row_bytes))


def _read_only(rows: Rows) -> Rows:
    view = rows.view()
    view.flags.writeable = False
    return view


def check_compressor(compressor: Any) -> None:
    """Raise TypeError or ValueError for an object that cannot encode and decode bytes."""
    if not callable(getattr(compressor, "encode", None)) or not callable(
        getattr(compressor, "decode", None)
    ):
        raise TypeError(
            "compressor must be a numcodecs codec (with encode and decode), "
            f"got {type(compressor).__name__} {compressor!r}"
        )
    sample = np.arange(512, dtype=np.uint16).view(np.uint8).reshape(-1, 4)
    try:
        decoded = bytes(compressor.decode(compressor.encode(sample)))
    except Exception as error:  # codecs raise errors of every kind
        raise TypeError(f"compressor {compressor!r} cannot encode bytes: {error}") from error
    if decoded != sample.tobytes():
        raise ValueError(f"compressor {compressor!r} does not reproduce the bytes that it encoded")
