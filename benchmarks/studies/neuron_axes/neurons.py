"""Which parameters make one neuron of a module, and how to change that neuron alone."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

# A neuron's value y becomes FLIPPED * y: of the two, one passes a ReLU, and both differ in a clamp.
FLIPPED = -2.5


def has_neurons(module: nn.Module) -> bool:
    """Return whether one neuron of this module can be changed; not of what its children hold."""
    return isinstance(module, nn.RNNBase) or neuron_count(module) > 0


def neuron_count(module: nn.Module, matrix: "Matrix | None" = None) -> int:
    """Return the number of neurons whose parameters are known, and can be changed; 0 if none."""
    if matrix is not None:
        return module.get_parameter(matrix[0]).shape[matrix[1]]
    return max((count for count, _ in _views(module, 0.0)), default=0)


def neuron_views(module: nn.Module, share: float) -> list[torch.Tensor]:
    """Return views of what the parameters hold of one neuron: the one at this share of all.

    A parameter with one axis longer than 1 has its neurons there. Of others, only those of known
    layers are taken. If they disagree about the number of neurons, the largest number counts.
    """
    views = _views(module, share)
    most = max((count for count, _ in views), default=0)
    return [view for count, view in views if count == most]


Matrix = tuple[str, int]  # the name of a parameter, and the axis of it that may hold neurons


def matrices(module: nn.Module) -> list[list[Matrix]]:
    """Return for each parameter which axes of it may hold neurons, where no definition tells.

    Only of modules without other neurons, such as routers and experts. Either of the last two long
    axes may be the one; an axis before these stacks matrices, one for each expert.
    """
    if has_neurons(module):
        return []
    found = []
    for name, parameter in module.named_parameters(recurse=False):
        longer = [axis for axis, size in enumerate(parameter.shape) if size > 1]
        if len(longer) > 1:
            found.append([(name, axis) for axis in longer[-2:]])
    return found


def _views(module: nn.Module, share: float) -> list[tuple[int, torch.Tensor]]:
    """The number of neurons in each parameter, and a view of one of them."""
    views: list[tuple[int, torch.Tensor]] = []
    for name, parameter in module.named_parameters(recurse=False):
        if name == "weight" and isinstance(module, _ConvTransposeNd):
            views.append(_transposed_view(module, share))
        elif (axis := _neuron_axis(module, name, parameter)) is not None:
            count = parameter.shape[axis]
            views.append((count, parameter.detach().select(axis, int(share * count))))
    return views


def _neuron_axis(module: nn.Module, name: str, parameter: torch.Tensor) -> int | None:
    if name == "weight":
        if isinstance(module, (nn.Embedding, nn.EmbeddingBag)):
            return 1
        if isinstance(module, (nn.Linear, nn.Bilinear, _ConvNd)):
            return 0
    longer = [axis for axis, size in enumerate(parameter.shape) if size > 1]
    return longer[0] if len(longer) == 1 else None


def _transposed_view(module: Any, share: float) -> tuple[int, torch.Tensor]:
    """The weight is (inputs, outputs of one group, ...): a group has its inputs in a row."""
    outputs = module.weight.shape[1]
    inputs = module.weight.shape[0] // module.groups
    group, inside = divmod(int(share * module.out_channels), outputs)
    rows = module.weight.detach()[group * inputs : (group + 1) * inputs]
    return module.out_channels, rows[:, inside]


@contextmanager
def flipped(module: nn.Module, share: float, matrix: Matrix | None = None) -> Iterator[None]:
    """Multiply the parameters of one neuron by FLIPPED, and put them back.

    ``matrix``: the parameter and the axis, of a module where more than one may be meant.
    """
    if matrix is None:
        chosen = neuron_views(module, share)
    else:
        name, axis = matrix
        parameter = module.get_parameter(name).detach()
        chosen = [parameter.select(axis, int(share * parameter.shape[axis]))]
    with _restored(chosen) as views:
        for view in views:
            view.mul_(FLIPPED)
        yield


def flip_output(output: Any, share: float) -> Any:
    """Flip one neuron in the output of a recurrent layer.

    Its parameters would change all neurons from the second step on. torch defines that the neurons
    lie along the last axis.
    """
    sequence, *rest = output
    sequence = sequence.clone()
    sequence[..., int(share * sequence.shape[-1])] *= FLIPPED
    return (sequence, *rest)


@contextmanager
def noise_in_parameters(model: nn.Module, seed: int = 0) -> Iterator[None]:
    """Change every parameter a little, each number by itself, and put them back."""
    generator = torch.Generator().manual_seed(seed)
    with _restored([parameter.detach() for parameter in model.parameters()]) as parameters:
        for parameter in parameters:
            noise = torch.rand(parameter.shape, generator=generator) - 0.5
            parameter.add_(0.2 * (parameter.abs() + 0.1) * noise)
        yield


@contextmanager
def _restored(tensors: list[torch.Tensor]) -> Iterator[list[torch.Tensor]]:
    before = [tensor.clone() for tensor in tensors]
    try:
        yield tensors
    finally:
        for tensor, values in zip(tensors, before, strict=True):
            tensor.copy_(values)


def spread_constants(model: nn.Module, seed: int = 0) -> None:
    """Replace parameters that are all 0, all 1 or alike by random numbers.

    A layer that starts as zero, such as the last norm of a residual branch, hides what feeds it.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            first = parameter.flatten()[:1]
            if parameter.numel() < 2 or not bool((parameter == first).all()):
                continue
            noise = torch.rand(parameter.shape, generator=generator)
            parameter.copy_(0.5 + noise if first != 0 else 0.2 * (noise - 0.5))
