"""PyTorch: the modules through which a model is used, and hooks that see where passes begin."""

import sys
from collections.abc import Callable, Mapping
from types import FrameType
from typing import Any

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle

from .marked_classes import MarkingHook, register_first

# Called with a module, its arguments, and the frame of its call.
Begin = Callable[[nn.Module, Any, Mapping[str, Any], FrameType], None]


def entrances(model: nn.Module) -> list[nn.Module]:
    """Return the modules through which a model is used: itself, and its children with children."""
    return [
        module
        for module in (model, *model.children())
        if module is model
        or not (next(module.children(), None) is None or isinstance(module, torch.jit.ScriptModule))
    ]


class EntranceWatcher(MarkingHook):
    """Calls ``begin`` before each call of one module, outside of compiled graphs."""

    def __init__(self, begin: Begin, module: nn.Module) -> None:
        self._begin = begin
        self.join(module)

    def _hook_onto(self, module: nn.Module) -> tuple[RemovableHandle, ...]:
        return (register_first(module, self.before),)

    def before(self, module: nn.Module, args: Any, kwargs: Mapping[str, Any]) -> None:
        """Called as a pre-hook."""
        # Without handles it has left the module in this very call.
        if not torch.compiler.is_compiling() and self._handles:
            self._begin(module, args, kwargs, sys._getframe(1))

    def __reduce__(self) -> tuple[Any, ...]:
        """A copy of a module whose class could not be marked has a hook that does nothing."""
        return IdleWatcher, ()


class IdleWatcher:
    """A copy of a watcher."""

    def before(self, module: nn.Module, args: Any, kwargs: Mapping[str, Any]) -> None:
        """Do nothing."""
