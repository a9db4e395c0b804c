"""Operations on the bits of packed states."""

from typing import Any, Literal, overload

import numpy as np
from numpy.typing import NDArray

from tensorstate_gpu._arguments import integer
from tensorstate_gpu._arrays.array_types import ArrayT, CudaArray
from tensorstate_gpu._arrays.dlpack import export_like
from tensorstate_gpu._arrays.frameworks import jax_in_place
from tensorstate_gpu._states.packed_arguments import borrow_packed, check_packed


@overload
def popcount(states: NDArray[np.uint8], *, axis: Literal[1, -1] = 1) -> NDArray[np.int32]: ...
@overload
def popcount(states: NDArray[np.uint8], *, axis: Literal[0]) -> NDArray[np.int64]: ...
@overload
def popcount(states: ArrayT, *, axis: int = 1) -> ArrayT: ...
@overload
def popcount(states: CudaArray, *, axis: int = 1) -> Any: ...
def popcount(states: Any, *, axis: int = 1) -> Any:
    """Count the firing neurons of each state, or the states where each one fires.

    Parameters
    ----------
    states : uint8 array of shape (states, bytes)
    axis : int
        1 adds up the neurons of each state, 0 the states of each neuron.

    Returns
    -------
    int32 array of shape (states,), in the array type of ``states``
        With axis=0, an int64 array of shape (8 * bytes,); in JAX transformations, integers of
        JAX's default width.

    Raises
    ------
    TypeError, ValueError
        For states that are not 2-D uint8, or an axis that they do not have.

    Examples
    --------
    >>> import numpy as np
    >>> popcount(np.array([[5, 1], [0, 0]], np.uint8))
    array([3, 0], dtype=int32)
    >>> popcount(np.array([[5], [1], [0]], np.uint8), axis=0)
    array([2, 0, 1, 0, 0, 0, 0, 0])
    """
    by_neuron = _checked_axis(axis) == 0
    if (jax := jax_in_place(states)) is not None:
        check_packed(states.dtype.name, states.shape)
        return jax.firing_counts(states) if by_neuron else jax.popcount(states)
    backend, packed = borrow_packed(states)
    with backend.working_on(packed):
        count = backend.firing_counts if by_neuron else backend.popcount
        return export_like(count(backend.view(packed)), states)


def _checked_axis(axis: object) -> int:
    number = integer(axis, "axis")
    if number not in (-2, -1, 0, 1):
        raise ValueError(f"axis must be 0 or 1, got {number}")
    return number % 2
