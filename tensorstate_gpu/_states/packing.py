"""The array functions: pack, unpack, sort and count states.

Each is a pure function. The result is of the caller's array type and on the caller's device.
"""

import sys
from contextlib import AbstractContextManager
from importlib import import_module
from typing import Any, cast

from tensorstate_gpu._arguments import integer, positive_integer
from tensorstate_gpu._arrays.backend_protocol import Backend, DeviceBackend, backend_for
from tensorstate_gpu._arrays.dlpack import CPU, Tensor, borrow, check_same_device, give_back
from tensorstate_gpu._arrays.firing_function import Fires, check_firing
from tensorstate_gpu._arrays.layout import plan
from tensorstate_gpu._arrays.thresholds import firing as firing_test
from tensorstate_gpu._layers.layer_states import Readings
from tensorstate_gpu._states.spilling_counter import SpillingCounter
from tensorstate_gpu._states.state_counts import StateCounts


def compress_states(
    states: Any, *, neuron_axis: int = -1, threshold: Any = 0.0, firing: Fires | None = None
) -> Any:
    """Pack which neurons fire into bits.

    Parameters
    ----------
    states : array of shape (states, neurons), or of more axes
        Activations of any float, integer or bool type and any strides, in any array type that
        speaks DLPack. They are read once, where they lie.
    neuron_axis : int
        The axis whose entries are the bits of a state. The other axes, in C order, are the states.
    threshold : real number, or one per neuron
        A neuron fires when its activation is greater, compared as real numbers. NaN never fires.
    firing : function of one number that returns a bool, optional
        Decides instead of a threshold. Numba compiles it (once for each function and number
        format, in about a second), for the device on which ``states`` are. It gets the number
        exactly, as float64, int64, uint64 or bool, and must neither raise nor keep anything.

    Returns
    -------
    uint8 array of shape (states, ceil(neurons / 8)), in the array type of ``states``
        Neuron k is bit k % 8 of byte k // 8; unused high bits are 0.

    Raises
    ------
    TypeError, ValueError
        Before any work, naming the argument, what came and what is accepted.

    Examples
    --------
    >>> import numpy as np
    >>> compress_states(np.array([[0.5, -1.0, 2.0], [0.0, 3.0, -0.0]]))
    array([[5],
           [2]], dtype=uint8)
    >>> compress_states(np.array([[0.5, -1.0, 0.01]]), firing=lambda x: abs(x) > 0.1)
    array([[3]], dtype=uint8)
    """
    function = check_firing(firing, threshold)
    if (jax := _tracing(states)) is not None:
        if function is not None:
            raise TypeError(
                "firing= is not for JAX transformations: pack firing(states) there, as bools"
            )
        return jax.compress(states, neuron_axis, threshold)
    tensor = borrow(states, "states")
    with _backend(tensor).working_on(tensor):
        packed, _ = pack(tensor, neuron_axis, threshold, function, scratch=False)
        return give_back(packed, states)


def working_on(tensor: Tensor) -> AbstractContextManager[None]:
    """Inside, work goes to the tensor's device, on the stream that its framework uses there."""
    return _backend(tensor).working_on(tensor)


def pack(
    tensor: Tensor,
    neuron_axis: int,
    threshold: Any,
    function: Fires | None = None,
    *,
    scratch: bool = True,
) -> tuple[Any, int]:
    """Inside working_on(): packed rows as the backend's own array, and the number of neurons.

    ``function``: what check_firing() gave; it decides instead of the threshold.
    ``scratch``: they may lie in memory that this thread's next call overwrites.
    """
    layout = plan(tensor.shape, tensor.strides, tensor.element.size, neuron_axis)
    if function is not None:
        return _backend(tensor).compress_by_function(tensor, layout, function), layout.neurons
    check_same_device(threshold, "threshold", tensor)
    test = firing_test(tensor.element, threshold, layout.neurons)
    return _backend(tensor).compress(tensor, layout, test, scratch=scratch), layout.neurons


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
    if (jax := _tracing(states)) is not None:
        _check_packed(states.dtype.name, states.shape)
        return jax.decompress(states, check_neurons(num_neurons, states.shape[1], "num_neurons"))
    backend, packed = _borrow_packed(states)
    neurons = check_neurons(num_neurons, packed.shape[1], "num_neurons")
    with backend.working_on(packed):
        return give_back(backend.decompress(backend.view(packed), neurons), states)


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
    if (jax := _tracing(states)) is not None:
        _check_packed(states.dtype.name, states.shape)
        return jax.popcount(states)
    backend, packed = _borrow_packed(states)
    with backend.working_on(packed):
        return give_back(backend.popcount(backend.view(packed)), states)


