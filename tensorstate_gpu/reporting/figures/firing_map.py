"""Where a layer fires for one input: an image of its positions."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from tensorstate_gpu import _arguments as arguments
from tensorstate_gpu._states.packing import decompress_states
from tensorstate_gpu.reporting.figures.canvas import new_axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes


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


def plot_firing_map(
    layer: Positions, input_number: int = 0, neuron: int | None = None, ax: Axes | None = None
) -> Axes:
    """Draw where a layer fires for one input: the share of its neurons, or one of them.

    Parameters
    ----------
    layer : capture point, or layer of a Store
        With positions along one or two axes, such as a convolution, and with its rows.
    input_number : int
        Which of the inputs, in the order of capture; negative numbers count from the last.
    neuron : int, optional
        Only this one: positions are black where it fires. By default the share of neurons that
        fire at each position.
    ax : matplotlib Axes, optional
        By default those of a new figure.

    Returns
    -------
    matplotlib Axes

    Raises
    ------
    ImportError
        If matplotlib is not installed.
    IndexError
        If there is no such input or neuron.
    RowsNotKept
        If only counts were kept.
    ValueError
        If nothing was captured, if the layer has no positions or more than two axes of them, or if
        inputs differ in their positions, as padding does that a mask has left out.
    """
    rows = _positions_of(layer, input_number)
    if neuron is None:
        shown, limit, label = 100 * rows.mean(axis=2), 100, "neurons that fire, in %"
    else:
        place = _checked(neuron, rows.shape[2], "neuron", layer.name)
        shown, limit, label = rows[:, :, place].astype(float), 1, ""
    ax = new_axes(ax, 5, 4)
    colours = "viridis" if neuron is None else "gray_r"
    image = ax.imshow(shown, cmap=colours, vmin=0, vmax=limit, interpolation="nearest")
    if label:
        ax.figure.colorbar(image, ax=ax, label=label)
    return ax


def _positions_of(layer: Positions, input_number: int) -> NDArray[np.bool_]:
    """Return the states of one input: (height, width, neurons)."""
    each, shape = layer.states_per_instance(), layer.spatial_shape
    if shape is None or math.prod(shape) != each:
        raise ValueError(f"{layer.name}: its inputs differ in their positions")
    if len(shape) not in (1, 2):
        raise ValueError(f"{layer.name} has {len(shape)} axes of positions; a map has one or two")
    place = _checked(input_number, layer.instance_count, "input_number", layer.name)
    rows = decompress_states(_rows(layer, place * each, (place + 1) * each), layer.neurons or 0)
    return rows.reshape(*((1, *shape)[-2:]), -1)


def _checked(value: int, count: int, argument: str, layer: str) -> int:
    """Return an index from 0. Raises IndexError if there is none."""
    number = arguments.integer(value, argument)
    if not -count <= number < count:
        raise IndexError(f"{argument} is {number}, but {layer} has {count:,}")
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
