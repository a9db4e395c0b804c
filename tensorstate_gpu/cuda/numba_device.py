"""Kernels that Numba-CUDA compiles, on CuPy's arrays and CuPy's stream."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from numba import cuda

from tensorstate_gpu._arrays.cupy_types import DeviceArray

from . import device
from .launch import THREADS

_compiling = threading.RLock()
_LEAST_BLOCKS = 128  # of fewer Numba warns; our kernels let threads be that have nothing to do


def kernel(function: Callable[..., None]) -> "cuda.Kernel":
    """Compile when first run; not at link time, where roundings could be joined after all."""
    return cuda.jit(lto=False)(function)


def run(kernel: "cuda.Kernel", blocks: int, *arrays: DeviceArray) -> None:
    """Queue a kernel on the current stream."""
    pointer = device.library().cuda.get_current_stream().ptr
    stream = cuda.external_stream(pointer) if pointer else cuda.default_stream()
    # Without `sync`, Numba would have the host wait for CuPy's stream.
    arguments = [cuda.as_cuda_array(_StreamlessArray(array), sync=False) for array in arrays]
    with _compiling, disable_fma():  # for each kind of GPU at its first launch
        kernel[max(blocks, _LEAST_BLOCKS), THREADS, stream](*arguments)


@contextmanager
def disable_fma() -> Iterator[None]:
    """Keep NVVM from joining x * y + z to one operation, whose result a CPU would not give.

    Numba-CUDA has no option for that. tests/arrays/test_firing_function.py looks at what comes out.
    """
    from numba.cuda.cudadrv import nvvm

    original = nvvm.compile_ir
    nvvm.compile_ir = lambda code, **options: original(code, **{**options, "fma": False})
    try:
        yield
    finally:
        nvvm.compile_ir = original


class _StreamlessArray:
    """A CuPy array for Numba, without the stream that Numba would wait for."""

    def __init__(self, array: DeviceArray) -> None:
        self._array = array
        interface = dict(array.__cuda_array_interface__)
        interface.pop("stream", None)
        self.__cuda_array_interface__ = {**interface, "version": 2}
