"""The GPU as CuPy offers it: memory, the caller's stream, and kernels compiled when first used.

Everything that needs a device passes through here, so that the rest of this package runs in tests
on hosts without one.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from tensorstate_gpu._arrays.cupy_library import library as library
from tensorstate_gpu._arrays.cupy_library import torch_stream
from tensorstate_gpu._arrays.cupy_types import CudaStream, DeviceArray, Kernel
from tensorstate_gpu._arrays.dlpack import Tensor
from tensorstate_gpu._arrays.frameworks import is_torch_tensor

from .launch import THREADS, Launch, source_code


@lru_cache
def _check_compute_capability(index: int) -> None:
    """RuntimeError for a GPU without the warp operations that counting uses (before Volta)."""
    capability = library().cuda.Device(index).compute_capability  # as "90" for 9.0
    if int(capability) < 70:
        raise RuntimeError(
            f"cuda:{index} has compute capability {capability[:-1]}.{capability[-1]}; 7.0 or newer "
            "is needed. Move the states with .cpu() first"
        )


@contextmanager
def working_on(tensor: Tensor) -> Iterator[None]:
    """Make a tensor's device current, and the stream that its framework is using there."""
    cupy, index = library(), tensor.device[1]
    _check_compute_capability(index)
    with cupy.cuda.Device(index):
        if any(is_torch_tensor(owner) for owner in tensor.owner):
            with _TorchStream(torch_stream(index)).in_cupy():
                yield
        elif any(isinstance(owner, cupy.ndarray) for owner in tensor.owner):
            yield
        else:
            # Others may reuse the memory on a stream of theirs as soon as we let go of it.
            try:
                yield
            finally:
                cupy.cuda.get_current_stream().synchronize()


class _TorchStream:
    """torch's stream for CuPy, by the CUDA stream protocol."""

    def __init__(self, pointer: int) -> None:
        self._pointer = pointer

    def __cuda_stream__(self) -> tuple[int, int]:
        version = 0
        return version, self._pointer

    def in_cupy(self) -> CudaStream:
        return library().cuda.Stream.from_external(self)


def view(tensor: Tensor) -> DeviceArray:
    """The same memory as a CuPy array of unsigned integers."""
    cupy, size = library(), tensor.element.size
    if 0 in tensor.shape:
        return cupy.empty(tensor.shape, f"u{size}")
    steps = [(n - 1) * step for n, step in zip(tensor.shape, tensor.strides, strict=True)]
    below, above = (-sum(min(step, 0) for step in steps), sum(max(step, 0) for step in steps))
    start, index = tensor.address - below, tensor.device[1]
    memory = cupy.cuda.UnownedMemory(start, below + above + size, tensor.owner, index)
    pointer = cupy.cuda.MemoryPointer(memory, below)
    return cupy.ndarray(tensor.shape, f"u{size}", pointer, tensor.strides)


def to_host(array: DeviceArray) -> NDArray[Any]:
    """A NumPy copy; waits until what the current stream has queued is done."""
    return library().asnumpy(array)


def rows_where(packed: DeviceArray, chosen: NDArray[np.bool_]) -> DeviceArray:
    """The rows that a host's mask chooses."""
    return packed[library().asarray(np.flatnonzero(chosen))]


class OwnerStream:
    """The device and stream that are current when this is made: where the memory of its owner is.

    CuPy hands memory out again in the order of the stream that it was allocated on. Work on such
    memory from another stream has to wait for that stream, and that stream for it: the device does.
    """

    def __init__(self) -> None:
        cuda = library().cuda
        self._device, self._stream = cuda.Device(), cuda.get_current_stream()

    @contextmanager
    def entered(self) -> Iterator[None]:
        """Inside, work is queued here; what the current stream has queued so far comes before it,
        and what it queues later after it."""
        cuda = library().cuda
        here = cuda.get_current_stream()
        if here.ptr == self._stream.ptr and cuda.Device().id == self._device.id:
            yield
            return
        before = here.record(cuda.Event(disable_timing=True))  # an event belongs to a device
        with self._device, self._stream:
            self._stream.wait_event(before)
            try:
                yield
            finally:
                here.wait_event(self._stream.record(cuda.Event(disable_timing=True)))


class AsyncHostCopy:
    """A contiguous device array on its way to pinned memory of the host; nobody waits for it."""

    def __init__(self, array: DeviceArray) -> None:
        self._array = array  # the copy reads it
        self._copy = _pinned(array.shape, array.dtype)
        array.get(out=self._copy, blocking=False)
        self._copied = library().cuda.Event(disable_timing=True)
        self._copied.record()

    @property
    def has_arrived(self) -> bool:
        done: bool = self._copied.done
        return done

    def numpy(self) -> NDArray[Any]:
        """The copy, valid while this object lives; waits until it is whole."""
        self._copied.synchronize()
        return self._copy

    def __del__(self) -> None:
        if hasattr(self, "_copied"):  # else others get the memory while the device writes to it
            self._copied.synchronize()


def _pinned(shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
    cupy, size = library(), math.prod(shape)
    try:
        memory = cupy.cuda.alloc_pinned_memory(size * np.dtype(dtype).itemsize)
    except cupy.cuda.runtime.CUDARuntimeError as error:
        raise MemoryError(f"no pinned memory for {dtype} of shape {shape}: {error}") from error
    return np.frombuffer(memory, dtype, size).reshape(shape)


def empty(shape: tuple[int, ...], dtype: DTypeLike) -> DeviceArray:
    """Memory on the current device. MemoryError, with the sizes, where there is none left."""
    cupy = library()
    try:
        return cupy.empty(shape, dtype)
    except cupy.cuda.memory.OutOfMemoryError as error:
        raise MemoryError(f"no room on the GPU for {dtype} of shape {shape}: {error}") from error


def address(array: DeviceArray) -> int:
    """Where a device array begins."""
    pointer: int = array.data.ptr
    return pointer


def run(launch: Launch) -> None:
    """Queue a kernel on the current stream."""
    driver = library().cuda.driver
    try:
        kernel = _kernel(launch.source, launch.kernel, launch.defines)
        kernel(launch.grid, (THREADS,), launch.arguments)
    except driver.CUDADriverError as error:  # kernels are loaded when they are first launched
        if "OUT_OF_MEMORY" in str(error):
            raise MemoryError(f"no room on the GPU to run {launch.kernel}: {error}") from error
        raise


@lru_cache(maxsize=1024)
def _kernel(source: str, kernel: str, defines: tuple[tuple[str, int], ...]) -> Kernel:
    options = ("-std=c++17", *(f"-D{name}={value}" for name, value in defines))
    cupy = library()
    try:
        module = cupy.RawModule(code=source_code(source), options=options)
        return module.get_function(kernel)
    except cupy.cuda.compiler.CompileException as error:
        version = cupy.cuda.runtime.runtimeGetVersion()
        raise RuntimeError(
            f"{source}.cu cannot be compiled for this GPU by CUDA {version // 1000}: {error}"
        ) from error
