"""Kernels that Numba-CUDA compiles, on CuPy's arrays and CuPy's stream."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import version

import numpy as np
from numba import cuda

from tensorstate_gpu._arrays.cupy_types import DeviceArray

from . import device
from .launch import THREADS

_compiling = threading.RLock()
_LEAST_BLOCKS = 128  # Numba warns of fewer. In our kernels, threads without work return immediately


def kernel(function: Callable[..., None]) -> "cuda.Kernel":
    """Compile a kernel at its first launch, without link-time optimisation, which could use FMA."""
    return cuda.jit(lto=False)(function)


def run(kernel: "cuda.Kernel", blocks: int, *arrays: DeviceArray) -> None:
    """Queue a kernel on the current stream."""
    pointer = device.library().cuda.get_current_stream().ptr
    stream = cuda.external_stream(pointer) if pointer else cuda.default_stream()
    # With sync=True, Numba would make the host wait for CuPy's stream.
    arguments = [cuda.as_cuda_array(_StreamlessArray(array), sync=False) for array in arrays]
    with _compiling, disable_fma():  # compiles at the first launch on each kind of GPU
        try:
            kernel[max(blocks, _LEAST_BLOCKS), THREADS, stream](*arguments)
        except AttributeError as error:  # numba-cuda 0.30.4 asks NumPy 2.5 for row_stack
            raise RuntimeError(
                f"Numba-CUDA {version('numba-cuda')} cannot compile with NumPy {np.__version__} "
                f"({error}): install an older NumPy, or use a threshold in place of firing="
            ) from error


@contextmanager
def disable_fma() -> Iterator[None]:
    """Keep NVVM from fusing x * y + z into one operation, whose result differs from a CPU's.

    Numba-CUDA has no option for this. tests/arrays/test_firing_function.py checks the machine code.
    """
    from numba.cuda.cudadrv import nvvm

    original = nvvm.compile_ir
    nvvm.compile_ir = lambda code, **options: original(code, **{**options, "fma": False})
    try:
        yield
    finally:
        nvvm.compile_ir = original


class _StreamlessArray:
    """A CuPy array for Numba, without its stream, for which Numba would wait."""

    def __init__(self, array: DeviceArray) -> None:
        self._array = array
        interface = dict(array.__cuda_array_interface__)
        interface.pop("stream", None)
        self.__cuda_array_interface__ = {**interface, "version": 2}
