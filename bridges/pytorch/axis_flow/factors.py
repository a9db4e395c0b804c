"""Factors of tensor axes: which part of an axis counts neurons, model inputs, or their positions.

An axis of size 96 may be 8 inputs times 12 heads. Reshapes split and merge axes, so each axis is
described by its factors, outermost first. This module is plain Python; sizes are known numbers.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

NEURON, BATCH, POSITION, OTHER = "neuron", "batch", "position", "other"
SORTED = "sorted"  # model inputs in another order
SEQUENCES = "sequences"  # rows of a PackedSequence, of all inputs
PARTS = "parts"  # tensors one after the other that parallel layers exchange between ranks
# What their inputs and positions are until it is known that the parts are of the same inputs.
_OF_PARTS = {BATCH: "inputs of parts", POSITION: "positions of parts"}
_OF_ALL = {of_parts: kind for kind, of_parts in _OF_PARTS.items()}


class Factor(NamedTuple):
    """A part of an axis.

    ``stride``: of a batch or position factor, in inputs or positions; it survives splits and moves.
    Of sorted inputs and their sequences, it is the key of their order.
    """

    kind: str
    size: int
    stride: int = 0

    def split(self, outer: int) -> tuple["Factor", "Factor"]:
        """Return the factors of ``outer`` times the rest."""
        inner = self.size // outer
        return self._replace(size=outer, stride=self.stride * inner), self._replace(size=inner)


Axis = tuple[Factor, ...]
Axes = tuple[Axis, ...]  # of a tensor


def other(size: int) -> Axis:
    return (Factor(OTHER, size),)


def neuron(size: int) -> Axis:
    return (Factor(NEURON, size),)


def batch(size: int) -> Axis:
    return (Factor(BATCH, size, 1),)


def position(size: int) -> Axis:
    return (Factor(POSITION, size, 1),)


def has(axis: Axis, kind: str) -> bool:
    return any(factor.kind == kind for factor in axis)


def size_of(axis: Axis) -> int:
    return math.prod(factor.size for factor in axis)


def others(shape: Iterable[int]) -> Axes:
    """Return the axes of a tensor about which nothing is known."""
    return tuple(other(size) for size in shape)


def resized(axis: Axis, size: int) -> Axis:
    """Return an axis of which some entries were taken, or to which some were added.

    It goes on holding neurons. It no longer says to which inputs its entries belong.
    """
    if size_of(axis) == size:
        return axis
    return neuron(size) if _holds_neurons(axis) and size > 1 else other(size)


def in_parts(axes: Axes, parts: int) -> Axes:
    """Return the axes of so many tensors, one after the other along axis 0."""
    first, *more = _renamed(axes, _OF_PARTS)
    return ((Factor(PARTS, parts), *first), *more)


def one_part(axes: Axes, parts: int) -> Axes | None:
    """Return the axes of one of so many parts; None if there are no such parts."""
    first, *more = axes
    return (first[1:], *more) if first[0] == Factor(PARTS, parts) else None


def of_same_inputs(axes: Axes) -> Axes:
    """Return the axes of parts that are of the same inputs, of which there is one now, or that are
    side by side.
    """
    return _renamed(axes, _OF_ALL)


def _renamed(axes: Axes, kinds: Mapping[str, str]) -> Axes:
    return tuple(tuple(f._replace(kind=kinds.get(f.kind, f.kind)) for f in axis) for axis in axes)


def reordered(axis: Axis) -> Axis:
    """Return an axis whose entries changed places: which input or position each is, is lost."""
    if has(axis, BATCH):
        return other(size_of(axis))  # where neurons were, too, they are among the inputs
    return tuple(f if f.kind == NEURON else Factor(OTHER, f.size) for f in axis)


def _holds_neurons(axis: Axis) -> bool:
    """Return whether an axis holds neurons, and no inputs."""
    return has(axis, NEURON) and not has(axis, BATCH)


def neuron_places(axes: Axes) -> set[int]:
    """Return the axes that hold neurons, counted from the last, which is -1."""
    return {i - len(axes) for i, axis in enumerate(axes) if has(axis, NEURON)}


def neuron_axis(axes: Axes | None) -> int | None:
    """Return the axis that holds neurons; None if no axis does, several do, or one with inputs."""
    found = [i for i, axis in enumerate(axes or ()) if has(axis, NEURON)]
    return found[0] if axes and len(found) == 1 and _holds_neurons(axes[found[0]]) else None


def counts_inputs(axes: Axes | None) -> bool:
    return any(has(axis, BATCH) for axis in axes or ())


def counts_only_inputs(axes: Axes | None) -> bool:
    """Return whether all that a tensor's axes count are inputs."""
    kinds = {factor.kind for axis in axes or () for factor in axis if factor.size != 1}
    return counts_inputs(axes) and kinds <= {BATCH}


