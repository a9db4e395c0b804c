"""PyTorch: finds the tensor to capture, and decides whether the call counts."""

import sys
from types import FrameType

import numpy as np

try:
    import torch
except ImportError as error:
    raise ImportError("PyTorch hooks need torch: pip install torch") from error
from numpy.typing import NDArray
from torch._subclasses.fake_tensor import is_fake, unset_fake_temporarily
from torch.fx import Proxy
from torch.fx.experimental.proxy_tensor import get_proxy_mode
from torch.nn.utils.rnn import PackedSequence
from torch.torch_version import TorchVersion

from tensorstate_gpu._capturing.first_array import first_array
from tensorstate_gpu._warnings import warn_user
from tensorstate_gpu.errors import NotCapturable

_OLDEST_TORCH = "2.11"  # docs/minimum_versions.md


def _check_version(version: TorchVersion) -> None:
    """Warn of a torch in which not all captures are right."""
    if version < _OLDEST_TORCH:
        warn_user(
            f"this is torch {version}: captures of models that torch.compile compiles may miss "
            f"passes before torch {_OLDEST_TORCH}"
        )


_check_version(torch.__version__)


def first_tensor(value: object) -> torch.Tensor | Proxy | None:
    """Return the tensor to capture; see first_array(). While torch.fx traces, it is a proxy."""
    if isinstance(value, torch.Tensor):
        return value
    # torch.compile cannot compare all objects.
    found = first_array(value, _axes_of, may_contain_itself=not torch.compiler.is_compiling())
    assert found is None or isinstance(found, (torch.Tensor, Proxy))
    return found


def _axes_of(value: object) -> int | None:
    if isinstance(value, Proxy):
        return 1  # not known; to ask would add a node to the graph
    return value.ndim if isinstance(value, torch.Tensor) else None


class NotDense(TypeError):
    """A layer passes a tensor that is no dense array of numbers. ``kind``: of the tensor."""

    def __init__(self, message: str, kind: str) -> None:
        super().__init__(message)
        self.kind = kind


def check_dense(tensor: torch.Tensor, name: str) -> None:
    """Raise NotDense or ValueError, which name the layer, unless a tensor is a dense array."""
    if tensor.is_nested:
        raise nested_error(name)
    if tensor.layout is not torch.strided:
        message = (
            f"{name}: a tensor of layout {tensor.layout} cannot be captured, only dense ones: "
            "return .to_dense() from the layer, or exclude= it"
        )
        raise NotDense(message, str(tensor.layout).removeprefix("torch."))
    if tensor.is_complex():
        message = (
            f"{name}: a complex tensor cannot be captured: return torch.view_as_real(...) or "
            ".abs() from the layer, or exclude= it"
        )
        raise NotDense(message, "complex")
    if tensor.dtype in _NOT_NUMBERS:
        message = (
            f"{name}: a tensor of {tensor.dtype} cannot be captured, because it has scales without "
            "a sign, or two numbers at each place: return other numbers, or exclude= it"
        )
        raise NotDense(message, str(tensor.dtype).removeprefix("torch."))
    kind = type(tensor)
    if kind is not torch.Tensor and not tensor.is_quantized and tensor.is_cpu:
        _check_memory(tensor, kind.__name__, name)
    if tensor.ndim == 0:
        raise ValueError(f"{name}: a state needs an axis of neurons, got a 0-d tensor")


# Older versions of torch lack some.
_NAMES = ("float8_e8m0fnu", "float4_e2m1fn_x2")
_NOT_NUMBERS = {getattr(torch, name) for name in _NAMES if hasattr(torch, name)}


def nested_error(name: str) -> NotDense:
    """Return the error of a layer that passes a nested tensor."""
    message = (
        f"{name}: nested tensors cannot be captured; an nn.TransformerEncoder makes "
        "none with enable_nested_tensor=False"
    )
    return NotDense(message, "nested")


def _check_memory(tensor: torch.Tensor, kind: str, name: str) -> None:
    """Raise NotDense for a subclass of tensors that has no memory, but holds other tensors."""
    if tensor.numel() and not tensor.data_ptr():
        plain = _PLAIN_FORMS.get(kind, "a plain torch.Tensor")
        message = (
            f"{name}: a {kind} cannot be captured, because it holds other tensors: return {plain} "
            "from the layer, or exclude= it"
        )
        raise NotDense(message, kind)


