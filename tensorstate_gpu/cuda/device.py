"""Access to the GPU through CuPy: memory, the caller's stream, and kernels compiled at first use.

Everything that needs a device goes through this module, so that tests can run the rest of the
package on hosts without a GPU.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from tensorstate_gpu._arrays.cupy_library import (
    SecondTry,
    own_allocator,
    torch_allocator,
    torch_stream,
    torch_tensor_allocator,
)
from tensorstate_gpu._arrays.cupy_library import library as library
from tensorstate_gpu._arrays.cupy_types import CudaStream, DeviceArray, Kernel, Place
from tensorstate_gpu._arrays.dlpack import Tensor
from tensorstate_gpu._arrays.frameworks import is_torch_tensor

from .host_memory import LARGE, touched
from .launch import Launch, names_in, source_code


@lru_cache
def _check_compute_capability(index: int) -> None:
    """Raise RuntimeError for a GPU without the warp operations of counting (before Volta)."""
    capability = library().cuda.Device(index).compute_capability  # as "90" for 9.0
    if int(capability) < 70:
        raise RuntimeError(
            f"cuda:{index} has compute capability {capability[:-1]}.{capability[-1]}; 7.0 or newer "
            "is needed. Move the states with .cpu() first"
        )


@contextmanager
def working_on(tensor: Tensor, *, exports: bool = True, recorded: bool = False) -> Iterator[None]:
    """Enter a tensor's device, and the stream and the memory that its framework uses there.

    ``exports``: whether the caller gets arrays that are made inside.
    Raises RuntimeError while a CUDA graph records the stream, unless that is meant (``recorded``):
    replays run no host code, and would write into results that the program has long kept.
    """
    cupy, index = library(), tensor.device[1]
    _check_compute_capability(index)
    owner = tensor.owner[-1]  # the array; before it, there may be its capsule
    if is_torch_tensor(owner):
        device, stream, memory = place_of_torch(index, exports=exports)
        with device, stream, memory:
            if not recorded:
                check_not_recorded()
            yield
        return
    with cupy.cuda.Device(index), cupy.cuda.using_allocator(own_allocator()):
        if isinstance(owner, cupy.ndarray):
            if not recorded:
                check_not_recorded()
            yield
            return
        # Another library may reuse the memory on its own stream as soon as it is released.
        try:
            yield
        finally:
            cupy.cuda.get_current_stream().synchronize()


def place_of_torch(index: int, *, exports: bool = False) -> Place:
    """Return what is to be entered, in this order, to work on a tensor of torch on a device.

    The device, and the stream and the memory that torch uses there now; ``exports``: see
    working_on().
    """
    cuda, stream = library().cuda, _stream_in_cupy(index, torch_stream(index))
    allocator = torch_tensor_allocator if exports else torch_allocator()
    return cuda.Device(index), stream, cuda.using_allocator(allocator)


def check_not_recorded() -> None:
    """Raise RuntimeError while a CUDA graph records the current stream."""
    if library().cuda.get_current_stream().is_capturing():
        raise _error_of_recording()


def _error_of_recording() -> RuntimeError:
    return RuntimeError(
        "states cannot be packed, counted or read in a CUDA graph: call it before the graph is "
        "recorded, or after its replay"
    )


class _TorchStream:
    """A stream of torch, passed to CuPy through the CUDA stream protocol."""

    def __init__(self, pointer: int) -> None:
        self._pointer = pointer

    def __cuda_stream__(self) -> tuple[int, int]:
        version = 0
        return version, self._pointer


@lru_cache(maxsize=256)  # torch has 32 of each priority on a device, for all of a program
def _stream_in_cupy(index: int, pointer: int) -> CudaStream:
    """Return torch's stream on a device as CuPy's."""
    with library().cuda.Device(index):
        return library().cuda.Stream.from_external(_TorchStream(pointer))


def view(tensor: Tensor) -> DeviceArray:
    """Return the same memory as a CuPy array of unsigned integers."""
    cupy, size = library(), tensor.element.size
    if 0 in tensor.shape:
        return cupy.empty(tensor.shape, f"u{size}")
    below, above = _reach(tensor.shape, tensor.strides)
    start, index = tensor.address - below, tensor.device[1]
    memory = cupy.cuda.UnownedMemory(start, below + above + size, tensor.owner, index)
    pointer = cupy.cuda.MemoryPointer(memory, below)
    return cupy.ndarray(tensor.shape, f"u{size}", pointer, tensor.strides)


@lru_cache(maxsize=1024)
def _reach(shape: tuple[int, ...], strides: tuple[int, ...]) -> tuple[int, int]:
    """Return how many bytes before and behind its first number the others of an array begin."""
    steps = [(n - 1) * step for n, step in zip(shape, strides, strict=True)]
    return -sum(min(step, 0) for step in steps), sum(max(step, 0) for step in steps)


def to_host(array: DeviceArray) -> NDArray[Any]:
    """Return a NumPy copy. Waits until the work queued on the current stream is done."""
    if array.nbytes < LARGE:
        return library().asnumpy(array)
    copied = touched(array.shape, array.dtype)
    array.get(out=copied)  # on its own device, where it has to be made contiguous
    return copied


def rows_where(packed: DeviceArray, chosen: NDArray[np.bool_]) -> DeviceArray:
    """The rows that a host's mask chooses."""
    return packed[library().asarray(np.flatnonzero(chosen))]


