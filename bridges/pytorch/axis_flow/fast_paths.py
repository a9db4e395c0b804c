"""Lets attention modules of torch.nn take the path in a followed pass that they take in others.

nn.MultiheadAttention, nn.TransformerEncoderLayer and nn.TransformerEncoder ask
torch.overrides.has_torch_function() before they call a fused function. That is true under any torch
function mode, and an nn.TransformerEncoder then returns other numbers where its input is padding.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from tensorstate_gpu._process.fork_safe_lock import ForkSafeLock

_NAME = "has_torch_function"


class FastPaths:
    """Replaces that function, in the whole process, as long as any thread follows a pass.

    It then answers as if the modes of class ``unseen`` were not there. torch.nn.functional has the
    function under a name of its own, by which it still calls all modes.
    """

    def __init__(self, unseen: type[TorchFunctionMode]) -> None:
        self._unseen, self._users, self._lock = unseen, 0, ForkSafeLock()
        self._original: Any = torch.overrides.has_torch_function

    def begin(self) -> None:
        with self._lock:
            if not self._users:
                self._original = torch.overrides.has_torch_function
                setattr(torch.overrides, _NAME, self._has_torch_function)
            self._users += 1

    def end(self) -> None:
        with self._lock:
            self._users -= 1
            if not self._users:
                setattr(torch.overrides, _NAME, self._original)

    def _has_torch_function(self, values: Any) -> bool:
        with _modes_but(self._unseen):
            return bool(self._original(values))


@contextmanager
def _modes_but(unseen: type[TorchFunctionMode]) -> Iterator[None]:
    """Take the modes of a class from this thread's stack, inside a ``with`` block."""
    modes = [torch._C._pop_torch_function_stack() for _ in range(_number_of_modes())]
    _push(mode for mode in reversed(modes) if not isinstance(mode, unseen))
    try:
        yield
    finally:
        for _ in range(_number_of_modes()):
            torch._C._pop_torch_function_stack()
        _push(reversed(modes))


def _number_of_modes() -> int:
    return torch._C._len_torch_function_stack()


def _push(modes: Any) -> None:
    for mode in modes:
        torch._C._push_on_torch_function_stack(mode)
