"""Where a layer fires for one input: an image of its positions."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tensorstate_gpu.reporting.figures.canvas import (
    Table,
    floats,
    has_column,
    integers,
    new_axes,
    say_of_what,
    table_of,
)
from tensorstate_gpu.reporting.layer_tables import position_columns
from tensorstate_gpu.reporting.positions import Positions

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def plot_firing_map(
    layer: Positions | Table,
    input_number: int = 0,
    neuron: int | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw where a layer fires for one input: the share of its neurons, or one of them.

    Parameters
    ----------
    layer : capture point, layer of a Store, or a table as firing_map_to_pandas() returns
        With positions along one or two axes, such as a convolution, and with its rows. Of a table,
        which is of one input, the other parameters have no meaning.
    input_number : int
        Which of the inputs, in the order of capture; negative numbers count from the last.
    neuron : int, optional
        Only this one: positions are black where it fires. By default the share of neurons that
        fire at each position.
    ax : matplotlib.axes.Axes, optional
        Where to draw; by default in a new figure.

    Returns
    -------
    Axes
        Those that were drawn in.

    Raises
    ------
    IndexError
        If there is no such input or neuron.
    RowsNotKept
        If only counts were kept.
    ValueError
        If nothing was captured, if the layer has no positions or more than two axes of them, or if
        inputs differ in their positions, as padding does that a mask has left out. If a table has
        no rows, or not these columns.
    """
    table = table_of(layer, lambda layer: position_columns(layer, input_number, neuron))
    of_one = has_column(table, "fires")
    value, whole, colours = ("fires", 1, "gray_r") if of_one else ("share", 100, "viridis")
    ys, xs = integers(table, "y"), integers(table, "x")
    if not len(ys):
        raise ValueError("the table has no rows")
    shown = np.full((ys.max() + 1, xs.max() + 1), np.nan)
    shown[ys, xs] = whole * floats(table, value)
    ax = new_axes(ax, 5, 4)
    image = ax.imshow(shown, cmap=colours, vmin=0, vmax=whole, interpolation="nearest")
    ax.set(xlabel="x", ylabel="y")
    if hasattr(layer, "name"):  # of a table, it is not known which input and neuron it is of
        which = f"neuron {neuron} fires where black" if of_one else ""
        say_of_what(ax, layer, f"input {input_number}", *filter(None, [which]))
    if not of_one:
        ax.figure.colorbar(image, ax=ax, label="neurons that fire, in %")
    return ax
