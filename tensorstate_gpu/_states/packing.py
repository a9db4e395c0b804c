"""Packing states into bits, and unpacking them.

The functions are pure. The result has the caller's array type, and is on the caller's device.
"""

from contextlib import AbstractContextManager
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from tensorstate_gpu._arrays.array_types import ArrayT, CudaArray, NativeArray
from tensorstate_gpu._arrays.backend_protocol import Packer
from tensorstate_gpu._arrays.dlpack import Tensor, borrow, check_same_device, export_like
from tensorstate_gpu._arrays.firing_function import FiringFunction, checked_firing_function
from tensorstate_gpu._arrays.frameworks import jax_in_place
from tensorstate_gpu._arrays.layout import cached_plan, plan
from tensorstate_gpu._arrays.thresholds import Threshold, firing_test
from tensorstate_gpu._states.backends import backend_for, backend_of
from tensorstate_gpu._states.packed_arguments import borrow_packed, check_neurons, check_packed


@overload
def compress_states(
    states: NDArray[Any],
    *,
    neuron_axis: int = -1,
    threshold: Threshold = 0.0,
    firing: FiringFunction | None = None,
) -> NDArray[np.uint8]: ...
@overload
def compress_states(
    states: ArrayT,
    *,
    neuron_axis: int = -1,
    threshold: Threshold = 0.0,
    firing: FiringFunction | None = None,
) -> ArrayT: ...
@overload
def compress_states(
    states: CudaArray,
    *,
    neuron_axis: int = -1,
    threshold: Threshold = 0.0,
    firing: FiringFunction | None = None,
) -> Any: ...
def compress_states(
    states: Any,
    *,
    neuron_axis: int = -1,
    threshold: Threshold = 0.0,
    firing: FiringFunction | None = None,
) -> Any:
    """Pack which neurons fire into bits.

    Parameters
    ----------
    states : array of shape (states, neurons), or of more axes
        Activations of any float, integer or bool type and any strides, in any array type that
        supports DLPack. They are read once, in place, without a copy.
    neuron_axis : int
        The axis whose entries are the bits of a state. The other axes, in C order, are the states.
    threshold : real number, or one per neuron
        A neuron fires if its activation is greater, compared as real numbers. NaN never fires.
    firing : function of one number that returns a bool, optional
        The firing rule, instead of a threshold. Numba compiles it (once for each function and
        number format, in about a second) for the device of ``states``. It receives the exact
        number, as float64, int64, uint64 or bool. It must not raise, nor have side effects.

    Returns
    -------
    uint8 array of shape (states, ceil(neurons / 8)), in the array type of ``states``
        Neuron k is bit k % 8 of byte k // 8; unused high bits are 0.

    Raises
    ------
    TypeError, ValueError
        For an invalid argument, before any work. The message names the argument, the value
        received, and the accepted values.

    Examples
    --------
    >>> import numpy as np
    >>> compress_states(np.array([[0.5, -1.0, 2.0], [0.0, 3.0, -0.0]]))
    array([[5],
           [2]], dtype=uint8)
    >>> compress_states(np.array([[0.5, -1.0, 0.01]]), firing=lambda x: abs(x) > 0.1)
    array([[3]], dtype=uint8)
    """
    function = None if firing is None else checked_firing_function(firing, threshold)
    if (jax := jax_in_place(states)) is not None:
        if function is not None:
            raise TypeError(
                "firing= is not for JAX transformations, and not for arrays on several devices: "
                "pack firing(states) there, as bools"
            )
        return jax.compress(states, neuron_axis, threshold)
    tensor = borrow(states, "states")
    with backend_of(tensor).working_on(tensor):
        packed, _ = pack(tensor, neuron_axis, threshold, function, scratch=False)
        return export_like(packed, states)


def working_on(tensor: Tensor) -> AbstractContextManager[None]:
    """Enter the tensor's device, stream and memory, for arrays that no caller gets."""
    return backend_of(tensor).working_on(tensor, exports=False)


def pack(
    tensor: Tensor,
    neuron_axis: int,
    threshold: Threshold,
    function: FiringFunction | None = None,
    *,
    scratch: bool = True,
) -> tuple[NativeArray, int]:
    """Return the packed rows as the backend's native array, and the number of neurons.

    Call it inside working_on(). ``function``: the result of checked_firing_function(); if given, it
    replaces the threshold. ``scratch``: the rows may be in memory that this thread's next call
    overwrites.
    """
    place = tensor.shape, tensor.strides, tensor.element.size
    is_plain = type(neuron_axis) is int
    layout = cached_plan(*place, neuron_axis) if is_plain else plan(*place, neuron_axis)
    if function is not None:
        packed = backend_for(tensor.device).compress_by_function(tensor, layout, function)
        return packed, layout.neurons
    if type(threshold) is not float:
        check_same_device(threshold, "threshold", tensor)
    test = firing_test(tensor.element, threshold, layout.neurons)
    packed = backend_for(tensor.device).compress(tensor, layout, test, scratch=scratch)
    return packed, layout.neurons


def packer_of(tensor: Tensor, neuron_axis: int, threshold: Threshold) -> Packer | None:
    """Return what packs tensors like this one of torch, where one serves them all."""
    layout = cached_plan(tensor.shape, tensor.strides, tensor.element.size, neuron_axis)
    test = firing_test(tensor.element, threshold, layout.neurons)
    return backend_for(tensor.device).packer(tensor, layout, test)


@overload
def decompress_states(states: NDArray[np.uint8], num_neurons: int) -> NDArray[np.bool_]: ...
@overload
def decompress_states(states: ArrayT, num_neurons: int) -> ArrayT: ...
@overload
def decompress_states(states: CudaArray, num_neurons: int) -> Any: ...
def decompress_states(states: Any, num_neurons: int) -> Any:
    """Unpack states: the inverse of compress_states for bools.

    Parameters
    ----------
    states : uint8 array of shape (states, ceil(num_neurons / 8))
    num_neurons : int

    Returns
    -------
    bool array of shape (states, num_neurons), in the array type of ``states``

    Raises
    ------
    TypeError, ValueError
        For packed states that are not uint8, not 2-D, or do not fit ``num_neurons``.

    Examples
    --------
    >>> import numpy as np
    >>> decompress_states(np.array([[5]], np.uint8), 3)
    array([[ True, False,  True]])
    """
    if (jax := jax_in_place(states)) is not None:
        check_packed(states.dtype.name, states.shape)
        return jax.decompress(states, check_neurons(num_neurons, states.shape[1], "num_neurons"))
    backend, packed = borrow_packed(states)
    neurons = check_neurons(num_neurons, packed.shape[1], "num_neurons")
    with backend.working_on(packed):
        return export_like(backend.decompress(backend.view(packed), neurons), states)
