"""States as elements of sets: the distinct ones, and which states are among others."""

from typing import Any, Generic, NamedTuple, TypeVar, cast, overload

import numpy as np
from numpy.typing import NDArray

from tensorstate_gpu._arrays.array_types import AnyArray, ArrayT, DLPackArray
from tensorstate_gpu.bits.operands import (
    Functions,
    Sorting,
    apply,
    apply_natively,
    check_same_width,
)

IntegersT = TypeVar("IntegersT", bound=DLPackArray)


class UniqueStates(NamedTuple, Generic[ArrayT, IntegersT]):
    """The distinct states of an array, and where each of its rows is among them.

    Attributes
    ----------
    packed : uint8 array of shape (distinct, bytes)
        In order, as little-endian integers.
    counts : int64 array of shape (distinct,)
    inverse : int64 array of shape (states,)
        ``packed[inverse]`` are the rows of the array.
    """

    packed: ArrayT
    counts: IntegersT
    inverse: IntegersT


UniqueStates.__module__ = "tensorstate_gpu.bits"


@overload
def unique(states: NDArray[np.uint8]) -> UniqueStates[NDArray[np.uint8], NDArray[np.int64]]: ...
@overload
def unique(states: ArrayT) -> UniqueStates[ArrayT, ArrayT]: ...
def unique(states: Any) -> UniqueStates[Any, Any]:
    """Return the distinct states, how often each occurs, and of each row which it is.

    `count_states` is faster if you don't need the last.

    Parameters
    ----------
    states : uint8 array of shape (states, bytes)

    Returns
    -------
    UniqueStates, a named tuple (packed, counts, inverse) in the array type of ``states``

    Raises
    ------
    TypeError, ValueError
        If ``states`` is no array of packed states. Not for JAX transformations: the number of
        distinct states is not known; see `count_states` with ``size``.

    Examples
    --------
    >>> import numpy as np
    >>> packed, counts, inverse = unique(np.array([[3], [0], [3]], np.uint8))
    >>> packed[:, 0].tolist(), counts.tolist(), inverse.tolist()
    ([0, 3], [1, 2], [1, 0, 1])
    """

    def found(backend: Sorting, packed: AnyArray) -> tuple[AnyArray, AnyArray, AnyArray]:
        return backend.unique(packed)

    result = apply_natively(found, states=states)
    return UniqueStates(*cast(tuple[Any, Any, Any], result))


@overload
def isin(states: NDArray[np.uint8], reference: NDArray[np.uint8]) -> NDArray[np.bool_]: ...
@overload
def isin(states: ArrayT, reference: ArrayT) -> ArrayT: ...
def isin(states: Any, reference: Any) -> Any:
    """Return whether each state occurs in ``reference``.

    Parameters
    ----------
    states : uint8 array of shape (states, bytes)
    reference : uint8 array of shape (others, bytes)
        On the same device.

    Returns
    -------
    bool array of shape (states,), in the array type of ``states``

    Raises
    ------
    TypeError, ValueError
        If an argument is no array of packed states, or if widths or devices differ.

    Examples
    --------
    >>> import numpy as np
    >>> isin(np.array([[3], [0], [3]], np.uint8), np.array([[3]], np.uint8))
    array([ True, False,  True])
    """

    def found(functions: Functions, packed: AnyArray, among: AnyArray) -> AnyArray:
        check_same_width(packed, among)
        return functions.isin(packed, among)

    return apply(found, states=states, reference=reference)
