"""Thresholds as tests on the bits of a number, for all number formats.

``x > threshold`` is computed on integers, so that the flush-to-zero setting of a thread or a
framework has no effect. Each number has a *key*, a signed integer of the same width that increases
with the number:

    key = bits ^ bias ^ ((bits >> (width - 1)) & flip)        (arithmetic shift)

bias is the sign bit for unsigned types, otherwise 0. flip is all bits but the sign if negative
floats must be ordered, otherwise 0. A number fires if ``low <= key <= high``; ``high`` excludes
NaN.
"""

import math
import numbers
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from struct import pack
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tensorstate_gpu._arguments import plain_numbers
from tensorstate_gpu._arrays.array_types import DLPackArray
from tensorstate_gpu._arrays.elements import ElementType

# A threshold as users pass it, and one number of it as it is stored: exact, never rounded.
Threshold = numbers.Real | float | Sequence[float] | DLPackArray
Number = float | Fraction


@dataclass(frozen=True, slots=True, eq=False)
class FiringTest:
    """The test ``low <= key <= high``, for one threshold, or one per neuron.

    It is equal to itself alone: that of one threshold is made once, and can be looked up by it.

    ``low`` and ``high`` are signed integers of the element's width, in arrays of shape (1,) or
    (neurons,). ``bias`` and ``flip`` define the key; if both are 0, the key is the bits themselves.
    """

    low: NDArray[Any]
    high: NDArray[Any]
    bias: int
    flip: int


def firing_test(element: ElementType, threshold: Threshold, neurons: int) -> FiringTest:
    """Convert a threshold to a test on keys.

    Raises TypeError or ValueError if the threshold is not a real number, or one per neuron.
    """
    if type(threshold) is float and threshold == threshold:  # the usual case; False for NaN
        return _one_threshold(element, threshold, pack("d", threshold))
    values = _threshold_values(threshold, neurons)
    if len(values) == 1:
        # A hot path: one threshold, the same for each batch.
        value = values[0]
        return _one_threshold(element, value, pack("d", value) if type(value) is float else b"")
    return _build_test(element, values)


@lru_cache(maxsize=256)
def _one_threshold(element: ElementType, value: Number, _bits: bytes) -> FiringTest:
    # As cache keys, 1 and 1.0 are equal, and so are 0.0 and 1e-310 with flush-to-zero on. The bits
    # tell them apart.
    return _build_test(element, [value])


def _build_test(element: ElementType, values: list[Number]) -> FiringTest:
    low, high = (_float_keys if element.kind == "float" else _integer_keys)(element, values)
    sign = 1 << (8 * element.size - 1)
    bias = sign if element.kind in ("uint", "bool") else 0
    ordered = element.kind == "float" and bool((low < 0).any())
    low.flags.writeable = high.flags.writeable = False
    return FiringTest(low, high, bias, sign - 1 if ordered else 0)


def keep_threshold(threshold: Threshold) -> Number | tuple[Number, ...]:
    """Return a threshold in immutable form: a number, or a tuple of numbers.

    Raises TypeError or ValueError if the argument cannot be a threshold of any layer.
    """
    values = _threshold_values(threshold, None)
    several = isinstance(threshold, (list, tuple)) or getattr(threshold, "shape", ()) != ()
    return tuple(values) if several else values[0]


def plain_threshold(threshold: Number | tuple[Number, ...]) -> Any:
    """Convert the result of keep_threshold to JSON: a number or a list. Infinity is a string."""
    if isinstance(threshold, tuple):
        return [plain_threshold(value) for value in threshold]
    if isinstance(threshold, int):
        return threshold
    return float(threshold) if math.isfinite(threshold) else str(threshold)


def _threshold_values(threshold: Threshold, neurons: int | None) -> list[Number]:
    if isinstance(threshold, numbers.Real):
        return [_real(threshold)]
    if not (isinstance(threshold, (list, tuple)) or hasattr(threshold, "tolist")):
        raise _threshold_type_error(threshold)
    if isinstance(threshold, (list, tuple)):
        values = list(threshold)
    else:
        values = plain_numbers(threshold, "threshold")
    if not isinstance(values, list):  # a 0-d array
        return [_real(values)]
    if neurons is not None and len(values) != neurons:
        raise ValueError(
            f"threshold must be one number or one per neuron ({neurons}), got {len(values)}"
        )
    return [_real(value) for value in values]


