"""Keras 3: where a layer's neurons are, by its own options or by the layers that feed it."""

from collections.abc import Sequence
from typing import Any

import keras

from .functional import has_graph
from .graph_axes import LOST, Axis, GraphAxes, Rule, Symbol, ends_of, moved, takes_another_size

_LAST_AXIS_LAYERS = (
    *(keras.layers.Dense, keras.layers.Embedding, keras.layers.RNN),
    *(keras.layers.MultiHeadAttention, keras.layers.GroupQueryAttention),
)
_NORMALISATIONS = (
    *(keras.layers.BatchNormalization, keras.layers.GroupNormalization),
    *(keras.layers.LayerNormalization, keras.layers.RMSNormalization),
)
# Layers whose code is not Keras': they may make neurons, and put them along any axis.
_FOREIGN_LAYERS = (
    *(keras.layers.JaxLayer, keras.layers.TFSMLayer),  # and FlaxLayer, which is a JaxLayer
    keras.layers.TorchModuleWrapper,
)
# Layers whose output has its axes where those of the input are.
_LAYERS_BY_ELEMENT = {
    *("Activation", "ReLU", "LeakyReLU", "PReLU", "ELU", "Softmax", "Dropout", "SpatialDropout1D"),
    *("SpatialDropout2D", "SpatialDropout3D", "AlphaDropout", "GaussianDropout", "GaussianNoise"),
    *("Add", "Subtract", "Multiply", "Average", "Maximum", "Minimum", "Concatenate", "Masking"),
    *("ActivityRegularization", "Identity", "Rescaling", "UnitNormalization", "StateCapture"),
    *("LayerNormalization", "RMSNormalization"),  # also over the axes of positions
}
# Operations of keras.ops, which functional models hold as nodes of their own.
_OPERATIONS_BY_ELEMENT = {
    *("Relu", "Relu6", "Gelu", "Silu", "Sigmoid", "Tanh", "Elu", "Selu", "LeakyRelu", "Softplus"),
    *("Softmax", "LogSoftmax", "HardSigmoid", "HardSilu", "Add", "Subtract", "Multiply", "Divide"),
    *("Maximum", "Minimum", "Concatenate", "Cast", "Abs", "Exp", "Square", "Sqrt", "Negative"),
}
# Whether channels come first, by what a layer may call data_format: those of the user's, too.
_FORMATS = {
    **dict.fromkeys(("channels_first", "NCW", "NCHW", "NCDHW"), True),
    **dict.fromkeys(("channels_last", "NWC", "NHWC", "NDHWC"), False),
}


def own_axis(layer: Any, place: str = "after") -> int | None:
    """Return the neuron axis that the class or an option of a layer implies, if any.

    ``place``: that of its output, or "before", of its input.
    """
    if isinstance(layer, keras.layers.Flatten):  # its data_format is about the order of neurons
        return -1 if place == "after" else None
    if isinstance(layer, keras.layers.EinsumDense):
        return _axis_of_equation(layer.equation, place)
    if (is_first := _has_channels_first(layer)) is not None:
        return _axis_of_channels(layer, place) if is_first else -1
    if isinstance(layer, keras.layers.TimeDistributed):
        inner = own_axis(layer.layer, place)
        return inner if inner is None or inner < 0 else inner + 1
    if isinstance(layer, keras.layers.Bidirectional):
        return own_axis(layer.forward_layer, place)
    if isinstance(layer, keras.layers.SpectralNormalization):
        return own_axis(layer.layer, place)
    if isinstance(layer, keras.layers.TorchModuleWrapper):
        return _axis_of_torch(layer.module)
    if isinstance(layer, _NORMALISATIONS):
        axes = layer.axis if isinstance(layer.axis, (list, tuple)) else [layer.axis]
        return axes[0] if len(axes) == 1 else None
    return -1 if isinstance(layer, _LAST_AXIS_LAYERS) else None


def _has_channels_first(layer: Any) -> bool | None:
    """Return whether a layer's data_format says that channels come first; None if it has none."""
    value = getattr(layer, "data_format", None)
    return _FORMATS.get(value) if isinstance(value, str) else None


def _axis_of_channels(layer: Any, place: str) -> int:
    """Return the axis of channels that come first, but for the steps of a recurrent layer."""
    has_steps = isinstance(layer, keras.layers.RNN) and (
        place == "before" or layer.return_sequences
    )
    return 2 if has_steps else 1


def _axis_of_equation(equation: str, place: str) -> int | None:
    """Return the last axis of the features that the weights of an EinsumDense make, or take.

    >>> [_axis_of_equation(each, "after") for each in ("...x,xy->...y", "btc,ts->bsc")]
    [-1, 1]
    """
    taken, weights, made = equation.replace(" ", "").replace("->", ",").split(",")
    here, there = (made, taken) if place == "after" else (taken, made)
    features = [letter for letter in here if letter in weights and letter not in there]
    if not features:
        return None
    before, after = here.split(features[-1])
    return -1 - len(after) if "..." in before else len(before)


def _axis_of_torch(module: Any) -> int | None:
    """Return the neuron axis of a module of PyTorch, if its class leaves no other."""
    from ..pytorch.neuron_axes import axis_rule_of

    rule = axis_rule_of(module)
    if rule is None or not rule.defined:
        return None
    return 1 if rule.kind == "channels" else -1


