"""Finds the backend of a device."""

from functools import lru_cache

from tensorstate_gpu._arrays.array_types import NativeArray
from tensorstate_gpu._arrays.backend_protocol import Backend, DeviceBackend, HostBackend
from tensorstate_gpu._arrays.dlpack import CPU, CUDA, Tensor, device_name


def device_of(array: NativeArray) -> tuple[int, int]:
    """Return the DLPack device of a native array."""
    kind, index = array.__dlpack_device__()
    return int(kind), index


def backend_of(tensor: Tensor) -> Backend:
    """Return the backend of a tensor's device. Raises TypeError if there is none."""
    return backend_for(tensor.device)


@lru_cache
def backend_for(device: tuple[int, int]) -> Backend:
    """Return the backend of a DLPack device. Raises TypeError if there is none."""
    if device[0] == CPU:
        return cpu()
    if device[0] == CUDA:
        return device_backend_for(device)
    raise TypeError(
        f"states live on {device_name(*device)}; this version computes on the cpu and on cuda. "
        "Move them with .cpu() first"
    )


def cpu() -> HostBackend:
    """Return the backend of the host."""
    import tensorstate_gpu.cpu_fallback as cpu_fallback  # this imports Numba

    return cpu_fallback


def device_backend_for(device: tuple[int, int]) -> DeviceBackend:
    """Return the backend of a device other than the CPU."""
    import tensorstate_gpu.cuda as cuda

    return cuda