_PLAIN_FORMS = {
    "DTensor": ".full_tensor() or .to_local()",
    "MaskedTensor": ".to_tensor(0)",
    "AsyncCollectiveTensor": ".wait()",
}


def sequences_of(value: object, tensor: torch.Tensor) -> PackedSequence | None:
    """Return the packed sequences whose data a tensor is, if they come first in a value."""
    for _ in range(3):  # in the arguments of a call, or in its output
        if isinstance(value, PackedSequence):
            return value if value.data is tensor else None
        if not isinstance(value, (tuple, list)) or not value:
            return None
        value = value[0]
    return None


def values_of(tensor: torch.Tensor) -> torch.Tensor:
    """Return the values of a tensor with which torch.func computes; others as is.

    Those of grad, vjp, jvp and functionalize are known. Raises TypeError inside vmap: there, a
    layer may stand for several, each with its own weights.
    """
    functorch = torch._C._functorch
    while functorch.is_gradtrackingtensor(tensor) or functorch.is_functionaltensor(tensor):
        if functorch.is_functionaltensor(tensor):
            torch._sync(tensor)  # type: ignore[attr-defined, no-untyped-call]
        tensor = functorch.get_unwrapped(tensor)
    if functorch.is_functorch_wrapped_tensor(tensor):
        raise TypeError(
            "states cannot be captured inside torch.func.vmap: compute inside `with "
            "run.paused():`, or exclude= the layer"
        )
    return tensor


def is_real_forward(tensor: torch.Tensor, *, recorded: bool = False) -> bool:
    """Return is_real_pass(). Raises NotCapturable in a CUDA graph that is recorded.

    ``recorded``: whether a CUDA graph may record the capture.
    """
    if not is_real_pass(tensor):
        return False
    if tensor.is_cuda and not recorded and torch.cuda.is_current_stream_capturing():
        raise NotCapturable(
            "states cannot be captured in a CUDA graph, which calls no hooks when it is replayed; "
            "with stage_rows= they can"
        )
    return True


def is_recorded(tensor: torch.Tensor) -> bool:
    """Return whether a CUDA graph records what is done with a tensor now."""
    return tensor.is_cuda and torch.cuda.is_current_stream_capturing()


def is_real_pass(tensor: torch.Tensor | Proxy, *, has_numbers: bool = False) -> bool:
    """Return whether a tensor belongs to a forward pass that counts.

    ``has_numbers``: whether it is known to have some in memory.
    """
    if not has_numbers:
        if isinstance(tensor, Proxy):
            return False
        # Most tensors are plain ones; for these, skip is_fake(), which takes 3 us.
        plain = type(tensor) is torch.Tensor and not torch._is_functional_tensor(tensor)
        if tensor.is_meta or (not plain and is_fake(tensor)):
            return False
    # Called for each batch of each layer: what is nearly always false is tested without a call.
    if torch._C._is_tracing():
        return False
    if torch._C._len_torch_dispatch_stack() > 0 and get_proxy_mode() is not None:  # make_fx traces
        return False
    if _STAGES in sys.modules and _pipeline_probes():
        return False
    # A forward pass inside backward is activation checkpointing: these rows were captured before.
    recomputing: bool = torch._C._current_graph_task_id() != -1
    return not recomputing


def _pipeline_probes() -> bool:
    """Return whether a stage of a pipeline runs on made-up numbers, to learn its output's shape."""
    frame: FrameType | None = sys._getframe()
    while frame is not None:
        if frame.f_code.co_name in _PROBES and frame.f_globals.get("__name__") == _STAGES:
            return True
        frame = frame.f_back
    return False


_STAGES = "torch.distributed.pipelining.stage"
_PROBES = {"_forward_metadata_inference", "_shape_inference"}  # in 2.13, and in older versions


def shared_tensor(array: NDArray[np.int64]) -> torch.Tensor:
    """Return a real tensor with the memory of an array, also inside fake and inference modes."""
    with unset_fake_temporarily(), torch.inference_mode(False):
        return torch.from_numpy(array)


def is_exporting() -> bool:
    """Return whether torch.export traces: its programs have no capture.

    Not torch.compiler.is_exporting(): up to torch 2.11, torch.compile takes it to be always true.
    Before 2.7 nothing tells the two apart.
    """
    return getattr(torch.compiler, "_is_exporting_flag", False)
