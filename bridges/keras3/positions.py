"""Keras 3: whether a model's graph tells that an axis counts the positions of a mask."""

from collections.abc import Mapping, Sequence
from typing import Any

import keras

from tensorstate_gpu._capturing.pass_notes import common_beginning

from .functional import has_graph
from .graph_axes import Symbol, ends_of, given_to_nested
from .neuron_axes import is_by_element

_KEEPING_LAYERS = (
    *(keras.layers.Dense, keras.layers.Embedding, keras.layers.LayerNormalization),
    *(keras.layers.BatchNormalization, keras.layers.MultiHeadAttention, keras.layers.Attention),
    *(keras.layers.AdditiveAttention, keras.layers.TimeDistributed),
)


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
    given = given_to_nested(model)
    return any(id(about) in _sources(tensor, given) for tensor in tensors)


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
    if has_graph(layer):
        return [ends_of(layer)[1][position]]
    inputs: Sequence[Symbol] = _node_of(tensor).input_tensors
    if is_by_element(layer):
        return inputs
    return inputs[:1] if _keeps_positions(layer) else []


def _node_of(tensor: Symbol) -> Any:
    layer, number, _ = tensor._keras_history
    return layer._inbound_nodes[number]


def _keeps_positions(layer: Any) -> bool:
    """Return whether axis 1 of a layer's output counts what that of its first input does."""
    if isinstance(layer, (keras.layers.RNN, keras.layers.Bidirectional)):
        # Behind go_backwards, the last position comes first.
        return bool(layer.return_sequences) and not getattr(layer, "go_backwards", False)
    if isinstance(layer, keras.layers.Conv1D):
        return bool(layer.padding != "valid" and layer.data_format == "channels_last")
    return isinstance(layer, _KEEPING_LAYERS)
