"""The boundary to array libraries: describes their tensors, and returns results in their type.

A tensor is described by address, shape, strides, element type and device. NumPy arrays and plain
torch tensors are read directly, all others through a DLPack capsule
(https://dmlc.github.io/dlpack/latest/c_api.html). Nothing is copied, and no framework is imported.
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from tensorstate_gpu._arguments import unmasked
from tensorstate_gpu._arrays import cupy_library
from tensorstate_gpu._arrays.array_types import DLPackArray, NativeArray
from tensorstate_gpu._arrays.c_structures import address_of, dl_tensor
from tensorstate_gpu._arrays.cupy_types import DeviceArray
from tensorstate_gpu._arrays.elements import ELEMENT_TYPES, ElementType, accepted_types
from tensorstate_gpu._arrays.frameworks import is_torch_tensor, loaded_module, on_jax_devices

CPU, CUDA = 1, 2  # DLDeviceType of the DLPack header
_DEVICE_NAMES = {1: "cpu", 2: "cuda", 3: "cuda_host", 10: "rocm", 13: "cuda_managed", 14: "oneapi"}
_DLPACK_KINDS = {
    (0, 8): "int8",
    (0, 16): "int16",
    (0, 32): "int32",
    (0, 64): "int64",
    (1, 8): "uint8",
    (1, 16): "uint16",
    (1, 32): "uint32",
    (1, 64): "uint64",
    (2, 16): "float16",
    (2, 32): "float32",
    (2, 64): "float64",
    (4, 16): "bfloat16",
    (6, 8): "bool",
    (10, 8): "float8_e4m3fn",
    (11, 8): "float8_e4m3fnuz",
    (12, 8): "float8_e5m2",
    (13, 8): "float8_e5m2fnuz",
}

_FATAL_TYPES = "string", "variant", "resource"  # TensorFlow ends the process instead of an error
# Of native byte order. The name of an array's dtype takes longer to get than everything else here.
_NUMPY_TYPES = {
    np.dtype(name): element for name, element in ELEMENT_TYPES.items() if hasattr(np, name)
}


@dataclass(slots=True)  # never changed; a frozen one takes 0.5 us longer to create
class Tensor:
    """A borrowed tensor: the location of its numbers, and the object that keeps them alive.

    ``address`` is that of element [0, ..., 0]. ``strides`` are in bytes, and may be negative.
    """

    owner: Any
    address: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    element: ElementType
    device: tuple[int, int]

    @property
    def device_name(self) -> str:
        return device_name(*self.device)

    def numpy(self) -> NDArray[Any]:
        """Return the same memory as a NumPy array of unsigned integers (CPU only)."""
        return np.asarray(_ArrayInterface(self))


_UNSIGNED = {size: np.dtype(f"u{size}").str for size in (1, 2, 4, 8)}


class _ArrayInterface:
    """Read-only access to a tensor's memory for NumPy. Keeps the tensor's owner alive."""

    def __init__(self, tensor: Tensor) -> None:
        self._owner = tensor.owner
        # NumPy rejects a null pointer, which empty tensors may have.
        address = tensor.address or np.empty(1).ctypes.data
        self.__array_interface__ = {
            "version": 3,
            "shape": tensor.shape,
            "strides": tensor.strides,
            "typestr": _UNSIGNED[tensor.element.size],
            "data": (address, True),
        }


def borrow(array: Any, argument: str) -> Tensor:
    """Describe a tensor without copying it.

    Raises TypeError, with the name ``argument``, for anything that is not a dense numeric tensor.
    """
    if isinstance(array, Tensor):  # a bridge has described it already
        return array
    if isinstance(array, np.ndarray):
        return _borrow_numpy(array, argument)
    if is_torch_tensor(array) and (plain := plain_torch_tensor(array)):
        return plain
    if on_jax_devices(array):
        return _borrow_numpy(np.asarray(array), argument)  # its parts, together on the host
    is_array = not isinstance(array, type)  # the class of arrays has their attributes
    if is_array and hasattr(array, "__dlpack__"):
        return _borrow_capsule(array, argument)
    if is_array and hasattr(array, "__cuda_array_interface__"):  # such as Numba's device arrays
        wrapped = _borrow_capsule(cupy_library.from_cuda_array_interface(array), argument)
        return replace(wrapped, owner=(wrapped.owner[0], array))  # the memory is not CuPy's
    is_convertible = isinstance(array, (list, tuple)) or (is_array and hasattr(array, "__array__"))
    raise TypeError(
        f"{argument} must be an array (NumPy, torch, or anything with __dlpack__), "
        f"got {type(array).__name__}{': numpy.asarray() makes one' if is_convertible else ''}"
    )


def _borrow_numpy(array: NDArray[Any], argument: str) -> Tensor:
    if type(array) is not np.ndarray:
        unmasked(array, argument)
    element = _NUMPY_TYPES.get(array.dtype)
    if element is None and array.dtype.isnative:
        element = ELEMENT_TYPES.get(array.dtype.name)  # such as ml_dtypes' bfloat16
    if element is None:
        raise _unsupported_array_error(argument, f"dtype {array.dtype}")
    return Tensor(array, address_of(array), array.shape, array.strides, element, (CPU, 0))


def plain_torch_tensor(array: Any) -> Tensor | None:
    """Describe a torch tensor that has nothing special about it; None for others.

    It saves the host's time for a DLPack capsule. On a GPU, the kernels run on the stream that
    torch is using, so nothing has to wait.
    """
    torch = sys.modules.get("torch")  # not by loaded_module(): each call counts here
    element = None if torch is None else _torch_types().get(array.dtype)
    if torch is None or element is None or type(array) not in plain_types():
        return None
    on_cuda = array.is_cuda and torch.version.hip is None
    if array.layout is not torch.strided or array.is_neg() or not (array.is_cpu or on_cuda):
        return None
    try:
        address, steps = array.data_ptr(), array.stride()
    except RuntimeError:  # inside torch.func, or nested: it has no memory of its own, or no strides
        return None
    if not address or (on_cuda and address % element.size):  # which _borrow_capsule() refuses
        return None
    device = (CUDA, array.get_device()) if on_cuda else (CPU, 0)
    strides = tuple(map(element.size.__mul__, steps))
    return Tensor((array,), address, tuple(array.shape), strides, element, device)


@lru_cache
def plain_types() -> set[type]:
    """Return the types of torch tensors that are numbers in memory, and nothing else.

    The simulated CUDA of the tests adds its own.
    """
    torch = loaded_module("torch")
    return set() if torch is None else {torch.Tensor, torch.nn.Parameter}


@lru_cache
def _torch_types() -> dict[Any, ElementType]:
    torch = loaded_module("torch")
    names = [name for name in ELEMENT_TYPES if hasattr(torch, name)]
    return {getattr(torch, name): ELEMENT_TYPES[name] for name in names}


def _borrow_capsule(array: DLPackArray, argument: str) -> Tensor:
    source = _without_autograd(array, argument)
    dtype = getattr(array, "dtype", None)
    if getattr(dtype, "name", None) in _FATAL_TYPES:
        raise _unsupported_array_error(argument, f"dtype {dtype}")
    try:
        capsule = _dlpack_capsule(source)
    except (ImportError, MemoryError):
        raise
    except Exception as error:  # each library has its own
        raise TypeError(f"{argument} cannot be read through DLPack: {error}") from error
    managed = dl_tensor(capsule, argument)
    kind = (managed.code, managed.bits)
    if managed.lanes != 1 or kind not in _DLPACK_KINDS:
        by_code = f"DLPack type code {kind[0]} of {kind[1]} bits"
        raise _unsupported_array_error(
            argument, f"dtype {array.dtype}" if hasattr(array, "dtype") else by_code
        )
    element = ELEMENT_TYPES[_DLPACK_KINDS[kind]]
    ndim = managed.ndim
    shape = tuple(managed.shape[:ndim])
    if managed.strides:
        strides = tuple(stride * element.size for stride in managed.strides[:ndim])
    else:
        strides = c_strides(shape, element.size)
    address = (managed.data or 0) + managed.byte_offset
    if not managed.data and 0 not in shape:
        raise TypeError(f"{argument} has no memory behind it: {type(array).__name__}")
    if managed.device == CUDA and address % element.size:  # after a wrong load nothing runs there
        raise ValueError(
            f"{argument} must begin at a multiple of {element.size} bytes on a GPU, got address "
            f"{address:#x}"
        )
    return Tensor((capsule, array), address, shape, strides, element, (managed.device, managed.id))


def _dlpack_capsule(source: DLPackArray) -> object:
    device = getattr(source, "__dlpack_device__", None)
    kind, index = (CPU, 0) if device is None else device()
    if kind != CUDA:
        capsule: object = source.__dlpack__()
        return capsule
    return cupy_library.export(source, index)


def _without_autograd(array: DLPackArray, argument: str) -> DLPackArray:
    """Return the tensor without autograd: torch exports no tensor that requires a gradient."""
    if not is_torch_tensor(array):
        return array
    tensor: Any = array
    if tensor.is_nested:
        raise TypeError(f"{argument} is a nested tensor; pass its parts: .unbind()")
    if tensor.is_neg():  # an export would ignore the lazy minus sign
        raise TypeError(f"{argument} is a lazily negated torch view; pass .resolve_neg()")
    plain: DLPackArray = tensor.detach()
    return plain


def check_same_device(array: object, argument: str, tensor: Tensor) -> None:
    """Raise TypeError if an array is on another device than ``tensor``."""
    if not hasattr(array, "__dlpack_device__"):
        return
    try:
        kind, index = array.__dlpack_device__()
    except (BufferError, RuntimeError, ValueError) as error:
        raise TypeError(f"{argument} cannot be read through DLPack: {error}") from error
    if (int(kind), index) != tensor.device:
        name = device_name(int(kind), index)
        raise TypeError(f"{argument} is on {name}, states are on {tensor.device_name}")


def device_name(kind: int, index: int) -> str:
    name = _DEVICE_NAMES.get(kind, f"DLPack device type {kind}")
    return name if kind == CPU else f"{name}:{index}"


def c_strides(shape: tuple[int, ...], size: int) -> tuple[int, ...]:
    """Return the byte strides of a C-contiguous array."""
    strides = [size] * len(shape)
    for axis in range(len(shape) - 2, -1, -1):
        strides[axis] = strides[axis + 1] * shape[axis + 1]
    return tuple(strides)


def _unsupported_array_error(argument: str, property: str) -> TypeError:
    return TypeError(
        f"{argument} has {property}; accepted are {accepted_types()}, in native byte order"
    )


def export_like(result: NativeArray, like: object) -> Any:
    """Return a result as an array of the type of ``like``, without a copy.

    If that type cannot be built from DLPack, return the result unchanged.
    """
    if isinstance(like, np.ndarray):
        return result
    if is_torch_tensor(like) and not isinstance(result, np.ndarray):
        tensor = cupy_library.as_torch_tensor(cast(DeviceArray, result))
        if tensor is not None:
            return tensor
    from_dlpack = _find_from_dlpack(type(like), like)
    return result if from_dlpack is None else from_dlpack(result)


def _find_from_dlpack(kind: type, array: object) -> Callable[[NativeArray], Any] | None:
    for base in kind.__mro__:
        module = loaded_module(base.__module__.partition(".")[0])
        if module is not None and hasattr(module, "from_dlpack"):
            from_dlpack: Callable[[NativeArray], Any] = module.from_dlpack
            return from_dlpack
    namespace = getattr(array, "__array_namespace__", None)
    return None if namespace is None else namespace().from_dlpack
