"""Keras 3: functions of TensorFlow in the code of layers, such as a call() that is a tf.function.

They keep what they have traced: without captures, as where Keras inferred shapes or before capture
points were attached; or with those of another pass. Nothing that they are given would tell.
"""

import contextlib
from collections.abc import Iterator
from typing import Any

import keras

OF_KERAS = ("train_function", "test_function", "predict_function")


@contextlib.contextmanager
def tracing_anew(model: Any) -> Iterator[None]:
    """Let the functions of a model's layers be traced anew while a graph is made, and after it."""
    forget_traces(model)
    try:
        yield
    finally:
        forget_traces(model)


def forget_traces(model: Any) -> None:
    """Let the functions of a model's layers be traced anew when they are called next.

    TensorFlow has no public way. Where a version of it has other attributes than 2.20 and 2.21, the
    model runs on: capture points that get nothing say so when they are read.
    """
    if keras.backend.backend() != "tensorflow":
        return
    with contextlib.suppress(AttributeError, ImportError):
        for layer in model._flatten_layers():
            for function in _functions_of(layer):
                # In place: what a function traces with refers to it.
                function._function_cache._primary.clear()
                function._function_cache._dispatch_dict.clear()


def _functions_of(layer: Any) -> Iterator[Any]:
    """Yield the functions that a layer has: as attributes, but for those of Keras, and methods."""
    from tensorflow.python.eager.polymorphic_function.polymorphic_function import Function

    for name, value in vars(layer).items():
        if isinstance(value, Function) and name not in OF_KERAS:
            yield value
    for kind in type(layer).__mro__:
        for value in vars(kind).values():
            if isinstance(value, Function) and layer in value._descriptor_cache:
                yield value._descriptor_cache[layer]
