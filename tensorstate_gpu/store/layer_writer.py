"""What one capture point has in a store that is being written: rows, ledger, labels."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray
from zarr.codecs import ZstdCodec

from tensorstate_gpu._arrays.layout import row_bytes
from tensorstate_gpu._layers.ledger import Ledger
from tensorstate_gpu.store.columns import ArrayReader, Column, Cut
from tensorstate_gpu.store.files import Files
from tensorstate_gpu.store.keys import label_key, state_key
from tensorstate_gpu.store.labels import LabelsOfRows, empty_labels, kind_of, plain, typed
from tensorstate_gpu.store.record import Layer

Rows = NDArray[np.uint8]


class Surroundings(Protocol):
    """What a layer needs of the run that it is written in; RunWriter is one."""

    files: Files
    compressor: Any

    def column(
        self, key: str, empty: NDArray[Any], dimension_names: Sequence[str], compressor: Any
    ) -> Column:
        """A growing array that the run's writer writes."""

    def adding(self, layer: "LayerWriter", rows: int) -> AbstractContextManager[None]:
        """Held while a batch is taken: no commit comes in between."""

    def check(self) -> None:
        """Wait for room; raises what went wrong in the background."""

    def read(self, column: Column) -> Iterator[NDArray[Any]]:
        """The values of a column that are there at the call."""


class Feeder(Protocol):
    """What adds the rows of a layer: a RowsAccumulator."""

    def bring(self) -> None:
        """Keep all that is on its way from a device."""


class LayerCut(NamedTuple):
    """A moment of a layer: what a commit is to make of it."""

    batches: tuple[tuple[int, int], ...]
    states: Cut
    labels: Cut | None

    def size(self) -> int:
        """Bytes that it holds."""
        return self.states.tail.nbytes + (0 if self.labels is None else self.labels.tail.nbytes)


