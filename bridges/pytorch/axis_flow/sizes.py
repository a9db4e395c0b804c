"""Functions whose outputs have fewer, more or other entries: pooling, reductions, joining."""

from collections.abc import Sequence

import numpy as np

from .calls import Call, Result, rule
from .factors import (
    BATCH,
    NEURON,
    OTHER,
    POSITION,
    Axes,
    Axis,
    Factor,
    has,
    in_parts,
    join,
    neuron,
    of_same_inputs,
    one_part,
    other,
    others,
    resized,
    size_of,
    without,
)
from .same_shape import elementwise
from .sequences import selected
from .views import view


def _resized_to(axes: Axes | None, shape: Sequence[int]) -> Axes | None:
    if axes is None or len(axes) != len(shape):
        return None
    return tuple(map(resized, axes, shape))


@rule("pad constant_pad_nd glu diff")
def _padded(call: Call) -> Result:
    axes = _resized_to(call.input_axes, call.shape)
    added = (call.argument(1, "pad") or ()) if "pad" in call.name else ()
    if axes is None or not any(added):
        return axes
    # What is added before the first entry, and cut off behind the last, puts inputs elsewhere.
    moved = {len(axes) - 1 - i for i, before in enumerate(added[::2]) if before}
    return tuple(without((axis,), BATCH)[0] if i in moved else axis for i, axis in enumerate(axes))


@rule("cummax cummin")
def _cumulated(call: Call) -> Result:
    return [call.input_axes] * len(call.outputs)


@rule("index_select gather take_along_dim")
def _gathered(call: Call) -> Result:
    axes = call.input_axes
    dim = call.argument(2 if call.name == "take_along_dim" else 1, "dim")
    if axes is None or dim is None or len(axes) != call.out.ndim:
        return None
    dim %= len(axes)
    # Where places take different neurons, an entry of the axis is no neuron.
    axis = axes[dim] if _is_alike(call, dim) else without((axes[dim],), NEURON)[0]
    axes = (*axes[:dim], axis, *axes[dim + 1 :])
    return tuple(
        selected(call, axis, size) if i == dim else resized(axis, size)
        for i, (axis, size) in enumerate(zip(axes, call.shape, strict=True))
    )


def _is_alike(call: Call, dim: int) -> bool:
    """Return whether an index is known to take the same entries of an axis everywhere."""
    index = call.argument(1 if call.name == "take_along_dim" else 2, "indices", "index")
    if index.ndim <= 1:
        return True
    along = zip(index.shape, index.stride(), strict=True)
    return all(size == 1 or not stride for i, (size, stride) in enumerate(along) if i != dim)


_POOLS = [
    f"{kind}{rank}d"
    for rank in (1, 2, 3)
    for kind in (
        *("max_pool", "avg_pool", "lp_pool", "adaptive_max_pool", "adaptive_avg_pool"),
        *("fractional_max_pool", "max_unpool", "_adaptive_avg_pool"),
    )
]


@rule(" ".join([*_POOLS, *(f"{pool}_with_indices" for pool in _POOLS)]))
def _pooled(call: Call) -> Result:
    axes, shape = call.input_axes, call.shape
    if axes is None or len(axes) != len(shape):
        return None
    rank = int(next(c for c in call.name if c.isdigit()))
    each = tuple(
        resized(axis, size) if i < len(shape) - rank or has(axis, NEURON) else other(size)
        for i, (axis, size) in enumerate(zip(axes, shape, strict=True))
    )
    return [each] * len(call.outputs)


@rule(
    "interpolate upsample upsample_nearest upsample_bilinear grid_sample pixel_shuffle "
    "pixel_unshuffle channel_shuffle native_channel_shuffle"
)
def _spatial(call: Call) -> Result:
    """Positions change, and so may the number of channels, which are before them."""
    axes, shape = call.input_axes, call.shape
    if axes is None or len(axes) != len(shape):
        return None
    spatial = 2 if call.name.startswith("pixel") else len(shape) - 2
    first = len(shape) - spatial
    leading = [
        neuron(size) if has(axis, NEURON) and not has(axis, BATCH) else resized(axis, size)
        for axis, size in zip(axes[:first], shape[:first], strict=True)
    ]
    return (*leading, *others(shape[first:]))


