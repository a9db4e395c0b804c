"""PyTorch: PassCounter counts the forward passes of a model, also of a compiled one."""

import threading
import weakref
from typing import Any

import numpy as np
from numpy.typing import NDArray

try:
    import torch
except ImportError as error:
    raise ImportError("PyTorch hooks need torch: pip install torch") from error
from torch import nn
from torch.utils.hooks import RemovableHandle

from tensorstate_gpu._capturing.pass_log import PassLog, next_pass

from .axis_flow import mark_input_in_graph
from .bypasses import Bypasses
from .marked_classes import MarkingHook, register_first
from .tensors import first_tensor, is_exporting, is_real_pass, shared_tensor


class PassCounter(MarkingHook):
    """Counts the forward passes of a model, as a pre-hook and a hook of it.

    Its ``clock`` is odd inside a pass and even outside: pass n has the time 2 n - 1. It is data in
    a tensor, which the operator that captures reads. So compiled graphs do not depend on its value,
    and they cannot run a capture before the begin of its pass, or after the end.
    """

    counts_passes = True  # which tells the graphs of models from others

    def __init__(self, batch_axis: int = 0) -> None:
        self._batch_axis = str(batch_axis)  # see axes_in_graph()
        # The time, the number of inputs if a graph knows it, how many passes have failed, and the
        # thread of the last one.
        self._clock = np.zeros(4, np.int64)
        self.tensor = shared_tensor(self._clock)
        self.bypasses: Bypasses | None = None

    @property
    def clock(self) -> int:
        """The time now."""
        return self._clock.item(0)

    @property
    def failed(self) -> int:
        """How many passes have failed, before the one that runs."""
        return self._clock.item(2)

    def attach(self, model: nn.Module) -> None:
        """Count the passes of a model."""
        self.bypasses = Bypasses(model)
        self.join(model)

    def _hook_onto(self, module: nn.Module) -> tuple[RemovableHandle, ...]:
        # Before the hook that captures the inputs of the model itself.
        begin = register_first(module, self.begin_pass)
        return begin, module.register_forward_hook(self.end_pass)

    def rejoin(self) -> None:
        _end(self._clock)  # the pass in which it left has none
        super().rejoin()

    def begin_pass(self, module: Any, args: Any, kwargs: Any) -> None:
        """Called as a pre-hook."""
        if torch.compiler.is_compiling():
            if not is_exporting():
                self._begin_in_graph(args, kwargs)
            return
        tensor = first_tensor((args, kwargs))
        if is_real_pass(self.tensor if tensor is None else tensor):
            _begin(self._clock, 0)
            if self.bypasses is not None:
                self.bypasses.note_pass()

    def _begin_in_graph(self, args: Any, kwargs: Any) -> None:
        given = None
        for value in (*args, *kwargs.values()):
            if isinstance(value, torch.Tensor) and value.ndim:
                plain = value.detach()  # now the last node of the graph
                mark_input_in_graph(self._batch_axis)
                given = plain if given is None else given
        torch.ops.tensorstate_gpu.begin_pass(self.tensor, given, int(self._batch_axis))

    def end_pass(self, module: Any, args: Any, output: Any) -> None:
        """Called as a hook. A pass that failed has no end."""
        if torch.compiler.is_compiling():
            if not is_exporting():
                torch.ops.tensorstate_gpu.end_pass(self.tensor)
        else:
            _end(self._clock)

    def __getstate__(self) -> int:
        return self.clock

    def __setstate__(self, clock: int) -> None:
        """A copy stands still: it counts the passes of no model."""
        self.__init__()  # type: ignore[misc]
        self._clock[0] = clock


