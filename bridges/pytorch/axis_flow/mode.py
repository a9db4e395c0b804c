"""AxisFlow: a torch function mode that follows the axes of all tensors during one forward pass."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from tensorstate_gpu._process.interrupts import deferred_interrupts

from .branches import run_eagerly, runs_branches, runs_plainly
from .fast_paths import FastPaths
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
        if runs_branches(func) and is_running(self._frame) and runs_plainly():
            self.known.has_run_branches = True
            with _followed_within(self):
                return run_eagerly(func, args, kwargs)
        result = func(*args, **kwargs)
        if not torch.compiler.is_compiling() and is_running(self._frame):
            self.known.follow(func, args, kwargs, result)
        return result

    def __enter__(self) -> "AxisFlow":
        _FAST_PATHS.begin(self)
        super().__enter__()  # type: ignore[no-untyped-call]
        return self

    def leave(self) -> None:
        """End the following: leave the stack of modes, wherever this one lies in it."""
        _FAST_PATHS.end(self)
        with deferred_interrupts():  # else the modes above this one could be lost
            above = []
            while torch._C._len_torch_function_stack():
                mode = torch._C._pop_torch_function_stack()
                if mode is self:
                    break
                above.append(mode)
            for mode in reversed(above):
                torch._C._push_on_torch_function_stack(mode)


@contextmanager
def _followed_within(flow: AxisFlow) -> Iterator[None]:
    """Follow what a function calls: PyTorch ends a mode while it handles one."""
    TorchFunctionMode.__enter__(flow)  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        TorchFunctionMode.__exit__(flow, None, None, None)  # type: ignore[no-untyped-call]


_FAST_PATHS = FastPaths(unseen=AxisFlow)


def is_running(sought: FrameType) -> bool:
    """Return whether a call of this thread has not ended yet."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and frame is not sought:
        frame = frame.f_back
    return frame is not None
