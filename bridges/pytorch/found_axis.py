"""PyTorch: the neuron axis of a layer, how it was found, and what its other axes count."""

from collections.abc import Sequence
from dataclasses import dataclass

from .axis_flow.factors import Axes
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
    input.
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


def by_rule(rule: AxisRule, shape: Sequence[int], cause: str) -> FoundAxis:
    """Return the axis by a module's weights, by its class, or by the number of axes."""
    ndim = len(shape)
    fitting = rule.axes_that_fit(shape)
    if len(fitting) == 1 and not rule.defined:
        return FoundAxis(fitting[0], LAYER, ndim)
    origin = LAYER if rule.defined else GUESS if rule.is_guess(ndim) else RULE
    return FoundAxis(rule.axis(ndim), origin, ndim, cause=cause if origin == GUESS else "")
