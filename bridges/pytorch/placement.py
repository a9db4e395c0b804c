"""PyTorch: Placement, where neurons and inputs are in the tensors that wait in a stage."""

import json
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import torch

from tensorstate_gpu.errors import NotCapturable

from .axis_flow.factors import BATCH
from .found_axis import FoundAxis
from .other_devices import has_backend
from .tensors import check_dense


class Placement(NamedTuple):
    """Where the neurons and the inputs are in the tensors of a layer, and which neurons fire.

    ``inputs``: the axis that counts the inputs; None if they are not known.
    """

    axis: int
    inputs: int | None
    ndim: int
    neurons: int
    threshold: float

    def as_text(self) -> str:
        """Return it as a constant of a compiled graph; see placement_from()."""
        return json.dumps(self)


def placement_of(
    tensor: torch.Tensor, found: FoundAxis, threshold: float, inputs: int | None, name: str
) -> Placement:
    """Return where neurons and inputs are in the tensors of a layer.

    ``inputs``: how many the pass has, if it is known. Raises TypeError or ValueError for a tensor
    that cannot be staged.
    """
    check_dense(tensor, name)
    if not has_backend(tensor):
        raise NotCapturable(f"{name}: stage_rows= is for the cpu and cuda, not {tensor.device}")
    if tensor.is_quantized:
        raise TypeError(f"{name}: quantized tensors cannot be staged: capture without stage_rows=")
    if not -tensor.ndim <= found.axis < tensor.ndim:
        raise ValueError(f"{name}: the neuron axis is {found.axis} of {tensor.ndim}")
    axis = found.axis % tensor.ndim
    of_inputs = _axis_of_inputs(found, axis, tensor.shape, inputs)
    return Placement(axis, of_inputs, tensor.ndim, tensor.shape[axis], threshold)


def _axis_of_inputs(
    found: FoundAxis, axis: int, shape: Sequence[int], inputs: int | None
) -> int | None:
    """Return the axis that counts the inputs, and nothing else; None if there is none.

    Only where the pass was not followed are inputs where they usually are, if that axis has as many
    entries.
    """
    axes = [[factor.kind for factor in factors] for factors in found.factors or ()]
    if [BATCH] in axes:
        return axes.index([BATCH])
    is_second = found.batch_second and len(shape) == 3
    usual = 1 if is_second else found.likely_batch(shape, axis, inputs)
    if found.followed or usual == axis or inputs not in (None, shape[usual]):
        return None
    return usual


@lru_cache(maxsize=1024)
def placement_from(text: str) -> Placement:
    """Return what as_text() has written."""
    return Placement(*json.loads(text))


def inputs_first(x: torch.Tensor, place: Placement) -> tuple[torch.Tensor, int]:
    """Return a view whose rows are sorted by input, and the axis of its neurons."""
    if not place.inputs:
        return x, place.axis
    return x.movedim(place.inputs, 0), place.axis + (place.axis < place.inputs)