def neurons_rule(operation: Any, node: Any, tensor: Symbol, axes: Sequence[Axis]) -> Axis:
    """Return the neuron axis of what an operation makes; see graph_axes.Rule."""
    ndim = len(tensor.shape)
    alike = zip(node.input_tensors, axes, strict=False)
    joined = _of_joined([axis for each, axis in alike if len(each.shape) == ndim])
    by_element = is_by_element(operation)
    if by_element and isinstance(joined, int):
        return joined
    if (own := own_axis(operation)) is not None:
        has_neurons = is_told_by_inputs(operation) and not {*axes} <= {None, LOST}
        found = moved(operation, node, tensor, axes) if has_neurons else None
        return found if isinstance(found, int) else own % ndim
    if isinstance(operation, keras.layers.TimeDistributed) and has_graph(operation.layer):
        inner = GraphAxes({}, neurons_rule).of(ends_of(operation.layer)[1][:1])
        return inner + 1 if isinstance(inner, int) else inner
    if _has_foreign_code(operation):
        return 1 if ndim == 2 else LOST
    if by_element or {*axes} <= {None, LOST}:
        return joined
    if getattr(operation, "weights", ()):  # it may make neurons of its own, last as everywhere
        return _of_layer_with_weights(operation, node, tensor, axes)
    found = moved(operation, node, tensor, axes)
    if found is None:
        found = _of_same_shape(node, tensor, axes)
    return LOST if found is None else found


def _has_foreign_code(operation: Any) -> bool:
    """Return whether a layer, or one inside of it, runs code that is not Keras'."""
    inside: Sequence[Any] = getattr(operation, "_flatten_layers", tuple)()  # of operations, none
    return any(isinstance(each, _FOREIGN_LAYERS) for each in inside)


def neurons_rule_of(model: Any) -> Rule:
    """Return the rule that finds the neurons in the graph of a model."""
    return neurons_rule if may_have_channels_first(model) else _rule_with_features_last


def _rule_with_features_last(
    operation: Any, node: Any, tensor: Symbol, axes: Sequence[Axis]
) -> Axis:
    """As neurons_rule(); and a layer with weights that makes another last axis has neurons there.

    Else what moves the axes behind a layer of the user's would leave neurons in the wrong place.
    """
    found = neurons_rule(operation, node, tensor, axes)
    if found is not None or not (tensor.shape and getattr(operation, "weights", ())):
        return found
    taken = {each.shape[-1] for each in node.input_tensors if each.shape}
    return None if None in taken or tensor.shape[-1] in taken else len(tensor.shape) - 1


def _of_layer_with_weights(layer: Any, node: Any, tensor: Symbol, axes: Sequence[Axis]) -> Axis:
    """Return the axis of an input of the same shape, or the last, if only that has weights.

    Such as in a block that mixes the tokens of channels that come first. Weights that are added to
    each position mix nothing: they are added to a single one, too.
    """
    found, last = _of_same_shape(node, tensor, axes), len(tensor.shape) - 1
    if found in (None, last) or not takes_another_size(layer, node, tensor, found):
        return found
    takes_others = any(takes_another_size(layer, node, tensor, last, size) for size in (None, 1))
    return found if takes_others else last


def _of_joined(axes: Sequence[Axis]) -> Axis:
    """Return the axis of tensors that are joined element by element, by those that are known."""
    found = {axis for axis in axes if isinstance(axis, int)}
    if len(found) == 1:
        return found.pop()
    return LOST if found or LOST in axes else None


def _of_same_shape(node: Any, tensor: Symbol, axes: Sequence[Axis]) -> int | None:
    """Return the axis of an input that has the shape of the output, if its size tells it."""
    for each, axis in zip(node.input_tensors, axes, strict=False):
        if isinstance(axis, int) and tuple(each.shape) == tuple(tensor.shape):
            is_last, size = axis == len(tensor.shape) - 1, tensor.shape[axis]
            if is_last or (size is not None and list(tensor.shape).count(size) == 1):
                return axis
    return None


def may_have_channels_first(model: Any) -> bool:
    """Return whether channels come first in some layer, or may do so, as in foreign code."""
    return any(
        _has_channels_first(layer) or isinstance(layer, _FOREIGN_LAYERS)
        for layer in model._flatten_layers(include_self=False, recursive=True)
    )


def is_by_element(layer: Any) -> bool:
    """Return whether the axes of a layer's output, or an operation's, are those of its inputs."""
    name = type(layer).__name__
    if isinstance(layer, keras.layers.Layer):
        return name in _LAYERS_BY_ELEMENT
    return name in _OPERATIONS_BY_ELEMENT


def is_told_by_inputs(layer: Any) -> bool:
    """Return whether the neurons of a layer are those of what feeds it, wherever these are.

    So they are in what pools or pads: without weights it makes none, whatever it takes as channels.
    """
    if is_by_element(layer):
        return True
    inner = getattr(layer, "layer", layer)  # of a TimeDistributed
    has_format = _has_channels_first(inner) is not None
    return has_format and not (isinstance(inner, keras.layers.Flatten) or layer.weights)
