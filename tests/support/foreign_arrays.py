"""Array types that are not NumPy's: a bare DLPack exporter, and torch tensors of any format."""

import ctypes
from typing import Any

import numpy as np
import torch

# DLDataTypeCode of dlpack.h, version 1.1.
CODES = {
    "bfloat16": 4,
    "bool": 6,
    "float8_e4m3fn": 10,
    "float8_e4m3fnuz": 11,
    "float8_e5m2": 12,
    "float8_e5m2fnuz": 13,
}
CPU, CUDA = 1, 2


class _Managed(ctypes.Structure):
    """DLManagedTensor of dlpack.h."""

    _fields_ = (
        ("data", ctypes.c_void_p),
        ("device_type", ctypes.c_int32),
        ("device_id", ctypes.c_int32),
        ("ndim", ctypes.c_int32),
        ("code", ctypes.c_uint8),
        ("bits", ctypes.c_uint8),
        ("lanes", ctypes.c_uint16),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("byte_offset", ctypes.c_uint64),
        ("context", ctypes.c_void_p),
        ("deleter", ctypes.c_void_p),
    )


_new_capsule = ctypes.pythonapi.PyCapsule_New
_new_capsule.restype = ctypes.py_object
_new_capsule.argtypes = (ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p)
_NAME = b"dltensor"  # the capsule keeps the address of the name


class DLPackArray:
    """Only ``__dlpack__`` and ``__dlpack_device__``: what the least of array libraries offers.

    ``bits`` is a NumPy array of any strides; ``element`` says which format its bytes are.
    """

    def __init__(self, bits: np.ndarray, element: str, device: int = CPU, lanes: int = 1) -> None:
        size = bits.itemsize
        code = CODES[element] if element in CODES else {"i": 0, "u": 1, "f": 2, "c": 5}[element[0]]
        integers = ctypes.c_int64 * max(bits.ndim, 1)
        self._keep = bits, integers(*bits.shape), integers(*(s // size for s in bits.strides))
        self._device = device
        # Part of the address goes into byte_offset, which readers like to forget.
        offset = 0 if bits.size == 0 else 8
        self._managed = _Managed(
            bits.ctypes.data - offset, device, 0, bits.ndim, code, 8 * size, lanes, *self._keep[1:],
            offset, None, None,
        )  # fmt: skip

    def __dlpack__(self, **_: Any) -> Any:
        return _new_capsule(ctypes.addressof(self._managed), _NAME, None)

    def __dlpack_device__(self) -> tuple[int, int]:
        return self._device, 0


class Wrapped:
    """What a library of its own offers: its namespace knows how to build one from DLPack."""

    def __init__(self, array: np.ndarray) -> None:
        self.array = array

    def __dlpack__(self, **keywords: Any) -> Any:
        return self.array.__dlpack__(**keywords)

    def __dlpack_device__(self) -> tuple[int, int]:
        return CPU, 0

    def __array_namespace__(self) -> Any:
        return WrappedNamespace


class WrappedNamespace:
    @staticmethod
    def from_dlpack(source: Any) -> Wrapped:
        return Wrapped(np.from_dlpack(source))


def as_torch(bits: np.ndarray, element: str) -> torch.Tensor:
    """A tensor on the same memory, in the format and with the strides of ``bits``."""
    return torch.from_numpy(bits).view(getattr(torch, element))
