"""PyTorch: the modules through which a model is used, and hooks that see where passes begin."""

import sys
from collections.abc import Mapping
from types import FrameType
from typing import Any, Protocol

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle

from .marked_classes import MarkingHook, register_first
from .method_calls import MethodCall, MethodWatcher


class Passes(Protocol):
    """What is told where passes may begin and end."""

    def begin(
        self, module: nn.Module, args: Any, kwargs: Mapping[str, Any], frame: FrameType
    ) -> None:
        """Called before a module, with the frame of its call."""

    def begin_method(self, call: MethodCall) -> None:
        """Called before a method of a module."""

    def end_method(self, call: MethodCall, *, has_failed: bool) -> None:
        """Called after it."""


def entrances(model: nn.Module) -> list[nn.Module]:
    """Return the modules through which a model is used: itself, and its children with children.

    If it has one such child alone, it wraps that one, whose children are entrances, too: encoder
    and decoder in a translator of transformers, or the parts of what a LightningModule has.
    """
    found = [model]
    wrapped: nn.Module | None = model
    while wrapped is not None:
        parts = [child for child in wrapped.children() if _has_parts(child)]
        found += parts
        is_wrapper = len(parts) == 1 and not isinstance(parts[0], _CONTAINERS)
        wrapped = parts[0] if is_wrapper else None
    return found


_CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)  # of layers, often of many


def _has_parts(module: nn.Module) -> bool:
    is_script = isinstance(module, torch.jit.ScriptModule)
    return not is_script and next(module.children(), None) is not None


class EntranceWatcher(MarkingHook, MethodWatcher):
    """Tells ``passes`` of each call of one module and its methods, outside of compiled graphs."""

    def __init__(self, passes: Passes, module: nn.Module) -> None:
        self._passes = passes
        self.join(module)

    def _hook_onto(self, module: nn.Module) -> tuple[RemovableHandle, ...]:
        return (register_first(module, self.before),)

    def before(self, module: nn.Module, args: Any, kwargs: Mapping[str, Any]) -> None:
        """Called as a pre-hook."""
        # Without handles it has left the module in this very call.
        if not torch.compiler.is_compiling() and self._handles:
            self._passes.begin(module, args, kwargs, sys._getframe(1))

    def begin_method(self, call: MethodCall) -> None:
        """Called before a public method of the module."""
        self._passes.begin_method(call)

    def end_method(self, call: MethodCall, *, has_failed: bool) -> None:
        """Called after it."""
        self._passes.end_method(call, has_failed=has_failed)

    def __reduce__(self) -> tuple[Any, ...]:
        """A copy of a module whose class could not be marked has a hook that does nothing."""
        return IdleWatcher, ()


class IdleWatcher:
    """A copy of a watcher."""

    def before(self, module: nn.Module, args: Any, kwargs: Mapping[str, Any]) -> None:
        """Do nothing."""
