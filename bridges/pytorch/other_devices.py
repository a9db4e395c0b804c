"""PyTorch: packs tensors on devices without a backend, such as mps and xpu, by torch itself."""

from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from tensorstate_gpu._arrays.elements import ELEMENT_TYPES, accepted_types
from tensorstate_gpu._arrays.firing_function import FiringFunction
from tensorstate_gpu._arrays.layout import plan
from tensorstate_gpu._arrays.thresholds import FiringTest, Threshold, firing_test
from tensorstate_gpu.errors import NotCapturable

_WITH_BACKEND = {"cpu"} if torch.version.hip else {"cpu", "cuda"}
_SIGNED = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def has_backend(tensor: torch.Tensor) -> bool:
    """Return whether a backend of this library computes on the device of a tensor."""
    return tensor.is_cpu or tensor.device.type in _WITH_BACKEND


def pack_by_torch(
    tensor: torch.Tensor,
    neuron_axis: int,
    threshold: Threshold,
    firing: FiringFunction | None = None,
) -> tuple[NDArray[np.uint8], int]:
    """Like pack(), in operations of torch on the tensor's own device, for any device.

    Only the packed rows come to the host, which waits for them. Compares the bits as integers, as
    backends do, because devices may flush subnormal numbers to zero. Raises NotCapturable for a
    firing function: there is no compiler for it.
    """
    if firing is not None:
        raise _firing_error(tensor.device)
    element = ELEMENT_TYPES.get(str(tensor.dtype).removeprefix("torch."))
    if element is None:
        raise TypeError(f"states has dtype {tensor.dtype}; accepted are {accepted_types()}")
    shape = tuple(tensor.shape)
    neurons = plan(shape, (0,) * len(shape), element.size, neuron_axis).neurons
    test = firing_test(element, threshold, neurons)
    with torch._C.DisableTorchFunction():
        bits = tensor.detach().view(_SIGNED[element.size]).movedim(neuron_axis, -1)
        fires = _fires(bits, test).reshape(-1, neurons).to(torch.uint8)
        packed = fires.new_zeros(len(fires), (neurons + 7) // 8)
        for bit in range(min(8, neurons)):
            column = fires[:, bit::8]
            packed[:, : column.shape[1]] += column * (1 << bit)
        rows: NDArray[np.uint8] = packed.cpu().numpy()
    return rows, neurons


def _fires(bits: torch.Tensor, test: FiringTest) -> torch.Tensor:
    """Return where low <= key <= high; see thresholds.py. The neurons are along the last axis."""
    signed = test.low.dtype
    bias, flip = np.array([test.bias, test.flip], f"u{signed.itemsize}").view(signed).tolist()
    key = bits ^ bias if bias else bits
    if flip:
        key = torch.where(bits < 0, key ^ flip, key)
    low, high = (_on_device(limits, bits) for limits in (test.low, test.high))
    return (key >= low) & (key <= high)


def _on_device(limits: NDArray[np.signedinteger], like: torch.Tensor) -> int | torch.Tensor:
    if len(limits) == 1:
        return int(limits[0])
    return torch.tensor(limits.tolist(), dtype=like.dtype, device=like.device)


def check_devices(module: nn.Module, firing: FiringFunction | None) -> None:
    """Raise NotCapturable if tensors on the devices of a module's parameters cannot be packed."""
    kinds = {(tensor.device, tensor.dtype) for tensor in (*module.parameters(), *module.buffers())}
    for device, dtype in kinds:
        if device.type in _WITH_BACKEND or device.type == "meta":
            continue
        if firing is not None:
            raise _firing_error(device)
        if problem := _problem_of(device, dtype):
            raise NotCapturable(f"{dtype} on {device} cannot be packed there: {problem}")


def _firing_error(device: torch.device) -> NotCapturable:
    return NotCapturable(f"firing= is for the cpu and cuda, the model is on {device}")


@lru_cache
def _problem_of(device: torch.device, dtype: torch.dtype) -> str:
    """Return what goes wrong when a device packs two rows, or nothing."""
    if str(dtype).removeprefix("torch.") not in ELEMENT_TYPES:
        return ""  # such as complex weights, which tell nothing of the activations
    rows = torch.tensor([[0, 1] * 5, [1, 1, 0, 0, 0] * 2]).to(dtype)
    try:
        packed, _ = pack_by_torch(rows.to(device), 1, 0.0)
    except Exception as error:  # whatever the device does not know
        return f"{type(error).__name__}: {error}"
    expected, _ = pack_by_torch(rows, 1, 0.0)
    return "" if np.array_equal(packed, expected) else "its operations give other bits"


def check_has_numbers(model: nn.Module) -> None:
    """Raise NotCapturable for a model whose weights are all on the meta device, and stay there."""
    tensors = [*model.parameters(), *model.buffers()]
    # accelerate keeps weights elsewhere, and brings them for each call.
    offloaded = any(hasattr(module, "_hf_hook") for module in model.modules())
    if tensors and all(tensor.is_meta for tensor in tensors) and not offloaded:
        raise NotCapturable(
            "model is on the meta device, which has no numbers: give it weights first, with "
            "to_empty() or load_state_dict(assign=True)"
        )
