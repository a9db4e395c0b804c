"""Arrays of any library as arrays of NumPy; on a GPU, of CuPy, or copied to the host."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tensorstate_gpu._arguments import unmasked
from tensorstate_gpu._arrays import cupy_library
from tensorstate_gpu._arrays.frameworks import is_torch_tensor

# What libraries raise for an array that has no numbers in memory, or not here.
_UNREADABLE = BufferError, RuntimeError, TypeError, ValueError


def native_array(values: Any, argument: str) -> NDArray[Any]:
    """Return an array of NumPy, or of CuPy on a GPU, of the same memory where that is possible.

    Raises TypeError for what is no array, and for a masked one.
    """
    if _on_cuda(unmasked(values, argument)):
        return _cupy_array(values)
    try:
        return _numpy_array(values)
    except _UNREADABLE as error:
        raise _unreadable(argument, values, error) from error


def host_array(values: Any, argument: str) -> NDArray[Any]:
    """Return an array of NumPy; a copy, if it is on a GPU. Raises TypeError as native_array()."""
    is_torch = is_torch_tensor(unmasked(values, argument))
    try:
        # Torch copies from any of its devices, and needs no CuPy.
        return _numpy_array(values.cpu() if is_torch else values)
    except _UNREADABLE as error:
        if _on_cuda(values) and not is_torch:  # what does not become NumPy's by itself
            return on_host(_cupy_array(values))
        raise _unreadable(argument, values, error) from error


def on_host(array: NDArray[Any]) -> NDArray[Any]:
    """Return an array of NumPy or CuPy as one of NumPy."""
    if isinstance(array, np.ndarray):
        return array
    copied: NDArray[Any] = array.get()
    return copied


def _cupy_array(values: Any) -> NDArray[Any]:
    adopted: NDArray[Any] = cupy_library.to_cupy(values)  # has the interface of NumPy's
    return adopted


def _numpy_array(values: Any) -> NDArray[Any]:
    only_dlpack = hasattr(values, "__dlpack__") and not hasattr(values, "__array__")
    return np.from_dlpack(values) if only_dlpack else np.asarray(values)


def _unreadable(argument: str, values: object, error: Exception) -> TypeError:
    kind = type(values).__name__
    return TypeError(f"{argument} cannot be read as an array, got {kind}: {error}")


def _on_cuda(values: object) -> bool:
    """Return whether a tensor is on a CUDA device."""
    device = getattr(values, "__dlpack_device__", None)
    try:
        return device is not None and int(device()[0]) == 2  # as in dlpack.py
    except _UNREADABLE:  # a tensor that cannot be exported
        return False
