"""PyTorch: PassPoint, a capture point that knows the passes of a model, and calls within them."""

from typing import Any, Self

import torch

from tensorstate_gpu._capturing.pass_notes import NO_NOTES, PassNotes, running_task
from tensorstate_gpu.reporting.layer_names import name_of_call

from .forward_passes import ForwardPasses
from .module_log import ModuleLog
from .neuron_axes import AxisRule
from .operator import Receiver
from .pass_counter import PassCounter
from .pass_filter import PassFilter
from .tensor_point import TensorPoint


class PassPoint(TensorPoint, Receiver):
    """A capture point that knows which passes of a model are captured, and what is said of them.

    A layer that is called several times in a pass has more capture points, one for each later call.
    """

    later_calls: list[Self]
    _filter: PassFilter | None = None
    _has_rule = False  # asked in place of the rule, which graphs would guard in Python

    def __init__(self, *args: Any, **keywords: Any) -> None:
        super().__init__(*args, **keywords)
        self.later_calls = []

    def use_rule(self, rule: AxisRule) -> None:
        """Find neurons by a rule in tensors of which nothing else is known."""
        self._rule, self._has_rule = rule, True

    # ---- passes --------------------------------------------------------------------------------

    def count_passes(self, counter: PassCounter) -> None:
        """Note from now on in which passes of a model this layer ran."""
        self._use_log(ModuleLog(counter))

    def _use_log(self, log: ModuleLog) -> None:
        super()._use_log(log)
        self.intake.log.pass_source = log

    def follow(self, passes: ForwardPasses, filter: PassFilter | None = None) -> None:
        """Take the axes of tensors from the passes of a model, from now on.

        ``filter``: which passes are captured.
        """
        self._passes, self._filter = passes, filter
        passes.add_user(self)

    @property
    def followed_passes(self) -> ForwardPasses:
        """The passes of the model, from which the axes of tensors are known."""
        assert self._passes is not None
        return self._passes

    def notes_now(self) -> PassNotes:
        """Return what is said about the inputs of the pass that this thread makes."""
        self._end_notes()
        return self.intake.notes_now()

    def notes_of_thread(self) -> PassNotes:
        """Return that of it which is said in this thread, of all layers."""
        scope = self.intake.scope
        notes = scope.next_notes()
        return scope.notes if notes is NO_NOTES else notes

    def takes_pass(self) -> bool:
        """Return whether the pass that begins is captured, or may be: see PassFilter."""
        if self.followed_passes.current.method is not None:
            return self.intake.is_open and self.capture_on
        return self._takes_pass_at(self.pass_log.counter.clock)

    def _takes_pass_at(self, clock: int) -> bool:
        intake = self.intake
        if intake.pauses or intake.is_stopped:  # then what cannot be captured raises no error
            return False
        if self._filter is None or not self.capture_on:
            return self.capture_on
        return self._filter.accepts(clock, self.followed_passes.current)

    def note_next_pass(self, notes: PassNotes) -> bool:
        self.note(NO_NOTES)
        scope, counter = self.intake.scope, self.pass_log.counter
        if (task := running_task()) is None:
            scope.set_next(notes, 2 * counter.here.begun + 1)
        else:
            scope.set_next_of_task(notes, 2 * counter.count_passes_of(task) + 1)
        return True

    def _take_notes(self, clock: int) -> None:
        """Let the notes of a pass hold in this thread, which makes none, for one batch."""
        scope = self.intake.scope
        scope.set_next(self.pass_log.counter.kept_notes(clock), -1)

    def _end_notes(self) -> None:
        """Forget the notes of a pass of this thread that is over."""
        scope, counter = self.intake.scope, self.pass_log.counter
        if scope.of_next_pass is not NO_NOTES and counter.own_time > scope.next_pass:
            scope.of_next_pass = NO_NOTES
        tasks = scope.of_tasks
        if tasks is None or (task := running_task()) not in tasks:
            return
        if counter.time_of(task) > tasks[task][1]:
            del tasks[task]

    # ---- calls ---------------------------------------------------------------------------------

    def _pass_of_later_call(self, tensor: torch.Tensor, clock: int, number: int) -> tuple[int, int]:
        """Return the time of the pass of a call that is not the first, and its number in it.

        If a method runs the layers of a pass again, another pass begins. If the pass is over, the
        layer is called by itself.
        """
        if self._passes is not None and self._passes.end_broken():
            clock = self.pass_log.counter.clock_at(tensor)
            return clock, self._number_of_call(clock)
        module = None if self._module is None else self._module()
        if self._passes is None or not self._passes.runs_again(self, module):
            return clock, number
        self._passes.begin_again()
        clock = self.pass_log.counter.clock_at(tensor)
        return clock, self._number_of_call(clock)

    def _number_of_call(self, clock: int) -> int:
        """Count this call; return its number.

        Calls count from one call of the model to the next: the steps of a generating loop have the
        same capture points.
        """
        if self._passes is None or self.options.merge_calls:
            return 1
        calls = self._passes.current.calls
        if calls is None:  # no pass of the model, or one that runs in a compiled graph
            return self.pass_log.call_number(clock) if clock % 2 else 1
        calls[self] = calls.get(self, 0) + 1
        return calls[self]

    def _of_call(self, number: int) -> Self:
        """Return the capture point of a call that is not the first in a pass."""
        with self.intake.lock:
            while len(self.later_calls) < number - 1:
                self.add_later_call()
        return self.later_calls[number - 2]

    def add_later_call(self) -> Self:
        """Create the capture point of the next call of the module within a pass."""
        number = len(self.later_calls) + 2
        called = name_of_call(self.name, number)
        hook = self._new_of_call(called)
        hook.answer_to([name_of_call(name, number) for name in self.other_names])
        hook._rule, hook._has_rule = self._rule, self._has_rule
        hook._passes, hook._filter = self._passes, self._filter
        hook._module, hook._place = self._module, self._place
        hook.is_optional = self.is_optional
        hook._use_log(self.pass_log.of_later_call())
        hook.intake.pending_notes, hook.intake.scope = self.intake.pending_notes, self.intake.scope
        before = self.later_calls[-1] if self.later_calls else self
        self.later_calls.append(hook)
        for tell in self.new_point_listeners:
            tell(hook, before)
        hook.new_point_listeners = self.new_point_listeners
        return hook

    def _new_of_call(self, name: str) -> Self:
        """Return a new capture point for another call of the module."""
        raise NotImplementedError

    def later_calls_of_store(self) -> list[Self]:
        """Create the capture points of later calls that the store already has rows of."""
        while self.intake.sink.holds(name_of_call(self.name, len(self.later_calls) + 2)):
            self.add_later_call()
        return list(self.later_calls)
