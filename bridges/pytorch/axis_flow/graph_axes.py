"""Follows the axes through the graphs that torch.compile makes, while it makes them.

A compiled pass calls no functions that could be followed. But a graph has a node for each of them,
with tensors without data that show its shapes.
"""

import functools
import json
import operator
import weakref
from typing import Any, NamedTuple
from urllib.parse import quote, unquote

import torch
from torch import Tensor, nn
from torch.fx import Graph, Node
from torch.utils._pytree import tree_map

from .across_graphs import axes_of_captured
from .factors import BATCH, NEURON, POSITION, Axes, Factor, has, only_whole, without
from .known_axes import KnownAxes


class TracedAxes(NamedTuple):
    """What a compiled graph knows of a tensor.

    ``axes``: None if nothing is known. ``cause``: why its neurons are not. ``inputs_lost``: why its
    inputs are not; None if the graph does not contain the begin of the pass, and so knows none.
    """

    axes: Axes | None
    cause: str
    inputs_lost: str | None = None


@functools.lru_cache(maxsize=1024)
def traced_axes(text: str) -> TracedAxes:
    """Return what axes_in_graph() has written."""
    axes, cause, inputs_lost = json.loads(unquote(text))
    if axes is not None:
        axes = tuple(tuple(Factor(*factor) for factor in axis) for axis in axes)
    return TracedAxes(axes, cause, inputs_lost)


def axes_in_graph(batch_axis: str) -> str:
    """Return what is known of the tensor of which the graph that is made now has the last node.

    Called by code that is compiled; the result is a constant of the graph, TracedAxes as text.
    ``batch_axis``: of the tensors that the graph is given, as text: of numbers, torch.compile makes
    symbols with dynamic=True.
    """
    try:
        graph, axes = _axes_of_now(int(batch_axis))
        return _as_text(axes.describe(next(iter(reversed(graph.nodes)))))
    except Exception:  # torch may represent graphs in other ways in later versions
        return _as_text(TracedAxes(None, "this compiled graph was not followed"))


def _as_text(axes: TracedAxes) -> str:
    """Without quotation marks, which inductor's cpp_wrapper does not escape."""
    return quote(json.dumps(axes), safe="[], ")


def mark_input_in_graph(batch_axis: str) -> None:
    """Note that the last node of the graph is a copy of a tensor that the model is given."""
    try:
        graph, axes = _axes_of_now(int(batch_axis))
        axes.mark_input(next(iter(reversed(graph.nodes))).args[0])
    except Exception:
        return


# As torch.compiler.assume_constant_result() does, which imports the compiler, and takes a second.
axes_in_graph._dynamo_marked_constant = True  # type: ignore[attr-defined]
mark_input_in_graph._dynamo_marked_constant = True  # type: ignore[attr-defined]


def _axes_of_now(batch_axis: int) -> tuple[Graph, "_GraphAxes"]:
    """Return the graph that is made now, and what is known of it."""
    from torch._dynamo.symbolic_convert import InstructionTranslator

    made = InstructionTranslator.current_tx().output
    graph: Graph = made.graph
    if graph not in _axes:
        _axes[graph] = _GraphAxes(batch_axis, has_begin=_is_of_a_model(made.root_tx))
    return graph, _axes[graph]


def _is_of_a_model(frame: Any) -> bool:
    """Return whether a graph is made of the forward of a module whose passes are counted.

    Then the module has called our hooks before, in graphs of their own.
    """
    module = next((frame.f_locals.get(name) for name in frame.f_code.co_varnames[:1]), None)
    if not isinstance(module, nn.Module):
        return False
    if frame.f_code is not getattr(module.forward, "__code__", None):
        return False  # what comes after a graph break, among others
    holders = (getattr(hook, "__self__", None) for hook in module._forward_pre_hooks.values())
    return any(getattr(holder, "counts_passes", False) for holder in holders)


