"""Where a layer fires for one input: an image of its positions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tensorstate_gpu.reporting.figures.canvas import new_axes
from tensorstate_gpu.reporting.positions import Positions, place_of, states_at_positions

if TYPE_CHECKING:
    from matplotlib.axes import Axes


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

    Raises
    ------
    IndexError
        If there is no such input or neuron.
    RowsNotKept
        If only counts were kept.
    ValueError
        If nothing was captured, if the layer has no positions or more than two axes of them, or if
        inputs differ in their positions, as padding does that a mask has left out.
    """
    rows = states_at_positions(layer, input_number)
    if neuron is None:
        shown, limit, label = 100 * rows.mean(axis=2), 100, "neurons that fire, in %"
    else:
        place = place_of(neuron, rows.shape[2], "neuron", layer.name)
        shown, limit, label = rows[:, :, place].astype(float), 1, ""
    ax = new_axes(ax, 5, 4)
    colours = "viridis" if neuron is None else "gray_r"
    image = ax.imshow(shown, cmap=colours, vmin=0, vmax=limit, interpolation="nearest")
    if label:
        ax.figure.colorbar(image, ax=ax, label=label)
    return ax
