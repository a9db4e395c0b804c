"""PyTorch: the neuron axis of a layer, how it was found, and the order of its rows by input."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from .axis_flow.factors import BATCH, Axes, Factor, has
from .neuron_axes import AxisRule

# Where an axis is known from. "given": by the user. "layer": the layer's definition leaves no
# other. "flow": followed through a forward pass, from the layers that feed this one. "rule": what
# holds for layers of that class. "guess": by the number of axes alone.
GIVEN, LAYER, FLOW, RULE, GUESS = ("given", "layer", "flow", "rule", "guess")


@dataclass(frozen=True, slots=True)
class FoundAxis:
    """The neuron axis of the tensors of one layer.

    ``factors``: those of the axes of the tensor that was followed; None if it was not.
    ``cause``: of a guess.
    """

    axis: int
    origin: str
    ndim: int
    factors: Axes | None = None
    batch_second: bool = False
    cause: str = ""


def by_rule(rule: AxisRule, shape: Sequence[int], factors: Axes | None, cause: str) -> FoundAxis:
    """Return the axis by a module's weights, by its class, or by the number of axes."""
    ndim = len(shape)
    fitting = rule.axes_that_fit(shape)
    if len(fitting) == 1 and not rule.defined:
        return FoundAxis(fitting[0], LAYER, ndim, factors, rule.batch_second)
    origin = LAYER if rule.defined else GUESS if rule.is_guess(ndim) else RULE
    axis = rule.axis(ndim)
    return FoundAxis(
        axis, origin, ndim, factors, rule.batch_second, cause if origin == GUESS else ""
    )


def inputs_first(
    tensor: torch.Tensor, axis: int, found: FoundAxis, inputs: int | None
) -> tuple[torch.Tensor, int, int]:
    """Return a view with the model's inputs first, its neuron axis, and the number of inputs.

    ``inputs``: the batch size of this pass, where it is known.
    """
    if not -tensor.ndim <= axis < tensor.ndim:
        return tensor, axis, 1  # packing says what is wrong
    axis %= tensor.ndim
    if found.batch_second and tensor.ndim == 3:
        return tensor.transpose(0, 1), axis, tensor.shape[1]
    place = None if found.factors is None else _batch_place(found.factors, tensor.shape, inputs)
    if place is None or place[0] == axis:
        return tensor, axis, 1 if axis == 0 else tensor.shape[0]
    split, sizes, position = place
    if len(sizes) > 1:
        shape = tensor.shape
        tensor = tensor.view(*shape[:split], *sizes, *shape[split + 1 :])
        axis += len(sizes) - 1 if axis > split else 0
    first = split + position
    return tensor.movedim(first, 0), axis + 1 if axis < first else axis, tensor.shape[first]


def _batch_place(
    factors: Axes, shape: tuple[int, ...], inputs: int | None
) -> tuple[int, list[int], int] | None:
    """Return the axis with the inputs, the sizes of its parts, and which part the inputs are."""
    found = [(i, axis) for i, axis in enumerate(factors) if has(axis, BATCH)]
    if len(found) != 1 or len(factors) != len(shape):
        return None
    ((i, axis),) = found
    parts = [k for k, factor in enumerate(axis) if factor.kind == BATCH]
    if len(parts) != 1:
        return None
    (part,) = parts
    sizes = _sizes_of(axis, part, shape[i], inputs)
    return None if sizes is None else (i, sizes, part)


def _sizes_of(
    axis: tuple[Factor, ...], part: int, size: int, inputs: int | None
) -> list[int] | None:
    """Return the sizes of an axis' parts in this pass, whose batch may have another size."""
    if len(axis) == 1:
        return [size]
    sizes = [factor.size for factor in axis]
    if inputs is not None:
        sizes[part] = inputs
    others = [k for k in range(len(sizes)) if k != part]
    if len(others) == 1 and size % max(sizes[part], 1) == 0:
        sizes[others[0]] = size // max(sizes[part], 1)
    return sizes if math.prod(sizes) == size else None
