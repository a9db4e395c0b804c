"""``firing=``: a Python function of one number, written by the user and compiled by Numba.

The function receives the exact number: float64 for every float format, int64 or uint64, or bool. It
therefore returns the same answer in plain Python, on a CPU and on a GPU, if it uses only operations
that IEEE 754 defines (+ - * /, comparisons, abs, sqrt). exp and similar functions may differ in the
last bit. One exception: Numba converts a uint64 that is combined with another integer to float64,
which rounds from 2**53 on.
"""

import pickle
import sys
from collections.abc import Callable
from functools import lru_cache
from types import FunctionType
from typing import Any, ParamSpec, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from tensorstate_gpu._arrays.array_types import Int, KernelArray
from tensorstate_gpu._arrays.elements import ElementType

Number = float | np.float64 | np.int64 | np.uint64 | np.bool_
# What users write: a function of one Number, of the kind that the activations have.
FiringFunction = Callable[[Any], bool]
Values = KernelArray[np.float64, np.float64]  # the result of values()
Unsigned = KernelArray[np.unsignedinteger, np.unsignedinteger]
ReadNumber = Callable[[NDArray[Any], Values, int, int, int], Number]
PackByte = Callable[[NDArray[Any], Values, int, int, int], np.uint8]

_P = ParamSpec("_P")
_R = TypeVar("_R")


class Compiler(Protocol):
    """The decorator that compiles functions for a device: numba.njit, cuda.jit."""

    def __call__(self, function: Callable[_P, _R], /) -> Callable[_P, _R]: ...


def checked_firing_function(
    function: FiringFunction | None, threshold: object
) -> FiringFunction | None:
    """Return the plain Python function, after a trial compilation as float64 -> bool.

    Returns None for None. Raises TypeError or ValueError, with the argument received, before
    anything is captured.
    """
    if function is None:
        return None
    if not (isinstance(threshold, (int, float)) and threshold == 0):
        raise ValueError(f"give threshold or firing, not both: got threshold={threshold!r}")
    plain = plain_function(function)
    if not isinstance(plain, FunctionType):
        raise TypeError(
            "firing must be a plain Python function of one number, such as lambda x: abs(x) > 0.1, "
            f"got {type(function).__name__}"
        )
    _try_compiling(plain)
    return plain


def plain_function(function: Any) -> Any:
    """Return the source of a function that Numba has compiled; anything else unchanged."""
    return getattr(function, "py_func", function)


def picklable_function(function: FiringFunction | None) -> Any:
    """Return an object to be pickled in place of a function; plain_function() reverses this.

    Raises PicklingError, with the name, for a function that its module does not have by this name.
    """
    if function is None or _is_pickled_by_value():
        return function
    found: Any = sys.modules.get(function.__module__)
    for name in function.__qualname__.split("."):
        found = getattr(found, name, None)
    if plain_function(found) is function:
        return found
    code = function.__code__
    raise pickle.PicklingError(
        f"firing={function.__qualname__} ({code.co_filename}:{code.co_firstlineno}) cannot be "
        f"pickled, because {function.__module__} has no function of this name; define it with def "
        "at the top level of a module"
    )


def _is_pickled_by_value() -> bool:
    """Return whether the caller is a pickler that also pickles the code of functions."""
    frame = sys._getframe()
    while frame is not None:
        if {"cloudpickle", "dill"} & {*frame.f_globals.get("__name__", "").split(".")}:
            return True
        frame = frame.f_back  # type: ignore[assignment]
    return False


def check_compiler() -> None:
    """Raise RuntimeError if Numba is told not to compile: then most kernels do not work at all."""
    import numba

    if numba.config.DISABLE_JIT:
        raise RuntimeError(
            "NUMBA_DISABLE_JIT is set, but tensorstate_gpu packs, unpacks, sorts and counts "
            "states, and calls firing= functions, in compiled code only: unset it. Measures of "
            "counts that you have, such as entropy(), work without"
        )


@lru_cache(maxsize=64)
def _try_compiling(function: FunctionType) -> None:
    """Raise TypeError unless Numba compiles a function for one float, and it returns a bool."""
    import numba

    check_compiler()
    try:
        compiled = numba.njit(error_model="numpy")(function)
        compiled.compile((numba.float64,))
        result = compiled.nopython_signatures[0].return_type
    except Exception as error:  # Numba raises many kinds of errors
        reason = next(
            (line for line in str(error).splitlines() if line.strip()), type(error).__name__
        )
        raise TypeError(
            f"firing: Numba cannot compile {function.__qualname__} for a float, "
            f"the one number that it is called with: {reason}"
        ) from error
    if result != numba.boolean:
        raise TypeError(f"firing must return a bool, {function.__qualname__} returns {result}")


