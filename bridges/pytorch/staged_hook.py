"""PyTorch: StagedHook, a capture point whose captures may be a part of a CUDA graph."""

import atexit
import weakref
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, NoReturn

try:
    import torch
except ImportError as error:
    raise ImportError("PyTorch hooks need torch: pip install torch") from error
from torch import nn
from torch.nn.utils.rnn import PackedSequence

from tensorstate_gpu._arrays.dlpack import borrow
from tensorstate_gpu._capturing.pass_notes import NO_NOTES, PassNotes
from tensorstate_gpu._layers.accumulator import Accumulator
from tensorstate_gpu._layers.capture_warnings import warn_of_later_calls
from tensorstate_gpu._states.backends import backend_of
from tensorstate_gpu._states.packing import working_on
from tensorstate_gpu._warnings import warn_user
from tensorstate_gpu.errors import NotCapturable, RowsLost

from .axis_flow import is_in_branch
from .batch_plan import Planned
from .found_axis import FoundAxis
from .hooks import StateCaptureHook
from .module_log import ModuleLog
from .operator import Receiver
from .placement import placement_of
from .spread_tensors import local_part, part_in_graph
from .stage import APPENDING, Stage, Staged, checked_labels
from .tensors import first_tensor, is_exporting, is_real_forward, is_recorded

# A CUDA graph writes into the stages that it was recorded with, whether or not their captures have
# ended. It also reads the weights of its layers, so it cannot be used longer than these.
_recorded: "weakref.WeakKeyDictionary[nn.Module, list[object]]" = weakref.WeakKeyDictionary()


