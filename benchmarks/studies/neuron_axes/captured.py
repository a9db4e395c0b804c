"""Which neuron axis the library takes for each call of a leaf layer, by its own rules."""

import dataclasses
import re
import warnings
from collections.abc import Mapping
from typing import Any

from torch import nn

import tensorstate_gpu as ts

from .passes import Inputs, leaf_layers, run


@dataclasses.dataclass(frozen=True)
class Taken:
    """The axis that was taken, and where it comes from; or why the layer cannot be captured."""

    axis: int | None
    origin: str
    problem: str = ""


def taken_axes(model: nn.Module, inputs: Inputs) -> "TakenAxes":
    """Capture all leaf layers in one forward pass.

    A layer that raises an error is noted and left out, and the pass begins again.
    """
    leaves = set(leaf_layers(model))
    problems: dict[str, str] = {}
    while True:
        wanted = leaves - set(problems)
        try:
            with (
                warnings.catch_warnings(action="ignore", category=UserWarning),
                ts.capture(model, lambda name, layer, wanted=wanted: name in wanted) as captured,
            ):
                run(model, inputs)
            return TakenAxes({point.name: point for point in captured.efficiency_layers}, problems)
        except (TypeError, ValueError) as error:
            layer = _layer_of(error)
            if layer not in wanted:
                raise
            problems[layer] = f"{type(error).__name__}: {error}"


def _layer_of(error: Exception) -> str:
    """The name of the layer that an error is about."""
    for text in (*getattr(error, "__notes__", ()), str(error)):
        if found := re.match(r"(?:while capturing )?(.+?)(?::\d+)?_post_states\b", text):
            return found[1]
    return ""


@dataclasses.dataclass(frozen=True)
class TakenAxes:
    """The capture points of a pass by name, and the layers that raised an error."""

    points: Mapping[str, Any]
    problems: Mapping[str, str]

    def of(self, layer: str, number: int, ndim: int) -> Taken:
        """Return what was taken for one call; later calls may have points of their own."""
        if layer in self.problems:
            return Taken(None, "raised", self.problems[layer])
        later = self.points.get(f"{layer}:{number + 1}_post_states")
        first = self.points.get(f"{layer}_post_states")
        point = later if number and later is not None else first
        if point is None or point.axis is None:  # BigBird makes new layers in its first pass
            return Taken(None, "raised", "nothing was captured")
        axis = min(point.axis % max(ndim, 2), ndim - 1)  # (neurons,) is captured as (1, neurons)
        return Taken(axis, getattr(point, "axis_origin", None) or "rule")
