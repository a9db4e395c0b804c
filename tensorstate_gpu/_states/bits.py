"""Operations on the bits of packed states."""

from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from tensorstate_gpu._arrays.array_types import ArrayT, CudaArray
from tensorstate_gpu._arrays.dlpack import export_like
from tensorstate_gpu._arrays.frameworks import jax_in_place
from tensorstate_gpu._states.packed_arguments import borrow_packed, check_packed


@overload
def popcount(states: NDArray[np.uint8]) -> NDArray[np.int32]: ...
@overload
def popcount(states: ArrayT) -> ArrayT: ...
@overload
def popcount(states: CudaArray) -> Any: ...
def popcount(states: Any) -> Any:
    """Count the firing neurons of each packed state.

    Parameters
    ----------
    states : uint8 array of shape (states, bytes)

    Returns
    -------
    int32 array of shape (states,), in the array type of ``states``

    Examples
    --------
    >>> import numpy as np
    >>> popcount(np.array([[5, 1], [0, 0]], np.uint8))
    array([3, 0], dtype=int32)
    """
    if (jax := jax_in_place(states)) is not None:
        check_packed(states.dtype.name, states.shape)
        return jax.popcount(states)
    backend, packed = borrow_packed(states)
    with backend.working_on(packed):
        return export_like(backend.popcount(backend.view(packed)), states)
