"""PyTorch: operators with which a compiled model counts its passes, whenever its graphs run."""

from typing import Any

import torch

from .pass_counter import counter_of
from .tensors import is_real_pass
from .thread_pass import call_of_compiled

# A CUDA graph would not call them when it is replayed. Older versions have no tag.
_tag = getattr(torch.Tag, "cudagraph_unsafe", None)
NOT_IN_CUDA_GRAPHS = () if _tag is None else (_tag,)

_library: Any = torch.library.Library("tensorstate_gpu", "FRAGMENT")  # type: ignore[no-untyped-call]
_library.define(
    "begin_pass(Tensor(a!) clock, Tensor? given, int batch_axis) -> ()", tags=NOT_IN_CUDA_GRAPHS
)
_library.define("end_pass(Tensor(a!) clock) -> ()", tags=NOT_IN_CUDA_GRAPHS)


def _begin_pass(clock: torch.Tensor, given: torch.Tensor | None, batch_axis: int) -> None:
    """Called by compiled graphs, perhaps with a copy of the tensor, which they copy back.

    ``given``: the first tensor that the model is given. The clock is not changed: activation
    checkpointing saves it, and rejects a changed tensor.
    """
    if is_real_pass(clock) and (counter := counter_of(clock)) is not None:
        counter.end_broken()
        counter.begin(_size(given, batch_axis) or None)
        if counter.here.frame is None:
            counter.here.around = call_of_compiled()


def _size(given: torch.Tensor | None, axis: int) -> int:
    """Return the size of an axis, 0 if there is none."""
    return given.shape[axis] if given is not None and -given.ndim <= axis < given.ndim else 0


def _end_pass(clock: torch.Tensor) -> None:
    """Called by compiled graphs."""
    if is_real_pass(clock) and (counter := counter_of(clock)) is not None:
        counter.end()


def _do_nothing(clock: torch.Tensor, *_: object) -> None:
    """Traced passes do not count."""


for name, function in {"begin_pass": _begin_pass, "end_pass": _end_pass}.items():
    _library.impl(name, function, "CompositeExplicitAutograd")
    torch.library.register_fake(f"tensorstate_gpu::{name}", _do_nothing, lib=_library)
