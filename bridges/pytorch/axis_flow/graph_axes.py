"""Follows the axes through the graphs that torch.compile makes, while it makes them.

A compiled pass calls no functions that could be followed. But a graph has a node for each of them,
with tensors without data that show its shapes.
"""

import weakref
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx import Graph, Node
from torch.utils._pytree import tree_map

from .factors import neuron_axis
from .known_axes import KnownAxes


def axis_in_graph(batch_axis: int) -> str:
    """Return the neuron axis of the tensor of which the graph that is made now has the last node.

    Called by code that is compiled; the result is a constant of the graph. Where the axis is not
    known, it says why. ``batch_axis``: of the tensors that the graph is given.
    """
    try:
        graph = _graph_of_now()
        axes = _axes_of.setdefault(graph, _GraphAxes(batch_axis))
        return axes.describe(next(iter(reversed(graph.nodes))))
    except Exception:  # torch may represent graphs in other ways in later versions
        return "this compiled graph was not followed"


# As torch.compiler.assume_constant_result() does, which imports the compiler, and takes a second.
axis_in_graph._dynamo_marked_constant = True  # type: ignore[attr-defined]


def _graph_of_now() -> Graph:
    from torch._dynamo.symbolic_convert import InstructionTranslator

    graph: Graph = InstructionTranslator.current_tx().output.graph
    return graph


class _GraphAxes:
    """What is known of the nodes of a graph that grows. It keeps no nodes: these keep the graph."""

    def __init__(self, batch_axis: int) -> None:
        self._known = KnownAxes()
        self._batch_axis = batch_axis
        self._followed: set[str] = set()  # names of nodes
        self._stand_ins: dict[int, tuple[Tensor, Tensor]] = {}  # of tensors without data, by id

    def describe(self, node: Node) -> str:
        """Return the neuron axis of a node as a number, or why it is not known."""
        for each in node.graph.nodes:
            if each.name not in self._followed:
                self._followed.add(each.name)
                self._follow(each)
        tensor = self._value_of(node)
        axis = neuron_axis(self._known.axes(tensor))
        if axis is not None:
            return str(axis)
        return self._known.why_unknown(tensor)

    def _follow(self, node: Node) -> None:
        if node.op == "placeholder" and _is_given(node):
            value = self._value_of(node)
            self._known.mark_inputs([value] if isinstance(value, Tensor) else [], self._batch_axis)
        elif node.op in ("call_function", "call_method"):
            function: Any = node.target
            args = tree_map(self._value_of, node.args)
            if function is getattr:  # x.mT
                function, args = getattr(Tensor, args[1]).__get__, args[:1]
            elif isinstance(function, str):
                function = getattr(Tensor, function)
            kwargs = tree_map(self._value_of, node.kwargs)
            self._known.follow(function, args, kwargs, self._value_of(node))

    def _value_of(self, argument: Any) -> Any:
        """Return what stands for an argument of a node: for a node, tensors with plain shapes."""
        if isinstance(argument, Node):
            return tree_map(self._stand_in, argument.meta.get("example_value"))
        return argument

    def _stand_in(self, value: Any) -> Any:
        if isinstance(value, torch.SymInt):
            return value.node.hint
        if not isinstance(value, Tensor):
            return value
        if id(value) not in self._stand_ins:
            self._stand_ins[id(value)] = (value, _with_plain_shape(value))
        return self._stand_ins[id(value)][1]


_axes_of: "weakref.WeakKeyDictionary[Graph, _GraphAxes]" = weakref.WeakKeyDictionary()


def _with_plain_shape(tensor: Tensor) -> Tensor:
    """Return a tensor without data whose sizes are no symbols: comparing these would be a guard."""
    sizes, strides = (
        [size.node.hint if isinstance(size, torch.SymInt) else size for size in each]
        for each in (tensor.shape, tensor.stride())
    )
    plain = torch.empty_strided(sizes, strides, dtype=tensor.dtype, device="meta")
    return nn.Parameter(plain, requires_grad=False) if isinstance(tensor, nn.Parameter) else plain


def _is_given(node: Node) -> bool:
    """Return whether a placeholder is an argument of what is compiled, and no attribute of one."""
    source = node.meta["grapharg"].source.name if "grapharg" in node.meta else "."
    return "." not in (source if isinstance(source, str) else source())
