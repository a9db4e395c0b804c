"""PyTorch: what a layer passes on in a branch of a compiled graph, where a capture is its input.

Control flow of torch (``torch.cond``, ...) runs graphs in which nothing may be written. There, the
operator that captures returns a copy, and the layer passes on the copy in place of the tensor.
"""

from typing import Any

import torch

from tensorstate_gpu._warnings import warn_user
from tensorstate_gpu.errors import SkippedLayersWarning


def may_have_copy(value: Any, tensor: torch.Tensor) -> bool:
    """Return whether with_copy() can put a copy of a tensor into a value."""
    if type(value) in (tuple, list):
        return any(may_have_copy(each, tensor) for each in value)
    return value is tensor


def with_copy(value: Any, tensor: torch.Tensor, copy: torch.Tensor) -> Any:
    """Return a value with a copy in place of a tensor."""
    if type(value) in (tuple, list):
        return type(value)([with_copy(each, tensor, copy) for each in value])
    return copy if value is tensor else value


def warn_in_branch(name: str) -> None:
    """Warn of a layer that is not captured where control flow runs it.

    Called by code that is compiled, when the graph is made.
    """
    warn_user(
        f"{name}: its calls in torch.cond, while_loop, scan, map and the like are not captured: "
        "nothing may be written there, and it passes on more than tensors, or has a stage",
        SkippedLayersWarning,
    )


warn_in_branch._dynamo_marked_constant = True  # type: ignore[attr-defined]