@rule("unfold im2col")
def _unfolded(call: Call) -> Result:
    axes, shape = call.input_axes, call.shape
    if len(shape) == call.input.ndim + 1:  # Tensor.unfold
        return view(call)
    if axes is None or len(axes) != 4 or len(shape) != 3:
        return None
    is_one = has(axes[1], NEURON) and size_of(axes[1]) == 1  # which has no factor
    channels = neuron(shape[1]) if is_one else _times(axes[1], shape[1], inner=True)
    return axes[0], channels, other(shape[2])


@rule("fold col2im")
def _folded(call: Call) -> Result:
    axes, shape = call.input_axes, call.shape
    if axes is None or len(axes) != 3 or len(shape) != 4:
        return None
    return axes[0], resized(axes[1], shape[1]), *others(shape[2:])


_TRANSFORMS = "fft ifft rfft irfft fft2 ifft2 rfft2 irfft2 fftn ifftn rfftn irfftn hfft ihfft"


@rule(" ".join(f"fft_{name} {name}" for name in _TRANSFORMS.split()))
def _fourier(call: Call) -> Result:
    """The entries of a transformed axis come from all of its entries: they are no neurons."""
    axes, shape = call.input_axes, call.shape
    if axes is None or len(axes) != len(shape):
        return None
    pairs = call.name.endswith("2")
    dims = call.argument(2, "dim") or ((-2, -1) if pairs else (-1,))
    dims = range(len(axes)) if call.name.endswith("n") and not call.argument(2, "dim") else dims
    moved = {dim % len(axes) for dim in ((dims,) if isinstance(dims, int) else dims)}
    return tuple(
        other(size) if i in moved else axis
        for i, (axis, size) in enumerate(zip(axes, shape, strict=True))
    )


@rule("stft istft")
def _of_short_time(call: Call) -> Result:
    """Between samples (inputs, samples) and spectra (inputs, frequencies, times)."""
    axes, ndim = call.input_axes, 1 if call.name == "stft" else 2
    if axes is None or len(axes) <= ndim or call.out.ndim != len(axes) + 3 - 2 * ndim:
        return None
    leading = axes[: len(axes) - ndim]
    return (*leading, *others(call.shape[len(leading) :]))


@rule(
    "mean sum amax amin max min any all prod logsumexp norm var std argmax argmin median nanmean "
    "nansum nanmedian vector_norm linalg_vector_norm count_nonzero std_mean var_mean"
)
def _reduced(call: Call) -> Result:
    x = call.input
    axes = call.known(x)
    if call.name in ("max", "min") and len(call.tensors) == 2:
        return elementwise(call)
    if axes is None or call.out.ndim == 0:
        return None
    if call.out.ndim == x.ndim:
        each = tuple(map(resized, axes, call.shape))
    else:
        norm = call.name.endswith("norm")
        dims = call.argument(2 if norm else 1, "dim", "axis")
        if dims is None:
            return None
        gone = {dim % x.ndim for dim in ((dims,) if isinstance(dims, int) else dims)}
        each = tuple(axis for i, axis in enumerate(axes) if i not in gone)
    return [each] * len(call.outputs)


@rule("cosine_similarity pairwise_distance")
def _compared(call: Call) -> Result:
    """Vectors of two tensors are compared by element, and reduced."""
    usual = 1 if call.name == "cosine_similarity" else -1
    given = call.argument(2, "dim") if usual == 1 else None
    shape = np.broadcast_shapes(*(t.shape for t in call.tensors[:2]))
    axes = join(call.all_known(), shape)
    if axes is None or not call.all_known():
        return None
    dim = (usual if given is None else given) % len(shape)
    reduced = (other(1),) if call.out.ndim == len(shape) else ()
    return (*axes[:dim], *reduced, *axes[dim + 1 :])


