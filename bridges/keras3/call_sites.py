"""Keras 3: the places in the graphs of functional models where a layer is called."""

from collections.abc import Iterator, Sequence
from typing import Any

import keras

from .functional import children, has_graph

Node = Any  # of keras.src.ops.node, which is not public


def call_sites(model: Any, layer: Any, *, inside: bool) -> list[Node]:
    """Return the nodes that call a layer, in an order that copies of the model have too.

    A nested model is entered once, wherever it is called. ``inside``: also nodes of layers that
    have the layer inside, such as a recurrent layer with its cell.
    """
    return list(_sites(model, layer, inside, set()))


def _sites(holder: Any, layer: Any, inside: bool, entered: set[int]) -> Iterator[Node]:
    if id(holder) in entered:
        return
    entered.add(id(holder))
    if not has_graph(holder):
        for child in children(holder):
            yield from _sites(child, layer, inside, entered)
        return
    for node in graph_nodes(holder):
        operation = node.operation
        if operation is layer:
            yield node
        elif has_graph(operation):
            yield from _sites(operation, layer, inside, entered)
        elif inside and has_inside(operation, layer):
            yield node


def graph_nodes(model: Any) -> Iterator[Node]:
    """Yield the nodes of a functional model, each after those that feed it.

    First those that the first input of the last node needs, as code would call them. The order in
    which Keras runs nodes of one depth is another one, sometimes reversed.
    """
    graph = model._functional if isinstance(model, keras.Sequential) else model
    known = {node for nodes in graph._nodes_by_depth.values() for node in nodes}
    seen: set[Node] = set()
    stack = [(node, False) for node in _feeding(graph.outputs)]
    while stack:
        node, are_inputs_done = stack.pop()
        if are_inputs_done:
            yield node
        elif node in known and node not in seen:
            seen.add(node)
            stack.append((node, True))
            stack.extend((each, False) for each in _feeding(node.input_tensors))


def graphs_in(model: Any) -> list[Any]:
    """Return a model, and those inside it, that have graphs; each once."""
    layers = model._flatten_layers() if isinstance(model, keras.layers.Layer) else ()
    return [each for each in layers if has_graph(each)]


def _feeding(tensors: Sequence[Any]) -> list[Node]:
    """Return the nodes that make symbolic tensors, the last one first."""
    histories = [tensor._keras_history for tensor in reversed(tensors)]
    return [each.operation._inbound_nodes[each.node_index] for each in histories]


def has_inside(operation: Any, layer: Any) -> bool:
    if not isinstance(operation, keras.layers.Layer):
        return False
    return any(part is layer for part in operation._flatten_layers(include_self=False))
