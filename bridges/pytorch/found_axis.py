"""PyTorch: the neuron axis of a layer, how it was found, and what its other axes count."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from .axis_flow import (
    IN_PARTS,
    LOST_AT,
    OF_WEIGHTS,
    ONE_NEURON,
    KnownAxes,
    TracedAxes,
    traced_axes,
)
from .axis_flow.factors import (
    BATCH,
    NEURON,
    POSITION,
    Axes,
    counts_inputs,
    has,
    likely_neuron_axis,
    neuron_axis,
    only_whole,
    other,
)
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
    ``batch_axis``: that of the inputs, where nothing is followed. ``followed``: whether such passes
    are followed. ``missed``: whether the layer did not run in one that was. ``cause``: of a guess.
    ``inputs_lost``: why it is not known which rows belong to which input. ``moved``: whether the
    axis was guessed to be another one, in earlier passes.
    ``of_one_neuron``: whether the axis is behind the last one, since each entry is a state of one
    neuron: its axis was squeezed.
    """

    axis: int
    origin: str
    ndim: int
    factors: Axes | None = None
    batch_second: bool = False
    batch_axis: int = 0
    cause: str = ""
    followed: bool = False
    missed: bool = False
    inputs_lost: str = ""
    moved: bool = False
    of_one_neuron: bool = False

    def likely_batch(self, shape: Sequence[int], axis: int, inputs: int | None) -> int:
        """Return which axis counts the inputs of a tensor that was not followed, if any does.

        That is the batch axis of the model, but where it holds the neurons, along ``axis``, or has
        not as many entries as there are inputs.
        """
        ndim = len(shape)
        batch = self.batch_axis % ndim if -ndim <= self.batch_axis < ndim else 0
        return 0 if batch == axis or inputs not in (None, shape[batch]) else batch

    def as_elsewhere(self, known: "FoundAxis") -> "FoundAxis":
        """Return what is found, with the axis that is known from passes of another kind."""
        axes = self.factors
        if axes is not None and known.of_one_neuron and not self.of_one_neuron:
            axes = (*axes, other(1))
        return replace(
            self,
            axis=known.axis,
            origin=known.origin,
            cause="",
            factors=axes,
            of_one_neuron=known.of_one_neuron,
        )


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
    batch_axis = 0 if passes is None or rule.has_inputs_first else passes.batch_axis
    found = replace(found, batch_second=rule.batch_second, batch_axis=batch_axis, missed=False)
    if known is not None and passes is not None:
        mask = passes.current.mask
        if factors is not None:
            factors = only_whole(factors, BATCH, known.inputs)
            factors = only_whole(factors, POSITION, None if mask is None else mask.shape[1])
            factors = (*factors, other(1)) if found.of_one_neuron else factors
        lost = known.why_inputs_are_lost(tensor)
        return replace(found, factors=factors, followed=True, inputs_lost=lost)
    if passes is not None and passes.was_followed():
        lost = "the layer did not run in the passes that were followed"
        return replace(found, followed=True, missed=True, inputs_lost=lost)
    if graph is not None and passes is not None:
        factors = graph.axes
        if factors is not None and found.of_one_neuron:
            factors = (*factors, other(1))
        return replace(found, factors=factors, followed=True, inputs_lost=graph.inputs_lost)
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
    axes, cause = None, "this pass was not followed"
    if known is not None:
        axes, cause = known.axes(tensor), known.why_unknown(tensor)
    elif graph is not None:
        axes, cause = graph.axes, graph.cause
    followed = neuron_axis(axes)
    if cause == ONE_NEURON and followed is None and not rule.defined:
        return FoundAxis(tensor.ndim, FLOW, tensor.ndim, of_one_neuron=True)
    if followed is not None and not rule.defined:
        return FoundAxis(followed, FLOW, tensor.ndim)
    inputs = 0 if known is None else known.inputs or 0
    is_column = counts_inputs((axes or ())[:1]) or (inputs > 1 and tensor.numel() % inputs == 0)
    is_column &= not any(has(axis, NEURON) for axis in axes or ())
    found = _by_rule(rule, tensor.shape, cause, is_column)
    if axes is None or found.origin != GUESS:
        return found
    return replace(found, axis=likely_neuron_axis(axes, found.axis))


def _by_rule(rule: AxisRule, shape: Sequence[int], cause: str, is_column: bool) -> FoundAxis:
    """Return the axis by a module's weights, by its class, or by the number of axes.

    ``is_column``: whether the first axis is one of inputs, so the neurons are along another one.
    """
    ndim = len(shape)
    fitting = rule.axes_that_fit(shape)
    if len(fitting) == 1 and not rule.defined:
        return FoundAxis(fitting[0], LAYER, ndim)
    # Two axes are (inputs, features) almost always, but not where features were followed, and lost.
    is_lost = cause.startswith(LOST_AT) or cause.endswith(IN_PARTS)
    were_lost = rule.kind == "unknown" and is_lost
    has_one = (is_column and shape[-1:] == (1,)) or math.prod(shape) <= 1
    is_guess = (rule.is_guess(ndim) and cause != OF_WEIGHTS) or (were_lost and not has_one)
    origin = LAYER if rule.defined else GUESS if is_guess else RULE
    return FoundAxis(rule.axis(ndim), origin, ndim, cause=cause if origin == GUESS else "")