@rule("cat concat concatenate hstack vstack row_stack")
def _concatenated(call: Call) -> Result:
    shape = call.shape
    dim = _DIMS_OF_STACKS.get(call.name, call.argument(1, "dim", "axis") or 0) % len(shape)
    parts = [axes for axes in call.all_known() if len(axes) == len(shape)]
    if not parts:
        return None
    along = [axes[dim] for axes in parts]
    aside = join([(*axes[:dim], other(1), *axes[dim + 1 :]) for axes in parts], _but(shape, dim))
    if aside is None:
        return None
    if len(call.tensors) == 1:
        return parts[0]
    if len(parts) == len(call.tensors) and call.is_of_dtensor:
        if dim == 0 and has(along[0], BATCH) and {*parts} == {parts[0]}:
            return in_parts(parts[0], len(parts))
        aside = of_same_inputs(aside)
    joined = neuron(shape[dim]) if any(has(a, NEURON) for a in along) else other(shape[dim])
    if len(parts) == len(call.tensors) and _are_same_inputs(along, shape[dim]):
        joined = _times(along[0], shape[dim], inner=False)
    elif any(has(axis, BATCH) for axis in along):
        aside = without(aside, BATCH)  # in other parts, the inputs may lie there
    return (*aside[:dim], joined, *aside[dim + 1 :])


_DIMS_OF_STACKS = {"hstack": 1, "vstack": 0, "row_stack": 0}


def _are_same_inputs(along: Sequence[Axis], size: int) -> bool:
    """Return whether the parts of a joined axis are the same inputs: views of them, or crops."""
    first = along[0]
    is_one = has(first, BATCH) and not has(first, NEURON) and {*along} == {first}
    return is_one and size_of(first) * len(along) == size


def _but(shape: Sequence[int], dim: int) -> tuple[int, ...]:
    return (*shape[:dim], 1, *shape[dim + 1 :])


@rule("stack")
def _stacked(call: Call) -> Result:
    dim = (call.argument(1, "dim") or 0) % call.out.ndim
    shape = call.shape
    axes = join(call.all_known(), (*shape[:dim], *shape[dim + 1 :]))
    if not call.all_known() or axes is None:
        return None
    if shape[dim] > 1 and not any(has(axis, NEURON) and size_of(axis) > 1 for axis in axes):
        axes = without(axes, NEURON)  # single neurons: of several layers, or several times of one
    return (*axes[:dim], other(shape[dim]), *axes[dim:])


@rule("_c10d_functional.all_gather_into_tensor")
def _gathered_from_ranks(call: Call) -> Result:
    """Without DTensor, they may be of other inputs."""
    axes = call.input_axes
    if axes is None or call.is_of_dtensor:
        return None if axes is None else in_parts(axes, call.argument(1, "group_size"))
    return _of_unknown_inputs(_resized_to(axes, call.shape))


@rule("_c10d_functional.reduce_scatter_tensor")
def _scattered_to_ranks(call: Call) -> Result:
    """Of the parts, one for each rank, each gets the sum of those that are for it."""
    axes, parts = call.input_axes, call.argument(2, "group_size")
    if axes is None or not call.is_of_dtensor:
        return _of_unknown_inputs(_resized_to(axes, call.shape))
    return of_same_inputs(one_part(axes, parts) or tuple(map(resized, axes, call.shape)))


def _of_unknown_inputs(axes: Axes | None) -> Axes | None:
    return None if axes is None else without(without(axes, BATCH), POSITION)


@rule("repeat tile")
def _repeated(call: Call) -> Result:
    axes, shape = call.input_axes, call.shape
    if axes is None:
        return None
    padded = (*others([1] * (len(shape) - len(axes))), *axes)
    return tuple(_times(axis, size, inner=False) for axis, size in zip(padded, shape, strict=True))


@rule("repeat_interleave")
def _interleaved(call: Call) -> Result:
    axes, shape = call.input_axes, call.shape
    if axes is None or not isinstance(call.argument(1, "repeats"), int) or len(axes) != len(shape):
        return None
    return tuple(_times(axis, size, inner=True) for axis, size in zip(axes, shape, strict=True))


def _times(axis: Axis, size: int, inner: bool) -> Axis:
    times = size // max(size_of(axis), 1)
    if times == 1:
        return axis
    more = (Factor(OTHER, times),)
    kept = tuple(f for f in axis if f.size != 1)
    return (*kept, *more) if inner else (*more, *kept)
