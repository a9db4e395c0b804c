"""Operators that note, at the begin and the end of a compiled graph, what is known of tensors.

They are those of graph_borders.py. Here they are put into a graph that is complete.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensor
from torch.fx import Graph, Node

from .across_graphs import TracedAxes, as_text


def add_begin(graph: Graph, clock: Node, given: Mapping[Node, TracedAxes], is_alone: bool) -> None:
    """Let a graph check what is known of the tensors that it is given.

    ``clock``: the tensor of the counter of passes. ``is_alone``: see GraphAxes.
    """
    last = [node for node in graph.nodes if node.op == "placeholder" or node is clock][-1]
    with graph.inserting_before(last.next):
        nodes, texts = _plain(graph, given)
        graph.call_function(_operators().enter_graph, (nodes, clock, texts, is_alone))


def add_end(graph: Graph, clock: Node, left: Mapping[Node, TracedAxes]) -> None:
    """Let a graph note what is known of the tensors that leave it."""
    *_, end = graph.nodes
    with graph.inserting_before(end):
        nodes, texts = _plain(graph, left)
        if nodes:
            graph.call_function(_operators().leave_graph, (nodes, clock, texts))


def _plain(graph: Graph, known: Mapping[Node, TracedAxes]) -> tuple[list[Node], list[str]]:
    """Return nodes of tensors without gradients, and what is known of each as text."""
    nodes = [graph.call_method("detach", (node,)) for node in known]
    return nodes, [as_text(each) for each in known.values()]


def _operators() -> Any:
    return torch.ops.tensorstate_gpu


def name_of_operator(node: Node) -> str:
    """Return the name of an operator of this library; "" for other nodes."""
    library, _, name = str(node.target).partition(".")
    return name if node.op == "call_function" and library == "tensorstate_gpu" else ""


def clock_in(graph: Graph) -> Node | None:
    """Return the tensor of the counter of passes that a graph has."""
    return next(iter(_clocks(graph)), None)


def clock_that_goes_on(graph: Graph) -> Node | None:
    """Return the tensor of a counter of passes of which the pass does not end in a graph.

    That of a part that is captured, too, may end, and the pass of the model not.
    """
    ended = {node.args[0] for node in graph.nodes if name_of_operator(node) == "end_pass"}
    return next((clock for clock in _clocks(graph) if clock not in ended), None)


def _clocks(graph: Graph) -> Iterator[Node]:
    for name, place in (("capture", 2), ("begin_pass", 0), ("end_pass", 0)):
        for node in graph.nodes:
            if name_of_operator(node) == name and isinstance(clock := node.args[place], Node):
                yield clock


def is_plain(node: Node) -> bool:
    """Return whether a node is a tensor whose memory tells it from others."""
    value = node.meta.get("example_value")
    return isinstance(value, FakeTensor) and value.layout is torch.strided and not value.is_nested
