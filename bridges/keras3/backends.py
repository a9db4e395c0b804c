"""Keras 3: hands tensors to a capture point on each backend, also inside graphs."""

import sys
from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np
from keras.src.backend.common.symbolic_scope import in_symbolic_scope
from numpy.typing import NDArray

from tensorstate_gpu._arrays.dlpack import borrow
from tensorstate_gpu._arrays.elements import ELEMENT_TYPES, accepted_types
from tensorstate_gpu._capturing.capture_point import CapturePoint
from tensorstate_gpu._capturing.first_array import first_array
from tensorstate_gpu._layers.layer_facts import spatial_shape
from tensorstate_gpu._states.packing import pack, working_on
from tensorstate_gpu.errors import NotCapturable


def in_symbolic_call(tensor: Any) -> bool:
    """Return whether Keras only infers shapes: from symbols, or (on PyTorch) dummy batches."""
    return isinstance(tensor, keras.KerasTensor) or bool(in_symbolic_scope())


def first_tensor(value: object) -> Any:
    """Return the tensor or symbolic tensor to capture; see first_array()."""
    return first_array(value, _axes_of)


def _axes_of(value: object) -> int | None:
    if not hasattr(value, "shape") or not hasattr(value, "dtype"):
        return None
    try:
        return len(value.shape)
    except ValueError:  # TensorFlow does not know it
        return 1


def unsupported_reason(tensor: Any) -> str | None:
    """Return why a tensor or symbolic tensor cannot be captured, or None if it can."""
    kind = type(tensor).__name__
    if isinstance(tensor, keras.KerasTensor) and tensor.sparse:
        kind = "a sparse tensor, of class SparseTensor,"
    if "Ragged" in kind or "Sparse" in kind or "BCOO" in kind:
        return f"{kind} cannot be captured, only dense tensors: convert it first"
    dtype = keras.backend.standardize_dtype(tensor.dtype)
    if dtype not in ELEMENT_TYPES:
        return f"tensor of {dtype}; accepted are {accepted_types()}"
    if len(tensor.shape) < 2:
        return f"states need an axis of instances and one of neurons, got shape {tensor.shape}"
    return None


def pack_and_record(point: CapturePoint, tensor: Any, axis: int) -> None:
    """Pack a tensor that has values, on its own device, and record its rows."""
    if not point.takes_batch():
        return
    states = borrow(tensor, "states")
    with working_on(states):
        packed, neurons = pack(states, axis, point.threshold, point.firing)
        point.intake.note_nan(states, packed)
        _record(point, packed, neurons, axis, states.shape)


def _record(
    point: CapturePoint, packed: object, neurons: int, axis: int, shape: tuple[int, ...]
) -> None:
    axis %= len(shape)
    instances = 1 if axis == 0 else shape[0]
    point.record(packed, neurons, axis, instances, spatial_shape=spatial_shape(shape, axis))


def capture_tensor(point: CapturePoint, tensor: Any, axis: int) -> Any:
    """Capture a tensor each time this place of the model is executed.

    Returns the tensor to continue with.
    """
    return _CAPTURE_BY_BACKEND[keras.backend.backend()](point, tensor, axis)


def is_uncounted() -> bool:
    """Return whether this call of a layer is an extra one, or makes a program for other processes.

    These are exports, where no capture point would be. TensorFlow repeats calls inside keras.remat
    to differentiate them. Recurrent layers call their cell to infer shapes (not on JAX); stacked
    cells also do so to set up dropout. On JAX, predict() calls a model that is not built yet once
    more, with its first batch.
    """
    frame, in_loop, callee = sys._getframe(), False, None
    while frame is not None:
        module, function = frame.f_globals.get("__name__"), frame.f_code.co_name
        if (module, function) in _RECOMPUTING_CALLS or (module or "").startswith(_EXPORTS):
            return True
        if (module, function) in _BUILDING_CALLS and callee == _LAYER_CALL:
            return True
        callee = module
        if module in _LOOPS and function == "_step":
            in_loop = True
        elif module in _LOOPS and function == "rnn":
            if not in_loop and not frame.f_locals["unroll"]:
                return True
            in_loop = False  # this layer may be inside the cell of another one
        frame = frame.f_back  # type: ignore[assignment]
    return False


