"""Keras 3: whether a model's graph tells that an axis counts the positions of a mask, or inputs."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import keras

from tensorstate_gpu._capturing.pass_notes import common_beginning

from .functional import is_functional
from .neuron_axes import is_by_element

_KEEPING_LAYERS = (
    *(keras.layers.Dense, keras.layers.Embedding, keras.layers.LayerNormalization),
    *(keras.layers.BatchNormalization, keras.layers.MultiHeadAttention, keras.layers.Attention),
    *(keras.layers.AdditiveAttention, keras.layers.TimeDistributed),
)


class Node(Protocol):
    """A call of a layer in a graph of Keras."""

    is_input: bool
    input_tensors: "list[Symbol]"


class Operation(Protocol):
    """A layer of Keras, or an operation."""

    _inbound_nodes: list[Node]


class Symbol(Protocol):
    """A symbolic tensor of Keras."""

    name: str
    shape: tuple[int | None, ...]
    _keras_history: tuple[Operation, int, int]


def counts_positions(tensors: Sequence[Symbol], model: object, mask: object) -> bool:
    """Return whether axis 1 of symbolic tensors counts the positions that a mask is about.

    Those are the positions of the model's first input of two or more axes; of several, of the one
    whose name begins most like the ``mask``'s, if that is a name.
    """
    given_to_model: list[Symbol] = getattr(model, "inputs", None) or []
    inputs = [tensor for tensor in given_to_model if len(tensor.shape) >= 2 and tensor.name != mask]
    if not inputs:
        return False
    name = mask if isinstance(mask, str) else ""
    about = max(inputs, key=lambda tensor: common_beginning(tensor.name, name))
    given = _given_to_nested(model)
    return any(id(about) in _sources(tensor, given) for tensor in tensors)


def has_other_axis_0(tensors: Sequence[Symbol], model: object) -> bool:
    """Return whether the graph of a model tells that axis 0 of tensors does not count its inputs.

    Where any number of inputs can be given, the axis that counts them has no size in the graph.
    """
    inputs: list[Symbol] = getattr(model, "inputs", None) or []
    takes_any = bool(inputs) and all(tensor.shape[:1] == (None,) for tensor in inputs)
    return takes_any and any(tensor.shape[0] is not None for tensor in tensors)


def _given_to_nested(model: Any) -> dict[int, list[Symbol]]:
    """Return what nested models are called with, by the ids of their inputs."""
    given: dict[int, list[Symbol]] = {}
    for nested in filter(is_functional, model._flatten_layers(include_self=False)):
        inputs, _ = _ends_of(nested)
        nodes: list[Node] = nested._inbound_nodes
        for node in nodes:
            for tensor, outer in zip(inputs, node.input_tensors, strict=False):
                given.setdefault(id(tensor), []).append(outer)
    return given


def _ends_of(model: Any) -> tuple[list[Symbol], list[Symbol]]:
    """Return the inputs and outputs of a functional model."""
    graph = model._functional if isinstance(model, keras.Sequential) else model
    return graph.inputs, graph.outputs


def _sources(tensor: Symbol, given: Mapping[int, Sequence[Symbol]]) -> set[int]:
    """Return the inputs, by id, whose positions axis 1 of a symbolic tensor counts.

    ``given``: what nested models are called with, by the ids of their inputs.
    """
    found: set[int] = set()
    seen: set[int] = set()
    stack = [tensor]
    while stack:
        each = stack.pop()
        if id(each) in seen or len(each.shape) < 2 or not hasattr(each, "_keras_history"):
            continue
        seen.add(id(each))
        if id(each) not in given and _node_of(each).is_input:
            found.add(id(each))
        else:
            stack += given.get(id(each)) or _with_the_same_positions(each)
    return found


def _with_the_same_positions(tensor: Symbol) -> Sequence[Symbol]:
    """Return the tensors that a layer takes whose axis 1 counts what that of its output does."""
    layer, _, position = tensor._keras_history
    if is_functional(layer):
        return [_ends_of(layer)[1][position]]
    inputs = _node_of(tensor).input_tensors
    if is_by_element(layer):
        return inputs
    return inputs[:1] if _keeps_positions(layer) else []


def _node_of(tensor: Symbol) -> Node:
    layer, number, _ = tensor._keras_history
    return layer._inbound_nodes[number]


def _keeps_positions(layer: Any) -> bool:
    """Return whether axis 1 of a layer's output counts what that of its first input does."""
    if isinstance(layer, (keras.layers.RNN, keras.layers.Bidirectional)):
        return bool(layer.return_sequences)
    if isinstance(layer, keras.layers.Conv1D):
        return bool(layer.padding != "valid" and layer.data_format == "channels_last")
    return isinstance(layer, _KEEPING_LAYERS)