def native_dtype(element: ElementType) -> np.dtype[Any]:
    """Return the dtype to read a format with: its own numbers, or bits to look up in values()."""
    by_bits = element.kind == "bool" or (element.kind == "float" and element.size <= 4)
    return np.dtype(f"uint{8 * element.size}" if by_bits else element.name)


def read_number(element: ElementType) -> ReadNumber:
    """Return a function (numbers, values, image, position, neuron) -> number, to be compiled."""
    if element.kind == "bool":
        return _read_bool
    if element.kind == "float":
        readers: dict[int, ReadNumber] = {8: _read_as_it_is, 4: _read_float32}
        return readers.get(element.size, _read_by_bits)
    return _read_signed if element.kind == "int" else _read_unsigned


def _read_as_it_is(
    numbers: KernelArray[np.float64, np.float64],
    values: Values,
    image: int,
    position: int,
    neuron: int,
) -> np.float64:
    return numbers[image, position, neuron]


def _read_bool(
    numbers: KernelArray[np.uint8, np.uint8], values: Values, image: int, position: int, neuron: int
) -> np.bool_:
    fires: np.bool_ = numbers[image, position, neuron] != 0
    return fires


def _read_signed(
    numbers: KernelArray[np.signedinteger, Int],
    values: Values,
    image: int,
    position: int,
    neuron: int,
) -> np.int64:
    return np.int64(numbers[image, position, neuron])


def _read_unsigned(
    numbers: Unsigned, values: Values, image: int, position: int, neuron: int
) -> np.uint64:
    return np.uint64(numbers[image, position, neuron])


def _read_by_bits(
    numbers: Unsigned, values: Values, image: int, position: int, neuron: int
) -> np.float64:
    return values[numbers[image, position, neuron]]


def _read_float32(
    numbers: Unsigned, values: Values, image: int, position: int, neuron: int
) -> float | np.float64:
    # A conversion would lose subnormal numbers if flush-to-zero is on.
    bits = np.int64(numbers[image, position, neuron])
    exponent, significand = bits >> 23 & 255, bits & 0x7FFFFF
    if exponent > 0:
        significand |= 0x800000
    value: float | np.float64 = significand * values[exponent]
    if exponent == 255 and significand == 0x800000:
        value = np.inf
    return -value if bits >> 31 else value


@lru_cache
def values(element: ElementType) -> NDArray[np.float64]:
    """Return the table that reading numbers needs.

    For floats of up to 16 bits: the number of each bit pattern. For float32: the power of 2 of each
    exponent, and NaN for the last. For other formats: a table that is not used.
    """
    if element.name == "float32":
        powers: NDArray[np.float64] = np.ldexp(1.0, np.maximum(np.arange(256), 1) - 150)
        powers[255] = np.nan
        return powers
    if element.kind != "float" or element.size > 2:
        return np.zeros(1)
    width = 8 * element.size
    mantissa = width - 1 - element.exponent
    bits = np.arange(1 << width)
    magnitude = bits & ((1 << (width - 1)) - 1)
    exponent, fraction = magnitude >> mantissa, magnitude & ((1 << mantissa) - 1)
    significand = np.where(exponent > 0, fraction | 1 << mantissa, fraction)
    power = np.maximum(exponent, 1) - element.bias - mantissa
    number: NDArray[np.float64] = np.ldexp(significand, power)
    number[magnitude == element.largest] = _largest(element, mantissa, number)
    number[magnitude > element.largest] = np.nan
    number = np.where(bits >> (width - 1), -number, number)
    if element.without_negative_zero:
        number[1 << (width - 1)] = np.nan
    number.flags.writeable = False
    return number


def _largest(element: ElementType, mantissa: int, numbers: NDArray[np.float64]) -> float:
    """Return infinity for a format that has it, otherwise the largest finite number."""
    is_infinity = element.largest == ((1 << element.exponent) - 1) << mantissa
    return np.inf if is_infinity else float(numbers[element.largest])


def byte_packer(element: ElementType, function: FiringFunction, compiled: Compiler) -> PackByte:
    """Build a function (numbers, values, image, position, first neuron) -> eight bits.

    ``compiled`` is the decorator that compiles functions for a device: numba.njit or cuda.jit.
    """
    fires, read = compiled(function), compiled(read_number(element))

    @compiled
    def pack_byte(
        numbers: NDArray[Any], values: Values, image: int, position: int, first: int
    ) -> np.uint8:
        byte = 0
        for bit in range(min(8, numbers.shape[2] - first)):
            if fires(read(numbers, values, image, position, first + bit)):
                byte |= 1 << bit
        return np.uint8(byte)

    return pack_byte