_EXPORTS = ("keras.src.export.", "tensorflow.python.saved_model.save")
_LOOPS = ("keras.src.backend.tensorflow.rnn", "keras.src.backend.torch.rnn")
_RECOMPUTING_CALLS = {
    ("tensorflow.python.ops.custom_gradient", "inner_recompute_grad"),
    ("keras.src.layers.rnn.rnn", "_maybe_config_dropout_masks"),
}


_BUILDING_CALLS = {
    ("keras.src.backend.jax.trainer", "predict"),
    ("keras.src.backend.jax.trainer", "predict_on_batch"),
}
_LAYER_CALL = "keras.src.utils.traceback_utils"  # what wraps Layer.__call__


def number_of_this_call(sites: Mapping[Any, int]) -> int:
    """Return the number of the call that is being made, by the innermost node that is known.

    ``sites``: the numbers of calls, by nodes of functional models.

    1 for a call from elsewhere: from a subclassed model, or of the layer alone.
    """
    frame = sys._getframe()
    while frame is not None:
        if frame.f_code.co_name == "_run_through_graph":
            number = sites.get(frame.f_locals.get("node"))
            if number is not None:
                return number
        frame = frame.f_back  # type: ignore[assignment]
    return 1


def supports_jit() -> bool:
    """Return whether a model that captures can be compiled: on JAX, but not elsewhere.

    XLA on TensorFlow and torch.compile cannot compile it. Keras asks each layer. With
    jit_compile="auto" it then does not compile. With jit_compile=True it would print a warning and
    not compile either; here, that raises an error.
    """
    if keras.backend.backend() == "jax":
        return True
    frame = sys._getframe()
    for _ in range(5):  # the setter of model.jit_compile may be up to five calls away
        if frame is None:
            break
        if frame.f_code.co_name == "jit_compile" and frame.f_locals.get("value") is True:
            raise NotCapturable(_NO_XLA)
        frame = frame.f_back  # type: ignore[assignment]
    return False


_NO_XLA = (
    "XLA on TensorFlow, and torch.compile, cannot compile a model with capture layers: leave out "
    "jit_compile=True, or use the JAX backend, where captured models stay compiled"
)


Tell = Callable[[NDArray[np.generic] | None], None]


def tell_host(tell: Tell, like: object, value: object = None) -> None:
    """Call ``tell`` with a tensor as a NumPy array, or with None, whenever this place is executed.

    ``like``: a tensor of this place. Nothing is told where a model cannot be captured.
    """
    _TELL_BY_BACKEND[keras.backend.backend()](tell, like, value)


def tell_of_call(
    begin: Tell, end: Tell, like: object, value: object, call: Callable[[], object]
) -> object:
    """Call a function; tell the host before and after all that it captures, as tell_host() does.

    ``value``: what ``begin`` is told; ``end`` is told None.
    """
    if keras.backend.backend() == "tensorflow":
        return _tell_tensorflow_of_call(begin, end, like, value, call)
    tell_host(begin, like, value)
    result = call()
    tell_host(end, like)
    return result


def _tell_tensorflow(tell: Tell, like: object, value: object) -> object:
    """Return the operation that tells, in a graph."""
    import tensorflow as tf
    from tensorflow.python.ops import control_flow_util

    if tf.executing_eagerly():
        tell(None if value is None else tf.convert_to_tensor(value).numpy())
        return None
    if control_flow_util.GraphOrParentsInXlaContext(tf.compat.v1.get_default_graph()):
        return None
    given = [] if value is None else [value]
    return tf.py_function(lambda *values: tell(values[0].numpy() if values else None), given, [])


