"""AxisFlow: a torch function mode that follows the axes of all tensors during one forward pass."""

import sys
from collections.abc import Iterable, Mapping
from types import FrameType
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from .known_axes import KnownAxes


class AxisFlow(TorchFunctionMode):
    """Follows axes through the functions that one thread calls. It changes no result.

    ``frame``: of the call that is followed. PyTorch runs no hook after a KeyboardInterrupt; the
    mode then notices that the frame has gone, and does nothing until leave() is called.
    """

    def __init__(self, frame: FrameType) -> None:
        super().__init__()
        self.known = KnownAxes()
        self._frame = frame

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        if not torch.compiler.is_compiling() and is_running(self._frame):
            self.known.follow(func, args, kwargs, result)
        return result

    def leave(self) -> None:
        """End the following: leave the stack of modes, wherever this one lies in it."""
        stack = []
        while torch._C._len_torch_function_stack():
            mode = torch._C._pop_torch_function_stack()
            if mode is self:
                break
            stack.append(mode)
        for mode in reversed(stack):
            torch._C._push_on_torch_function_stack(mode)


def is_running(sought: FrameType) -> bool:
    """Return whether a call of this thread has not ended yet."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and frame is not sought:
        frame = frame.f_back
    return frame is not None


def given_tensors(values: Any) -> Iterable[Tensor]:
    """Yield the tensors among arguments, and in mappings and tuples of these.

    Not those in lists: there each tensor is an input of its own.
    """
    for value in values.values() if isinstance(values, Mapping) else values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, (tuple, Mapping)):
            yield from given_tensors(value)