class StagedHook(StateCaptureHook):
    """A capture point whose rows wait on their device, in a Stage, until they are read.

    The first pass tells where the neurons are, and creates the stage. Compiled graphs contain the
    operator that captures until then, and from then on, made anew, one that CUDA graphs may record.
    """

    takes_stage_rows = True
    _stage: Stage | None = None
    _static_labels: torch.Tensor | None = None
    _lost = 0  # rows that have found no room
    _uncounted = ""  # which rows were not counted at the end of the program, and why
    _first_clock = 0  # of the pass that created the stage

    def _use_log(self, log: ModuleLog) -> None:
        # The intake gets none: replays do not tell that they are passes.
        Receiver._use_log(self, log)

    # ---- batches -------------------------------------------------------------------------------

    def _capture_in_graph(self, module: Any, value: Any) -> None:
        tensor = first_tensor(value)
        if self._stage is None or not isinstance(tensor, torch.Tensor) or is_in_branch():
            super()._capture_in_graph(module, value)
        elif not is_exporting():
            self._stage.append(part_in_graph(tensor).detach())

    def deliver(self, tensor: torch.Tensor, sequences: PackedSequence | None = None) -> None:
        """Like Receiver.deliver(); in a CUDA graph that is recorded, whenever it is replayed."""
        if is_real_forward(tensor, recorded=True):
            if torch._C._functorch.is_functorch_wrapped_tensor(tensor):
                raise TypeError(
                    f"{self.name}: with stage_rows=, states cannot be captured inside transforms "
                    "of torch.func (vmap, grad, jvp)"
                )
            if is_recorded(tensor):
                self._keep_for_graph()
            self.receive(tensor, self.pass_log.counter.clock_at(tensor), sequences=sequences)

    def _keep_for_graph(self) -> None:
        """Keep the stage as long as the layer; see _recorded."""
        if self._stage is None:
            raise NotCapturable(
                f"{self.name}: run the model once before a CUDA graph is recorded, to create the "
                "stage; inside `with run.paused():` that pass does not count"
            )
        module = None if self._module is None else self._module()
        if module is not None:
            _recorded.setdefault(module, []).append((self._stage, self._static_labels))

    def receive(
        self,
        tensor: torch.Tensor,
        clock: int,
        traced: str | None = None,
        inputs: int | None = None,
        sequences: PackedSequence | None = None,
        planned: Planned | None = None,
    ) -> None:
        """Append the states of one batch to the stage; create it for the first one."""
        number = self._number_of_call(clock)
        if number > 1:
            clock, number = self._pass_of_later_call(tensor, clock, number)
        if number > 1 and self._stage is not None and clock != self._first_clock:
            self.followed_passes.warn_of(warn_of_later_calls, self.name)
            return
        if number > 1:
            self.add_later_call()
        try:
            found = self._axis_of(tensor, traced)
            part, layout = local_part(tensor)
            part = part.unsqueeze(-1) if found.of_one_neuron else part
            with APPENDING:  # another thread may create it
                if (stage := self._stage) is None:
                    self._note_layout(layout, part, found)
                    stage = self._create_stage(part, found, inputs)
                    self._first_clock = clock
            width = part.shape[found.axis]
            is_new = self._is_inferred and (found.moved or width != self._width)
            if is_new and self._is_left_out(found, width, stage.neurons):
                return
            stage.append(part.detach(), clock)
        except (TypeError, ValueError) as error:
            error.add_note(f"while capturing {self.name}")
            raise

    def add_later_call(self) -> NoReturn:
        """Raise NotCapturable: a compiled graph that is replayed does not tell calls apart.

        Where only a later pass shows it, such as that of an evaluation, a warning says so instead.
        """
        raise NotCapturable(
            f"{self.name} is called several times in a pass: with stage_rows=, give "
            "merge_calls=True, or exclude= it"
        )

    def _create_stage(self, tensor: torch.Tensor, found: FoundAxis, inputs: int | None) -> Stage:
        assert self.options.stage_rows is not None
        placement = placement_of(tensor, found, self.threshold, inputs, self.name)
        stage = Stage(self.options.stage_rows, placement, tensor.device)
        stage.set_active(self.active)
        stage.labels = self._static_labels
        self._stage, self._found_first = stage, found
        self.intake.add_barrier(self.drain)
        _with_stage.add(self)
        return stage

    def forget_guesses(self) -> None:
        """Do nothing: the stage, to which graphs may append, stays as it was guessed."""

    def takes_pass(self) -> bool:
        """Return True: the pass is followed, for the stage, even if it does not count."""
        return True

    def _set_active(self, active: bool) -> None:
        self._key_and_active[1] = active
        if self._stage is not None:
            self._stage.set_active(active)

    active = Receiver.active.setter(_set_active)  # type: ignore[attr-defined]

    # ---- labels --------------------------------------------------------------------------------

    def note_next_pass(self, notes: PassNotes) -> bool:
        self.note(notes)
        return super().note_next_pass(NO_NOTES)

    def note(self, notes: PassNotes) -> None:
        """Raise ValueError for labels of one pass, which graphs would not see."""
        if notes.inputs is not None:
            raise ValueError(
                f"{self.name}: with stage_rows=, labels are a tensor that graphs read, and masks "
                "are not known: use run.static_labels(tensor)"
            )
        super().note(notes)

    def static_labels(self, labels: object) -> None:
        """See Run.static_labels()."""
        self._static_labels = None if labels is None else checked_labels(labels)
        if self._stage is not None:
            self._stage.labels = self._static_labels

    # ---- reading -------------------------------------------------------------------------------

    def drain(self) -> None:
        """Record what waits in the stage. What was staged in a pause is dropped."""
        stage = self._stage
        with APPENDING:
            staged = None if stage is None else stage.drain()
            if stage is not None and staged is not None:
                if self.intake.is_open and self.capture_on:
                    self._record_staged(stage, staged)
                stage.release()

    def discard_broken_pass(self) -> None:
        """Record what waits in the stage, but for the rows of a pass that has begun and not ended.

        None are left out if it ran beside another pass. Graphs do not tell in which pass they have
        appended rows: then all are recorded, and a warning says so.
        """
        times = self.pass_log.counter.times
        with APPENDING:
            broken = times.unfinished()
            if self._stage is not None and broken and not times.overlaps:
                self._take_back(self._stage, broken)
            self.drain()

    def _take_back(self, stage: Stage, broken: Sequence[int]) -> None:
        if stage.has_other_batches():
            warn_user(
                f"{self.name}: a pass has failed, and graphs do not tell which of the rows that "
                "waited in the stage are of that pass: all are counted"
            )
        elif stage.appended.time in broken:
            stage.take_back()

    def _record_staged(self, stage: Stage, staged: Staged) -> None:
        self._lost += staged.lost
        found, scope = self._found_first, self.intake.scope
        before, scope.notes = scope.notes, PassNotes(labels=staged.labels)
        try:
            rows = borrow(staged.rows, "rows")
            with working_on(rows):
                self.record(
                    backend_of(rows).view(rows),
                    stage.neurons,
                    found.axis,
                    staged.batches,
                    found.origin,
                    stage.why_unknown(found.inputs_lost),
                )
        finally:
            scope.notes = before

    def check_complete(self) -> None:
        """Raise RowsLost if rows have found no room, or could not be counted."""
        if self._uncounted:
            raise RowsLost(f"{self.name}: {self._uncounted}")
        if self._lost:
            raise RowsLost(
                f"{self.name}: {self._lost:,} rows have found no room among the "
                f"{self.options.stage_rows:,} of its stage: read more often (run.drain()), or give "
                "a larger stage_rows=; reset_states() starts over"
            )

    def forget_lost(self) -> None:
        """Start over after lost rows."""
        self._lost, self._uncounted = 0, ""

    def _find_accumulator(self) -> Accumulator | None:
        self.check_complete()
        return super()._find_accumulator()

    def reset_states(self, input_shape: object = None) -> None:
        super().reset_states(input_shape)
        self.forget_lost()

    def end_with_program(self) -> None:
        """Count what waits in the stage, and leave the model.

        Python ends blocks that are still open when parts of it are gone. Nothing can be counted
        then, and torch aborts the process over a tensor that the failed attempt refers to. If it
        fails now, what functions at exit read raises RowsLost.
        """
        try:
            self.drain()
        except Exception as error:  # any: of a device, for want of memory, ...
            self._uncounted = (
                f"{self._waiting()} that waited in its stage could not be counted when the program "
                f"ended: {type(error).__name__}: {error}"
            )
        finally:
            self.remove()
            self._stage = None

    def _waiting(self) -> str:
        """Say how many rows wait in the stage."""
        try:
            return f"{0 if self._stage is None else self._stage.waiting():,} rows"
        except Exception:  # a device that has failed does not tell
            return "an unknown number of rows"

    # ---- copies --------------------------------------------------------------------------------

    def __getstate__(self) -> dict[str, Any]:
        state = super().__getstate__()
        return {name: value for name, value in state.items() if name not in _OF_THE_STAGE}


# A copy has what was captured, but no stage.
_OF_THE_STAGE = {"_stage", "_static_labels"}

_with_stage: "weakref.WeakSet[StagedHook]" = weakref.WeakSet()


@atexit.register
def _end_all() -> None:
    for hook in list(_with_stage):
        with suppress(Exception):  # the next one is tried, too
            hook.end_with_program()
