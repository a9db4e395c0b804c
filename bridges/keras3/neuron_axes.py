"""Keras 3: where a layer's neurons are, by its own options or by the layers that feed it."""

from collections.abc import Iterator, Sequence
from typing import Any

import keras
from keras.src.models.functional import Functional

_LAST_AXIS_LAYERS = (
    *(keras.layers.Dense, keras.layers.EinsumDense, keras.layers.Embedding, keras.layers.RNN),
    *(keras.layers.Bidirectional, keras.layers.MultiHeadAttention, keras.layers.LayerNormalization),
)
# Layers whose output has its axes where those of the input are.
_LAYERS_BY_ELEMENT = {
    *("Activation", "ReLU", "LeakyReLU", "PReLU", "ELU", "Softmax", "Dropout", "SpatialDropout1D"),
    *("SpatialDropout2D", "SpatialDropout3D", "AlphaDropout", "GaussianDropout", "GaussianNoise"),
    *("Add", "Subtract", "Multiply", "Average", "Maximum", "Minimum", "Concatenate", "Masking"),
    *("ActivityRegularization", "Identity", "Rescaling", "UnitNormalization", "StateCapture"),
}
# Operations of keras.ops, which functional models hold as nodes of their own.
_OPERATIONS_BY_ELEMENT = {
    *("Relu", "Relu6", "Gelu", "Silu", "Sigmoid", "Tanh", "Elu", "Selu", "LeakyRelu", "Softplus"),
    *("Softmax", "LogSoftmax", "HardSigmoid", "HardSilu", "Add", "Subtract", "Multiply", "Divide"),
    *("Maximum", "Minimum", "Concatenate", "Cast", "Abs", "Exp", "Square", "Sqrt", "Negative"),
}


def own_axis(layer: Any) -> int | None:
    """Return the neuron axis that the class or an option of a layer implies, if any."""
    if (data_format := getattr(layer, "data_format", None)) is not None:
        return 1 if data_format == "channels_first" else -1
    if isinstance(layer, (keras.layers.BatchNormalization, keras.layers.GroupNormalization)):
        axis: int = layer.axis
        return axis
    if isinstance(layer, keras.layers.TimeDistributed):
        inner = own_axis(layer.layer)
        return inner if inner is None or inner < 0 else inner + 1
    return -1 if isinstance(layer, _LAST_AXIS_LAYERS) else None


def followed_axis(tensors: Sequence[Any]) -> int | None:
    """Return the neuron axis of symbolic tensors, from the layers that feed them.

    None if no layer tells, or if they differ: a layer may be called in several places.
    """
    found = {_follow(tensor, {}) for tensor in tensors}
    return found.pop() if len(found) == 1 else None


def formats(model: Any) -> set[str]:
    """Return the data formats of a model's layers: channels_first, channels_last, or both."""
    every = model._flatten_layers(include_self=False, recursive=True)
    return {layer.data_format for layer in every if getattr(layer, "data_format", None)}


def _follow(tensor: Any, outer: dict[int, Any]) -> int | None:
    """Return the axis of one symbolic tensor, counted from the front.

    ``outer``: of each input of the nested model that the tensor is in, what it was called with.
    """
    if id(tensor) in outer:
        return _follow(outer[id(tensor)], {})
    if getattr(tensor, "_keras_history", None) is None:
        return None
    layer, node_index, position = tensor._keras_history
    inputs = layer._inbound_nodes[node_index].input_tensors
    if isinstance(layer, (Functional, keras.Sequential)):
        return _follow_into(layer, position, inputs)
    if is_by_element(layer):
        found = {axis for axis in _axes(inputs, outer, len(tensor.shape)) if axis is not None}
        if len(found) == 1:
            return found.pop()
    own = own_axis(layer)
    if own is not None:
        return own % len(tensor.shape)
    if isinstance(layer, keras.layers.Flatten):
        return 1
    if isinstance(layer, keras.layers.Permute):
        return _permuted(_follow(inputs[0], outer), layer.dims)
    return None


def _follow_into(model: Any, position: int, inputs: Sequence[Any]) -> int | None:
    """Return the axis of an output of a nested model that was called with ``inputs``."""
    inner = model._functional if isinstance(model, keras.Sequential) else model
    return _follow(inner.outputs[position], dict(zip(map(id, inner.inputs), inputs, strict=False)))


def _axes(inputs: Sequence[Any], outer: dict[int, Any], ndim: int) -> Iterator[int | None]:
    for tensor in inputs:
        if len(tensor.shape) == ndim:
            yield _follow(tensor, outer)


def _permuted(axis: int | None, dims: Sequence[int]) -> int | None:
    return None if axis is None or axis not in dims else list(dims).index(axis) + 1


def is_by_element(layer: Any) -> bool:
    """Return whether the axes of a layer's output, or an operation's, are those of its inputs."""
    name = type(layer).__name__
    if isinstance(layer, keras.layers.Layer):
        return name in _LAYERS_BY_ELEMENT
    return name in _OPERATIONS_BY_ELEMENT
