"""Views, reshapes and indexing: axes change places, are cut, split or merged."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from .calls import Call, Result, rule
from .factors import (
    BATCH,
    OTHER,
    Axes,
    Axis,
    has,
    neuron,
    neuron_axis,
    neuron_places,
    one_part,
    other,
    others,
    reordered,
    reshape,
    resized,
    size_of,
)
from .sequences import numbers_inputs

# As strides of a tensor without data, they tell of each axis of a view where it came from.
_PRIMES = (10007, 20011, 40009, 80021, 160001, 320009, 640007, 1280023, 2560021, 5120029)


@rule(
    "permute transpose movedim moveaxis swapaxes swapdims t T mT H mH adjoint numpy_T select slice "
    "narrow chunk split tensor_split split_with_sizes unsafe_chunk unsafe_split unbind squeeze "
    "unsqueeze expand expand_as diagonal hsplit vsplit dsplit"
)
def view(call: Call) -> Result:
    source = call.input
    axes = call.known(source)
    if axes is None or source.ndim > len(_PRIMES):
        return None
    if call.name == "chunk" and call.is_of_dtensor and not call.argument(2, "dim"):
        part = one_part(axes, len(call.outputs))
        if part is not None:
            return [part] * len(call.outputs)
    arguments = [_without_data(a) if isinstance(a, Tensor) else a for a in call.args[1:]]
    found = call.function(_probe(source), *arguments, **call.kwargs)
    views = found if isinstance(found, (tuple, list)) else [found]
    if call.name in _IN_PARTS and len({view.shape for view in views}) == 1:
        return [tuple(map(_equal_part, axes, view.shape)) for view in views]
    return [_axes_of_view(view, axes) for view in views]


_IN_PARTS = {"chunk", "split", "tensor_split", "unsafe_chunk", "unsafe_split"}


def _equal_part(axis: Axis, size: int) -> Axis:
    """Return one of the equal parts of an axis: of several batches in a row, one or more."""
    first, *inner = axis
    if first.kind != OTHER or not has(tuple(inner), BATCH) or size % size_of(tuple(inner)):
        return resized(axis, size)
    return (first._replace(size=size // size_of(tuple(inner))), *inner)


def _probe(tensor: Tensor) -> Tensor:
    return torch.empty_strided(tuple(tensor.shape), _PRIMES[: tensor.ndim], device="meta")


def _without_data(tensor: Tensor) -> Tensor:
    return torch.empty(tuple(tensor.shape), device="meta")


def _axes_of_view(view: Tensor, axes: Axes) -> Axes:
    return tuple(
        other(size) if source is None else resized(axes[source], size)
        for size, source in zip(view.shape, map(_source, view.stride()), strict=True)
    )


def _source(stride: int) -> int | None:
    """Return the axis with that stride in the probe, also where a step multiplies it."""
    for axis, prime in enumerate(_PRIMES):
        if stride and stride % prime == 0 and stride // prime < _PRIMES[0]:
            return axis
    return None


@rule("reshape view flatten unflatten _unsafe_view view_as reshape_as ravel _reshape_alias")
def _reshaped(call: Call) -> Result:
    axes = call.input_axes
    found = None if axes is None else reshape(axes, call.shape)
    place = neuron_axis(axes)
    if found is None or axes is None or place is None or size_of(axes[place]) > 1:
        return found
    # The axis of a single neuron has no factor. Where others are merged, neurons are, too.
    merged = [i for i, axis in enumerate(found) if axis not in axes and size_of(axis) > 1]
    if len(merged) != 1 or has(found[merged[0]], BATCH):
        return found
    return tuple(neuron(size_of(axis)) if [i] == merged else axis for i, axis in enumerate(found))


@rule("__getitem__")
def _indexed(call: Call) -> Result:
    source, index = call.args
    axes = call.known(source)
    if axes is None:
        return None
    index = index if isinstance(index, tuple) else (index,)
    if not any(isinstance(i, (Tensor, list)) for i in index):
        return _axes_of_view(_probe(source)[index], axes)
    return _indexed_by_tensors(source, axes, index, call.out.ndim, call.shape)


def _indexed_by_tensors(
    source: Tensor, axes: Axes, index: tuple[Any, ...], ndim: int, shape: Sequence[int]
) -> Axes | None:
    """Take whole axes where tensors index, then put what they select in these axes' place."""
    plain, marks, tensors = _by_kind(index)
    view = _axes_of_view(_probe(source)[tuple(plain)], axes)
    if any(mark is Ellipsis for mark in marks):
        at = next(i for i, mark in enumerate(marks) if mark is Ellipsis)
        marks[at : at + 1] = [None] * (len(view) - len(marks) + 1)
    taken = [i for i, mark in enumerate(marks) if mark is True]
    kept = [axis for i, axis in enumerate(view) if i not in taken]
    adjacent = taken == list(range(taken[0], taken[-1] + 1))
    start = taken[0] if adjacent else 0
    new = ndim - len(kept)
    selected = others(shape[start : start + new])
    if new == 1 and len(taken) == 1 and neuron_places((view[taken[0]],)):
        selected = (reordered(resized(view[taken[0]], shape[start])),)
    in_order = [
        view[axis]
        for axis, i in zip(taken, tensors, strict=True)
        if i.ndim == new and numbers_inputs(i) and size_of(view[axis]) == shape[start]
    ]
    if len(in_order) == 1:
        selected = (in_order[0], *selected[1:])
    return (*kept[:start], *selected, *kept[start:])


def _by_kind(index: tuple[Any, ...]) -> tuple[list[Any], list[Any], list[Tensor]]:
    """Return the parts of an index that are no tensors, and where and what the tensors are.

    First, the index with the whole axis in place of each that a tensor indexes. Then, of each part
    of it that leaves an axis, that part, or True if a tensor indexes it. Then these tensors.
    """
    plain: list[Any] = []
    marks: list[Any] = []
    tensors: list[Tensor] = []
    for i in index:
        if isinstance(i, list):
            i = torch.as_tensor(i)
        if isinstance(i, Tensor):
            count = i.ndim if i.dtype == torch.bool else 1
            plain += [slice(None)] * count
            marks += [True] * count
            tensors += [i] * count
        else:
            plain.append(i)
            marks += [] if isinstance(i, int) else [i]
    return plain, marks, tensors


def axes_of_target(target: Tensor, index: Any, written: Axes) -> Axes | None:
    """Return the axes of a tensor of which nothing was known, after ``target[index] = value``.

    ``written``: the axes of the value. Axes that are indexed, or filled in part, are others.
    """
    index = index if isinstance(index, tuple) else (index,)
    if any(isinstance(i, (Tensor, list)) for i in index):
        return None
    part = _probe(target)[index]
    if part.ndim < len(written):
        return None
    axes = list(others(target.shape))
    offset = part.ndim - len(written)
    for i, axis in enumerate(written, offset):
        source = _source(part.stride(i))
        if source is not None and size_of(axis) == part.shape[i]:
            axes[source] = resized(axis, target.shape[source])
    return tuple(axes)


@rule("view_as_real")
def _as_real(call: Call) -> Result:
    axes = call.input_axes
    return None if axes is None else (*axes, other(2))


@rule("view_as_complex")
def _as_complex(call: Call) -> Result:
    axes = call.input_axes
    return None if axes is None else axes[:-1]