def sort_states(states: Any, state_count: int | None = None) -> tuple[Any, Any]:
    """Sort packed states, so that equal ones become neighbours.

    Parameters
    ----------
    states : uint8 array of shape (states, bytes)
    state_count : int, optional
        Only the first ``state_count`` rows are looked at; all by default.

    Returns
    -------
    edges : int64 array of shape (distinct + 1,)
        ``states[index][edges[i]:edges[i + 1]]`` are equal; ``edges[0]`` is 0, ``edges[-1]`` is
        ``state_count``.
    index : int64 array of shape (state_count,)
        The order of the rows as little-endian integers, first come first among equals.

    Raises
    ------
    TypeError, ValueError
        For packed states that are not 2-D uint8, or a ``state_count`` beyond the rows.

    Examples
    --------
    >>> import numpy as np
    >>> edges, index = sort_states(np.array([[3], [0], [3]], np.uint8), 3)
    >>> edges, index
    (array([0, 1, 3]), array([1, 0, 2]))
    """
    backend, packed = _borrow_packed(states)
    rows = packed.shape[0]
    count = rows if state_count is None else integer(state_count, "state_count")
    if not 0 <= count <= rows:
        raise ValueError(f"state_count must be between 0 and the {rows} rows, got {count}")
    with backend.working_on(packed):
        edges, index = backend.sort(backend.view(packed)[:count])
        return give_back(edges, states), give_back(index, states)


def count_states(states: Any, neurons: int | None = None) -> StateCounts:
    """Count how often each distinct packed state occurs. Exact: equality is decided on the bytes.

    Parameters
    ----------
    states : uint8 array of shape (states, bytes), capture point or layer of a Store
        The latter are counted piece by piece: they may be larger than memory.
    neurons : int, optional
        How many bits of a row are neurons; all of them by default.

    Raises
    ------
    TypeError, ValueError
        For packed states that are not 2-D uint8, or have bits set beyond ``neurons``.

    Examples
    --------
    >>> import numpy as np
    >>> counts = count_states(np.array([[3], [0], [3]], np.uint8), neurons=2)
    >>> counts.state_ids(), counts.counts
    ([b'\\x00', b'\\x03'], array([1, 2]))
    """
    if isinstance(states, Readings):
        if neurons not in (None, states.neurons):
            raise ValueError(f"{states.name} has {states.neurons} neurons, not {neurons}")
        return states.histogram()
    backend, packed = _borrow_packed(states)
    width = packed.shape[1]
    bits = 8 * width if neurons is None else check_neurons(neurons, width, "neurons")
    with backend.working_on(packed):
        rows, counts = _count(backend, packed)
        return StateCounts.trusted(rows, counts, bits)


def _count(backend: Backend, packed: Tensor) -> tuple[Any, Any]:
    """Counts in the host's memory."""
    rows = backend.view(packed)
    try:
        distinct, counts = backend.count(rows)
        return backend.to_host(distinct), backend.to_host(counts)
    except MemoryError:
        if packed.device[0] == CPU:
            raise
    counter = SpillingCounter(cast(DeviceBackend, backend), packed.shape[1])
    counter.add(rows)
    return counter.result()


def _borrow_packed(states: Any) -> tuple[Backend, Tensor]:
    if _tracing(states) is not None:
        raise TypeError(
            "inside a JAX transformation the number of distinct states is not known: return the "
            "packed rows, and sort or count them outside"
        )
    packed = borrow(states, "states")
    _check_packed(packed.element.name, packed.shape)
    return _backend(packed), packed


def _check_packed(dtype: str, shape: tuple[int, ...]) -> None:
    if dtype != "uint8":
        raise TypeError(f"states must be packed (uint8), got {dtype}")
    if len(shape) != 2 or shape[1] == 0:
        raise ValueError(f"states must have shape (states, bytes >= 1), got {shape}")


def _tracing(states: Any) -> Any:
    """The JAX bridge, where an array stands for one inside a transformation; else None."""
    jax = sys.modules.get("jax")
    if jax is None or not isinstance(states, jax.core.Tracer):
        return None
    return import_module("tensorstate_gpu.bridges.jax_functions")


def _backend(tensor: Tensor) -> Backend:
    return backend_for(tensor.device, tensor.device_name)


def check_neurons(neurons: Any, width: int, argument: str) -> int:
    """A number of neurons that fits rows of ``width`` bytes; TypeError or ValueError otherwise."""
    number = positive_integer(neurons, argument)
    if (number + 7) // 8 != width:
        raise ValueError(
            f"{argument}={number} needs rows of {(number + 7) // 8} bytes, got rows of {width}"
        )
    return number
