"""Keras 3: the graph of a functional model; of other models, the tree of their layers."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import keras

from tensorstate_gpu.reporting.architecture.model_graph import GraphBuilder, ModelGraph

from .call_sites import graph_nodes
from .functional import children, has_graph
from .layers import StateCapture


def graph_of(model: Any, wanted: Collection[str]) -> ModelGraph:
    """Return the graph of a model, with those of functional models nested in it.

    The layers that are wanted are in it by themselves.
    """
    builder = GraphBuilder()
    if has_graph(model):
        outputs = _add_graph(builder, model, "", None)
        builder.add("", "output", outputs)
        return builder.graph()
    _add_tree(builder, model, "", builder.add(model.name, type(model).__name__, ()))
    return builder.graph("the tree of layers: a subclassed model has no graph")


def _add_graph(
    builder: GraphBuilder, model: Any, prefix: str, feeding: Sequence[int] | None
) -> list[int]:
    """Add a functional model, after what feeds its inputs; return what its outputs come from."""
    made: dict[tuple[Any, int], int] = {}  # where a tensor is from, by its node and its place

    def sources(tensors: Sequence[Any]) -> list[int]:
        return [made[_origin(tensor)] for tensor in tensors]

    inputs = [_origin(tensor) for tensor in model.inputs]
    if feeding is not None:
        made.update(zip(inputs, feeding, strict=True))
    for node in graph_nodes(model):
        if (node, 0) in made:
            continue
        operation, before = node.operation, sources(node.input_tensors)
        if isinstance(operation, keras.layers.InputLayer):
            after = [builder.add(operation.name, "input", ())]
        elif isinstance(operation, StateCapture):
            after = before
        elif has_graph(operation):
            after = _add_graph(builder, operation, f"{prefix}{operation.name}/", before)
        else:
            kind = type(operation).__name__
            after = [builder.add_layer(prefix + operation.name, kind, before)]
        for place, _ in enumerate(node.output_tensors):
            made[node, place] = after[min(place, len(after) - 1)]
    return sources(model.outputs)


def _origin(tensor: Any) -> tuple[Any, int]:
    operation, node_index, tensor_index = tensor._keras_history
    return operation._inbound_nodes[node_index], tensor_index


def _add_tree(builder: GraphBuilder, layer: Any, prefix: str, parent: int) -> None:
    for child in children(layer):
        if not isinstance(child, (StateCapture, keras.layers.InputLayer)):
            place = builder.add_layer(prefix + child.name, type(child).__name__, [parent])
            _add_tree(builder, child, f"{prefix}{child.name}/", place)
