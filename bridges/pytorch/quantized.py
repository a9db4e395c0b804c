"""PyTorch: the states of quantised tensors, from their integers and without rounding.

Such a tensor holds integers q for the numbers (q - zero point) * scale, so that a neuron fires if
q > zero point + threshold / scale.
"""

import math
from collections.abc import Sequence
from fractions import Fraction

import torch

from tensorstate_gpu._arrays.thresholds import Number

from .tensors import NotDense

_FORMATS = (torch.quint8, torch.qint8, torch.qint32)


def integers_of(
    tensor: torch.Tensor, neuron_axis: int, threshold: Number | tuple[Number, ...]
) -> tuple[torch.Tensor, Number | tuple[Number, ...]]:
    """Return a tensor of plain integers or bools, and the threshold for these.

    Raises TypeError or ValueError for a format or a combination that is not supported.
    """
    if tensor.dtype not in _FORMATS:
        message = f"quantised tensor of {tensor.dtype}; accepted are quint8, qint8 and qint32"
        raise NotDense(message, str(tensor.dtype).removeprefix("torch."))
    if tensor.qscheme() == torch.per_tensor_affine:
        scale, zero_point = tensor.q_scale(), tensor.q_zero_point()
        if isinstance(threshold, tuple):
            return tensor.int_repr(), tuple(_limit(t, scale, zero_point) for t in threshold)
        return tensor.int_repr(), _limit(threshold, scale, zero_point)
    return _above_limits(tensor, neuron_axis, threshold), 0.0


def _above_limits(
    tensor: torch.Tensor, neuron_axis: int, threshold: Number | tuple[Number, ...]
) -> torch.Tensor:
    """Return which entries of a tensor fire that is quantised per channel: bools of its shape."""
    channels: int = tensor.q_per_channel_axis()
    scales = tensor.q_per_channel_scales().tolist()
    zero_points = tensor.q_per_channel_zero_points().tolist()
    thresholds = _for_channels(threshold, channels == neuron_axis % tensor.ndim, len(scales))
    limits = map(_limit, thresholds, scales, zero_points)
    shape = [-1 if axis == channels else 1 for axis in range(tensor.ndim)]
    # Integers are greater than a limit if they are greater than its floor.
    floors = torch.tensor([_floor(limit) for limit in limits], device=tensor.device)
    return tensor.int_repr() > floors.view(shape)


def _for_channels(
    threshold: Number | tuple[Number, ...], are_neurons: bool, count: int
) -> Sequence[Number]:
    if not isinstance(threshold, tuple):
        return [threshold] * count
    if not are_neurons:
        raise ValueError(
            "one threshold per neuron is not for tensors that are quantised per channel along "
            "another axis than that of the neurons: give one threshold for all"
        )
    if len(threshold) != count:
        raise ValueError(
            f"threshold must be one number or one per neuron ({count}), got {len(threshold)}"
        )
    return threshold


def _limit(threshold: Number, scale: float, zero_point: float) -> Number:
    """Return the exact number that the integers of firing neurons are greater than."""
    if not 0 < scale < math.inf:
        raise ValueError(f"the scale of a quantised tensor must be greater than 0, got {scale}")
    if threshold in (math.inf, -math.inf):
        return threshold
    return Fraction(threshold) / Fraction(scale) + Fraction(zero_point)


def _floor(limit: Number) -> int:
    """Round a limit down, to a number of 32 bits and one more on either side."""
    return math.floor(min(max(limit, -(2**32)), 2**32))
