"""PyTorch: finds the tensor to capture, and decides whether the call counts."""

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

try:
    import torch
except ImportError as error:
    raise ImportError("PyTorch hooks need torch: pip install 'tensorstate_gpu[torch]'") from error
from numpy.typing import NDArray
from torch._subclasses.fake_tensor import is_fake, unset_fake_temporarily
from torch.nn.utils.rnn import PackedSequence

from tensorstate_gpu._arrays.dlpack import CPU, Tensor
from tensorstate_gpu._arrays.elements import ELEMENT_TYPES
from tensorstate_gpu.errors import NotCapturable


def as_importable(tensor: torch.Tensor) -> Any:
    """Return a CPU tensor in the form that packing takes, which saves 20 us for a DLPack capsule.

    Other tensors are returned unchanged.
    """
    element = _ELEMENTS.get(tensor.dtype)
    plain = type(tensor) is torch.Tensor and tensor.is_cpu and tensor.layout is torch.strided
    if not plain or element is None or not tensor.data_ptr():
        return tensor
    strides = tuple(stride * element.size for stride in tensor.stride())
    return Tensor(tensor, tensor.data_ptr(), tuple(tensor.shape), strides, element, (CPU, 0))


_ELEMENTS = {
    getattr(torch, name): element for name, element in ELEMENT_TYPES.items() if hasattr(torch, name)
}


def first_tensor(value: Any, inside: tuple[Any, ...] = ()) -> torch.Tensor | None:
    """Return the first tensor in nested tuples, lists, mappings and dataclasses.

    ``inside``: the enclosing objects; an object that contains itself is not entered again.
    """
    if isinstance(value, torch.Tensor):
        return value
    if not torch.compiler.is_compiling() and any(value is outer for outer in inside):
        return None
    parts: Iterable[Any] = ()
    if isinstance(value, Mapping):
        parts = value.values()
    elif isinstance(value, (tuple, list)):
        parts = value
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        parts = [getattr(value, field.name) for field in dataclasses.fields(value)]
    for part in parts:
        tensor = first_tensor(part, (*inside, value))
        if tensor is not None:
            return tensor
    return None


def sequences_of(value: object, tensor: torch.Tensor) -> PackedSequence | None:
    """Return the packed sequences whose data a tensor is, if they come first in a value."""
    for _ in range(3):  # in the arguments of a call, or in its output
        if isinstance(value, PackedSequence):
            return value if value.data is tensor else None
        if not isinstance(value, (tuple, list)) or not value:
            return None
        value = value[0]
    return None


def is_real_forward(tensor: torch.Tensor) -> bool:
    """Return whether a call counts. Raises an error where its values cannot be captured."""
    if not is_real_pass(tensor):
        return False
    if torch._C._functorch.is_functorch_wrapped_tensor(tensor):
        raise TypeError("states cannot be captured inside torch.func transforms (vmap, grad, jvp)")
    if tensor.is_cuda and torch.cuda.is_current_stream_capturing():
        raise NotCapturable(
            "states cannot be captured in a CUDA graph, which calls no hooks when it is replayed"
        )
    return True


def is_real_pass(tensor: torch.Tensor) -> bool:
    """Return whether a tensor belongs to a forward pass that counts."""
    # Most tensors are plain ones; for these, skip is_fake(), which takes 3 us.
    plain = type(tensor) is torch.Tensor and not torch._is_functional_tensor(tensor)
    if tensor.is_meta or (not plain and is_fake(tensor)):
        return False
    if torch._C._get_tracing_state() is not None:
        return False
    # A forward pass inside backward is activation checkpointing: these rows were captured before.
    recomputing: bool = torch._C._current_graph_task_id() != -1
    return not recomputing


def shared_tensor(array: NDArray[np.int64]) -> torch.Tensor:
    """Return a real tensor with the memory of an array, also inside fake and inference modes."""
    with unset_fake_temporarily(), torch.inference_mode(False):
        return torch.from_numpy(array)


is_exporting = getattr(torch.compiler, "is_exporting", lambda: False)  # added in 2.7
