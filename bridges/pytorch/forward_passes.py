"""PyTorch: follows the axes through the first forward pass of each kind of inputs."""

import sys
import threading
import weakref
from collections.abc import Mapping
from types import FrameType
from typing import Any

import torch
from torch import nn

from tensorstate_gpu.errors import warn_of_guesses, warn_of_skipped

from .axis_flow import AxisFlow, KnownAxes
from .axis_flow.mode import given_tensors, is_running
from .eager_passes import EAGER
from .marked_classes import MarkingHook, OwnHook


class _Pass(threading.local):
    """The forward pass of this thread."""

    module: Any = None  # the outermost module that was called
    frame: FrameType | None = None  # of that call
    signature: Any = None  # of its inputs
    inputs: int | None = None
    flow: AxisFlow | None = None
    calls: dict[Any, int] | None = None  # of each capture point

    def begin(self, module: Any, frame: FrameType) -> None:
        self.module, self.frame, self.calls = module, frame, {}

    def end(self) -> None:
        vars(self).clear()

    @property
    def known_axes(self) -> KnownAxes | None:
        return None if self.flow is None else self.flow.known

    def follow(self, flow: AxisFlow) -> None:
        """Begin to follow, unless what would run is compiled, and cannot run as it is."""
        if not EAGER.begin():
            return
        self.flow = flow
        flow.__enter__()  # type: ignore[no-untyped-call]

    def stop_following(self) -> None:
        if self.flow is not None:
            self.flow.leave()
            self.flow = None
            EAGER.end()


class ForwardPasses(OwnHook):
    """The forward passes of a model, of which the first with each kind of inputs is followed.

    Kinds differ in the numbers of axes of the tensors that the model is given.
    """

    def __init__(self, batch_axis: int) -> None:
        self.current = _Pass()
        self._batch_axis = batch_axis
        self._followed: set[Any] = set()
        self._guesses: dict[str, str] = {}
        self._skipped: dict[str, bool] = {}  # layers without a tensor: whether that was said
        self._watchers: list[_Watcher] = []
        self._ends: list[Any] = []  # handles
        self._has_end: weakref.WeakSet[nn.Module] = weakref.WeakSet()
        self._users = 0

    def attach(self, model: nn.Module) -> None:
        """Watch the model and its children: some models are used through these alone."""
        for module in (model, *model.children()):
            leaf = next(module.children(), None) is None
            if module is model or not (leaf or isinstance(module, torch.jit.ScriptModule)):
                self._watchers.append(_Watcher(self, module))

    def __reduce__(self) -> tuple[Any, ...]:
        """A copy follows nothing."""
        return ForwardPasses, (self._batch_axis,)

    def add_user(self) -> None:
        self._users += 1

    def remove_user(self) -> None:
        """Stop watching the model when its last hook has been removed."""
        self._users -= 1
        if not self._users:
            for hook in (*self._watchers, *self._ends):
                hook.remove()
            self._watchers.clear()
            self._ends.clear()
            self.current.stop_following()

    def note_guess(self, name: str, cause: str) -> None:
        """Warn of a guess, at the end of the pass that is followed, or now."""
        self._guesses[name] = cause
        if self.current.flow is None:
            self._warn()

    def note_skipped(self, name: str) -> None:
        """Warn of a layer that passes no tensor, at the end of the pass, or now."""
        self._skipped.setdefault(name, False)
        if self.current.frame is None:
            self._warn_of_skipped()

    # ---- passes --------------------------------------------------------------------------------

    def begin(
        self, module: nn.Module, args: Any, kwargs: Mapping[str, Any], frame: FrameType
    ) -> None:
        """Begin a pass, unless one is running. ``frame``: of the call of the module."""
        current = self.current
        if current.frame is not None and is_running(current.frame):
            return  # a part of the model
        current.stop_following()  # of a pass that an interrupt has ended
        if module not in self._has_end:
            # Only where passes begin outside of compiled graphs: torch.compile would make another
            # graph for each such hook, because it is one that is always called.
            self._has_end.add(module)
            self._ends.append(module.register_forward_hook(self._end, always_call=True))
        current.begin(module, frame)
        tensors = list(given_tensors((*args, *kwargs.values())))
        axis = self._batch_axis
        first = next((t for t in tensors if -t.ndim <= axis < t.ndim), None)
        current.inputs = None if first is None else first.shape[axis]
        current.signature = (id(module), *(t.ndim for t in tensors))
        if current.signature not in self._followed and torch._C._get_tracing_state() is None:
            flow = AxisFlow(frame)
            flow.known.mark_inputs(tensors, axis)
            current.follow(flow)

    def _end(self, module: nn.Module, args: Any, output: Any) -> None:
        """Called as a hook."""
        if torch.compiler.is_compiling() or self.current.module is not module:
            return
        current = self.current
        signature, followed = current.signature, current.flow is not None
        current.stop_following()
        current.end()
        if followed and output is not None:  # which it is after an error
            self._followed.add(signature)
            self._warn()
        self._warn_of_skipped()

    def _warn(self) -> None:
        """Say once of each layer that its axis is a guess."""
        guesses, self._guesses = self._guesses, {}
        if guesses:
            warn_of_guesses([f"{name} ({cause})" for name, cause in guesses.items()])

    def _warn_of_skipped(self) -> None:
        """Say once of each layer that it is skipped."""
        new = [name for name, said in self._skipped.items() if not said]
        self._skipped.update(dict.fromkeys(new, True))
        if new:
            warn_of_skipped(new)


class _Watcher(MarkingHook):
    """Sees the calls of one module."""

    def __init__(self, passes: ForwardPasses, module: nn.Module) -> None:
        self._passes = passes
        before = module.register_forward_pre_hook(self.before, with_kwargs=True, prepend=True)
        self.bind(module, before)

    def before(self, module: nn.Module, args: Any, kwargs: Mapping[str, Any]) -> None:
        """Called as a pre-hook."""
        if not torch.compiler.is_compiling():
            self._passes.begin(module, args, kwargs, sys._getframe(1))

    def __reduce__(self) -> tuple[Any, ...]:
        """A copy of a module whose class could not be marked has a hook that does nothing."""
        return _Idle, ()


class _Idle:
    """A copy of a watcher."""

    def before(self, module: nn.Module, args: Any, kwargs: Mapping[str, Any]) -> None:
        """Do nothing."""
