"""Follows the axes through the graphs that torch.compile makes, while it makes them.

A compiled pass calls no functions that could be followed. But a graph has a node for each of them,
with tensors without data that show its shapes.
"""

import operator
import weakref
from collections.abc import Iterable
from typing import Any

from torch import Tensor, nn
from torch.fx import Graph, GraphModule, Node
from torch.utils._pytree import tree_map

from ..given_tensors import tensors_of
from .across_graphs import (
    UNKNOWN,
    WITHIN,
    TracedAxes,
    as_text,
    axes_at,
    is_in_graphs,
    is_in_module,
    is_in_pass,
    known_of_left,
)
from .borders import add_begin, add_end, clock_in, clock_that_goes_on, is_plain, name_of_operator
from .factors import BATCH, NEURON, POSITION, Axes, counts_inputs, has, only_whole, without
from .known_axes import KnownAxes
from .stand_ins import StandIns


def axes_in_graph(batch_axis: str) -> str:
    """Return what is known of the tensor of which the graph that is made now has the last node.

    Called by code that is compiled; the result is a constant of the graph, TracedAxes as text.
    ``batch_axis``: of the tensors that the graph is given, as text: of numbers, torch.compile makes
    symbols with dynamic=True.
    """
    try:
        graph, axes = _axes_of_now(int(batch_axis))
        known = axes.describe(next(iter(reversed(graph.nodes))))
        return as_text(known if axes.batch_axis == int(batch_axis) else _without_inputs(known))
    except Exception:  # torch may represent graphs in other ways in later versions
        cause = "this compiled graph was not followed"
        return as_text(TracedAxes(None, cause, cause))


def mark_input_in_graph(batch_axis: str) -> None:
    """Note that the last node of the graph is a copy of a tensor that the model is given."""
    try:
        graph, axes = _axes_of_now(int(batch_axis))
        if axes.batch_axis == int(batch_axis):
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
        is_part = graph is not made.root_tracer.graph  # such as what is checkpointed
        module = None if is_part else _module_of(made.root_tx)
        has_begin = module is not None and _is_model(module)
        is_whole = module is not None or (not is_part and _is_call(made.root_tx))
        is_alone = is_whole and not has_begin and not is_in_pass() and not is_in_module()
        axes = _axes[graph] = _GraphAxes(batch_axis, has_begin=has_begin, is_alone=is_alone)
        if has_begin or is_alone:
            axes.note_arguments(made.root_tx)
        if not is_part:
            made.add_graph_finalizer(axes.add_borders)
    return graph, _axes[graph]


def _module_of(frame: Any) -> nn.Module | None:
    """Return the module of whose forward a graph is made; None for other functions.

    Among these is what comes after a graph break.
    """
    module = next((frame.f_locals.get(name) for name in frame.f_code.co_varnames[:1]), None)
    if not isinstance(module, nn.Module):
        return None
    return module if frame.f_code is getattr(module.forward, "__code__", None) else None


def _is_call(frame: Any) -> bool:
    """Return whether a graph is made of a call of a module as a whole, with its hooks."""
    name = frame.f_code.co_name
    called = frame.f_locals.get({"_call_impl": "self", "inner": "fn"}.get(name, ""))
    return isinstance(called, nn.Module)


def _is_model(module: nn.Module) -> bool:
    """Return whether a module is one whose passes are counted.

    Then it has called our hooks before its forward, in graphs of their own.
    """
    holders = (getattr(hook, "__self__", None) for hook in module._forward_pre_hooks.values())
    return any(getattr(holder, "counts_passes", False) for holder in holders)


def _is_in_pass(graph: Graph) -> bool:
    """Return whether a pass of a captured model is running in a graph, which calls another."""
    running = set[Node]()
    for node in graph.nodes:
        name = name_of_operator(node)
        if name == "begin_pass":
            running.add(node.args[0])
        elif name == "end_pass":
            running.discard(node.args[0])
    return bool(running) or is_in_graphs()


