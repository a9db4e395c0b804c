"""Keras 3: KerasPoint, a capture point that receives batches from the backends of Keras."""

from collections.abc import Callable, Sequence, Sized
from contextlib import ExitStack
from typing import Any, Self, cast

import keras

from tensorstate_gpu._capturing.pass_notes import NO_NOTES, Mask, PassNotes
from tensorstate_gpu._capturing.sampling import sampled
from tensorstate_gpu._layers.batches import Batches, divided, unassigned
from tensorstate_gpu._layers.capture_warnings import warn_of_shuffled, warn_of_unmasked
from tensorstate_gpu._states.backends import backend_for, device_of
from tensorstate_gpu._warnings import warn_user
from tensorstate_gpu.errors import SkippedLayersWarning

from .arrivals import Arrival, GraphCall
from .called_points import CalledPoint
from .input_order import order_of_this_call
from .masks import kept_rows
from .passes import Pass
from .training_mode import kind_of_pass


class KerasPoint(CalledPoint):
    """A capture point that receives batches from Keras until it is detached."""

    counts_positions = False  # whether axis 1 is known to count those of a mask
    number_in_copy = 0  # of the call of its layer, in a copy of a rebuilt model
    has_other_axis_0 = False  # whether it is known not to count inputs
    _unwrap: tuple[Callable[[], None], ...] = ()
    lengths_of_symbols: set[int | None] | None = None  # along axis 0, while they are noted
    states_per_pass: int | None = None  # the most that are captured; None for all
    passed_over = 0  # states that were left out for that
    _taken, _taken_at = 0, -1  # states of the pass that begins at this time
    _told_of_mask = False
    _neurons: int | None = None  # of its first batch
    _told_of_neurons = False
    _left_out: tuple[str, ...] = ()  # kinds of calls, of which it has told

    def __init__(self, *args: Any, **keywords: Any) -> None:
        super().__init__(*args, **keywords)
        self._arrival = Arrival()

    def detach_with(self, unwrap: Callable[[], None]) -> None:
        """Add a function that detach() calls: it unwraps calls of a layer, or of the model."""
        self._unwrap = (*self._unwrap, unwrap)

    def detach(self) -> None:
        """Stop capturing, and ignore batches of functions that were traced before."""
        self.intake.stop()
        if self._pass_log is not None:
            self._pass_log.stop()
        all_of_them, self._unwrap = self._unwrap, ()
        with ExitStack() as each:  # also if a model cannot be traced anew
            for unwrap in all_of_them:
                each.callback(unwrap)

    def of_eager_call(self, place: object, mask: Mask | None = None) -> Self:
        """Return the capture point of the call that this thread makes; ``mask``: Keras' own."""
        passed = None if self.model_passes is None else self.model_passes.of_thread
        point = self.of_call(place, passed)
        here = point._arrival
        here.passed, here.mask, here.order = passed, mask, None
        return point

    def of_graph_call(self, call: GraphCall, mask: Mask | None = None) -> Self:
        """Return the capture point of the call that a graph makes."""
        passes = self.model_passes
        passed = None if passes is None else passes.of_graph(call.outside_of)
        point = self.of_call(call.place, passed)
        here = point._arrival
        here.passed, here.mask, here.order, here.kind = passed, mask, call.order, call.kind
        return point

    def _new_of_call(self, name: str) -> Self:
        point = super()._new_of_call(name)
        point.counts_positions = self.counts_positions
        point.has_other_axis_0 = self.has_other_axis_0
        point.states_per_pass = self.states_per_pass
        return point

    def __getstate__(self) -> dict[str, Any]:
        state = super().__getstate__()
        return {name: value for name, value in state.items() if name not in _OF_THE_MODEL}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._arrival = Arrival()

    @property
    def block_notes(self) -> PassNotes:
        return self.intake.pending_notes

    def begin_notes(self, notes: PassNotes) -> None:
        """Let notes hold for the next batches, whatever thread of a backend they arrive in."""
        self.note(notes)

    def _axis_for(self, sizes: Sequence[object]) -> int:
        return self.axis_of(len(sizes))

    def axis_of(self, ndim: int) -> int:
        """Return the axis of the neurons of tensors with so many axes."""
        if self.neuron_axis is not None:
            return self.neuron_axis
        return 1 if keras.config.image_data_format() == "channels_first" and ndim in (4, 5) else -1

    def note(self, notes: PassNotes) -> None:
        """Set the notes of each batch from now on."""
        self.intake.wait_for_pending()
        super().note(notes)

    def note_next_pass(self, notes: PassNotes) -> bool:
        """Return False: functions of Keras call models and choose the batches, so nothing holds."""
        return False

    def note_symbol(self, shape: Sequence[int | None]) -> None:
        """Note the length of a symbolic tensor, if that is asked for."""
        if self.lengths_of_symbols is not None and len(shape):
            self.lengths_of_symbols.add(shape[0])

    def reset_states(self, input_shape: Any = None) -> None:
        super().reset_states(input_shape)
        self.passed_over, self._neurons = 0, None
        if self._pass_log is not None:
            self._pass_log.restart()

    def record(
        self,
        packed: object,
        neurons: int,
        axis: int,
        instances: int | Batches,
        axis_origin: str | None = None,
        inputs_unknown: str | None = None,
        spatial_shape: tuple[int, ...] | None = None,
    ) -> None:
        if not self.takes_batch() or self._is_left_out(neurons):
            return
        if self._is_shuffled():
            self._note_shuffled()
        cause = self._why_inputs_are_lost(instances)
        if isinstance(instances, int) and (mask := self._take_mask()) is not None:
            packed, instances = self._masked(packed, instances, mask, spatial_shape or ())
        if self.states_per_pass is not None:
            packed, instances = self._sampled(packed, instances, self.states_per_pass)
        if cause is not None and (passed := self._arrival.passed) is not None:
            rows = cast(Sized, packed)
            instances, inputs_unknown = unassigned(len(rows), passed.inputs), cause
        super().record(packed, neurons, axis, instances, axis_origin, inputs_unknown, spatial_shape)

    def takes_batch(self) -> bool:
        """Note that the layer runs, and return whether its batch is captured."""
        if self.intake.is_stopped:
            return False
        passed = self._arrival.passed
        if self._pass_log is not None and passed is not None:
            self._pass_log.note_run(passed.time)
        return self._is_wanted(passed) and self.capture_on and self.intake.is_open

    def _is_wanted(self, passed: Pass | None) -> bool:
        passes, here = self.model_passes, self._arrival
        if passes is None or passes.wants_training is None:
            return True
        if passed is not None:
            return passes.wants(passed.kind)
        is_eager = here.order is None
        return passes.wants(kind_of_pass(None, in_graph=False) if is_eager else here.kind)

    def _is_left_out(self, neurons: int) -> bool:
        """Return whether a batch of a model's layer has other neurons than its first, and warn.

        Code may call one layer in several places, such as a Dropout on what has more features. The
        model does not fail for that. A number that does not suit a store is an error.
        """
        if self._neurons is None:
            self._neurons = neurons
        if self.model_passes is None or neurons == self._neurons:
            return False
        if not self._told_of_neurons:
            self._told_of_neurons = True
            warn_user(
                f"{self.name}: the layer is called in several places, here with {neurons} neurons; "
                f"only calls with {self._neurons}, as the first had, are captured",
                SkippedLayersWarning,
            )
        return True

    def tell_of_left_out(self, which: str, why: str) -> None:
        """Warn once that such calls of a layer are left out; the model does not fail for them."""
        if which not in self._left_out and not self.intake.is_stopped:
            self._left_out = (*self._left_out, which)
            warn_user(
                f"{self.name}: calls of the layer {which} are not captured, {why}",
                SkippedLayersWarning,
            )

    def _sampled(
        self, packed: Any, instances: int | Batches, most: int
    ) -> tuple[object, int | Batches]:
        """Return what the pass decides of the rows, as many as it has room for, and whose."""
        passed = self._arrival.passed
        clock = 0 if passed is None else passed.time
        if clock != self._taken_at:
            self._taken, self._taken_at = 0, clock
        batches = divided(len(packed), instances) if isinstance(instances, int) else instances
        room = most - self._taken
        if len(packed) <= room:
            self._taken += len(packed)
            return packed, instances
        kept, left = sampled(batches, room, clock // 2)
        chosen = int(kept.sum())
        self._taken += chosen
        self.passed_over += len(packed) - chosen
        return backend_for(device_of(packed)).rows_where(packed, kept), left if chosen else ()

    def _is_shuffled(self) -> bool:
        here = self._arrival
        if here.passed is not None:
            return here.passed.is_shuffled
        return (here.order or order_of_this_call()).is_shuffled

    def _why_inputs_are_lost(self, instances: int | Batches) -> str | None:
        """Return why axis 0 of a batch does not count inputs of the pass; None if it may do so.

        Fewer may be a part of them, as in a loop over inputs.
        """
        passed = self._arrival.passed
        if passed is None:
            return None
        if self.has_other_axis_0:
            return "axis 0 does not count the inputs"
        if passed.inputs is not None and isinstance(instances, int) and instances > passed.inputs:
            return "axis 0 is longer than there are inputs"
        return None

    def _note_shuffled(self) -> None:
        self.intake.log.shuffled = True
        if self.intake.pending_notes is not NO_NOTES:
            warn_of_shuffled(self.name)
            self.intake.pending_notes = NO_NOTES

    def _take_mask(self) -> Mask | None:
        """Return the mask of the batch that arrives: its own, the user's, or that of the pass."""
        here = self._arrival
        if here.mask is not None:
            return here.mask
        mask = self.intake.pending_notes.mask
        if mask is None and here.passed is not None:
            mask = here.passed.mask
        if mask is not None and not self.counts_positions:
            self._tell_of_mask("its positions were not followed")
            return None
        return mask

    def _masked(
        self, packed: Any, instances: int, mask: Mask, sizes: tuple[int, ...]
    ) -> tuple[object, int | Batches]:
        """Return the rows that a mask keeps, and whose they are."""
        kept = kept_rows(mask, sizes, instances)
        if isinstance(kept, str):
            self._tell_of_mask(kept)
            return packed, instances
        rows, batches = kept
        return backend_for(device_of(packed)).rows_where(packed, rows), batches

    def _tell_of_mask(self, cause: str) -> None:
        if not self._told_of_mask:
            self._told_of_mask = True
            warn_of_unmasked([f"{self.name} ({cause})"])


# What a point has for the model that it is attached to, and a copy has not.
_OF_THE_MODEL = {
    "model_passes",
    "first",
    "_pass_log",
    "_arrival",
    "_unwrap",
    "_of_store",
    "_of_code",
}