def with_columns(packed: DeviceArray, columns: NDArray[np.uint8]) -> DeviceArray:
    """Rows of the device, with bytes of the host behind each."""
    return library().concatenate((packed, library().asarray(columns)), axis=1)


class OwnerStream:
    """The device, stream and allocator that are current when this is created: its owner's.

    Memory is reused in the order of the stream on which it was allocated. Work on such memory from
    another stream must wait for the owner's stream, and the owner's stream for that work. The
    device waits, not the host.
    """

    def __init__(self) -> None:
        cuda = library().cuda
        self._device, self._stream = cuda.Device(), cuda.get_current_stream()
        self._allocator = own_allocator()

    def is_current(self) -> bool:
        """Return whether the current stream is the owner's."""
        cuda = library().cuda
        of_owner = cuda.get_current_stream().ptr == self._stream.ptr
        return of_owner and cuda.Device().id == self._device.id

    def entered(self) -> AbstractContextManager[None]:
        """Queue work on the owner's stream.

        Work that the current stream has queued so far runs before it, later work after it. Raises
        RuntimeError while a CUDA graph records one of the two: that work would run in replays only.
        """
        if self._stream.is_capturing():
            raise _error_of_recording()
        if not self.is_current():
            return self._in_order()
        cuda = library().cuda
        if cuda.get_allocator() is self._allocator:  # as for most batches
            return nullcontext()
        return cuda.using_allocator(self._allocator)

    @contextmanager
    def _in_order(self) -> Iterator[None]:
        """Enter the owner's stream from another one."""
        cuda = library().cuda
        caller = cuda.get_current_stream()
        if caller.is_capturing():
            raise _error_of_recording()
        with cuda.using_allocator(self._allocator):
            before = caller.record(cuda.Event(disable_timing=True))  # an event belongs to a device
            try:
                with self._device, self._stream:
                    self._stream.wait_event(before)
                    yield
            finally:
                with self._device:
                    after = self._stream.record(cuda.Event(disable_timing=True))
                caller.wait_event(after)  # on its own device: each has a default stream


def empty(shape: tuple[int, ...], dtype: DTypeLike) -> DeviceArray:
    """Allocate memory on the current device. Raises MemoryError, with the sizes, if it is full."""
    cupy = library()
    try:
        return cupy.empty(shape, dtype)
    except MemoryError as error:  # of CuPy, or of the framework whose memory it uses
        raise MemoryError(f"no room on the GPU for {dtype} of shape {shape}: {error}") from error


def address(array: DeviceArray) -> int:
    """Return the address of a device array."""
    pointer: int = array.data.ptr
    return pointer


def index() -> int:
    """Return the number of the current device."""
    return library().cuda.Device().id


def multiprocessors() -> int:
    """Return how many multiprocessors the current device has."""
    return _attributes(index())["MultiProcessorCount"]


def most_shared_bytes() -> int:
    """Return how much shared memory a block of the current device can have."""
    return _attributes(index())["MaxSharedMemoryPerBlockOptin"]


@lru_cache
def _attributes(index: int) -> dict[str, int]:
    return library().cuda.Device(index).attributes


def run(launch: Launch, *first: np.generic) -> None:
    """Queue a kernel on the current stream.

    ``first``: arguments before those of the launch, which thus can be the same for many batches.
    """
    kernel = _kernels(launch.source, launch.defines, library().cuda.Device().id)[launch.kernel]
    size = launch.shared_bytes
    if size and size > kernel.max_dynamic_shared_size_bytes:
        kernel.max_dynamic_shared_size_bytes = size
    kernel(launch.grid, (launch.threads,), (*first, *launch.arguments), shared_mem=size)


@lru_cache(maxsize=1024)
def _kernels(source: str, defines: tuple[tuple[str, int], ...], device: int) -> dict[str, Kernel]:
    """Return the kernels of a file on a device; their code is not in the memory of any pool."""
    return SecondTry(_loaded)(source, defines)


def _loaded(source: str, defines: tuple[tuple[str, int], ...]) -> dict[str, Kernel]:
    """Compile a file, unless CuPy has it in its cache, and load its kernels on the current device.

    All of them at once, so that none between two of a batch finds no memory: MemoryError.
    """
    options = ("-std=c++17", *(f"-D{name}={value}" for name, value in defines))
    cupy, code = library(), source_code(source)
    try:
        module = cupy.RawModule(code=code, options=options)
        kernels = {name: module.get_function(name) for name in names_in(code)}
        for kernel in kernels.values():
            kernel.kernel  # noqa: B018 a look at it loads it
        return kernels
    except cupy.cuda.compiler.CompileException as error:
        version = cupy.cuda.runtime.runtimeGetVersion()
        raise RuntimeError(
            f"{source}.cu cannot be compiled for this GPU by CUDA {version // 1000}: {error}"
        ) from error
    except cupy.cuda.driver.CUDADriverError as error:
        if "OUT_OF_MEMORY" in str(error):
            raise MemoryError(f"no room on the GPU to load {source}.cu: {error}") from error
        raise
