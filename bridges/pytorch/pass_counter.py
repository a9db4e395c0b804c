"""PyTorch: PassCounter counts the forward passes of a model, also of a compiled one."""

import itertools
import sys
import weakref
from types import FrameType
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

try:
    import torch
except ImportError as error:
    raise ImportError("PyTorch hooks need torch: pip install torch") from error
from torch import nn
from torch.utils.hooks import RemovableHandle

from tensorstate_gpu._capturing.pass_notes import NO_NOTES, PassNotes, running_task
from tensorstate_gpu._capturing.pass_times import PassTimes

from .axis_flow import is_in_branch, mark_input_in_graph
from .axis_flow.across_graphs import HERE, PASSES
from .bypasses import Bypasses
from .current_pass import CurrentPass
from .marked_classes import MarkingHook, register_first
from .tensors import first_tensor, is_exporting, is_real_pass, shared_tensor
from .thread_pass import Method, Owner, ThreadPass


class PassCounter(MarkingHook):
    """Counts the forward passes of a model, as a pre-hook and a hook of it.

    Each thread has a time of its own; see PassTimes. The operators of compiled graphs that count
    and capture have a tensor in common, so they run in their order. They find the counter by its
    key, which is data in that tensor: see counter_of() and pass_operators.py.
    """

    counts_passes = True  # which tells the graphs of models from others

    def __init__(self, batch_axis: int = 0, begun: int = 0) -> None:
        self._batch_axis = str(batch_axis)  # see axes_in_graph()
        self.times = PassTimes(begun)
        self.here = ThreadPass()
        key = next(_new_keys)
        _counters[key] = self
        self.tensor = shared_tensor(np.array([key], np.int64))
        self.bypasses: Bypasses | None = None
        self.current: CurrentPass | None = None  # what is followed of them
        self.notes: dict[int, PassNotes] = {}  # kept, by the time of the pass

    @property
    def own_time(self) -> int:
        """The time now, as this thread counts its own passes: its pass n has the time 2 n - 1."""
        return 2 * self.here.begun - self._goes_on()

    def _goes_on(self) -> bool:
        """Return whether the pass of this thread has neither ended nor failed."""
        time = self.here.time
        return time % 2 == 1 and not self.times.is_over(time)

    def count_passes_of(self, task: object) -> int:
        """Return how many passes a task of asyncio has begun; they are counted from now on."""
        if self.here.of_tasks is None:
            self.here.of_tasks = WeakKeyDictionary()
        return self.here.of_tasks.setdefault(task, 0)

    def time_of(self, task: object) -> int:
        """Return the time now, as own_time, where a task of asyncio counts its passes."""
        return 2 * self.count_passes_of(task) - self._goes_on()

    @property
    def clock(self) -> int:
        """The time now, for this thread.

        A thread that has made no pass of the model may work for one of another thread.
        """
        here = self.here
        if here.time % 2:
            return here.time
        return self.times.latest if here.owner is None else 2 * self.times.begun

    def clock_at(self, tensor: torch.Tensor) -> int:
        """Return the time when a layer passes a tensor, which may begin a pass in a method."""
        here = self.here
        if here.time % 2:
            return here.time
        method = here.method
        if method is not None and method.takes(tensor):
            self.begin(None, method.frame, of_method=True)
            self.keep_notes(method.notes)
        return self.clock

    def is_in_graphs(self) -> bool:
        """Return whether this thread makes a pass that has begun in a compiled graph."""
        here = self.here
        return bool(here.time % 2) and here.frame is None and not self.times.is_over(here.time)

    def is_in_pass(self) -> bool:
        """Return whether this thread makes a pass."""
        self.end_broken()
        return bool(self.here.time % 2) and (self.here.is_running() or self.is_in_graphs())

    def end_broken(self) -> bool:
        """End the pass of this thread if none of its calls runs. Return whether there was one.

        PyTorch runs no hook where an interrupt has ended a pass, or an error in a graph.
        """
        here = self.here
        is_broken = here.time % 2 and (self.times.is_over(here.time) or not here.may_run())
        if is_broken:
            self.note_failed()
        return (self.current is not None and self.current.end_broken()) or bool(is_broken)

    def keep_notes(self, notes: PassNotes) -> None:
        """Keep the notes of the pass that this thread makes, for threads that work for it."""
        time = self.here.time
        if notes is NO_NOTES or time % 2 == 0:
            return
        for over in {*self.notes}.difference(self.times.unfinished()):  # of passes that failed
            self.notes.pop(over, None)
        self.notes[time] = notes

    def kept_notes(self, time: int) -> PassNotes:
        """Return the notes of the pass at a time, for a thread that works for it.

        Of passes that run at once, it is not known for which one such a thread works.
        """
        notes = self.notes.get(time, NO_NOTES)
        return NO_NOTES if notes is NO_NOTES or self.times.unfinished() != [time] else notes

    def attach(self, model: nn.Module) -> None:
        """Count the passes of a model."""
        self.bypasses = Bypasses(model)
        self.join(model)

    def _hook_onto(self, module: nn.Module) -> tuple[RemovableHandle, ...]:
        # Before the hook that captures the inputs of the model itself.
        begin = register_first(module, self.begin_pass)
        return begin, module.register_forward_hook(self.end_pass)

    def rejoin(self) -> None:
        self.times.end_all()  # a compiled pass in which it left has no end
        self.here.begin(2 * self.times.begun, None, None)
        super().rejoin()

    def remove(self) -> None:
        super().remove()
        here = self.here
        if here.time % 2:
            self.times.note_over(here.time)  # no hook would end it, nor one of the same thread
        here.frame = here.around = here.method = None  # a broken pass would keep its tensors
        here.inside = ()

    def begin_pass(self, module: Any, args: Any, kwargs: Any) -> None:
        """Called as a pre-hook."""
        if torch.compiler.is_compiling():
            if not is_exporting() and not is_in_branch():
                self._begin_in_graph(args, kwargs)
            return
        self.begin_at(args, kwargs, sys._getframe(1))

    def begin_at(self, args: Any, kwargs: Any, frame: FrameType) -> None:
        """Begin a pass. ``frame``: of the call of the model."""
        tensor = args[0] if args else None
        if not isinstance(tensor, torch.Tensor) or not tensor.ndim:  # as few models are given
            tensor = first_tensor((args, kwargs))
        if is_real_pass(self.tensor if tensor is None else tensor):
            self.begin(None, frame)

    def begin(
        self, inputs: int | None, frame: FrameType | None = None, *, of_method: bool = False
    ) -> None:
        """Begin a pass in this thread, unless the model calls itself. One without end has failed.

        ``frame``: of the call, outside of graphs. A call of the model ends a method that makes it;
        what the method has run before is a part of that pass, such as an encoder in generate().
        """
        here = self.here
        if not of_method:
            here.method = None
        if here.time % 2:
            if here.is_of_method and here.is_running():
                here.begin(here.time, inputs, frame)
                return
            if here.is_running():
                here.inside += () if frame is None else (frame,)
                return
            self.times.fail(here.time)
        HERE.fits, HERE.inputs = True, None
        if here.owner is None:
            here.owner = Owner()
            PASSES.add(self)
        here.begun += 1
        if here.of_tasks is not None and (task := running_task()) in here.of_tasks:
            here.of_tasks[task] += 1
        here.begin(self.times.begin(here.owner), inputs, frame)
        here.is_of_method = of_method
        if frame is not None and self.bypasses is not None:
            self.bypasses.note_pass()

    def end(self, frame: FrameType | None = None) -> None:
        """End the pass of this thread. ``frame``: of a call of the model, outside of graphs."""
        here = self.here
        if here.time % 2 and frame in here.inside:
            here.inside = tuple(each for each in here.inside if each is not frame)
        elif here.time % 2:
            self.times.end(here.time)
            self.notes.pop(here.time, None)
            here.begin(here.time + 1, None, None)

    def begin_method(self, method: Method) -> None:
        """Let a pass begin in a method of the model, when a layer runs."""
        here = self.here
        if here.time % 2 and self.times.is_over(here.time):
            self.note_failed()
        if here.time % 2 == 0:  # else a compiled pass runs, of which the method is a part
            here.method = method

    def end_method(self, *, has_failed: bool = False) -> None:
        """End the pass of the method that runs in this thread, if one has begun."""
        here = self.here
        if here.is_of_method and has_failed:
            self.times.note_over(here.time)
            here.frame = None
        elif here.is_of_method:
            self.end()
        here.is_of_method = False

    def end_running(self) -> None:
        """End the pass of this thread that still runs, if any: no hook is going to."""
        if self.here.is_running():
            self.end()

    def note_failed(self) -> None:
        """End the pass of this thread, which has failed if it has not ended, and runs no more."""
        here = self.here
        if here.time % 2 and not here.is_running():
            self.times.fail(here.time)
            here.begin(here.time + 1, None, None)

    def note_over(self) -> None:
        """Note that a call of this thread is over. If its pass has not ended, it has failed."""
        here = self.here
        if here.time % 2 and not here.is_running():
            self.times.note_over(here.time)
            here.frame = None

    def _begin_in_graph(self, args: Any, kwargs: Any) -> None:
        given = None
        for value in (*args, *kwargs.values()):
            if isinstance(value, torch.Tensor) and value.ndim and not value.is_nested:
                plain = value.detach()  # now the last node of the graph
                mark_input_in_graph(self._batch_axis)
                given = plain if given is None else given
        torch.ops.tensorstate_gpu.begin_pass(self.tensor, given, int(self._batch_axis))

    def end_pass(self, module: Any, args: Any, output: Any) -> None:
        """Called as a hook. A pass that failed has no end."""
        if torch.compiler.is_compiling():
            if not is_exporting() and not is_in_branch():
                torch.ops.tensorstate_gpu.end_pass(self.tensor)
        else:
            self.end(sys._getframe(1))

    def __getstate__(self) -> int:
        return self.times.begun

    def __setstate__(self, begun: int) -> None:
        """A copy stands still: it counts the passes of no model."""
        self.__init__(begun=begun)  # type: ignore[misc]


_new_keys = itertools.count()
_counters: "weakref.WeakValueDictionary[int, PassCounter]" = weakref.WeakValueDictionary()


def counter_of(clock: torch.Tensor) -> PassCounter | None:
    """Return the counter whose tensor this is, or was copied from."""
    return _counters.get(clock.tolist()[0])
