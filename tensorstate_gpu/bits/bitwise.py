"""Packed states bit by bit: and, or, exclusive or, not."""

import operator
from collections.abc import Callable
from typing import cast

from tensorstate_gpu._arrays.array_types import AnyArray, ArrayT
from tensorstate_gpu._states.packed_arguments import check_neurons
from tensorstate_gpu.bits.operands import Functions, apply, check_same_width
from tensorstate_gpu.bits.tails import with_clear_tail


def bitwise_and(one: ArrayT, other: ArrayT) -> ArrayT:
    """Return the neurons that fire in both of two states, row by row.

    Parameters
    ----------
    one, other : uint8 arrays of shape (states, bytes)
        Of the same shape and device; or one of them has a single row, for all of the other.

    Returns
    -------
    uint8 array of shape (states, bytes), in the array type of ``one``

    Raises
    ------
    TypeError, ValueError
        If an argument is no array of packed states, or if shapes or devices differ.

    Examples
    --------
    >>> import numpy as np
    >>> bitwise_and(np.array([[0b011], [0b110]], np.uint8), np.array([[0b010]], np.uint8))
    array([[2],
           [2]], dtype=uint8)
    """
    return _combined(operator.and_, one, other)


def bitwise_or(one: ArrayT, other: ArrayT) -> ArrayT:
    """Return the neurons that fire in either of two states, or in both, row by row.

    Parameters, result and errors as of `bitwise_and`.

    Examples
    --------
    >>> import numpy as np
    >>> bitwise_or(np.array([[0b001]], np.uint8), np.array([[0b100]], np.uint8))
    array([[5]], dtype=uint8)
    """
    return _combined(operator.or_, one, other)


def bitwise_xor(one: ArrayT, other: ArrayT) -> ArrayT:
    """Return the neurons that differ between two states, row by row.

    Parameters, result and errors as of `bitwise_and`.

    Examples
    --------
    >>> import numpy as np
    >>> bitwise_xor(np.array([[0b011]], np.uint8), np.array([[0b110]], np.uint8))
    array([[5]], dtype=uint8)
    """
    return _combined(operator.xor, one, other)


def bitwise_not(states: ArrayT, neurons: int | None = None) -> ArrayT:
    """Return the neurons that do not fire.

    Parameters
    ----------
    states : uint8 array of shape (states, bytes)
    neurons : int, optional
        How many bits of a row are neurons; all of them by default. The others are 0.

    Returns
    -------
    uint8 array of shape (states, bytes), in the array type of ``states``

    Raises
    ------
    TypeError, ValueError
        If ``states`` is no array of packed states, or does not fit ``neurons``.

    Examples
    --------
    >>> import numpy as np
    >>> bitwise_not(np.array([[0b001]], np.uint8), neurons=3)
    array([[6]], dtype=uint8)
    """

    def inverted(functions: Functions, packed: AnyArray) -> AnyArray:
        width = packed.shape[1]
        count = 8 * width if neurons is None else check_neurons(neurons, width, "neurons")
        return with_clear_tail(functions.namespace(), ~packed, count)

    result = apply(inverted, states=states)
    return cast(ArrayT, result)


def _combined(
    operation: Callable[[AnyArray, AnyArray], AnyArray], one: ArrayT, other: ArrayT
) -> ArrayT:
    def combined(_: Functions, left: AnyArray, right: AnyArray) -> AnyArray:
        check_same_width(left, right)
        if len(left) != len(right) and 1 not in (len(left), len(right)):
            raise ValueError(f"one has {len(left)} states, other has {len(right)}")
        return operation(left, right)

    result = apply(combined, one=one, other=other)
    return cast(ArrayT, result)
