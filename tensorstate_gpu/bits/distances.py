"""Hamming distances between states: in how many neurons they differ."""

from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from tensorstate_gpu._arguments import integer
from tensorstate_gpu._arrays.array_types import AnyArray, ArrayT
from tensorstate_gpu.bits.operands import (
    Functions,
    Sorting,
    apply,
    apply_natively,
    check_same_width,
)

_TILE_BYTES = 1 << 26  # of distances at a time, where only some of them are kept


@overload
def hamming_distances(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> NDArray[np.int32]: ...
@overload
def hamming_distances(one: ArrayT, other: ArrayT) -> ArrayT: ...
def hamming_distances(one: Any, other: Any) -> Any:
    """Return in how many neurons each state of one array differs from each state of another.

    Parameters
    ----------
    one : uint8 array of shape (states, bytes)
    other : uint8 array of shape (others, bytes)
        On the same device.

    Returns
    -------
    int32 array of shape (states, others), in the array type of ``one``
        4 bytes for each pair: `nearest_states` and `states_within` do not keep them all.

    Raises
    ------
    TypeError, ValueError
        If an argument is no array of packed states, or if widths or devices differ.

    Examples
    --------
    >>> import numpy as np
    >>> one, other = np.array([[0b111], [0b001]], np.uint8), np.array([[0b001]], np.uint8)
    >>> hamming_distances(one, other)
    array([[2],
           [0]], dtype=int32)
    """

    def distances(functions: Functions, left: AnyArray, right: AnyArray) -> AnyArray:
        check_same_width(left, right)
        return functions.distances(left, right)

    return apply(distances, one=one, other=other)


@overload
def nearest_states(
    states: NDArray[np.uint8], among: NDArray[np.uint8]
) -> tuple[NDArray[np.int64], NDArray[np.int32]]: ...
@overload
def nearest_states(states: ArrayT, among: ArrayT) -> tuple[ArrayT, ArrayT]: ...
def nearest_states(states: Any, among: Any) -> tuple[Any, Any]:
    """Return for each state the nearest one among others.

    Parameters
    ----------
    states : uint8 array of shape (states, bytes)
    among : uint8 array of shape (others, bytes), others >= 1
        On the same device.

    Returns
    -------
    index : int64 array of shape (states,)
        Of the nearest row of ``among``; of the first, if several are equally near. In JAX
        transformations an integer of JAX's default width.
    distances : int32 array of shape (states,)

    Raises
    ------
    TypeError, ValueError
        As for `hamming_distances`, and if ``among`` is empty.

    Examples
    --------
    >>> import numpy as np
    >>> one, other = np.array([[0b111], [0b001]], np.uint8), np.array([[0b001], [0b110]], np.uint8)
    >>> index, distances = nearest_states(one, other)
    >>> index.tolist(), distances.tolist()
    ([1, 0], [1, 0])
    """

    def nearest(functions: Functions, left: AnyArray, right: AnyArray) -> tuple[AnyArray, AnyArray]:
        check_same_width(left, right)
        if not len(right):
            raise ValueError("among is empty; at least one state is needed")
        xp = functions.namespace()
        tiles: list[AnyArray] = [functions.distances(part, right) for part in _tiles(left, right)]
        index = xp.concatenate([tile.argmin(axis=1) for tile in tiles])
        return index, xp.concatenate([tile.min(axis=1) for tile in tiles])

    found: Any = apply(nearest, states=states, among=among)
    return found[0], found[1]


@overload
def states_within(
    one: NDArray[np.uint8], other: NDArray[np.uint8], distance: int
) -> NDArray[np.int64]: ...
@overload
def states_within(one: ArrayT, other: ArrayT, distance: int) -> ArrayT: ...
def states_within(one: Any, other: Any, distance: int) -> Any:
    """Return the pairs of states that differ in at most ``distance`` neurons.

    Parameters
    ----------
    one : uint8 array of shape (states, bytes)
    other : uint8 array of shape (others, bytes)
        On the same device.
    distance : int
        In neurons.

    Returns
    -------
    int64 array of shape (pairs, 2), in the array type of ``one``
        Rows of ``one`` and of ``other``, in order.

    Raises
    ------
    TypeError, ValueError
        As for `hamming_distances`. Not for JAX transformations: the number of pairs is not known.

    Examples
    --------
    >>> import numpy as np
    >>> one = np.array([[0b111], [0b001], [0b000]], np.uint8)
    >>> states_within(one, one[1:], 1).tolist()
    [[1, 0], [1, 1], [2, 0], [2, 1]]
    """
    limit = integer(distance, "distance")

    def within(backend: Sorting, left: AnyArray, right: AnyArray) -> AnyArray:
        check_same_width(left, right)
        xp = backend.namespace()
        columns = max(1, len(right))
        found, start = [xp.zeros((0, 2), np.int64)], 0
        for part in _tiles(left, right):
            pairs = backend.distances(part, right)
            flat = xp.flatnonzero((pairs <= limit).reshape(-1)).reshape(-1, 1) + start * columns
            found.append(xp.concatenate((flat // columns, flat % columns), axis=1))
            start += len(part)
        return xp.concatenate(found)

    return apply_natively(within, one=one, other=other)


def _tiles(states: AnyArray, others: AnyArray) -> list[AnyArray]:
    """Cut states into parts with few enough distances; at least one part."""
    rows = max(1, _TILE_BYTES // (4 * max(1, len(others))))
    return [states[start : start + rows] for start in range(0, max(1, len(states)), rows)]
