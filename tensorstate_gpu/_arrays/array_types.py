"""The array types of public functions, backends and kernels, for type checkers."""

from typing import Any, Protocol, TypeVar, overload

import numpy as np
from numpy.typing import ArrayLike


class DLPackArray(Protocol):
    """An array of any library that supports DLPack."""

    def __dlpack__(self, *args: Any, **kwargs: Any) -> Any: ...
    def __dlpack_device__(self) -> Any: ...


class CudaArray(Protocol):
    """An array on a GPU whose library has no DLPack, such as Numba's device arrays."""

    @property
    def __cuda_array_interface__(self) -> Any: ...


class HasCounts(Protocol):
    """An object with an array of counts, such as StateCounts."""

    @property
    def counts(self) -> Any: ...


Weights = ArrayLike | DLPackArray | HasCounts

# Functions that return the caller's own array type have it as this type variable.
ArrayT = TypeVar("ArrayT", bound=DLPackArray)

Shape = tuple[int, ...]


class NativeArray(Protocol):
    """What the arrays of all backends, NumPy's and CuPy's, have in common."""

    @property
    def shape(self) -> Shape: ...
    @property
    def size(self) -> int: ...
    def __len__(self) -> int: ...
    def __getitem__(self, index: slice, /) -> "NativeArray": ...
    def view(self, dtype: type[np.uint8], /) -> "NativeArray": ...
    def reshape(self, rows: int, columns: int, /) -> "NativeArray": ...
    def __dlpack__(self, *args: Any, **kwargs: Any) -> Any: ...
    def __dlpack_device__(self) -> tuple[int, int]: ...


class ArrayLibrary(Protocol):
    """NumPy, CuPy or jax.numpy, as far as functions of the arrays of all of them use it."""

    def concatenate(self, arrays: Any, axis: int = 0) -> Any: ...
    def flatnonzero(self, array: Any) -> Any: ...
    def zeros(self, shape: tuple[int, ...], dtype: Any) -> Any: ...


# In a kernel every signed integer is an int64, whether it comes from Python or from an array.
Int = int | np.int64
Index = Int | np.unsignedinteger[Any]

_Stored = TypeVar("_Stored", bound=np.generic, covariant=True)
_Number = TypeVar("_Number", covariant=True)


class KernelArray(Protocol[_Stored, _Number]):
    """An array inside a kernel: its elements are numbers, where NumPy's own stubs say Any."""

    @property
    def dtype(self) -> np.dtype[_Stored]: ...
    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def size(self) -> int: ...
    @property
    def ctypes(self) -> Any: ...  # of which .data is the address
    def __len__(self) -> int: ...
    @overload
    def __getitem__(self, index: Index | tuple[Index, ...], /) -> _Number: ...
    @overload
    def __getitem__(self, index: slice, /) -> "KernelArray[_Stored, _Number]": ...
    def __setitem__(self, index: Index | tuple[Index, ...], value: Any, /) -> None: ...
