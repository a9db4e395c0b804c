"""Checks of arguments: each returns the valid value, or raises an error with its name."""

import math
import numbers
import operator
from collections.abc import Iterable, Sequence
from typing import Any, TypeGuard

import numpy as np

_SHORT = str | numbers.Number | None


def real(value: Any, argument: str) -> float:
    """Return a real number as a float. Raises TypeError for anything else, including a bool."""
    if getattr(value, "shape", None) == () and hasattr(value, "tolist"):
        value = plain_numbers(value, argument)  # a tensor of one number
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(f"{argument} must be a real number, got {type(value).__name__}")
    try:
        return float(value)
    except OverflowError:
        raise ValueError(f"{argument} is too large for a float") from None


def order(value: Any, argument: str) -> float:
    """Return the order of an entropy: from 0 to infinity."""
    number = real(value, argument)
    if not number >= 0:
        raise ValueError(f"{argument} must be from 0 to infinity, got {number}")
    return number


def non_negative(value: Any, argument: str) -> float:
    """Return a finite real number >= 0."""
    number = real(value, argument)
    if not 0 <= number < math.inf:
        raise ValueError(f"{argument} must be finite and not negative, got {number}")
    return number


def share(value: Any, argument: str) -> float:
    """Return a real number from 0 to 1."""
    number = real(value, argument)
    if not 0 <= number <= 1:
        raise ValueError(f"{argument} must be from 0 to 1, got {number}")
    return number


def integer(value: Any, argument: str) -> int:
    """Return an integer of any type except bool."""
    try:
        if not isinstance(value, bool):
            return operator.index(value)
    except TypeError:
        pass
    raise TypeError(f"{argument} must be an integer, got {type(value).__name__} {value!r}")


def positive_integer(value: Any, argument: str, most: int | None = 2**63 - 1) -> int:
    """Return an integer > 0, and at most ``most``: by default what arrays hold."""
    number = integer(value, argument)
    if number <= 0:
        raise ValueError(f"{argument} must be greater than 0, got {shown(number)}")
    if most is not None and number > most:
        raise ValueError(f"{argument} must be at most {most:,}, got {shown(number)}")
    return number


def shown(number: int) -> str:
    """Return a number for a message: of Python's own texts, 4,300 digits are the limit."""
    digits = number.bit_length() * math.log10(2)
    return str(number) if digits < _DIGITS else f"one of some {digits:,.0f} digits"


_DIGITS = 40


def flag(value: Any, argument: str) -> bool:
    """Return True or False. Raises TypeError for what only counts as one of them, such as "no"."""
    found = value
    if getattr(value, "shape", None) == () and hasattr(value, "tolist"):
        found = plain_numbers(value, argument)  # what a comparison of tensors returns
    if not isinstance(found, bool):
        raise TypeError(f"{argument} must be True or False, got {type(value).__name__}")
    return found


def choice(value: Any, argument: str, accepted: Sequence[str]) -> str:
    """Return one of the accepted strings. Raises ValueError for anything else.

    Not by ``in`` alone, which for an array would raise NumPy's own error.
    """
    if not isinstance(value, str) or value not in accepted:
        # An array or a model would fill the screen.
        got = repr(value) if isinstance(value, _SHORT) else type(value).__name__
        raise ValueError(f"{argument} must be one of {tuple(accepted)}, got {got}")
    return value


def listed(values: Any, argument: str, kind: str) -> list[Any]:
    """Return what can be iterated as a list. ``kind``: of which things it should be one."""
    if not is_iterable(values):
        got = type(values).__name__
        raise TypeError(f"{argument} must be a list of {kind}, got {got}")
    return list(values)


def is_iterable(values: object) -> TypeGuard[Iterable[Any]]:
    """Return whether values can be iterated: not an array of one number, whose type says it can."""
    try:
        iter(values)  # type: ignore[call-overload]
    except TypeError:
        return False
    return True


def function(value: Any, argument: str) -> Any:
    """Return something callable, or None for none."""
    if value is not None and not callable(value):
        raise TypeError(f"{argument} must be callable, got {type(value).__name__}")
    return value


def plain_numbers(array: Any, argument: str) -> Any:
    """Return what an array's tolist() returns: a number, or lists of numbers.

    Raises TypeError for an array that holds none, and for a masked one.
    """
    try:
        return unmasked(array, argument).tolist()
    except RuntimeError as error:  # of torch, for tensors that are nested, sparse, or on "meta"
        kind = type(array).__name__
        raise TypeError(f"{argument} cannot be read as numbers, got {kind}: {error}") from error


def unmasked(array: Any, argument: str) -> Any:
    """Return the array. Raises TypeError for a masked array, whose mask would be ignored."""
    if isinstance(array, np.ma.MaskedArray):
        raise TypeError(f"{argument} is a masked array, whose mask would be ignored")
    return array
