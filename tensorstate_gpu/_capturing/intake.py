"""Intake: receives the batches of a capture point, in any thread."""

import copy
import dataclasses
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tensorstate_gpu._arguments import integer
from tensorstate_gpu._capturing.options import CaptureOptions
from tensorstate_gpu._capturing.pass_notes import NO_NOTES, NoteScope, PassNotes
from tensorstate_gpu._capturing.received_layer import ReceivedLayer
from tensorstate_gpu._layers.batches import Batches, cached_totals
from tensorstate_gpu._layers.instance_notes import NOTHING, InstanceNotes, validated_notes
from tensorstate_gpu._process.fork_safe_lock import ForkSafeLock
from tensorstate_gpu._process.interrupts import deferred_interrupts
from tensorstate_gpu._warnings import warn_user


class Intake(ReceivedLayer):
    """Receives batches from bridges, and from users through CapturePoint.append().

    A batch is added completely, with its ledger entry and labels, or not at all.

    A copy, also in a pickle, is independent and has everything captured so far: in memory, or by
    reference to the store, which it only reads.
    """

    def __init__(self, name: str, options: CaptureOptions, call_of: str | None = None) -> None:
        self.is_stopped = False  # this and pauses are read for each batch: no properties
        self.pauses = 0
        self._paused_by = set[object]()
        self.scope = NoteScope()
        super().__init__(name, options, call_of)

    def _open_sink(self) -> None:
        self.pending_notes = NO_NOTES
        self.scope.forget_next()
        super()._open_sink()

    # ---- batches -------------------------------------------------------------------------------

    def append(
        self, packed: NDArray[np.uint8], instances: int, labels: Any = None, units: Any = None
    ) -> None:
        """Add a batch; see CapturePoint.append()."""
        if type(packed) is not np.ndarray:
            raise TypeError(f"packed must be a NumPy array, got {type(packed).__name__}")
        instances = integer(instances, "instances")
        self.sink.before_batch()
        if (marks := self.marks) is not None:  # another thread may end the block
            marks.before_batch(self.name)
        with self.lock:
            if self.accumulator is None:
                raise ValueError(f"{self.name}: declare() the neurons before append()")
            now = self.notes_now()
            notes = validated_notes(
                now.labels if labels is None else labels,
                now.units if units is None else units,
                instances,
            )
            self.accumulator.append(packed, instances, notes)

    def record(
        self,
        packed: Any,
        neurons: int,
        axis: int | None,
        instances: int | Batches,
        axis_origin: str | None = None,
        inputs_unknown: str | None = None,
        spatial_shape: tuple[int, ...] | None = None,
    ) -> None:
        """Add a batch that packing.pack() made, on any device; declares its neurons first.

        ``instances``: whose rows these are: a number of instances, in equal parts, or batches.
        ``axis_origin``: where the axis is known from: "given", "layer", "flow", "rule" or "guess".
        ``inputs_unknown``: why rows belong to no known instance.
        ``spatial_shape``: the sizes of the activations without instances and neurons.

        Labels of another number of instances, or of another kind than a store has, are left out
        with a warning: a forward pass does not fail for its labels.
        """
        if self.is_stopped or self.pauses:
            return
        self.sink.before_batch()
        if (marks := self.marks) is not None:  # another thread may end the block
            marks.before_batch(self.name)
        with self.lock:  # no reset by another thread may come between declare and append
            self.axis_origin = axis_origin or self.axis_origin
            self.inputs_unknown = inputs_unknown or self.inputs_unknown
            if self._resumed or self.accumulator is None or neurons != self.accumulator.neurons:
                self.declare(neurons, axis)
            assert self.accumulator is not None
            why, notes = None, NOTHING
            if (now := self.notes_now()) is not NO_NOTES:
                notes = now.of_instances
                count = instances if isinstance(instances, int) else cached_totals(instances)[0]
                if (
                    why := _misfit(notes, count) or self.accumulator.why_refused(notes)
                ) is not None:
                    notes = NOTHING
            self.accumulator.append(packed, instances, notes, trusted=True)
            if spatial_shape is not self.log.noted_shape:  # not that of the batch before
                self.log.note_spatial_shape(spatial_shape)
        if why is not None:
            # Without the name of the layer, so that Python shows it once for each line.
            said = why.removeprefix(f"{self.name}: ")
            warn_user(f"{said}: a pass is captured without labels")

    def notes_now(self) -> PassNotes:
        """Return what is said about the inputs of the pass that this thread makes."""
        scope = self.scope
        following = NO_NOTES
        if scope.of_next_pass is not NO_NOTES or scope.of_tasks is not None:
            following = scope.next_notes()
        # Setting notes for the next pass clears the pending ones: those there now came later.
        if following is not NO_NOTES and self.pending_notes is NO_NOTES:
            return following
        return self.pending_notes if scope.notes is NO_NOTES else scope.notes

    def begin_notes(self, notes: PassNotes) -> None:
        """Let notes hold in this thread."""
        self.wait_for_pending()
        self.scope.begin(notes)
        # With barriers, batches arrive in threads of the framework: the notes hold there, too.
        self.pending_notes = notes if self._barriers else NO_NOTES

    def pause(self, block: object) -> None:
        """Ignore batches until go_on() for the same block."""
        self.wait_for_pending()
        # torch.compile breaks its graph at the lock: else the pause would begin after the graph.
        with self.lock:
            self._paused_by.add(block)
            self.pauses = len(self._paused_by)

    def go_on(self, block: object) -> None:
        """End a pause, also if what a framework was still computing has failed; once or twice."""
        try:
            self.wait_for_pending()
        finally:
            # An interrupt while this waits for the lock would leave the pause on for good.
            with deferred_interrupts(), self.lock:
                self._paused_by.discard(block)
                self.pauses = len(self._paused_by)

    def stop(self) -> None:
        """Ignore further batches, which traced functions of a framework may still deliver."""
        self.is_stopped = True

    @property
    def is_open(self) -> bool:
        """False after stop(), and in a pause."""
        return not (self.is_stopped or self.pauses)

    # ---- copies --------------------------------------------------------------------------------

    def __getstate__(self) -> dict[str, Any]:
        self.flush()  # a copy reads what the store has committed
        with self.lock:
            sink, accumulator = self.sink.copied(self.accumulator)
            return {
                "name": self.name,
                "options": dataclasses.replace(self.options, disk_path=sink.store),
                "axis": self.axis,
                "axis_origin": self.axis_origin,
                "inputs_unknown": self.inputs_unknown,
                "sink": sink,
                "log": copy.copy(self.log),
                "accumulator": accumulator,
                "is_stopped": self.is_stopped,
                "_first_nan": (int(self._first_nan[0]), self._first_nan[1]),
            }

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self.lock = ForkSafeLock()
        self._barriers = []
        self._resumed = False
        self.pending_notes = NO_NOTES
        self.pauses, self._paused_by = 0, set[object]()
        self.scope, self.marks = NoteScope(), None
        if self.accumulator is None and (found := self.sink.existing()) is not None:
            self.accumulator, self.axis = found

    def __deepcopy__(self, memo: dict[int, Any]) -> "Intake":
        return copy.copy(self)

    # ---- the end -------------------------------------------------------------------------------

    def reset(self, neurons: int | None, axis: int | None) -> None:
        """Delete everything captured. Declares the neurons of future batches, if they are known.

        If a store cannot commit that, it raises its error and tries again before the next commit.
        """
        self.wait_for_pending()
        with self.lock:
            wait_for_removal = self.sink.remove()
            self.begin_anew()
            if neurons is not None:
                self.declare(neurons, axis)
        wait_for_removal()

    def flush(self) -> None:
        """Commit buffered rows, if they are kept in a store."""
        self.wait_for_pending()
        self.sink.flush()

    def close(self) -> None:
        """Commit buffered rows, and release a store that was made from a path."""
        self.wait_for_pending()
        self.sink.close()


def _misfit(notes: InstanceNotes, instances: int) -> str | None:
    """Return why notes cannot be those of so many instances; None if they can."""
    if notes.length in (None, instances):
        return None
    return f"labels are for {notes.length} inputs, and a pass had {instances}"
