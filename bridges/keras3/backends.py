"""Keras 3: hands tensors to a capture point on each backend, also inside graphs."""

import sys
from collections.abc import Mapping
from types import FrameType
from typing import Any

import keras
from keras.src.backend.common.symbolic_scope import in_symbolic_scope

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
    return first_array(value, axes_of)


def axes_of(value: object) -> int | None:
    """Return how many axes a tensor has; None for other objects."""
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
    if getattr(tensor.shape, "rank", 0) is None:
        return "the graph does not know how many axes the tensor has: tf.ensure_shape() tells it"
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
    to differentiate them, and to infer shapes, what keras.ops.map() maps. Recurrent layers call
    their cell to infer shapes (not on JAX); stacked cells also do so to set up dropout. On JAX,
    predict() calls a model that is not built yet once more, with its first batch.
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
    ("keras.src.backend.tensorflow.core", "get_fn_output_signature"),
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
    elif _in_vectorized_map():
        raise NotCapturable(f"{point.name}: {_NO_VECTORIZED_MAP}")
    else:
        tf.py_function(lambda x: pack_and_record(point, x, axis), [tensor], [])
    return tensor


def _in_vectorized_map() -> bool:
    """Return whether TensorFlow traces what tf.vectorized_map computes: it calls the host once."""
    frame: FrameType | None = sys._getframe()
    while frame is not None:
        if frame.f_globals.get("__name__") == "tensorflow.python.ops.parallel_for.control_flow_ops":
            return True
        frame = frame.f_back
    return False


_NO_VECTORIZED_MAP = (
    "layers inside tf.vectorized_map, as in TimeDistributed where the number of steps is not "
    "known, cannot be captured: exclude= the layer, or capture the layer around it"
)


def check_distribution(name: str) -> None:
    """Raise NotCapturable if Keras distributes models over several devices of JAX.

    ``name``: of the model or capture point. An error inside of predict() comes too late: on JAX,
    Keras has then taken the weights out of the model.
    """
    if keras.backend.backend() != "jax":
        return
    distribution = keras.distribution.distribution()
    if distribution is not None and distribution.device_mesh.devices.size > 1:
        raise NotCapturable(f"{name}: a distribution over several devices cannot be captured")


def _capture_jax(point: CapturePoint, tensor: Any, axis: int) -> Any:
    import jax
    import jax.numpy as jnp

    from .. import jax_host_calls, jax_tap

    check_distribution(point.name)
    point.intake.add_barrier(jax.effects_barrier)
    if not jax_host_calls.in_transformation():
        pack_and_record(point, tensor, axis)
        return tensor
    return jax_tap.record_in_graph(jnp.asarray(tensor), point, axis)


def _capture_torch(point: CapturePoint, tensor: Any, axis: int) -> Any:
    import torch

    from ..pytorch.other_devices import has_backend, pack_by_torch
    from ..pytorch.tensors import check_dense, is_real_forward, values_of

    if torch.compiler.is_compiling():
        raise NotCapturable(f"{point.name}: {_NO_XLA}")
    if not is_real_forward(tensor):
        return tensor
    values = values_of(tensor)
    check_dense(values, point.name)
    if has_backend(values):
        pack_and_record(point, values, axis)
    else:
        packed, neurons = pack_by_torch(values, axis, point.threshold, point.firing)
        _record(point, packed, neurons, axis, tuple(values.shape))
    return tensor


_CAPTURE_BY_BACKEND = {
    "tensorflow": _capture_tensorflow,
    "jax": _capture_jax,
    "torch": _capture_torch,
}
