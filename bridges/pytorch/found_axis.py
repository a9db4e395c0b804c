"""PyTorch: the neuron axis of a layer, how it was found, and what its other axes count."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from .axis_flow import KnownAxes, TracedAxes, traced_axes
from .axis_flow.factors import BATCH, POSITION, Axes, neuron_axis, only_whole
from .forward_passes import ForwardPasses
from .neuron_axes import AxisRule

# Where an axis is known from. "given": by the user. "layer": the layer's definition leaves no
# other. "flow": followed through a forward pass, from the layers that feed this one. "rule": what
# holds for layers of that class. "guess": by the number of axes alone.
GIVEN, LAYER, FLOW, RULE, GUESS = ("given", "layer", "flow", "rule", "guess")


@dataclass(frozen=True, slots=True)
class FoundAxis:
    """The neuron axis of the tensors of one layer.

    ``factors``: those of the axes of the tensor that was followed; None if nothing is known.
    ``followed``: whether such passes are followed. ``missed``: whether the layer did not run in one
    that was. ``cause``: of a guess. ``inputs_lost``: why it is not known which rows belong to which
    input. ``moved``: whether the axis was guessed to be another one, in earlier passes.
    """

    axis: int
    origin: str
    ndim: int
    factors: Axes | None = None
    batch_second: bool = False
    cause: str = ""
    followed: bool = False
    missed: bool = False
    inputs_lost: str = ""
    moved: bool = False


def find_axis(
    tensor: torch.Tensor,
    rule: AxisRule,
    given: int | None,
    passes: ForwardPasses | None,
    traced: str | None,
    before: FoundAxis | None = None,
) -> FoundAxis:
    """Find the neuron axis of a tensor of a layer, and what its other axes count.

    ``given``: the axis that the user gave. ``passes``: of the model, if the layer is one of a
    model. ``traced``: of a tensor in a compiled graph, what axes_in_graph() returned. The
    axis that was found ``before`` stays, so that all rows mean the same.
    """
    known = None if passes is None else passes.current.known_axes
    factors = None if known is None else known.axes(tensor)
    graph = None if traced is None else traced_axes(traced)
    found = before or _neurons_of(tensor, rule, given, known, graph)
    found = replace(found, batch_second=rule.batch_second, missed=False)
    if known is not None and passes is not None:
        mask = passes.current.mask
        if factors is not None:
            factors = only_whole(factors, BATCH, known.inputs)
            factors = only_whole(factors, POSITION, None if mask is None else mask.shape[1])
        lost = known.why_inputs_are_lost(tensor)
        return replace(found, factors=factors, followed=True, inputs_lost=lost)
    if passes is not None and passes.was_followed():
        lost = "the layer did not run in the passes that were followed"
        return replace(found, followed=True, missed=True, inputs_lost=lost)
    if graph is not None and graph.inputs_lost is not None:
        return replace(found, factors=graph.axes, followed=True, inputs_lost=graph.inputs_lost)
    return found


def _neurons_of(
    tensor: torch.Tensor,
    rule: AxisRule,
    given: int | None,
    known: KnownAxes | None,
    graph: TracedAxes | None,
) -> FoundAxis:
    if given is not None:
        return FoundAxis(given, GIVEN, tensor.ndim)
    followed = neuron_axis(None if known is None else known.axes(tensor))
    cause = "this pass was not followed"
    if known is not None:
        cause = known.why_unknown(tensor)
    elif graph is not None:
        followed, cause = neuron_axis(graph.axes), graph.cause
    if followed is not None and not rule.defined:
        return FoundAxis(followed, FLOW, tensor.ndim)
    return _by_rule(rule, tensor.shape, cause)


def _by_rule(rule: AxisRule, shape: Sequence[int], cause: str) -> FoundAxis:
    """Return the axis by a module's weights, by its class, or by the number of axes."""
    ndim = len(shape)
    fitting = rule.axes_that_fit(shape)
    if len(fitting) == 1 and not rule.defined:
        return FoundAxis(fitting[0], LAYER, ndim)
    origin = LAYER if rule.defined else GUESS if rule.is_guess(ndim) else RULE
    return FoundAxis(rule.axis(ndim), origin, ndim, cause=cause if origin == GUESS else "")
