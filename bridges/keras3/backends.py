"""How a tensor comes to a capture point on each of Keras 3's backends, also inside a graph."""

import sys
from typing import Any

import keras
from keras.src.backend.common.symbolic_scope import in_symbolic_scope

from tensorstate_gpu._arrays.dlpack import borrow
from tensorstate_gpu._arrays.elements import ELEMENT_TYPES, accepted_types
from tensorstate_gpu._capturing.capture_point import CapturePoint
from tensorstate_gpu._states.packing import pack, working_on
from tensorstate_gpu.errors import NotCapturable


def in_symbolic_call(tensor: Any) -> bool:
    """Whether Keras only asks for shapes: with symbols, or (on PyTorch) with batches of its own."""
    return isinstance(tensor, keras.KerasTensor) or bool(in_symbolic_scope())


def first_dtype_problem(tensor: Any) -> str | None:
    """What is wrong with a tensor or a symbol, if anything; known while a graph is traced."""
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


def keep(point: CapturePoint, tensor: Any, axis: int) -> None:
    """Pack a tensor that holds numbers, where it lies, and record its rows."""
    states = borrow(tensor, "states")
    axis %= len(states.shape)
    with working_on(states):
        packed, neurons = pack(states, axis, point.threshold, point.firing)
        point.intake.record(packed, neurons, axis, 1 if axis == 0 else states.shape[0])


def see(point: CapturePoint, tensor: Any, axis: int) -> Any:
    """Have a tensor captured whenever this place is executed; gives the tensor to go on with."""
    if is_repeated():
        return tensor
    return _SEE[keras.backend.backend()](point, tensor, axis)


def is_repeated() -> bool:
    """Whether a layer is called once more than the model uses what it gives.

    TensorFlow repeats calls inside keras.remat to differentiate them. Recurrent layers call their
    cell for the shapes of what it gives (not on JAX), stacked cells to set up dropout as well.
    """
    frame, in_loop = sys._getframe(), False
    while frame is not None:
        module, function = frame.f_globals.get("__name__"), frame.f_code.co_name
        if (module, function) in _REPEATING:
            return True
        if module in _LOOPS and function == "_step":
            in_loop = True
        elif module in _LOOPS and function == "rnn":
            if not in_loop and not frame.f_locals["unroll"]:
                return True
            in_loop = False  # it may lie in the cell of another one
        frame = frame.f_back  # type: ignore[assignment]
    return False


_LOOPS = ("keras.src.backend.tensorflow.rnn", "keras.src.backend.torch.rnn")
_REPEATING = {
    ("tensorflow.python.ops.custom_gradient", "inner_recompute_grad"),
    ("keras.src.layers.rnn.rnn", "_maybe_config_dropout_masks"),
}


def supports_jit() -> bool:
    """Whether a capture can be compiled: by XLA on JAX, not on TensorFlow, nor by torch.compile.

    Keras asks each layer. For jit_compile="auto" it then goes without XLA; where
    jit_compile=True was asked for, it would warn, and go without as well: that is refused here.
    """
    if keras.backend.backend() == "jax":
        return True
    frame = sys._getframe()
    for _ in range(5):  # from the layer's property up to the setter of model.jit_compile
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


def _see_tensorflow(point: CapturePoint, tensor: Any, axis: int) -> Any:
    import tensorflow as tf
    from tensorflow.python.ops import control_flow_util

    if tf.distribute.get_strategy().num_replicas_in_sync > 1:
        raise NotCapturable(
            f"{point.name}: replicas of a tf.distribute strategy cannot be captured"
        )
    if tf.executing_eagerly():
        keep(point, tensor, axis)
    elif control_flow_util.GraphOrParentsInXlaContext(tf.compat.v1.get_default_graph()):
        raise NotCapturable(f"{point.name}: {_NO_XLA}")
    else:
        tf.py_function(lambda x: keep(point, x, axis), [tensor], [])
    return tensor


def _see_jax(point: CapturePoint, tensor: Any, axis: int) -> Any:
    import jax

    from .. import jax_functions, jax_tap

    distribution = keras.distribution.distribution()
    if distribution is not None and distribution.device_mesh.devices.size > 1:
        raise NotCapturable(f"{point.name}: a distribution over several devices cannot be captured")
    point.intake.wait_with(jax.effects_barrier)
    if not jax_functions.is_tracer(tensor):
        keep(point, tensor, axis)
        return tensor
    return jax_tap.recorded(tensor, point, axis)


def _see_torch(point: CapturePoint, tensor: Any, axis: int) -> Any:
    import torch

    from tensorstate_gpu.bridges.pytorch.tensors import as_borrowed, is_real_forward

    if torch.compiler.is_compiling():
        raise NotCapturable(f"{point.name}: {_NO_XLA}")
    if is_real_forward(tensor):
        keep(point, as_borrowed(tensor), axis)
    return tensor


_SEE = {"tensorflow": _see_tensorflow, "jax": _see_jax, "torch": _see_torch}