class _GraphAxes:
    """What is known of the nodes of a graph that grows. It keeps no nodes: these keep the graph.

    ``has_begin``: whether the graph is given what the model is given.
    """

    def __init__(self, batch_axis: int, *, has_begin: bool) -> None:
        self._begin()
        self._batch_axis = batch_axis
        self._has_begin = has_begin
        self._followed: set[str] = set()  # names of nodes
        self._stand_ins: dict[int, tuple[Tensor, Tensor]] = {}  # of tensors without data, by id
        self._memories: dict[int, torch.UntypedStorage] = {}  # of these, by that of the tensors

    def _begin(self) -> None:
        self._known = KnownAxes()
        # Nothing tells yet whether there will be a mask. Positions are followed apart: they may
        # contradict neurons, which the others then are.
        self._with_positions = KnownAxes()

    def describe(self, node: Node) -> TracedAxes:
        """Return what is known of a node."""
        self._follow_new_nodes(node.graph)
        tensor = self._value_of(node)
        axes, cause = self._known.axes(tensor), self._known.why_unknown(tensor)
        if not self._has_begin:
            return TracedAxes(axes and without(without(axes, BATCH), POSITION), cause)
        lost = self._known.why_inputs_are_lost(tensor)
        if axes is not None:
            axes = _joined(axes, self._with_positions.axes(tensor))
            axes = only_whole(axes, BATCH, self._known.inputs)
        return TracedAxes(axes, cause, lost)

    def mark_input(self, node: Node) -> None:
        """Mark the inputs, and positions, of a tensor that the model is given."""
        if not self._has_begin:  # then the inputs of the graph are those of another function
            self._begin()
            self._has_begin = True
            self._followed |= {each.name for each in node.graph.nodes}
        self._mark(self._value_of(node))

    def _mark(self, tensor: Any) -> None:
        if not isinstance(tensor, Tensor):
            return
        for known in (self._known, self._with_positions):
            known.mark_inputs([tensor], self._batch_axis)
        if self._known.axes(tensor) is not None and tensor.ndim in (2, 3):
            place = 1 if self._batch_axis % tensor.ndim == 0 else 0
            self._with_positions.mark_positions(tensor, place)

    def _take_over(self, tensor: Tensor, axes: Axes) -> None:
        """Note what the graph before this one knows of a tensor."""
        self._has_begin |= any(has(axis, BATCH) for axis in axes)
        for known in (self._known, self._with_positions):
            known.note_axes(tensor, axes)

    def _follow_new_nodes(self, graph: Graph) -> None:
        for each in graph.nodes:
            if each.name not in self._followed:
                self._followed.add(each.name)
                self._follow(each)

    def _follow(self, node: Node) -> None:
        if node.op == "placeholder" and _is_given(node):
            before = _axes_before(node)
            if before is None:
                self._mark(self._value_of(node))
            else:
                self._take_over(self._value_of(node), before)
        elif node.op in ("call_function", "call_method"):
            function: Any = node.target
            args = tree_map(self._value_of, node.args)
            if function is operator.getitem and isinstance(args[0], tuple):
                self._is_same(node.meta.get("example_value"), args[0][args[1]])
                return
            if function is getattr:  # x.mT
                function, args = getattr(Tensor, args[1]).__get__, args[:1]
            elif isinstance(function, str):
                function = getattr(Tensor, function)
            kwargs = tree_map(self._value_of, node.kwargs)
            for known in (self._known, self._with_positions):
                known.follow(function, args, kwargs, self._value_of(node))

    def _is_same(self, value: Any, output: Any) -> None:
        """Note that a value is one of the outputs of a function: a copy of it, of operators such as
        flex_attention.
        """
        if isinstance(value, Tensor) and id(value) not in self._stand_ins:
            self._stand_ins[id(value)] = (value, output)

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
            self._stand_ins[id(value)] = (value, _with_plain_shape(value, self._memory_for(value)))
        return self._stand_ins[id(value)][1]

    def _memory_for(self, value: Tensor) -> torch.UntypedStorage | None:
        """Return the memory of what stands for a tensor, which that of its views shares."""
        try:
            key = value.untyped_storage()._cdata
        except (NotImplementedError, RuntimeError):  # of sparse tensors, for example
            return None
        return self._memories.setdefault(key, torch.empty(0, device="meta").untyped_storage())


_axes: "weakref.WeakKeyDictionary[Graph, _GraphAxes]" = weakref.WeakKeyDictionary()


def _axes_before(node: Node) -> Axes | None:
    """Return what the graph before this one knows of a placeholder's tensor."""
    example = node.meta["grapharg"].example if "grapharg" in node.meta else None
    return axes_of_captured(example) if isinstance(example, Tensor) else None


def _joined(axes: Axes, with_positions: Axes | None) -> Axes:
    """Return axes with those of the others that count positions, where no neurons are."""
    pairs = zip(axes, with_positions or axes, strict=True)
    return tuple(b if has(b, POSITION) and not has(a, NEURON) else a for a, b in pairs)


def _with_plain_shape(tensor: Tensor, memory: torch.UntypedStorage | None) -> Tensor:
    """Return a tensor without data whose sizes are no symbols: comparing these would be a guard."""
    sizes, strides = (
        [size.node.hint if isinstance(size, torch.SymInt) else size for size in each]
        for each in (tensor.shape, tensor.stride())
    )
    plain = torch.empty_strided(sizes, strides, dtype=tensor.dtype, device="meta")
    if memory is not None:
        plain.set_(memory, 0, sizes, strides)
    return nn.Parameter(plain, requires_grad=False) if isinstance(tensor, nn.Parameter) else plain


def _is_given(node: Node) -> bool:
    """Return whether a placeholder is an argument of what is compiled, and no attribute of one."""
    source = node.meta["grapharg"].source.name if "grapharg" in node.meta else "."
    return "." not in (source if isinstance(source, str) else source())
