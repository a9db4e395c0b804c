"""Writes into a tensor: which inputs and positions its rows belong to afterwards."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from .calls import Call, Result, rule
from .factors import (
    BATCH,
    POSITION,
    Axes,
    has,
    neuron_places,
    other,
    places_of_inputs,
    resized,
    size_of,
    without,
)
from .sequences import numbers_inputs


def after_write(
    before: Axes, index: Mapping[int, Any], value: Tensor, written: Axes | None, lost_inputs: bool
) -> Axes:
    """Return the axes of a tensor after a value was written to it.

    ``before``: those that it had. ``index``: by what each axis is indexed, but for those of which
    all entries are written. ``written``: the axes of the value. ``lost_inputs``: whether it was
    computed from inputs, and is not known to have them.

    Rows that are written by their numbers may be anywhere afterwards, if the value has inputs or
    positions of its own. If it has none, they were taken by such numbers before, as experts take
    them, and are written back.
    """
    if written is not None and _are_elsewhere(before, index, written):
        return without(before, BATCH)
    kinds = [kind for kind in (BATCH, POSITION) if any(has(axis, kind) for axis in written or ())]
    axes = list(before)
    for i, axis in enumerate(axes):
        gone = []
        if isinstance(index.get(i), (Tensor, list)) and not numbers_inputs(index[i]):
            gone = kinds
        elif i not in index and lost_inputs and size_of(axis) in value.shape:
            gone = [BATCH]
        for kind in gone:
            axes[i] = without((axes[i],), kind)[0]
    return tuple(axes)


def _are_elsewhere(before: Axes, index: Mapping[int, Any], written: Axes) -> bool:
    """Return whether a value has its inputs at other places than what it is written to."""
    left = [i for i in range(len(before)) if not isinstance(index.get(i), int)]
    if any(not isinstance(each, (int, slice)) for each in index.values()):
        return False
    pairs = list(zip(reversed(left), reversed(written), strict=False))
    whole = [(before[i], axis) for i, axis in pairs if i not in index and size_of(axis) > 1]
    return any(has(axis, BATCH) for _, axis in whole) and any(
        places_of_inputs(there) != places_of_inputs(axis) for there, axis in whole
    )


def indexed_axes(ndim: int, index: Any) -> dict[int, Any]:
    """Return by what each axis is indexed, but for axes that are taken whole.

    >>> indexed_axes(4, (slice(None), 0, ..., [2, 0]))
    {1: 0, 3: [2, 0]}
    """
    entries = index if isinstance(index, tuple) else (index,)
    used = sum(map(_count, entries))
    found: dict[int, Any] = {}
    axis = 0
    for entry in entries:
        count = ndim - used if entry is Ellipsis else _count(entry)
        if entry is not Ellipsis and not (isinstance(entry, slice) and entry == slice(None)):
            found |= dict.fromkeys(range(axis, axis + count), entry)
        axis += count
    return found


def _count(entry: Any) -> int:
    """Return how many axes a part of an index is about."""
    if entry is None or entry is Ellipsis:
        return 0
    return entry.ndim if isinstance(entry, Tensor) and entry.dtype == torch.bool else 1


@rule("index_add scatter_add index_copy scatter scatter_reduce index_put masked_scatter")
def _scattered(call: Call) -> Result:
    """Into a tensor of which nothing is known, whole axes come from what is written."""
    axes, dim = call.input_axes, call.argument(1, "dim")
    source = call.argument(3 if isinstance(dim, int) else 2, "source", "src", "values")
    written = call.known(source)
    if axes is not None:
        elsewhere = written is not None and neuron_places(written) != neuron_places(axes)
        return None if elsewhere or call.is_lost(source) else _after_scattering(call, axes, source)
    if written is None or not isinstance(dim, int) or source.ndim != call.out.ndim:
        return None
    return tuple(
        other(size) if i == dim % len(written) else resized(axis, size)
        for i, (axis, size) in enumerate(zip(written, call.shape, strict=True))
    )


def _after_scattering(call: Call, axes: Axes, source: Any) -> Axes:
    dim = call.argument(1, "dim", "indices")
    if not isinstance(source, Tensor) or call.name.startswith("masked"):
        return axes  # a mask leaves rows in their order
    if isinstance(dim, int):
        index = {dim % len(axes): call.argument(2, "index")}
    else:
        index = indexed_axes(len(axes), tuple(slice(None) if i is None else i for i in dim))
    return after_write(axes, index, source, call.known(source), call.has_lost_inputs(source))
