"""StoredLayer: the committed states of one layer, with the measures of a capture point."""

from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any

from numpy.typing import NDArray

from tensorstate_gpu._layers.accumulator import Accumulator
from tensorstate_gpu._layers.batches import Batch
from tensorstate_gpu._layers.kept_accumulator import KeptCountsAccumulator
from tensorstate_gpu._layers.labels import from_column
from tensorstate_gpu._layers.layer_facts import LayerFacts
from tensorstate_gpu.errors import NothingCaptured
from tensorstate_gpu.store.columns import ArrayReader
from tensorstate_gpu.store.commit_record import LayerRecord
from tensorstate_gpu.store.files import Files
from tensorstate_gpu.store.keys import note_key, state_key
from tensorstate_gpu.store.ledger_array import read_batches
from tensorstate_gpu.store.opened_counts import opened_counts
from tensorstate_gpu.store.stored_rows import StoredRows


class StoredLayer(StoredRows):
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

    @property
    def records(self) -> Sequence[LayerRecord]:
        return () if self.committed is None else (self.committed,)

    @property
    def place(self) -> str:
        """Where its store is."""
        return str(self._files)

    @property
    def places(self) -> Sequence[str]:
        return [self.place]

    def facts(self) -> LayerFacts:
        return LayerFacts() if self.committed is None else self.committed.facts

    @cached_property
    def reader(self) -> ArrayReader:
        committed = self._require_committed
        key = state_key(self.name)
        return ArrayReader(self._files, key, committed.states, (committed.row_bytes,))

    def batches(self) -> Iterator[Batch]:
        return iter(read_batches(self._files, self.name, self._require_committed))

    def note_pieces(self, what: str) -> Iterator[NDArray[Any]]:
        array = self._require_committed.notes[what]
        if array is None:
            return iter(())
        reader = ArrayReader(self._files, note_key(what, self.name), array, ())
        return map(from_column, reader.chunks())

    def _open_accumulator(self) -> Accumulator | None:
        if self.committed is not None and self.committed.counts is not None:
            return self.kept_counts()
        return super()._open_accumulator()

    def kept_counts(self) -> KeptCountsAccumulator:
        """Return the counts of a layer that keeps counts."""
        return opened_counts(self._files, self.name, self._require_committed)[0]

    @property
    def _require_committed(self) -> LayerRecord:
        if self.committed is None:
            raise self._no_states_error()
        return self.committed

    def _no_states_error(self) -> NothingCaptured:
        return NothingCaptured(f"{self._files} holds no states of {self.name!r}")