class ModuleLog(PassLog):
    """In how many passes of a model a module ran, and what is known to have run it otherwise."""

    def __init__(self, counter: PassCounter) -> None:
        self.counter = counter
        self._expected: int | None = None
        self._calls = (0, 0)  # the clock of the last call, and how many calls there were by then
        self._module: weakref.ref[nn.Module] | None = None
        super().__init__(counter)

    def of_later_call(self) -> "ModuleLog":
        """Return the log of another call of the layer, in which it has not run yet."""
        log = ModuleLog(self.counter)
        log._start = log._last = self._start
        log._failed_before = self._failed_before
        log._expected, log._module = self._expected, self._module
        return log

    def watch(self, module: nn.Module) -> None:
        """Look from now on whether something runs a module without its hooks."""
        self._module = weakref.ref(module)

    def end(self) -> None:
        """Keep what is known of the layer now, which is about to have no hook."""
        self.bypass()
        self._module = None

    def restart(self) -> None:
        super().restart()
        self._bypass: str | None = None

    def expect_pass(self) -> None:
        """Let note() tell when the next pass has ended."""
        self._expected = next_pass(self.counter.clock)

    def note(self, clock: int) -> bool:
        """Note that the layer ran at a time. Return whether the expected pass has ended."""
        self.note_run(clock)
        if self._expected is None or not self.is_past(clock):
            return False
        self._expected = None
        return True

    def is_past(self, clock: int) -> bool:
        """Return whether the expected pass has ended at a time."""
        return self._expected is not None and clock > self._expected

    def call_number(self, clock: int) -> int:
        """Count the calls of the layer in this pass: 1, 2, ...; outside of passes always 1."""
        last, calls = self._calls
        self._calls = (clock, calls + 1 if clock == last and clock % 2 else 1)
        return self._calls[1]

    def bypass(self) -> str | None:
        module = None if self._module is None else self._module()
        bypasses, passes = self.counter.bypasses, self.passes()
        if module is not None and bypasses is not None and passes and passes[0] < passes[1]:
            self._bypass = self._bypass or bypasses.cause(module)
        return self._bypass


# For operators: a CUDA graph would not call them when it is replayed. Older versions have no tag.
_tag = getattr(torch.Tag, "cudagraph_unsafe", None)
NOT_IN_CUDA_GRAPHS = () if _tag is None else (_tag,)

_library: Any = torch.library.Library("tensorstate_gpu", "FRAGMENT")  # type: ignore[no-untyped-call]
_library.define(
    "begin_pass(Tensor(a!) clock, Tensor? given, int batch_axis) -> ()", tags=NOT_IN_CUDA_GRAPHS
)
_library.define("end_pass(Tensor(a!) clock) -> ()", tags=NOT_IN_CUDA_GRAPHS)


def _begin_pass(clock: torch.Tensor, given: torch.Tensor | None, batch_axis: int) -> None:
    """Called by compiled graphs, perhaps with a copy of the tensor, which they copy back.

    ``given``: the first tensor that the model is given. Written without torch: activation
    checkpointing saves the clock, and rejects a changed tensor.
    """
    if is_real_pass(clock):
        _begin(clock.numpy(), _size(given, batch_axis))


def _begin(time: NDArray[np.int64], inputs: int) -> None:
    """Begin a pass. One that has no end has failed, unless it runs in another thread."""
    thread = threading.get_ident()
    now, _, failed, last = time.tolist()  # one call, where each entry of an array takes one
    time[:] = next_pass(now), inputs, failed + (now % 2 and last == thread), thread


def _end(time: NDArray[np.int64]) -> None:
    """End a pass, if one has begun."""
    now = time.item(0)
    if now % 2:
        time[0] = now + 1


def _size(given: torch.Tensor | None, axis: int) -> int:
    """Return the size of an axis, 0 if there is none."""
    return given.shape[axis] if given is not None and -given.ndim <= axis < given.ndim else 0


def _end_pass(clock: torch.Tensor) -> None:
    """Called by compiled graphs."""
    if is_real_pass(clock):
        _end(clock.numpy())


def _do_nothing(clock: torch.Tensor, *_: object) -> None:
    """Traced passes do not count."""


for name, function in {"begin_pass": _begin_pass, "end_pass": _end_pass}.items():
    _library.impl(name, function, "CompositeExplicitAutograd")
    torch.library.register_fake(f"tensorstate_gpu::{name}", _do_nothing, lib=_library)
