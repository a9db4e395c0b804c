"""Where a layer fires for one input: its states at each position."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from tensorstate_gpu import _arguments as arguments
from tensorstate_gpu._states.bits import popcount
from tensorstate_gpu._states.packing import decompress_states

Shares = NDArray[np.float32]
MOST_POSITIONS = 64  # along each axis of a map


class FiringMap(NamedTuple):
    """The share of neurons that fire: (height, width). Means of squares of ``step`` positions."""

    shares: Shares
    step: int


class Positions(Protocol):
    """A layer that keeps its rows: a capture point or a stored layer."""

    name: str

    @property
    def neurons(self) -> int | None: ...
    @property
    def spatial_shape(self) -> tuple[int, ...] | None: ...
    @property
    def instance_count(self) -> int: ...
    def states_per_instance(self) -> int: ...
    def chunks(self) -> Iterator[NDArray[np.uint8]]: ...


def states_at_positions(layer: Positions, input_number: int) -> NDArray[np.bool_]:
    """Return the states of one input: (height, width, neurons); a height of 1 for one axis.

    Raises IndexError for an input that is not there, ValueError for a layer without one or two axes
    of positions, or whose inputs differ in them, and what reading the rows of a layer raises.
    """
    each, shape = layer.states_per_instance(), layer.spatial_shape
    if shape is None and each == 1:
        raise ValueError(f"{layer.name} has no positions: it has one state for each input")
    if shape is None:
        raise ValueError(
            f"{layer.name}: the positions of its {each} states for each input are not known, as of "
            "rows that were appended by hand, or inputs differ in them"
        )
    if math.prod(shape) != each:
        raise ValueError(f"{layer.name}: its inputs differ in their positions")
    if len(shape) not in (1, 2):
        raise ValueError(f"{layer.name} has {len(shape)} axes of positions; a map has one or two")
    place = place_of(input_number, layer.instance_count, "input_number", layer.name)
    rows = decompress_states(_rows(layer, place * each, (place + 1) * each), layer.neurons or 0)
    return rows.reshape(*((1, *shape)[-2:]), -1)


def first_map(layer: Any) -> FiringMap | None:
    """Return the share of neurons that fire at each position of the first input.

    Of more than MOST_POSITIONS along an axis, squares of as many as needed are one. None for a
    layer without positions, for one that keeps no rows, and for that of several ranks, which knows
    of neither.
    """
    shape: tuple[int, ...] | None = getattr(layer, "spatial_shape", None)
    if not shape or len(shape) > 2 or math.prod(shape) < 2 or layer.keeps_counts:
        return None
    try:
        each = layer.states_per_instance()
    except ValueError:  # inputs differ in it, or it is not known which states are of which input
        return None
    if math.prod(shape) != each:  # a mask has left some out
        return None
    fires = popcount(_rows(layer, 0, each)).astype(np.float32)
    shares = (fires / np.float32(layer.neurons)).reshape((1, *shape)[-2:])
    step = -(-max(shape) // MOST_POSITIONS)
    return FiringMap(_reduced(_reduced(shares, step).T, step).T, step)


def place_of(value: int, count: int, argument: str, layer: str) -> int:
    """Return an index from 0. Raises IndexError if there is none."""
    number = arguments.integer(value, argument)
    if not -count <= number < count:
        which = f": from 0 to {count - 1:,}" if count else ""
        raise IndexError(f"{argument} is {number}, but {layer} has {count:,}{which}")
    return number % count


def _rows(layer: Positions, start: int, stop: int) -> NDArray[np.uint8]:
    """Return some of the packed rows of a layer, without holding the others at the same time."""
    found, first = [], 0
    for chunk in layer.chunks():
        found.append(chunk[max(0, start - first) : max(0, stop - first)])
        first += len(chunk)
        if first >= stop:
            break
    return np.concatenate(found)


def _reduced(shares: Shares, step: int) -> Shares:
    """Return the means of each ``step`` entries of the first axis."""
    if step == 1:
        return shares
    begins = np.arange(0, len(shares), step)
    sums: Shares = np.add.reduceat(shares, begins, axis=0)
    return sums / np.diff(begins, append=len(shares)).astype(np.float32)[:, None]