def _without_inputs(known: TracedAxes) -> TracedAxes:
    """Return what is known of a tensor, for a capture that finds the inputs along another axis."""
    axes = known.axes and without(without(known.axes, BATCH), POSITION)
    cause = "a capture with another batch_axis has the same compiled graph"
    return TracedAxes(axes, known.cause, cause)


class _GraphAxes:
    """What is known of the nodes of a graph that grows. It keeps no nodes: these keep the graph.

    ``has_begin``: whether the graph is given what the model is given. ``is_alone``: whether it is
    of a part of the model that is called by itself, and given inputs as the model is.
    """

    def __init__(self, batch_axis: int, *, has_begin: bool, is_alone: bool) -> None:
        self._begin()
        self.batch_axis = batch_axis  # of the first model that is captured
        self._has_begin = has_begin
        self._is_alone = is_alone
        self._taken_over: dict[str, TracedAxes] = {}  # by the names of placeholders
        self._followed: set[str] = set()  # names of nodes
        self._values = StandIns()

    def _begin(self) -> None:
        self._known = KnownAxes()
        # Nothing tells yet whether there will be a mask. Positions are followed apart: they may
        # contradict neurons, which the others then are.
        self._with_positions = KnownAxes()

    def note_arguments(self, frame: Any) -> None:
        """Note what a model is given, also what is no part of the graph until it is used."""
        given, axis = tensors_of(tuple(frame.f_locals.values()), may_load=False), self.batch_axis
        sizes = [(t.ndim, t.shape[axis]) for t in given if -t.ndim <= axis < t.ndim]
        inputs = sizes[0][1] if sizes else None
        self._known.have_other_axes = any(ndim > 1 and n == inputs for ndim, n in sizes)

    def describe(self, node: Node) -> TracedAxes:
        """Return what is known of a node."""
        self._follow_new_nodes(node.graph)
        tensor = self._values.of(node)
        axes, cause = self._known.axes(tensor), self._known.why_unknown(tensor)
        lost = self._known.why_inputs_are_lost(tensor)
        if axes is not None:
            axes = _joined(axes, self._with_positions.axes(tensor))
            axes = only_whole(axes, BATCH, self._known.inputs)
        return TracedAxes(axes, cause, lost)

    def mark_input(self, node: Node) -> None:
        """Mark the inputs, and positions, of a tensor that the model is given."""
        is_within = _is_in_pass(node.graph)
        if self._has_begin or is_within:
            self._follow_new_nodes(node.graph)  # what an earlier pass has computed, too
        if is_within:
            for known in (self._known, self._with_positions):
                known.mark_given_within(self._values.of(node), self.batch_axis)
            return
        if not self._has_begin:  # then the inputs of the graph are those of another function
            self._begin()
            self._has_begin, self._is_alone = True, False
            self._followed |= {each.name for each in node.graph.nodes}
        self._mark(self._values.of(node))

    def _mark_given(self, node: Node) -> None:
        tensor = self._values.of(node)
        self._mark(tensor)
        if self._is_alone and counts_inputs(axes := self._known.axes(tensor)):
            self._taken_over[node.name] = UNKNOWN._replace(axes=axes)

    def _mark(self, tensor: Any) -> None:
        if not isinstance(tensor, Tensor):
            return
        for known in (self._known, self._with_positions):
            known.mark_inputs([tensor], self.batch_axis)
        if self._known.axes(tensor) is not None and tensor.ndim in (2, 3):
            place = 1 if self.batch_axis % tensor.ndim == 0 else 0
            self._with_positions.mark_positions(tensor, place)

    def _is_found(self, node: Node) -> bool:
        """Return whether it is known here first what a tensor is that the graph is given."""
        is_given = node.op == "placeholder" and node.name not in self._taken_over
        return (
            is_given and not self._is_alone and self._known.axes(self._values.of(node)) is not None
        )

    def _take_over(self, node: Node) -> None:
        """Note what the graph before this one knows of a tensor, if any does."""
        tensor, before = self._values.of(node), _known_before(node)
        if not isinstance(tensor, Tensor):
            return
        if before is None:
            before = UNKNOWN if "grapharg" in node.meta else WITHIN
        elif before.axes is not None:
            self._taken_over[node.name] = before
            before = before._replace(axes=axes_at(before.axes, tensor.shape, None))
        for known in (self._known, self._with_positions):
            known.note_before(tensor, before.axes, before.inputs_lost, before.cause)

    def add_borders(self, module: GraphModule) -> None:
        """Let a graph that is complete note, and check, what is known at its begin and end."""
        graph = module.graph
        if (clock := clock_in(graph)) is None:
            return
        *nodes, end = graph.nodes
        if not self._has_begin:
            taken = {node: self._taken_over[node.name] for node in nodes if self._is_taken(node)}
            add_begin(graph, clock, taken, self._is_alone)
        if (clock := clock_that_goes_on(graph)) is not None:
            add_end(graph, clock, self._left_by(nodes, end))
        module.recompile()

    def _left_by(self, nodes: Iterable[Node], end: Node) -> dict[Node, TracedAxes]:
        """Return what is known of the tensors that leave a graph: of none, if that fails."""
        try:
            left = (*filter(self._is_found, nodes), *end.all_input_nodes)
            return {node: self.describe(node) for node in left if is_plain(node)}
        except Exception:  # as in axes_in_graph()
            return {}

    def _is_taken(self, node: Node) -> bool:
        return node.op == "placeholder" and node.name in self._taken_over

    def _follow_new_nodes(self, graph: Graph) -> None:
        for each in graph.nodes:
            if each.name not in self._followed:
                self._followed.add(each.name)
                self._follow(each)

    def _follow(self, node: Node) -> None:
        if node.op == "placeholder" and (self._has_begin or self._is_alone):
            if _is_given(node):
                self._mark_given(node)
        elif node.op == "placeholder":
            self._take_over(node)
        elif node.op in ("call_function", "call_method"):
            function: Any = node.target
            args = tree_map(self._values.of, node.args)
            if function is operator.getitem and isinstance(args[0], tuple):
                self._values.note_same(node.meta.get("example_value"), args[0][args[1]])
                return
            if function is getattr:  # x.mT
                function, args = getattr(Tensor, args[1]).__get__, args[:1]
            elif getattr(function, "__name__", function) in _OF_RANKS:
                self._is_spread(args[0], self._values.of(node))
                return
            elif isinstance(function, str):
                function = getattr(Tensor, function)
            kwargs = tree_map(self._values.of, node.kwargs)
            for known in (self._known, self._with_positions):
                known.follow(function, args, kwargs, self._values.of(node))

    def _is_spread(self, tensor: Tensor, part: Tensor) -> None:
        """Note that a part of a tensor that ranks share has its axes, or it those of a part.

        Where the ranks share the inputs, sizes differ from the model's, and nothing is known.
        """
        for known in (self._known, self._with_positions):
            axes, lost = known.axes(tensor), known.why_inputs_are_lost(tensor)
            cause = known.why_unknown(tensor)
            known.note_before(part, axes and axes_at(axes, part.shape, None), lost, cause)


_OF_RANKS = ("from_local", "redistribute", "to_local")  # methods of a DTensor
_axes: "weakref.WeakKeyDictionary[Graph, _GraphAxes]" = weakref.WeakKeyDictionary()


def _known_before(node: Node) -> TracedAxes | None:
    """Return what a graph before this one knows of a placeholder's tensor."""
    example = node.meta["grapharg"].example if "grapharg" in node.meta else None
    return known_of_left(example) if isinstance(example, Tensor) else None


def _joined(axes: Axes, with_positions: Axes | None) -> Axes:
    """Return axes with those of the others that count positions, where no neurons are."""
    pairs = zip(axes, with_positions or axes, strict=True)
    return tuple(b if has(b, POSITION) and not has(a, NEURON) else a for a, b in pairs)


def _is_given(node: Node) -> bool:
    """Return whether a placeholder is an argument of what is compiled, and no attribute of one."""
    source = node.meta["grapharg"].source.name if "grapharg" in node.meta else "."
    return "." not in (source if isinstance(source, str) else source())
