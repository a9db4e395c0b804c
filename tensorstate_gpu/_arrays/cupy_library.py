"""CuPy, if it is installed, and conversions of other libraries' tensors to CuPy arrays."""

import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Generic, TypeVar
from weakref import WeakValueDictionary

from tensorstate_gpu._arrays.array_types import CudaArray, DLPackArray
from tensorstate_gpu._arrays.cupy_types import Allocator, CuPy, DeviceArray, Pointer
from tensorstate_gpu._arrays.frameworks import is_torch_tensor, loaded_module

T = TypeVar("T")


@lru_cache
def library() -> CuPy:
    """Import CuPy. ImportError if it is missing or broken, RuntimeError if it finds no GPU."""
    try:
        import cupy as module
    except ImportError as error:
        raise ImportError(
            "states on a GPU need CuPy: pip install cupy-cuda13x (or cupy-cuda12x, as the driver "
            f"has it); importing it says: {error}"
        ) from error
    cupy: CuPy = module
    try:
        cupy.cuda.runtime.getDeviceCount()
    except cupy.cuda.runtime.CUDARuntimeError as error:
        raise RuntimeError(
            f"CuPy finds no usable GPU: {error}. Where there is one, its driver may be older than "
            "CuPy's CUDA: pip install cupy-cuda12x instead of cupy-cuda13x"
        ) from error
    return cupy


def export(array: DLPackArray, index: int) -> object:
    """Return an array's DLPack capsule, for reading on the stream that cuda.working_on chooses.

    For torch tensors this is torch's current stream, so nothing has to wait; otherwise CuPy's.
    """
    cupy = library()
    with cupy.cuda.Device(index):  # torch exports only tensors of the current device
        stream = (
            torch_stream(index) if is_torch_tensor(array) else cupy.cuda.get_current_stream().ptr
        )
        legacy_default = 1  # its number in DLPack, where 0 is not a stream
        capsule: object = array.__dlpack__(stream=stream or legacy_default)
        return capsule


def torch_stream(index: int) -> int:
    """Return the address of torch's current stream on a device, of which there is a tensor."""
    # Not torch.cuda.current_stream(), which makes an object, nor loaded_module(): each call counts.
    stream: int = sys.modules["torch"]._C._cuda_getCurrentRawStream(index)
    return stream


def _empty_cupys_cache() -> bool:
    """Return what CuPy has cached to the device; whether there was anything."""
    pool = library().get_default_memory_pool()
    cached = pool.free_bytes()
    if cached:
        pool.free_all_blocks()
    return cached > 0


def _empty_torchs_cache() -> bool:
    """Return what torch has cached to the device; whether there was anything."""
    torch, index = loaded_module("torch"), library().cuda.Device().id
    if torch is None or not (torch.cuda.is_available() and torch.cuda.is_initialized()):
        return False
    cached = 0
    with suppress(RuntimeError):  # one that is plugged in, such as RMM's, has no statistics
        cached = torch.cuda.memory_reserved(index) - torch.cuda.memory_allocated(index)
        torch.cuda.empty_cache()
    return cached > 0


@dataclass(frozen=True)
class SecondTry(Generic[T]):
    """What takes memory of the device; where it finds none, caches are emptied, and once more.

    Torch and CuPy each keep what they have freed, and neither finds what is free in the other's
    cache. ``emptying``: functions that empty a cache, and return whether there was anything in it.
    Torch's is not among them for memory of torch: torch has emptied it before it gave up, unless a
    thread records a CUDA graph, which that would break. Raises MemoryError where the caches have
    nothing, or not enough.
    """

    take: Callable[..., T]
    emptying: tuple[Callable[[], bool], ...] = (_empty_cupys_cache, _empty_torchs_cache)

    def __call__(self, *arguments: Any) -> T:
        try:
            return self.take(*arguments)
        except MemoryError:
            if library().cuda.get_current_stream().is_capturing():  # a graph; it would break
                raise
            if not sum(empty() for empty in self.emptying):  # each of them
                raise
            return self.take(*arguments)


def own_allocator() -> Allocator:
    """Return CuPy's current allocator, which tries again when the caches are empty."""
    current = library().cuda.get_allocator()
    return current if isinstance(current, SecondTry) else SecondTry(current)


