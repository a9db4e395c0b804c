"""Intake: takes the batches of one capture point, in any thread, and hands them to its sink."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tensorstate_gpu._arguments import integer, positive_integer
from tensorstate_gpu._capturing.options import CaptureOptions
from tensorstate_gpu._capturing.sinks import CountsSink, MemorySink, Sink, StoreSink
from tensorstate_gpu._layers.accumulator import Accumulator
from tensorstate_gpu._process.locks import ForkSafeLock


class Intake:
    """What bridges feed. A batch is taken whole, with its entry in the ledger and labels, or not.

    ``accumulator`` is None, and so is ``axis``, until the first batch, unless a store has rows of
    this layer already. ``lock`` is held while a batch is taken.
    """

    def __init__(self, name: str, options: CaptureOptions) -> None:
        self.name, self.options = name, options
        self.lock = ForkSafeLock()
        self._waits: list[Callable[[], object]] = []
        self._stopped = False
        self._start()

    def _start(self) -> None:
        self.pending_labels: Any = None
        self.axis: int | None = None
        self.accumulator: Accumulator | None = None
        self.sink = self._new_sink()
        found = self.sink.resumed()
        self._resumed = found is not None  # with rows that a store had already
        if found is not None:
            self.accumulator, self.axis = found

    def _new_sink(self) -> Sink:
        options = self.options
        if options.keep == "counts":
            return CountsSink()
        if options.disk_path is None:
            return MemorySink(options.compressor)
        return StoreSink(self.name, options, self, self.lock)

    # ---- batches -------------------------------------------------------------------------------

    def declare(self, neurons: int, axis: int | None = None) -> None:
        """Say how many neurons a state has, and along which axis; ValueError on a change."""
        with self.lock:
            if self.accumulator is None:
                neurons = positive_integer(neurons, "neurons")
                self.axis = None if axis is None else integer(axis, "axis")
                self.accumulator = self.sink.open(neurons, self.attributes())
            elif neurons != self.accumulator.neurons:
                raise ValueError(
                    f"{self.name}: a batch has {neurons} neurons, earlier ones "
                    f"{self.accumulator.neurons}; reset_states() starts anew{self._with_loss()}"
                )
            elif self._resumed and axis != self.axis:
                raise ValueError(
                    f"{self.name}: a batch has its neurons along axis {axis}, those in "
                    f"{self._store()} along {self.axis}"
                )

    def _with_loss(self) -> str:
        return f", and deletes what {self._store()} has of this layer" if self._resumed else ""

    def _store(self) -> Any:
        assert isinstance(self.sink, StoreSink)
        return self.sink.store

    def attributes(self) -> dict[str, Any]:
        """How states come about, as a store writes it: JSON."""
        return {"neuron_axis": self.axis, **self.options.criterion()}

    def append(self, packed: NDArray[np.uint8], instances: int, labels: Any = None) -> None:
        """As CapturePoint.append()."""
        if type(packed) is not np.ndarray:
            raise TypeError(f"packed must be a NumPy array, got {type(packed).__name__}")
        instances = integer(instances, "instances")
        self.sink.before_batch()
        with self.lock:
            if self.accumulator is None:
                raise ValueError(f"{self.name}: declare() the neurons before append()")
            given = self.pending_labels if labels is None else labels
            self.accumulator.append(packed, instances, given)

    def record(self, packed: Any, neurons: int, axis: int | None, instances: int) -> None:
        """declare() and append() in one, for a batch that packing.pack() made, wherever it lies."""
        if self._stopped:
            return
        self.sink.before_batch()
        with self.lock:  # a reset by another thread comes before or after, not between
            self.declare(neurons, axis)
            assert self.accumulator is not None
            self.accumulator.append(packed, instances, self.pending_labels, trusted=True)

    def stop(self) -> None:
        """Record no more: what a framework has traced may still bring batches."""
        self._stopped = True

    # ---- batches on their way ------------------------------------------------------------------

    def wait_with(self, wait: Callable[[], object]) -> None:
        """Call a function before states are read: it waits for batches still on their way here."""
        if wait not in self._waits:
            self._waits.append(wait)

    def settle(self) -> None:
        """Wait for batches that a framework is still working on."""
        for wait in self._waits:
            wait()

    # ---- the end -------------------------------------------------------------------------------

    def reset(self, neurons: int | None, axis: int) -> None:
        """Forget everything captured; declare the neurons of what is to come, if they are known."""
        self.settle()
        with self.lock:
            if self.accumulator is not None:
                self.accumulator.discard()
            self.sink.remove()
            self._start()
            if neurons is not None:
                self.declare(neurons, axis)

    def flush(self) -> None:
        """Commit what is still buffered, where rows are kept in a store."""
        self.settle()
        self.sink.flush()
