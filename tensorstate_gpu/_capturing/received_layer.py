"""ReceivedLayer: what is received of a layer so far, and the sink that keeps it."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from tensorstate_gpu._arguments import integer, positive_integer
from tensorstate_gpu._arrays.dlpack import Tensor
from tensorstate_gpu._capturing.options import CaptureOptions
from tensorstate_gpu._capturing.pass_marks import PassMarks
from tensorstate_gpu._capturing.sinks import CountsSink, MemorySink, Sink, StoreSink
from tensorstate_gpu._layers.accumulator import Accumulator
from tensorstate_gpu._layers.broken_passes import PassClock
from tensorstate_gpu._layers.layer_facts import LayerLog
from tensorstate_gpu._process.fork_safe_lock import ForkSafeLock
from tensorstate_gpu._process.interrupts import deferred_interrupts
from tensorstate_gpu._states.not_a_number import count_nan


class ReceivedLayer:
    """What is received of a layer: its neurons, its rows, and its passes, which may break.

    ``accumulator`` and ``axis`` are None before the first batch, unless a store already has rows of
    this layer. ``lock`` is held while a batch is added.
    """

    def __init__(self, name: str, options: CaptureOptions, call_of: str | None) -> None:
        self.name, self.options = name, options
        self.axis_origin: str | None = None
        self.inputs_unknown: str | None = None  # why some rows belong to no known input
        self.lock = ForkSafeLock()
        self._barriers: list[Callable[[], object]] = []
        self.marks: PassMarks | None = None  # of the passes of a run in memory
        self.log = LayerLog(call_of=call_of)
        self._open_sink()
        with self.released_if_it_fails():
            self.log.begin(self.sink.earlier_facts())

    def _open_sink(self) -> None:
        self.axis: int | None = None
        self.accumulator: Accumulator | None = None
        self._first_nan: tuple[Any, int] = (0, 0)  # NaN, and all activations
        self.sink = self._new_sink()
        with self.released_if_it_fails():
            found = self.sink.existing()
        self._resumed = found is not None  # the store already has rows of this layer
        if found is not None:
            self.accumulator, self.axis = found

    def _new_sink(self) -> Sink:
        options = self.options
        if options.disk_path is None:
            if options.keep == "counts":
                return CountsSink(self.name, options.groups)
            return MemorySink(self.name, options.compressor)
        is_later_call = self.log.call_of is not None
        return StoreSink(
            self.name, options, self, self.lock, self.log.facts_to_store, may_be_new=is_later_call
        )

    @contextmanager
    def released_if_it_fails(self) -> Iterator[None]:
        """Release the name in a block that fails, after which nobody knows of this layer."""
        try:
            yield
        except BaseException:
            self.sink.release_name()
            raise

    def begin_anew(self) -> None:
        """Forget everything captured, of which the sink has nothing more. Call it with the lock."""
        if self.accumulator is not None:
            self.accumulator.cancel_transfers()
        self._open_sink()
        self.log.begin()

    # ---- neurons -------------------------------------------------------------------------------

    def declare(self, neurons: int, axis: int | None = None) -> None:
        """Set the number of neurons and their axis. Raises ValueError if they change."""
        with self.lock:
            if self.accumulator is None:
                neurons = positive_integer(neurons, "neurons")
                self.axis = None if axis is None else integer(axis, "axis")
                self.accumulator = self.sink.open(neurons, self.attributes())
                if self.marks is not None:
                    self.accumulator.mark_pass_end()
                return
            self.check_neurons(neurons)
            if self._resumed and axis != self.axis:
                raise ValueError(
                    f"{self.name}: a batch has its neurons along axis {axis}, those in "
                    f"{self._store()} along {self.axis}"
                )

    def check_neurons(self, neurons: int) -> None:
        """Raise ValueError if earlier batches have another number of neurons."""
        if self.accumulator is not None and neurons != self.accumulator.neurons:
            raise ValueError(
                f"{self.name}: a batch has {neurons} neurons, earlier ones "
                f"{self.accumulator.neurons}; reset_states() starts over{self._deletion_note()}"
            )

    def _deletion_note(self) -> str:
        return f", and deletes what {self._store()} has of this layer" if self._resumed else ""

    def _store(self) -> Any:
        assert isinstance(self.sink, StoreSink)
        return self.sink.store

    def attributes(self) -> dict[str, Any]:
        """Return how states are captured, as JSON, for the store."""
        origin = {} if self.axis_origin is None else {"axis_origin": self.axis_origin}
        unknown = {} if self.inputs_unknown is None else {"inputs_unknown": self.inputs_unknown}
        groups = {} if self.options.groups is None else {"groups": self.options.groups}
        rule = self.options.firing_rule()
        return {"neuron_axis": self.axis, **origin, **unknown, **rule, **groups}

    # ---- broken passes -------------------------------------------------------------------------

    def begin_marks(self, marks: PassMarks) -> None:
        """Let the batches of a pass that breaks be taken back, where no store does that."""
        self.marks = marks
        marks.add(self)

    @property
    def clock(self) -> PassClock | None:
        """What knows of the passes of the model, if something does."""
        return self.log.clock

    def follow_passes(self) -> None:
        """Let a store know when passes of the model begin."""
        self.sink.follow_passes(self.clock)

    def progress(self) -> tuple[int, bool]:
        """Return the instances since the last mark, and whether the layer runs in every pass."""
        instances = 0 if self.accumulator is None else self.accumulator.instances_in_pass
        return instances, self.log.facts_to_store().runs_always

    def in_pass(self) -> bool | None:
        """Return whether a pass of the model has begun and not ended, if that is known."""
        return self.log.in_pass()

    def passes_overlap(self) -> bool:
        """Return whether the last pass is known to have run beside another."""
        return self.log.passes_overlap()

    def mark_pass_end(self) -> None:
        """Remember what there is at the end of a forward pass."""
        with self.lock:
            if self.accumulator is not None:
                self.accumulator.mark_pass_end()

    def rewind_pass(self) -> None:
        """Discard what was added since the last mark."""
        self.wait_for_pending()
        with self.lock, deferred_interrupts():
            if self.accumulator is not None:
                self.accumulator.rewind_pass()

    def release_pass(self) -> None:
        """Mark no further passes."""
        self.marks = None
        with self.lock:
            if self.accumulator is not None:
                self.accumulator.release_pass()

    # ---- pending batches -----------------------------------------------------------------------

    def add_barrier(self, wait: Callable[[], object]) -> None:
        """Call ``wait`` before states are read: it waits until pending batches have arrived."""
        if wait not in self._barriers:
            self._barriers.append(wait)

    def wait_for_pending(self) -> None:
        """Wait for batches that a framework is still computing."""
        for wait in self._barriers:
            wait()

    # ---- NaN -----------------------------------------------------------------------------------

    def note_nan(self, states: Tensor, packed: object) -> None:
        """Note how many NaN the first batch has, if nothing in it fires.

        On a device the host does not know whether something fires, and does not wait for it. It
        counts NaN there in any case, once for each layer. Call it inside working_on().
        """
        if self.accumulator is None and not (isinstance(packed, np.ndarray) and packed.any()):
            self._first_nan = count_nan(states), math.prod(states.shape)

    @property
    def nan_share(self) -> float:
        """The share of NaN in the first batch, from 0 to 1; 0 if something in it fires."""
        nan, every = self._first_nan
        return int(nan) / every if every else 0.0
