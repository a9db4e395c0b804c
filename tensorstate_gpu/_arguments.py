"""Numbers and weights as arguments: checked, and named when they are refused."""

import math
import numbers
import operator
from typing import Any

import numpy as np

from tensorstate_gpu._arrays import cupy_library


def real(value: Any, argument: str) -> float:
    """A real number as a float; TypeError for anything else, a bool included."""
    if getattr(value, "shape", None) == () and hasattr(value, "item"):
        value = value.item()  # a tensor that holds one number
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(f"{argument} must be a real number, got {type(value).__name__}")
    try:
        return float(value)
    except OverflowError:
        raise ValueError(f"{argument} is too large for a float") from None


def order(value: Any, argument: str) -> float:
    """The order of an entropy: from 0 to infinity."""
    number = real(value, argument)
    if not number >= 0:
        raise ValueError(f"{argument} must be from 0 to infinity, got {number}")
    return number


def non_negative(value: Any, argument: str) -> float:
    """A finite real number >= 0."""
    number = real(value, argument)
    if not 0 <= number < math.inf:
        raise ValueError(f"{argument} must be finite and not negative, got {number}")
    return number


def integer(value: Any, argument: str) -> int:
    """An integer of any type but bool."""
    try:
        if not isinstance(value, bool):
            return operator.index(value)
    except TypeError:
        pass
    raise TypeError(f"{argument} must be an integer, got {type(value).__name__} {value!r}")


def positive_integer(value: Any, argument: str) -> int:
    """An integer > 0."""
    number = integer(value, argument)
    if number <= 0:
        raise ValueError(f"{argument} must be greater than 0, got {number}")
    return number


def unmasked(array: Any, argument: str) -> Any:
    """Anything but a masked array, whose mask would be ignored; TypeError for that."""
    if isinstance(array, np.ma.MaskedArray):
        raise TypeError(f"{argument} is a masked array, whose mask would be ignored")
    return array


def weights(counts: Any, argument: str) -> Any:
    """Finite weights >= 0 with a positive sum, (states,): an array, or one in ``.counts``.

    A NumPy array; or, where they lie on a GPU, a CuPy array of the same memory.
    """
    held = getattr(counts, "counts", None)
    values = _array(
        unmasked(counts if held is None or callable(held) else held, argument), argument
    )
    if values.dtype.kind not in "iuf":
        raise TypeError(f"{argument} must hold real numbers, got {values.dtype}")
    if values.ndim != 1:
        raise ValueError(f"{argument} must have one dimension (states,), got {values.ndim}")
    if values.size == 0:
        raise ValueError(f"{argument} is empty; at least one positive weight is needed")
    low, high = float(values.min()), float(values.max())  # NaN makes both NaN
    if not 0 <= low <= high < math.inf:
        found = low if not low >= 0 else high
        raise ValueError(f"{argument} must be finite and not negative, got {found}")
    if high == 0:
        raise ValueError(f"{argument} holds only zeros; at least one positive weight is needed")
    return values


def _array(values: Any, argument: str) -> Any:
    if _on_cuda(values):
        return cupy_library.adopt(values)
    only_dlpack = hasattr(values, "__dlpack__") and not hasattr(values, "__array__")
    try:
        return np.from_dlpack(values) if only_dlpack else np.asarray(values)
    except (BufferError, RuntimeError, TypeError, ValueError) as error:
        kind = type(values).__name__
        raise TypeError(f"{argument} must hold real numbers, got {kind}: {error}") from error


def _on_cuda(values: Any) -> bool:
    device = getattr(values, "__dlpack_device__", None)
    try:
        return device is not None and int(device()[0]) == 2  # as in _arrays/dlpack.py
    except (BufferError, RuntimeError, TypeError, ValueError):  # a tensor that cannot be exported
        return False