def _real(value: object) -> Number:
    if not isinstance(value, numbers.Real):
        raise _threshold_type_error(value)
    if isinstance(value, numbers.Rational):  # includes integers; stored exactly
        exact = Fraction(value)
        return int(exact) if exact.denominator == 1 else exact
    if math.isnan(number := float(value)):
        raise ValueError("threshold must not be NaN: nothing compares with it")
    return number


def _threshold_type_error(value: object) -> TypeError:
    return TypeError(
        "threshold must be a real number or a 1-D sequence of one per neuron, "
        f"got {type(value).__name__}"
    )


def _integer_keys(element: ElementType, values: list[Number]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return the lowest and highest key that fires, for each threshold; 1 and 0 if none does."""
    width = 8 * element.size
    half = 1 << (width - 1)
    # The key of an unsigned number is the number minus half the range.
    offset = 0 if element.kind == "int" else half
    bottom, top = offset - half, offset + half - 1
    keys = np.empty((2, len(values)), f"int{width}")
    for i, value in enumerate(values):
        limit = _integer_limit(element, value, bottom - 1, top)
        keys[:, i] = (1, 0) if limit == top else (limit + 1 - offset, top - offset)
    return keys[0], keys[1]


def _integer_limit(element: ElementType, value: Number, bottom: int, top: int) -> int:
    """Return the largest integer that does not fire, between ``bottom`` and ``top``."""
    if element.kind == "bool":  # true is 1, and any byte but 0 is true
        return bottom if value < 0 else (0 if value < 1 else top)
    if value in (math.inf, -math.inf):  # math.isinf(10**400) raises
        return top if value > 0 else bottom
    return min(max(math.floor(value), bottom), top)


def _float_keys(element: ElementType, values: list[Number]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Like _integer_keys(), for floats: the key of the threshold, rounded down, plus 1."""
    bits = np.array([_round_down(value) for value in values]).view(np.int64)
    negative = (bits < 0) & (bits != np.iinfo(np.int64).min)  # -0.0 is not negative
    if element.without_negative_zero and negative.any():
        raise ValueError(
            f"threshold must be >= 0 for {element.name}, got {min(values)}: its NaN sorts among "
            "the negative numbers"
        )
    magnitude, inexact = _floor_magnitudes(element, bits & np.iinfo(np.int64).max)
    # The key of a negative number of magnitude m is -1 - m. Rounding the number down increases m.
    low = np.where(negative, -1 - (magnitude + inexact), magnitude) + 1
    high = np.full_like(low, element.largest)
    none = low > high
    low[none], high[none] = 1, 0
    signed = f"int{8 * element.size}"
    return low.astype(signed), high.astype(signed)


def _round_down(value: Number) -> float:
    """Return the largest float64 <= value. Python compares integers and floats exactly."""
    try:
        nearest = float(value)
    except OverflowError:
        return sys.float_info.max if value > 0 else -math.inf
    return math.nextafter(nearest, -math.inf) if nearest > value else nearest


def _floor_magnitudes(
    element: ElementType, bits: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Round each float64 >= 0 down to the format: its bits, and a mask of what was inexact.

    ``bits`` are those of the float64. With flush-to-zero on, a cast would lose thresholds near 0.
    """
    mantissa = 8 * element.size - 1 - element.exponent
    fraction = bits & ((1 << 52) - 1)
    significand = np.where(bits >> 52 > 0, fraction | (1 << 52), fraction)
    exponent = np.maximum(bits >> 52, 1) - 1023 + element.bias
    # Below the normal numbers of the format, each step of the exponent costs one bit.
    shift = np.minimum(52 - mantissa + np.maximum(1 - exponent, 0), 62)
    floor = (significand >> shift) + ((np.maximum(exponent, 1) - 1) << mantissa)
    inexact = significand & ((1 << shift) - 1) != 0
    has_infinity = element.largest == ((1 << element.exponent) - 1) << mantissa
    infinite = (bits == 0x7FF << 52) & has_infinity
    over = (floor > element.largest - has_infinity) & ~infinite
    floor = np.where(over, element.largest - has_infinity, floor)
    return np.where(infinite, element.largest, floor), (inexact | over) & ~infinite
