"""Sinks: where the batches of a capture point go. To rows in memory, running counts, or a store."""

from typing import TYPE_CHECKING, Any, Protocol

from tensorstate_gpu._arrays.layout import row_bytes
from tensorstate_gpu._capturing.options import CaptureOptions
from tensorstate_gpu._layers.accumulator import Accumulator
from tensorstate_gpu._layers.counts_accumulator import CountsAccumulator
from tensorstate_gpu._layers.memory_rows import MemoryRows
from tensorstate_gpu._layers.rows_accumulator import RowsAccumulator
from tensorstate_gpu._process.locks import ForkSafeLock

if TYPE_CHECKING:
    from tensorstate_gpu.store.layer_writer import LayerWriter
    from tensorstate_gpu.store.run_writer import Source


class Sink(Protocol):
    """What a capture point asks of the place that its batches go to."""

    def open(self, neurons: int, attributes: dict[str, Any]) -> Accumulator:
        """Takes the batches of a layer whose first one comes now; ``attributes``: as JSON."""

    def resumed(self) -> tuple[Accumulator, int | None] | None:
        """What takes the batches of a layer that has rows already, and its neuron axis."""

    def before_batch(self) -> None:
        """Wait for room, commit when it is time; raises what went wrong in the background."""

    def remove(self) -> None:
        """Delete what is kept elsewhere than in the accumulator."""

    def give_up(self) -> None:
        """Free the layer's name: nothing will be captured."""

    def flush(self) -> None:
        """Commit what is buffered."""

    def forget_broken_pass(self) -> None:
        """Forget the batches of a forward pass that an exception ended."""


class _InMemory:
    """What needs no claim, no room and no commit: everything lies in the accumulator."""

    def resumed(self) -> None:
        return None

    def _nothing(self) -> None:
        """Nothing to do."""

    before_batch = remove = give_up = flush = forget_broken_pass = _nothing


class MemorySink(_InMemory):
    """Every row, in memory."""

    def __init__(self, compressor: Any) -> None:
        self._compressor = compressor

    def open(self, neurons: int, attributes: dict[str, Any]) -> Accumulator:
        return RowsAccumulator(neurons, MemoryRows(row_bytes(neurons), self._compressor))


class CountsSink(_InMemory):
    """Running counts."""

    def open(self, neurons: int, attributes: dict[str, Any]) -> Accumulator:
        return CountsAccumulator(neurons)


class StoreSink:
    """Every row, in a store; ``source`` is asked for batches on their way before a commit."""

    def __init__(
        self, name: str, options: CaptureOptions, source: "Source", lock: ForkSafeLock
    ) -> None:
        from tensorstate_gpu.store.stores_by_path import store_for  # slow to import: zarr

        self._name, self._lock = name, lock
        self.store = store_for(options.disk_path, name)
        self._session = self.store.session
        self._found = self._session.claim(name, options.criterion(), source)

    def open(self, neurons: int, attributes: dict[str, Any]) -> Accumulator:
        return self._accumulator(self._session.layer(self._name, neurons, attributes))

    def resumed(self) -> tuple[Accumulator, int | None] | None:
        found = self._found
        if found is None:
            return None
        writer = self._session.layer(self._name, found.neurons, found.capture, found)
        return self._accumulator(writer), found.capture["neuron_axis"]

    def _accumulator(self, writer: "LayerWriter") -> Accumulator:
        accumulator = RowsAccumulator(writer.neurons, writer, self._lock)
        writer.feed_from(accumulator)
        return accumulator

    def before_batch(self) -> None:
        self._session.before_batch(self._name)

    def remove(self) -> None:
        self._session.remove(self._name)

    def give_up(self) -> None:
        self._session.give_up(self._name)

    def flush(self) -> None:
        self._session.flush()

    def forget_broken_pass(self) -> None:
        self._session.forget_broken_pass()
