"""Kernels that Numba-CUDA compiles, on CuPy's arrays and CuPy's stream."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from numba import cuda

from . import device
from .launch import THREADS

_compiling = threading.RLock()


def kernel(function: Callable[..., None]) -> Any:
    """Compile when first run; not at link time, where roundings could be joined after all."""
    return cuda.jit(lto=False)(function)


def run(kernel: Any, blocks: int, *arrays: Any) -> None:
    """Queue a kernel on the current stream."""
    pointer = device.library().cuda.get_current_stream().ptr
    stream = cuda.external_stream(pointer) if pointer else cuda.default_stream()
    # Without `sync`, Numba would have the host wait for CuPy's stream.
    arguments = [cuda.as_cuda_array(_Lent(array), sync=False) for array in arrays]
    _compile_for(kernel, arguments)
    kernel[blocks, THREADS, stream](*arguments)


def _compile_for(kernel: Any, arguments: list[Any]) -> None:
    """Compile for the types of these arguments, if that has not been done."""
    types = tuple(kernel.typeof_pyval(argument) for argument in arguments)
    with _compiling, each_operation_rounded():
        if types not in kernel.overloads:
            kernel.compile(types)


@contextmanager
def each_operation_rounded() -> Iterator[None]:
    """Keep NVVM from joining x * y + z to one operation, whose result a CPU would not give.

    Numba-CUDA has no option for that. tests/test_firing_function.py looks at what comes out.
    """
    from numba.cuda.cudadrv import nvvm

    original = nvvm.compile_ir
    nvvm.compile_ir = lambda code, **options: original(code, **{**options, "fma": False})
    try:
        yield
    finally:
        nvvm.compile_ir = original


class _Lent:
    """A CuPy array for Numba, without the stream that Numba would wait for."""

    def __init__(self, array: Any) -> None:
        self._array = array
        interface = dict(array.__cuda_array_interface__)
        interface.pop("stream", None)
        self.__cuda_array_interface__ = {**interface, "version": 2}