def is_without_only_neuron(axes: Axes, shape: Sequence[int]) -> bool:
    """Return whether a tensor of this shape is that of the axes, without its only neuron's axis."""
    sizes, place = [size_of(axis) for axis in axes], neuron_axis(axes)
    if place is None or sizes[place] != 1 or math.prod(sizes) != math.prod(shape):
        return False
    return len(shape) == 1 or _cuts(shape, sizes)


def _cuts(shape: Sequence[int], sizes: Sequence[int]) -> bool:
    """Return whether a shape has axes of these sizes, each whole or cut into several."""
    parts = [n for n in shape if n > 1]
    for size in sizes:
        while size > 1 and parts and size % parts[0] == 0:
            size //= parts.pop(0)
        if size > 1:
            return False
    return not parts


def likely_neuron_axis(axes: Axes, usual: int) -> int:
    """Return the axis to guess where it is not known which one holds the neurons.

    Not one that counts inputs or positions. Of several that hold parts of the neurons, the last one
    (heads, and the features of each), but the ``usual`` one of a map that features were cut into.
    """
    free = [i for i, axis in enumerate(axes) if not has(axis, BATCH) and not has(axis, POSITION)]
    parts = [i for i in free if has(axes[i], NEURON)]
    if parts:
        is_map = parts == list(range(parts[0], parts[-1] + 1)) and usual <= parts[0]
        is_whole = all(i in parts or size_of(axes[i]) == 1 for i in free)
        return usual if is_map and is_whole and usual in free else parts[-1]
    return usual if usual in free or not free else free[-1]


def reshape(axes: Axes, shape: Sequence[int]) -> Axes | None:
    """Return the axes after a reshape; None if it cuts across factors."""
    if 0 in shape:
        return None
    factors = [factor for axis in axes for factor in axis if factor.size != 1]
    result = []
    for size in shape:
        taken: list[Factor] = []
        while size > 1:
            if not factors:
                return None
            factor = factors.pop(0)
            if factor.size > size and factor.size % size == 0:
                factor, rest = factor.split(size)
                factors.insert(0, rest)
            if size % factor.size:
                return None
            taken.append(factor)
            size //= factor.size
        result.append(tuple(taken) or other(1))
    return tuple(result)


def join(parts: Iterable[Axes], shape: Sequence[int]) -> Axes | None:
    """Return the axes of what broadcasts to ``shape``; None if the parts contradict each other.

    Of each axis, the part that says most is taken. Inputs that lie in different places of it are
    no longer known: those of windows of each input, and of each input in a window.
    """
    result = list(others(shape))
    mixed: set[int] = set()
    parts = list(parts)
    for axes in parts:
        offset = len(shape) - len(axes)
        for i, axis in enumerate(axes, offset):
            if i < 0 or size_of(axis) != shape[i] or shape[i] == 1 or not _says_something(axis):
                continue
            if _says_something(result[i]) and result[i] != axis:
                if _kinds(result[i]) != _kinds(axis):
                    return None
                if places_of_inputs(result[i]) != places_of_inputs(axis):
                    mixed.add(i)
                if has(result[i], POSITION) or not has(axis, POSITION):
                    continue
            result[i] = axis
    result = [without((axis,), BATCH)[0] if i in mixed else axis for i, axis in enumerate(result)]
    if not neuron_places(tuple(result)):
        for place in _places_of_one_neuron(parts, shape):
            result[place] = neuron(1)
    return tuple(result)


def _places_of_one_neuron(parts: Iterable[Axes], shape: Sequence[int]) -> set[int]:
    """Return where parts have their only neuron, if that is in one place."""
    places = {i for axes in parts for i in neuron_places(axes)}
    return {i for i in places if len(places) == 1 and -i <= len(shape) and shape[i] == 1}


def places_of_inputs(axis: Axis) -> list[tuple[Factor, int]]:
    """Return the factors that count inputs, and how many entries each step of them is apart."""
    apart = [math.prod(f.size for f in axis[i + 1 :]) for i in range(len(axis))]
    return [(f, a) for f, a in zip(axis, apart, strict=True) if f.kind == BATCH and f.size != 1]


def _says_something(axis: Axis) -> bool:
    return any(factor.kind != OTHER for factor in axis)


def _kinds(axis: Axis) -> set[str]:
    return {factor.kind for factor in axis} & {NEURON, BATCH}


def without(axes: Axes, kind: str) -> Axes:
    """Return the axes with the factors of one kind made others."""
    return tuple(
        tuple(Factor(OTHER, f.size) if f.kind == kind else f for f in axis) for axis in axes
    )


def only_whole(axes: Axes, kind: str, size: int | None) -> Axes:
    """Return the axes with the factors of a kind made others, except those of the whole size."""
    return tuple(
        tuple(Factor(OTHER, f.size) if f.kind == kind and f.size != size else f for f in axis)
        for axis in axes
    )
