"""Lets attention modules of torch.nn take the path in a followed pass that they take in others.

nn.MultiheadAttention, nn.TransformerEncoderLayer and nn.TransformerEncoder ask
torch.overrides.has_torch_function() before they call a fused function. That is true under any torch
function mode, and an nn.TransformerEncoder then returns other numbers where its input is padding.
"""

import sys
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from tensorstate_gpu._process.shared_setting import SharedSetting

from .branches import asks_for_branches

_NAME = "has_torch_function"
_Question = Callable[[Iterable[object]], bool]


class FastPaths(SharedSetting):
    """Replaces that function, in the whole process, as long as any thread follows a pass.

    It then answers as if the modes of class ``unseen`` were not there. torch.nn.functional has the
    function under a name of its own, by which it still calls all modes.
    """

    def __init__(self, unseen: type[TorchFunctionMode]) -> None:
        super().__init__()
        self._unseen = unseen
        self._original: _Question = torch.overrides.has_torch_function
        self._ours: _Question | None = None

    def _change(self) -> bool:
        if self._ours is None:
            self._original = torch.overrides.has_torch_function
            self._ours = _AsIfWithout(self._unseen, self._original)
            setattr(torch.overrides, _NAME, self._ours)
        return True

    def _restore(self) -> None:
        if torch.overrides.has_torch_function is self._ours:  # else someone has replaced ours
            setattr(torch.overrides, _NAME, self._original)
        self._ours = None


class _AsIfWithout:
    """Answers as another function does where the modes of a class are not there.

    It is equal to that function, which torch.compile looks up in a table. Torch makes the table
    once, when it first compiles something: with the functions that are in place then.
    """

    def __init__(self, unseen: type[TorchFunctionMode], original: _Question) -> None:
        self._unseen, self._original = unseen, original

    def __call__(self, values: Any) -> bool:
        if torch.compiler.is_compiling():  # which knows of no mode of ours
            return self._original(values)
        modes = [torch._C._get_function_stack_at(i) for i in range(_number_of_modes())]
        if not modes or not all(isinstance(mode, self._unseen) for mode in modes):
            return self._original(values)
        if asks_for_branches(sys._getframe(1)):
            return True
        return torch._C._is_torch_function_enabled() and any(map(_overrides, values))

    def __eq__(self, other: object) -> bool:
        return self is other or self._original == other

    def __hash__(self) -> int:
        return hash(self._original)


def _number_of_modes() -> int:
    return torch._C._len_torch_function_stack()


def _overrides(value: object) -> bool:
    """Return whether the class of a value says what functions of torch do with it."""
    usual = torch._C._disabled_torch_function_impl
    if type(value) in (torch.Tensor, nn.Parameter):
        return False
    return getattr(value, "__torch_function__", usual) is not usual
