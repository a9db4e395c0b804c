"""Counts the NaN of activations, to tell a layer without numbers from one that never fires."""

from typing import Any

from tensorstate_gpu._arrays.dlpack import Tensor
from tensorstate_gpu._states.backends import backend_of


def count_nan(tensor: Tensor) -> Any:
    """Return the number of NaN in a tensor: an integer, or an array of one on the tensor's device.

    Nothing waits for the device; int() of the result does. Call it inside working_on().
    """
    element = tensor.element
    if element.kind != "float":
        return 0
    bits: Any = backend_of(tensor).view(tensor)
    sign = 1 << (8 * element.size - 1)
    is_nan = bits == sign if element.without_negative_zero else bits & (sign - 1) > element.largest
    return is_nan.sum()