class LayerWriter:
    """Takes the batches of one capture point; the twin of memory_rows.py.

    Rows, ledger and labels of a batch are taken under the run's lock, so that each commit has all
    of it or nothing.
    """

    def __init__(
        self,
        run: Surroundings,
        name: str,
        neurons: int,
        capture: dict[str, Any],
        found: Layer | None,
    ) -> None:
        self.name, self.neurons, self.capture = name, neurons, capture
        self._run = run
        self._feeder: Feeder | None = None
        empty = np.empty((0, row_bytes(neurons)), np.uint8)
        self._states = run.column(state_key(name), empty, ("state", "byte"), run.compressor)
        self._labels: Column | None = None
        self._labels_kind = ""
        self._last: tuple[tuple[tuple[int, int], ...], Layer] | None = None  # committed by us
        if found is not None:
            self._resume(found)
        self.ledger = self._ledger_of(() if found is None else found.batches)
        self.mark()

    def _ledger_of(self, batches: Iterable[tuple[int, int]]) -> Ledger:
        labelled = 0 if self._labels is None else self._labels.rows
        return Ledger.resumed(batches, labelled, LabelsOfRows(self.label_pieces))

    def feed_from(self, feeder: Feeder) -> None:
        """From here on ``feeder`` adds the rows, which may be on their way to it for a while."""
        self._feeder = feeder

    def bring(self) -> None:
        """Keep all that is on its way."""
        if self._feeder is not None:
            self._feeder.bring()

    def _resume(self, found: Layer) -> None:
        self._states.resume(found.states)
        if found.labels is not None:
            reader = ArrayReader(self._run.files, label_key(self.name), found.labels, ())
            strings = reader.document()["data_type"] == "string"
            self._open_labels("strings" if strings else "integers").resume(found.labels)

    def _open_labels(self, kind: str) -> Column:
        # Labels shrink well, and are few beside the rows.
        self._labels_kind = kind
        self._labels = self._run.column(
            label_key(self.name), empty_labels(kind), ("instance",), ZstdCodec(level=1)
        )
        return self._labels

    # ---- what an accumulator calls -------------------------------------------------------------

    @property
    def rows(self) -> int:
        """Rows kept: committed, written or buffered."""
        return self._states.rows

    @property
    def instance_count(self) -> int:
        """Instances whose rows are kept."""
        return self.ledger.kept

    def add(self, packed: Rows, instances: int, labels: NDArray[Any] | None) -> None:
        """Keep a batch, and enter it; TypeError for labels of another kind than those before."""
        with self._run.adding(self, len(packed)):
            self._keep(packed, labels)
            self.ledger.add(instances, len(packed), labels)
            self.ledger.keep(instances)

    def add_entered(self, packed: Rows, instances: int, labels: NDArray[Any] | None) -> None:
        """Keep the next batch of those that the ledger has already."""
        with self._run.adding(self, len(packed)):
            self._keep(packed, labels)
            self.ledger.keep(instances)

    def _keep(self, packed: Rows, labels: NDArray[Any] | None) -> None:
        given = None if labels is None else self.checked(labels)
        self._states.append(packed)
        if given is not None and self._labels is not None:
            self._labels.append(given)

    def checked(self, labels: NDArray[Any]) -> NDArray[Any]:
        """Labels as they are kept; TypeError or ValueError for those that cannot be."""
        given, kind = typed(labels), kind_of(labels)
        if self._labels is None:
            self._open_labels(kind)
        if kind != self._labels_kind:
            raise TypeError(
                f"{self.name}: labels in this store are {self._labels_kind}, got {kind}"
            )
        return given

    def take_over(self, chunks: Iterable[Rows], ledger: Ledger) -> None:
        """Keep all that was captured elsewhere, in place of nothing."""
        for chunk in chunks:
            self._run.check()
            with self._run.adding(self, len(chunk)):
                self._states.append(chunk)
        for given in map(self.checked, ledger.given_labels()):
            assert self._labels is not None
            self._labels.append(given)
        self.ledger = self._ledger_of(ledger.batches)

    def chunks(self) -> Iterator[Rows]:
        """All rows that are there at the call, in order, in read-only pieces."""
        return self._run.read(self._states)

    def label_pieces(self) -> Iterator[NDArray[Any]]:
        """All labels that are there at the call, in order, in pieces."""
        return iter(()) if self._labels is None else map(plain, self._run.read(self._labels))

    def mark(self) -> None:
        """A forward pass ends here: what rewind() goes back to."""
        self._mark = self.ledger.count, self.ledger.rows, self.ledger.labelled

    def rewind(self) -> None:
        """Forget what came after the last mark; the jobs up to now are done."""
        instances, rows, labelled = self._mark
        self._states.rewind(rows)
        if self._labels is not None:
            self._labels.rewind(labelled)
        self.ledger = self._ledger_of(self.ledger.first(instances))

    # ---- what a commit calls -------------------------------------------------------------------

    def cut(self) -> LayerCut:
        """The layer as it is now."""
        labels = None if self._labels is None else self._labels.cut()
        return LayerCut(self.ledger.kept_batches, self._states.cut(), labels)

    def write_tails(self, cut: LayerCut) -> None:
        """Write what a commit needs beyond whole chunks."""
        if not self._is_committed(cut):
            self._states.write_tail(cut.states)
            if self._labels is not None and cut.labels is not None:
                self._labels.write_tail(cut.labels)

    def committed(self, cut: LayerCut) -> Layer:
        """What a commit is to list, once all of it is written."""
        if self._last is None or not self._is_committed(cut):
            labels = None
            if self._labels is not None and cut.labels is not None and cut.labels.rows:
                labels = self._labels.committed(cut.labels)
            states = self._states.committed(cut.states)
            layer = Layer(self.neurons, self.capture, cut.batches, states, labels)
            layer.check()
            self._last = cut.batches, layer
        return self._last[1]

    def _is_committed(self, cut: LayerCut) -> bool:
        return self._last is not None and self._last[0] == cut.batches

    def publish(self, layer: Layer) -> None:
        """Tell zarr clients what is committed."""
        about = {"name": self.name, "neurons": layer.neurons, **layer.capture}
        each = {"states_per_instance": layer.states_per_instance}
        self._states.publish(layer.states.rows, about | each)
        if self._labels is not None and layer.labels is not None:
            self._labels.publish(layer.labels.rows, {"name": self.name})