def _tell_tensorflow_of_call(
    begin: Tell, end: Tell, like: object, value: object, call: Callable[[], object]
) -> object:
    """TensorFlow does not keep the order of captures in branches; control dependencies do."""
    import tensorflow as tf

    begun = _tell_tensorflow(begin, like, value)
    graph = tf.compat.v1.get_default_graph() if begun is not None else None
    with tf.control_dependencies([begun] if graph else []):
        before = len(graph.get_operations()) if graph else 0
        result = call()
    made = graph.get_operations()[before:] if graph else []
    with tf.control_dependencies([each for each in made if each.op_def.is_stateful]):
        _tell_tensorflow(end, like, None)
    return result


def _capture_tensorflow(point: CapturePoint, tensor: Any, axis: int) -> Any:
    import tensorflow as tf
    from tensorflow.python.ops import control_flow_util

    if tf.distribute.get_strategy().num_replicas_in_sync > 1:
        raise NotCapturable(
            f"{point.name}: replicas of a tf.distribute strategy cannot be captured"
        )
    if tf.executing_eagerly():
        pack_and_record(point, tensor, axis)
    elif control_flow_util.GraphOrParentsInXlaContext(tf.compat.v1.get_default_graph()):
        raise NotCapturable(f"{point.name}: {_NO_XLA}")
    else:
        tf.py_function(lambda x: pack_and_record(point, x, axis), [tensor], [])
    return tensor


def _capture_jax(point: CapturePoint, tensor: Any, axis: int) -> Any:
    import jax
    import jax.numpy as jnp

    from .. import jax_host_calls, jax_tap

    distribution = keras.distribution.distribution()
    if distribution is not None and distribution.device_mesh.devices.size > 1:
        raise NotCapturable(f"{point.name}: a distribution over several devices cannot be captured")
    point.intake.add_barrier(jax.effects_barrier)
    if not jax_host_calls.in_transformation():
        pack_and_record(point, tensor, axis)
        return tensor
    return jax_tap.record_in_graph(jnp.asarray(tensor), point, axis)


def _tell_jax(tell: Tell, like: object, value: object) -> None:
    import jax

    from .. import jax_host_calls

    if not jax_host_calls.in_transformation():
        jax.effects_barrier()  # type: ignore[no-untyped-call]
        tell(None if value is None else np.asarray(value))
        return

    def told(batch: tuple[int, ...], *values: NDArray[np.generic]) -> None:
        tell(values[0].copy() if values else None)

    jax_host_calls.call_host(told, *(() if value is None else (value,)))


def _tell_torch(tell: Tell, like: object, value: object) -> None:
    import torch

    from ..pytorch.tensors import is_real_pass

    is_real = not isinstance(like, torch.Tensor) or is_real_pass(like)
    if is_real and not torch.compiler.is_compiling():
        tell(None if value is None else torch.as_tensor(value).detach().cpu().numpy())


def _capture_torch(point: CapturePoint, tensor: Any, axis: int) -> Any:
    import torch

    from ..pytorch.other_devices import has_backend, pack_by_torch
    from ..pytorch.tensors import check_dense, is_real_forward

    if torch.compiler.is_compiling():
        raise NotCapturable(f"{point.name}: {_NO_XLA}")
    if not is_real_forward(tensor):
        return tensor
    check_dense(tensor, point.name)
    if has_backend(tensor):
        pack_and_record(point, tensor, axis)
    else:
        packed, neurons = pack_by_torch(tensor, axis, point.threshold, point.firing)
        _record(point, packed, neurons, axis, tuple(tensor.shape))
    return tensor


_TELL_BY_BACKEND = {"tensorflow": _tell_tensorflow, "jax": _tell_jax, "torch": _tell_torch}
_CAPTURE_BY_BACKEND = {
    "tensorflow": _capture_tensorflow,
    "jax": _capture_jax,
    "torch": _capture_torch,
}
