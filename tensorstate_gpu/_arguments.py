"""Numbers and weights as arguments: checked, and named when they are refused."""

import math
import numbers
import operator
from typing import Any

import numpy as np


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
