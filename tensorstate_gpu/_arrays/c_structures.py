"""What NumPy and DLPack lay out in C: where an array is, without a call of its library."""

import ctypes
from typing import Any

from numpy.typing import NDArray

_get_pointer = ctypes.pythonapi.PyCapsule_GetPointer
_get_pointer.restype = ctypes.c_void_p
_get_pointer.argtypes = (ctypes.py_object, ctypes.c_char_p)


class DLTensor(ctypes.Structure):
    """DLTensor of the DLPack header, with its nested structs flattened."""

    _fields_ = (
        ("data", ctypes.c_void_p),
        ("device", ctypes.c_int32),
        ("id", ctypes.c_int32),
        ("ndim", ctypes.c_int32),
        ("code", ctypes.c_uint8),
        ("bits", ctypes.c_uint8),
        ("lanes", ctypes.c_uint16),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("byte_offset", ctypes.c_uint64),
    )


def dl_tensor(capsule: object, argument: str) -> DLTensor:
    """Return what a DLPack capsule describes; TypeError, with the name ``argument``, for others."""
    # The capsule keeps its name, "dltensor", so that its own destructor frees the export.
    try:
        return DLTensor.from_address(_get_pointer(capsule, b"dltensor"))
    except ValueError as error:  # not a capsule, or a capsule that has been consumed
        kind = type(capsule).__name__
        raise TypeError(
            f"{argument} cannot be read through DLPack: __dlpack__() gave {kind} {capsule!r}"
        ) from error


class _PyArrayInterface(ctypes.Structure):
    """PyArrayInterface of NumPy's interface for C."""

    _fields_ = (
        ("two", ctypes.c_int),
        ("number_of_axes", ctypes.c_int),
        ("typekind", ctypes.c_char),
        ("itemsize", ctypes.c_int),
        ("flags", ctypes.c_int),
        ("shape", ctypes.c_void_p),
        ("strides", ctypes.c_void_p),
        ("data", ctypes.c_void_p),
        ("descr", ctypes.py_object),
    )


_Address = ctypes.c_size_t
_ADDRESS_OFFSET = _PyArrayInterface.data.offset


def address_of(array: NDArray[Any]) -> int:
    """Return the address of an array's first element: half the time of ``array.ctypes.data``.

    By NumPy's interface for C: https://numpy.org/doc/stable/reference/arrays.interface.html
    """
    capsule = array.__array_struct__  # its memory is the capsule's: this name keeps it alive
    return _Address.from_address(_get_pointer(capsule, None) + _ADDRESS_OFFSET).value
