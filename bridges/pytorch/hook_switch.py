"""PyTorch: HookSwitch takes hooks off a model while nothing is captured, and puts them back."""

import sys
import weakref
from collections.abc import Callable, Mapping, Sequence
from types import FrameType
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.hooks import RemovableHandle

from tensorstate_gpu._capturing.sampling import Sampler
from tensorstate_gpu._process.interrupts import deferred_interrupts

from .axis_flow import is_in_branch
from .entrances import IdleWatcher, entrances
from .hooks import StateCaptureHook
from .marked_classes import MarkingHook, register_first
from .method_calls import MethodCall, MethodWatcher
from .pass_operators import NOT_IN_CUDA_GRAPHS
from .tensors import is_exporting, is_real_pass, shared_tensor
from .untraced import untraced


class HookSwitch:
    """The hooks of a sampler at a model, which leave it between the passes that are captured.

    What stays at the model is a pre-hook that asks, at the begin of each pass, whether it is to be
    captured. ``model``: the one that was given; ``root``: without the wrapper of torch.compile.
    """

    def __init__(
        self,
        model: nn.Module,
        root: nn.Module,
        hooks: Sequence[StateCaptureHook],
        sampler: Sampler,
    ) -> None:
        self._hooks, self._sampler = hooks, sampler
        self._root: Callable[[], nn.Module | None] = weakref.ref(root)
        self._counter, self._passes = hooks[0].pass_log.counter, hooks[0].followed_passes
        self._is_on = True
        self._missed = np.zeros(2, np.int64)  # passes in compiled code, and whether hooks are there
        self.missed_tensor: torch.Tensor | None = shared_tensor(self._missed)
        self._wrapper = None if model is root else model.register_forward_pre_hook(self._before)
        self.turn(False)
        self._watches = [PassWatch(self, part, part is root) for part in entrances(root)]

    @property
    def points(self) -> list[StateCaptureHook]:
        """The capture points, with those of later calls that were made so far."""
        return [point for hook in self._hooks for point in (hook, *hook.later_calls)]

    def in_training(self) -> bool:
        """Return whether the model is in training mode."""
        root = self._root()
        return root is not None and root.training

    def is_model_alive(self) -> bool:
        """Return whether the model still exists."""
        return self._root() is not None

    def replaced(self) -> list[str]:
        """Return the capture points of layers that are no part of the model any more."""
        root = self._root()
        parts = set() if root is None else {*root.modules()}
        return [hook.name for hook in self._hooks if hook.module_of_its_own() not in parts]

    def missed_passes(self) -> int:
        """Return how many passes in evaluation mode ran unnoticed in compiled code."""
        return int(self._missed[0])

    def failed_passes(self) -> int:
        """Return how many passes have failed so far while the counter was at the model."""
        self._counter.note_failed()
        return self._counter.times.failed()

    def turn(self, on: bool) -> None:
        """Put the hooks back at their modules, or take them off."""
        if on != self._is_on:
            with deferred_interrupts():  # between hooks, the model would have some of them
                self._turn(on)

    @untraced
    def _turn(self, on: bool) -> None:
        self._is_on = on
        self._missed[1] = on
        if not on:
            self._counter.end_running()
            for hook in (*self._hooks, self._counter):
                hook.remove()
            self._passes.leave()
            return
        for hook in self._hooks:  # in the order of attach_in_place()
            hook.rejoin()
        self._passes.rejoin()
        self._counter.rejoin()

    def drain(self) -> None:
        """Do nothing: the sampler has all batches."""

    def check_complete(self) -> None:
        """Do nothing: no rows are lost."""

    def forget_lost(self, phase: str | None) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Leave the model for good."""
        self.turn(False)
        for watch in self._watches:
            watch.remove()
        if self._wrapper is not None:
            self._wrapper.remove()

    def _before(self, module: object, args: object) -> None:
        """Called as a pre-hook of the wrapper of torch.compile."""
        if not torch.compiler.is_compiling():
            self._follow()

    def _follow(self) -> None:
        self.turn(self._sampler.wants_now())

    def __reduce__(self) -> tuple[Any, ...]:
        """A copy of a monitor is at no model."""
        return IdleSwitch, ()

    def begin(
        self, module: nn.Module, args: object, kwargs: Mapping[str, object], frame: FrameType
    ) -> None:
        """Ask whether the pass that begins is captured. ``frame``: of the call of the module."""
        if self._puts_hooks_back():  # which do not run in this call
            if module is self._root():
                self._counter.begin_at(args, kwargs, frame)
            self._passes.begin(module, args, kwargs, frame)

    def begin_method(self, call: MethodCall) -> None:
        """Ask whether the pass that a method makes is captured."""
        if self._puts_hooks_back():
            self._passes.begin_method(call)

    def end_method(self, call: MethodCall, *, has_failed: bool) -> None:
        """End the pass of a method that has begun here."""
        self._passes.end_method(call, has_failed=has_failed)

    def _puts_hooks_back(self) -> bool:
        """Ask whether a pass is captured. Return whether the hooks were away, and are back."""
        if (wanted := self._sampler.wants_now()) == self._is_on:
            return False
        self.turn(wanted)
        return wanted


class IdleSwitch(HookSwitch):
    """The switch of a copied monitor, which has counts, and captures nothing."""

    def __init__(self) -> None:
        self._root = lambda: None
        self._hooks, self._missed = (), np.zeros(2, np.int64)

    def failed_passes(self) -> int:
        """Return 0: there are none."""
        return 0

    def turn(self, on: bool) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""

    def _follow(self) -> None:
        """Do nothing: what is copied with a compiled model calls it."""


class PassWatch(MarkingHook, MethodWatcher):
    """Tells a switch of the passes of one module."""

    def __init__(self, switch: HookSwitch, module: nn.Module, is_root: bool) -> None:
        self._switch, self._is_root = switch, is_root
        self.join(module)

    def _hook_onto(self, module: nn.Module) -> tuple[RemovableHandle, ...]:
        return (register_first(module, self.before),)

    def before(self, module: nn.Module, args: Any, kwargs: Mapping[str, Any]) -> None:
        """Called as a pre-hook. Compiled code cannot attach hooks: there, passes are counted."""
        missed = self._switch.missed_tensor
        if not torch.compiler.is_compiling():
            self._switch.begin(module, args, kwargs, sys._getframe(1))
        elif missed is None or not self._is_root or module.training:
            return
        elif not is_exporting() and not is_in_branch():
            torch.ops.tensorstate_gpu.note_missed(missed)

    def begin_method(self, call: MethodCall) -> None:
        """Called before a public method of the module."""
        self._switch.begin_method(call)

    def end_method(self, call: MethodCall, *, has_failed: bool) -> None:
        """Called after it."""
        self._switch.end_method(call, has_failed=has_failed)

    def __reduce__(self) -> tuple[Any, ...]:
        """A copy of a module whose class could not be marked has a hook that does nothing."""
        return IdleWatcher, ()


_library: Any = torch.library.Library("tensorstate_gpu", "FRAGMENT")  # type: ignore[no-untyped-call]
_library.define("note_missed(Tensor(a!) missed) -> ()", tags=NOT_IN_CUDA_GRAPHS)


def _note_missed(missed: torch.Tensor) -> None:
    """Called by compiled graphs. Written without torch, like begin_pass()."""
    if is_real_pass(missed):
        numbers = missed.numpy()
        numbers[0] += 1 - numbers[1]


def _do_nothing(missed: torch.Tensor) -> None:
    """Traced passes do not count."""


_library.impl("note_missed", _note_missed, "CompositeExplicitAutograd")
torch.library.register_fake("tensorstate_gpu::note_missed", _do_nothing, lib=_library)
