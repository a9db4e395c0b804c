"""Keras 3: hands tensors to a capture point on each backend, also inside graphs."""

import sys
from collections.abc import Callable
from types import FrameType
from typing import Any, ParamSpec, TypeVar

import keras

from tensorstate_gpu._arrays.dlpack import borrow
from tensorstate_gpu._capturing.capture_point import CapturePoint
from tensorstate_gpu._layers.layer_facts import spatial_shape
from tensorstate_gpu._states.packing import pack, working_on
from tensorstate_gpu.errors import NotCapturable

from .arrivals import GraphCall, as_own_mask
from .points import KerasPoint
from .this_call import place_of_this_call

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


def outside_of_graphs(function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """Let torch.compile, in the code of a layer, end its graph before a call of a function."""
    if keras.backend.backend() != "torch":
        return function
    from ..pytorch.untraced import untraced

    return untraced(function)


def pack_and_record(point: KerasPoint, tensor: Any, axis: int) -> None:
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


def _point_of_this_call(point: KerasPoint, mask: Any) -> KerasPoint:
    place = place_of_this_call() if point.numbers_calls else None
    own = None if mask is None else as_own_mask(keras.ops.convert_to_numpy(mask))
    return point.of_eager_call(place, own)


def capture_tensor(point: KerasPoint, tensor: Any, axis: int, mask: Any = None) -> Any:
    """Capture a tensor each time this place of the model is executed.

    ``mask``: Keras' own mask of the tensor, which arrives with it. Returns the tensor to continue
    with.
    """
    return _CAPTURE_BY_BACKEND[keras.backend.backend()](point, tensor, axis, mask)


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


def _capture_tensorflow(point: KerasPoint, tensor: Any, axis: int, mask: Any) -> Any:
    import tensorflow as tf
    from tensorflow.python.ops import control_flow_util

    if tf.distribute.get_strategy().num_replicas_in_sync > 1:
        raise NotCapturable(
            f"{point.name}: replicas of a tf.distribute strategy cannot be captured"
        )
    if tf.executing_eagerly():
        pack_and_record(_point_of_this_call(point, mask), tensor, axis)
    elif control_flow_util.GraphOrParentsInXlaContext(tf.compat.v1.get_default_graph()):
        raise NotCapturable(f"{point.name}: {_NO_XLA}")
    elif _in_vectorized_map():
        raise NotCapturable(f"{point.name}: {_NO_VECTORIZED_MAP}")
    else:
        call = GraphCall.now(point.model_passes)

        def record(x: Any, *own: Any) -> None:
            masks = [as_own_mask(each.numpy()) for each in own]
            pack_and_record(point.of_graph_call(call, *masks), x, axis)

        tf.py_function(record, [tensor] if mask is None else [tensor, mask], [])
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


def _capture_jax(point: KerasPoint, tensor: Any, axis: int, mask: Any) -> Any:
    import jax
    import jax.numpy as jnp

    from .. import jax_host_calls, jax_tap

    check_distribution(point.name)
    point.intake.add_barrier(jax.effects_barrier)
    if not jax_host_calls.in_transformation():
        pack_and_record(_point_of_this_call(point, mask), tensor, axis)
        return tensor
    call = GraphCall.now(point.model_passes)

    def point_of(_: int, *own: Any) -> KerasPoint:
        called = point.of_graph_call(call, *map(as_own_mask, own))
        called.intake.add_barrier(jax.effects_barrier)
        return called

    return jax_tap.record_in_graph(jnp.asarray(tensor), point, axis, point_of=point_of, told=mask)


def _capture_torch(point: KerasPoint, tensor: Any, axis: int, mask: Any) -> Any:
    import torch

    from ..pytorch.other_devices import has_backend, pack_by_torch
    from ..pytorch.tensors import check_dense, is_real_forward, values_of

    if torch.compiler.is_compiling():
        raise NotCapturable(f"{point.name}: {_NO_XLA}")
    if not is_real_forward(tensor):
        return tensor
    values = values_of(tensor)
    check_dense(values, point.name)
    point = _point_of_this_call(point, mask)
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
