"""Keras 3: tells the host whenever a backend executes a place of a model, also inside graphs."""

from collections.abc import Callable, Sequence

import keras
import numpy as np
from numpy.typing import NDArray

Tell = Callable[..., None]  # of NumPy arrays


def tell_host(tell: Tell, like: object, *values: object) -> None:
    """Call ``tell`` with tensors as NumPy arrays, whenever this place is executed.

    ``like``: a tensor of this place. Nothing is told where a model cannot be captured.
    """
    _TELL_BY_BACKEND[keras.backend.backend()](tell, like, values)


def runs_eagerly() -> bool:
    """Return whether operations are executed now, and not put into a graph."""
    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        return bool(tf.executing_eagerly())
    if backend == "jax":
        from .. import jax_host_calls

        return not jax_host_calls.in_transformation()
    return True


def may_call_host() -> bool:
    """Return whether what is executed, or put into a graph, can tell of it: see call_host()."""
    if keras.backend.backend() != "jax":
        return True
    from .. import jax_host_calls

    return not jax_host_calls.is_inside_checkpoint()


def tell_of_call(
    begin: Tell, end: Tell, like: object, values: Sequence[object], call: Callable[[], object]
) -> object:
    """Call a function; tell the host before and after all that it captures, as tell_host() does.

    ``values``: what ``begin`` is told; ``end`` is told nothing.
    """
    if keras.backend.backend() == "tensorflow":
        return _tell_tensorflow_of_call(begin, end, like, values, call)
    tell_host(begin, like, *values)
    result = call()
    tell_host(end, like)
    return result


def _tell_tensorflow(tell: Tell, like: object, values: Sequence[object]) -> object:
    """Return the operation that tells, in a graph."""
    import tensorflow as tf
    from tensorflow.python.ops import control_flow_util

    if tf.executing_eagerly():
        tell(*(tf.convert_to_tensor(value).numpy() for value in values))
        return None
    if control_flow_util.GraphOrParentsInXlaContext(tf.compat.v1.get_default_graph()):
        return None
    return tf.py_function(lambda *given: tell(*(each.numpy() for each in given)), values, [])


def _tell_tensorflow_of_call(
    begin: Tell, end: Tell, like: object, values: Sequence[object], call: Callable[[], object]
) -> object:
    """TensorFlow does not keep the order of captures in branches; control dependencies do."""
    import tensorflow as tf

    begun = _tell_tensorflow(begin, like, values)
    graph = tf.compat.v1.get_default_graph() if begun is not None else None
    with tf.control_dependencies([begun] if graph else []):
        before = len(graph.get_operations()) if graph else 0
        result = call()
    made = graph.get_operations()[before:] if graph else []
    with tf.control_dependencies([each for each in made if each.op_def.is_stateful]):
        _tell_tensorflow(end, like, ())
    return result


def _tell_jax(tell: Tell, like: object, values: Sequence[object]) -> None:
    import jax

    from .. import jax_host_calls

    if not jax_host_calls.in_transformation():
        jax.effects_barrier()  # type: ignore[no-untyped-call]
        tell(*map(np.asarray, values))
        return

    def told(batch: tuple[int, ...], *given: NDArray[np.generic]) -> None:
        tell(*(each.copy() for each in given[: len(values)]))

    jax_host_calls.call_host(told, *values)


def _tell_torch(tell: Tell, like: object, values: Sequence[object]) -> None:
    import torch

    from ..pytorch.tensors import is_real_pass

    is_real = not isinstance(like, torch.Tensor) or is_real_pass(like)
    if is_real and not torch.compiler.is_compiling():
        tell(*(torch.as_tensor(value).detach().cpu().numpy() for value in values))


_TELL_BY_BACKEND = {"tensorflow": _tell_tensorflow, "jax": _tell_jax, "torch": _tell_torch}
