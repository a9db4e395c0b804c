"""Keras 3: whether axis 0 counts the inputs in layers that other layers call in their code.

A graph tells nothing of such calls. The code of a layer runs once more, on symbols of so many
inputs that no other axis is likely to be as long: experts, and others, show that they see
something else along axis 0, where there may be as many by chance.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import keras

from .call_sites import Node, graph_nodes, graphs_in, has_inside
from .functional import has_graph
from .graph_axes import left_as_it_was, run_on_symbols
from .input_axes import MANY
from .layers import Probe

Wrapped = tuple[Any, Mapping[str, Probe]]  # a layer, and its probes by place


def note_axes_in_code(model: Any, wrapped: Sequence[Wrapped]) -> None:
    """Note at points of which layers in code axis 0 does not count the inputs.

    The calls of the layers are wrapped already: symbols come to their points.
    """
    for graph in graphs_in(model):
        for node in graph_nodes(graph):
            inner = [each for each in wrapped if _calls_in_code(node.operation, each[0])]
            if inner:
                _note_axes(node, [probe for _, places in inner for probe in places.values()])


def _calls_in_code(operation: Any, layer: Any) -> bool:
    return operation is not layer and not has_graph(operation) and has_inside(operation, layer)


def _note_axes(node: Node, probes: Iterable[Probe]) -> None:
    # Only Keras' run through a graph tells which call is made; this one is taken for the first.
    points = [(probe.point, probe.of_call(node).point) for probe in probes]
    try:
        for noting, _ in points:
            noting.lengths_of_symbols = set()
        with left_as_it_was(node.operation):
            run_on_symbols(node, {id(each): _of_many(each) for each in node.input_tensors})
        for noting, point in points:
            lengths = (noting.lengths_of_symbols or set()) - {MANY}
            point.has_other_axis_0 = bool(lengths) and None not in lengths
    except Exception:  # whatever code raises for sizes that do not suit it: nothing is known
        return
    finally:
        for noting, _ in points:
            noting.lengths_of_symbols = None


def _of_many(tensor: Any) -> Any:
    """Return a symbolic tensor of many inputs, if it may be of any number."""
    if tensor.shape[:1] != (None,):
        return tensor
    return keras.KerasTensor((MANY, *tensor.shape[1:]), dtype=tensor.dtype)
