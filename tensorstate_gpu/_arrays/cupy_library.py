"""CuPy, where it is installed, and tensors of other frameworks on their way to it."""

from functools import lru_cache
from typing import Any

from tensorstate_gpu._arrays.array_types import CudaArray, DLPackArray
from tensorstate_gpu._arrays.cupy_types import CuPy, DeviceArray
from tensorstate_gpu._arrays.frameworks import is_torch_tensor, loaded_module


@lru_cache
def library() -> CuPy:
    """CuPy. ImportError where it is missing or broken, RuntimeError where it finds no GPU."""
    try:
        import cupy as module
    except ImportError as error:
        raise ImportError(
            "states on a GPU need CuPy: pip install 'tensorstate_gpu[cuda13]' (or cuda12, as the "
            f"driver has it); importing it says: {error}"
        ) from error
    cupy: CuPy = module
    try:
        cupy.cuda.runtime.getDeviceCount()
    except cupy.cuda.runtime.CUDARuntimeError as error:
        raise RuntimeError(
            f"CuPy finds no usable GPU: {error}. Where there is one, its driver may be older than "
            "CuPy's CUDA: pip install 'tensorstate_gpu[cuda12]' instead of cuda13"
        ) from error
    return cupy


def export(array: DLPackArray, index: int) -> object:
    """An array's DLPack capsule, ready to be read on the stream that cuda.working_on will choose.

    That is torch's current one for its tensors, which then have nothing to wait for; else CuPy's.
    """
    cupy = library()
    with cupy.cuda.Device(index):  # torch refuses tensors of another than the current device
        stream = (
            torch_stream(index) if is_torch_tensor(array) else cupy.cuda.get_current_stream().ptr
        )
        legacy_default = 1  # as DLPack numbers it, and 0 is no stream there
        capsule: object = array.__dlpack__(stream=stream or legacy_default)
        return capsule


def torch_stream(index: int) -> int:
    torch = loaded_module("torch")
    assert torch is not None
    stream: int = torch.cuda.current_stream(index).cuda_stream
    return stream


def from_cuda_array_interface(array: CudaArray) -> DeviceArray:
    """The memory behind a __cuda_array_interface__ as a CuPy array, as CuPy itself takes it."""
    return library().asarray(array)


def to_cupy(array: DLPackArray) -> Any:
    """An array of any framework as a CuPy array of the same memory and of its own number format.

    From another than the current device it comes to the host.
    """
    cupy, index = library(), array.__dlpack_device__()[1]
    here = cupy.cuda.Device().id == index
    with cupy.cuda.Device(index):
        found = cupy.from_dlpack(array)
        return found if here else cupy.asnumpy(found)
