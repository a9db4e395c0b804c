"""PyTorch: PassCounter counts the forward passes of a model, also of a compiled one."""

from typing import Any

import numpy as np

try:
    import torch
except ImportError as error:
    raise ImportError("PyTorch hooks need torch: pip install 'tensorstate_gpu[torch]'") from error
from torch import nn

from .marked_classes import MarkingHook
from .tensors import first_tensor, is_exporting, is_real_pass, shared_tensor


class PassCounter(MarkingHook):
    """Counts the forward passes of a model, as a pre-hook of it.

    The number is data in a tensor, so that compiled graphs neither depend on it nor run before it
    is raised: the operator that captures reads this tensor.
    """

    def __init__(self) -> None:
        self._number = np.zeros(1, np.int64)
        self.tensor = shared_tensor(self._number)

    @property
    def number(self) -> int:
        """How many passes have begun."""
        return int(self._number[0])

    def attach(self, model: nn.Module) -> None:
        """Count the passes of a model."""
        self.bind(model, model.register_forward_pre_hook(self, with_kwargs=True))

    def __call__(self, module: Any, args: Any, kwargs: Any) -> None:
        if torch.compiler.is_compiling():
            if not is_exporting():
                torch.ops.tensorstate_gpu.begin_pass(self.tensor)
            return
        tensor = first_tensor((args, kwargs))
        if is_real_pass(self.tensor if tensor is None else tensor):
            self._number += 1

    def __getstate__(self) -> dict[str, Any]:
        return {"_handle": self._handle}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__()  # type: ignore[misc]
        self._handle = state["_handle"]


class PassLog:
    """In how many passes of a model a layer ran, since it was attached or reset."""

    def __init__(self, counter: PassCounter) -> None:
        self.counter = counter
        self.restart()

    def restart(self) -> None:
        """Count from zero."""
        self._start = self._last = self.counter.number
        self._ran = 0

    def note(self, number: int) -> None:
        """Note that the layer ran in the pass with this number, perhaps not for the first time."""
        if number > self._last:
            self._last = number
            self._ran += 1

    def passes(self) -> tuple[int, int] | None:
        """Return in how many passes the layer ran, and how many there were; None if none were."""
        total = self.counter.number - self._start
        return (self._ran, total) if total else None


# For operators: a CUDA graph would not call them when it is replayed. Older versions have no tag.
_tag = getattr(torch.Tag, "cudagraph_unsafe", None)
NOT_IN_CUDA_GRAPHS = () if _tag is None else (_tag,)

_library: Any = torch.library.Library("tensorstate_gpu", "FRAGMENT")  # type: ignore[no-untyped-call]
_library.define("begin_pass(Tensor(a!) number) -> ()", tags=NOT_IN_CUDA_GRAPHS)


def _begin_pass(number: torch.Tensor) -> None:
    """Called by compiled graphs, perhaps with a copy of the tensor, which they copy back."""
    if is_real_pass(number):
        number += 1


def _begin_pass_fake(number: torch.Tensor) -> None:
    """Do nothing: traced passes do not count."""


_library.impl("begin_pass", _begin_pass, "CompositeExplicitAutograd")
torch.library.register_fake("tensorstate_gpu::begin_pass", _begin_pass_fake, lib=_library)