@lru_cache
def torch_allocator() -> Allocator:
    """Return an allocator for CuPy that takes memory from torch's.

    So what one frees, the other can use, and torch's statistics and limits include it. No mode of
    torch that is active, such as one that counts operations, notices it.
    """
    pool = library().cuda.PythonFunctionAllocator(_memory_of_torch, _back_to_torch)
    return SecondTry(pool.malloc, (_empty_cupys_cache,))


def is_ours_alone(array: DeviceArray) -> bool:
    """Return whether an array is in memory of torch_allocator(), of which no framework knows."""
    return isinstance(array.data.mem, library().cuda.memory.PythonFunctionAllocatorMemory)


def _memory_of_torch(size: int, device: int) -> int:
    torch, stream = sys.modules["torch"], library().cuda.get_current_stream().ptr
    try:
        # caching_allocator_alloc() makes a dozen calls to enter the device, and then this one.
        # Torch may mean another device: it enters one that it has not used only if it has to.
        if torch._C._cuda_getDevice() == device:
            address: int = torch._C._cuda_cudaCachingAllocator_raw_alloc(size, stream)
        else:
            address = torch.cuda.caching_allocator_alloc(size, device, stream)
    except RuntimeError as error:
        raise _as_memory_error(error) from error
    return address


def _as_memory_error(error: RuntimeError) -> Exception:
    """Return the error of torch itself, or a MemoryError if it says that there is no memory."""
    # OutOfMemoryError of torch's own allocator; of what RMM raises, torch makes a RuntimeError.
    shortage = "out of memory" in str(error) or "bad_alloc" in str(error)
    return MemoryError(str(error)) if shortage else error


# Of torch_tensor_allocator, by their addresses.
_torch_tensors: "WeakValueDictionary[int, Any]" = WeakValueDictionary()


def _memory_of_tensor(size: int) -> Pointer:
    """Allocate memory for CuPy on torch's current stream: that of a tensor of torch.

    as_torch_tensor() finds it, so that torch knows its results, and record_stream() works.
    """
    torch, cupy = loaded_module("torch"), library()
    assert torch is not None
    index = cupy.cuda.Device().id
    try:
        tensor = torch.empty(size, dtype=torch.uint8, device=torch.device("cuda", index))
    except RuntimeError as error:
        raise _as_memory_error(error) from error
    memory = cupy.cuda.UnownedMemory(tensor.data_ptr(), size, tensor, index)
    _torch_tensors[tensor.data_ptr()] = tensor
    return cupy.cuda.MemoryPointer(memory, 0)


torch_tensor_allocator = SecondTry(_memory_of_tensor, (_empty_cupys_cache,))


def as_torch_tensor(array: DeviceArray) -> Any:
    """Return a contiguous array as the tensor of torch in whose memory it is; None if in no such.

    The memory of an empty array is nobody's.
    """
    torch, tensor = loaded_module("torch"), _torch_tensors.get(array.data.mem.ptr)
    if torch is None or tensor is None or not (array.size and array.flags.c_contiguous):
        return None
    start = array.data.ptr - array.data.mem.ptr
    of_array = tensor[start : start + array.nbytes].view(getattr(torch, array.dtype.name))
    return of_array.view(array.shape)


def _back_to_torch(address: int, device: int) -> None:
    torch = sys.modules.get("torch")
    if torch is not None:  # else the program ends
        torch.cuda.caching_allocator_delete(address)


def from_cuda_array_interface(array: CudaArray) -> DeviceArray:
    """Return a CuPy array of the memory behind a __cuda_array_interface__; CuPy does the work."""
    return library().asarray(array)


def to_cupy(array: DLPackArray) -> Any:
    """Return a CuPy array of the same memory and number format as an array of any library.

    An array on a device that is not the current one is copied to the host, into a NumPy array.
    """
    cupy, index = library(), array.__dlpack_device__()[1]
    is_current = cupy.cuda.Device().id == index
    with cupy.cuda.Device(index):
        converted = cupy.from_dlpack(array)
        return converted if is_current else cupy.asnumpy(converted)
