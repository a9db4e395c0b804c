"""The committed states of one layer, with the measures of a capture point."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tensorstate_gpu._layers.accumulator import Accumulator
from tensorstate_gpu._layers.layer_states import Readings
from tensorstate_gpu._layers.ledger import Ledger
from tensorstate_gpu._layers.rows_accumulator import RowsAccumulator
from tensorstate_gpu.errors import NothingCaptured
from tensorstate_gpu.store.columns import ArrayReader
from tensorstate_gpu.store.files import Files
from tensorstate_gpu.store.keys import label_key, state_key
from tensorstate_gpu.store.labels import LabelsOfRows, plain
from tensorstate_gpu.store.record import Layer

Rows = NDArray[np.uint8]


class StoredLayer(Readings):
    """What was committed of a layer. Rows are read chunk by chunk, and counted when asked.

    ``len(layer)`` and ``layer[start:stop]`` give packed rows, uint8 (states, bytes).
    """

    __module__ = "tensorstate_gpu.store"

    def __init__(self, files: Files, name: str, committed: Layer | None) -> None:
        self.name = name
        self.committed = committed
        self._files = files

    @property
    def axis(self) -> int | None:
        """The axis along which the neurons lay."""
        axis: int | None = self.attributes().get("neuron_axis")
        return axis

    def attributes(self) -> dict[str, Any]:
        """How its states came about, as JSON: neuron_axis, and threshold or firing."""
        return {} if self.committed is None else dict(self.committed.capture)

    def labels(self) -> NDArray[Any]:
        """The label of each instance; ValueError when some have none."""
        return np.concatenate(list(self._captured().ledger.label_pieces()))

    def __repr__(self) -> str:
        return f"StoredLayer({self.name!r}, {len(self)} states of {self.neurons} neurons)"

    def __len__(self) -> int:
        return self.state_count

    def __getitem__(self, rows: slice) -> Rows:
        if not isinstance(rows, slice):
            raise TypeError(f"rows are read by a slice, got {type(rows).__name__} {rows!r}")
        start, stop, step = rows.indices(len(self))
        if step != 1:
            raise ValueError(f"rows are read in order, one after the other, got a step of {step}")
        if start >= stop:
            return np.empty((0, self._whole.row_bytes if self.committed else 0), np.uint8)
        return np.concatenate(self._states.between(start, stop))

    @cached_property
    def _states(self) -> ArrayReader:
        return ArrayReader(
            self._files, state_key(self.name), self._whole.states, (self._whole.row_bytes,)
        )

    @property
    def _whole(self) -> Layer:
        if self.committed is None:
            raise self._empty()
        return self.committed

    @cached_property
    def _accumulator(self) -> RowsAccumulator | None:
        layer = self.committed
        if layer is None:
            return None
        labelled = 0 if layer.labels is None else layer.labels.rows
        ledger = Ledger.resumed(layer.batches, labelled, LabelsOfRows(self._label_pieces))
        return RowsAccumulator(layer.neurons, _CommittedRows(self._states, ledger))

    def _there(self) -> Accumulator | None:
        return self._accumulator

    def _reading(self) -> AbstractContextManager[None]:
        return nullcontext()

    def _empty(self) -> NothingCaptured:
        return NothingCaptured(f"{self._files} holds no states of {self.name!r}")

    def _label_pieces(self) -> Iterator[NDArray[Any]]:
        layer = self._whole
        if layer.labels is None:
            return iter(())
        reader = ArrayReader(self._files, label_key(self.name), layer.labels, ())
        return map(plain, reader.chunks())


class _CommittedRows:
    """Rows to read, where an accumulator expects rows to keep."""

    def __init__(self, reader: ArrayReader, ledger: Ledger) -> None:
        self._reader, self.ledger = reader, ledger

    @property
    def rows(self) -> int:
        return self._reader.rows

    def chunks(self) -> Iterator[Rows]:
        return self._reader.chunks()

    def checked(self, labels: NDArray[Any]) -> NDArray[Any]:
        return labels

    def add(self, packed: Rows, instances: int, labels: NDArray[Any] | None) -> None:
        raise TypeError("committed states are only read")

    add_entered = add
