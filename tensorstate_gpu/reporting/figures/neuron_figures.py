"""How often neurons fire, and which of them fire together."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tensorstate_gpu.neurons.samples import States
from tensorstate_gpu.reporting.figures.canvas import (
    BLUE,
    ORANGE,
    RED,
    Layers,
    Table,
    by_layer,
    columns_of,
    floats,
    name_both_axes,
    name_layers,
    new_axes,
    plain,
    plain_names,
    say_of_what,
    square_of,
    table_of,
)
from tensorstate_gpu.reporting.figures.efficiency_figure import TALLEST
from tensorstate_gpu.reporting.layer_tables import correlation_columns
from tensorstate_gpu.reporting.text import with_noun
from tensorstate_gpu.reporting.tidy_tables import HasMeasures, neuron_columns

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MOST_NUMBERS = 40  # of neurons, along an axis
_CONSTANT = ((0, "x", RED, "never fires"), (100, "^", ORANGE, "always fires"))  # rates in %


def plot_firing_rates(
    report: HasMeasures | Table, layers: Layers = None, ax: Axes | None = None
) -> Axes:
    """Draw the firing rate of each neuron, with a row of dots for each layer.

    Neurons that never fired in this sample, and those that always did, have marks of their own, and
    their numbers are written beside them.

    ``report``: a Report, or a table as its neurons_to_pandas() returns. Other parameters and
    errors as for `plot_rank_frequency`.
    """
    table = columns_of(report, lambda report: neuron_columns(report.profiles))
    chosen = list(by_layer(table, layers))
    ax = new_axes(ax, 8, min(TALLEST, 1.6 + 0.45 * len(chosen)))
    percent = 100 * floats(table, "rate")
    for place, (_, rows) in enumerate(chosen):
        _draw_rates(ax, place, percent[rows])
    ax.invert_yaxis()
    name_layers(ax, [name for name, _ in chosen])
    ax.set(xlim=(-1, 101), xlabel="firing rate in %")
    plain(ax, "x")
    _name_marks(ax, percent[np.logical_or.reduce([rows for _, rows in chosen])])
    return ax


def _name_marks(ax: Axes, percent: NDArray[np.float64]) -> None:
    """Say in a legend what the marks of neurons mean that never change, if there are such."""
    for rate, marker, colour, word in _CONSTANT:
        if (percent == rate).any():
            ax.plot([], [], marker, color=colour, label=word)
    if ax.get_legend_handles_labels()[0]:
        plain_names(ax.legend(frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1), ncols=2))


def _silent_and_constant(percent: NDArray[np.float64]) -> str:
    counted = {"dead": int((percent == 0).sum()), "always on": int((percent == 100).sum())}
    return ", ".join(f"{number:,} {word}" for word, number in counted.items() if number)


def _draw_rates(ax: Axes, place: int, percent: NDArray[np.float64]) -> None:
    """Draw a row of dots, for the neurons of a layer, and beside it how many never change."""
    # Evenly spread over the height of the row, in an order that does not look like one.
    heights = place + 0.6 * ((np.arange(len(percent)) * 0.618034) % 1 - 0.5)
    changing = (percent > 0) & (percent < 100)
    ax.plot(percent[changing], heights[changing], "o", color=BLUE, ms=3, alpha=0.6, mec="none")
    # No empty lines or texts: to a layout, they are at the corner of the figure.
    for rate, marker, colour, _ in _CONSTANT:
        where = percent == rate
        if where.any():
            ax.plot(percent[where], heights[where], marker, color=colour, ms=5, clip_on=False)
    if constant := _silent_and_constant(percent):
        ax.annotate(
            constant,
            (100, place),
            xytext=(10, 0),
            textcoords="offset points",
            va="center",
            annotation_clip=False,
        )


def plot_correlations(
    states: States | NDArray[np.float64] | Table,
    neurons: int | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw which neurons fire together as a heat map, with neurons that do so side by side.

    Parameters
    ----------
    states : as for `neurons.correlations`, or a table as correlations_to_pandas() returns
        Packed states, StateCounts, a capture point, a layer of a Store; or the matrix of
        correlations, (neurons, neurons).
    neurons : int, optional
        How many bits of a packed row are neurons; all of them by default.
    ax : matplotlib.axes.Axes, optional
        Where to draw; by default in a new figure.

    Returns
    -------
    Axes
        Those that were drawn in.

    Raises
    ------
    TypeError, ValueError
        As for `neurons.correlations`; also if fewer than two neurons ever change, or if a table has
        no rows, or not these columns.

    Notes
    -----
    Neurons are in the order of their angles in the plane of the two greatest principal components
    (Friendly, "Corrgrams", The American Statistician 56, 2002). Those that never change are left
    out: a correlation with them is not defined.
    """
    table = table_of(states, lambda states: correlation_columns(states, neurons))
    _, matrix = square_of(table, "neuron", "other", "correlation")
    changing = np.flatnonzero(~np.isnan(matrix.diagonal()))
    if len(changing) < 2:
        raise ValueError(f"fewer than two neurons change: {len(changing)} of {len(matrix)}")
    order = changing[by_angle(matrix[np.ix_(changing, changing)])]
    ax = new_axes(ax, 6, 5)
    image = ax.imshow(matrix[np.ix_(order, order)], cmap="RdBu_r", vmin=-1, vmax=1)
    ax.figure.colorbar(image, ax=ax, label="correlation")
    ax.set(xlabel="neuron, by similarity", ylabel="neuron")
    name_both_axes(ax, [str(neuron) for neuron in order], most=_MOST_NUMBERS)
    without: tuple[str, ...] = ()
    if len(order) < len(matrix):
        constant = with_noun(len(matrix) - len(order), "constant neuron")
        without = (f"without {constant}",)
    say_of_what(ax, states, *without)
    return ax


def by_angle(matrix: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return the order of neurons by what they do, from their correlations."""
    first, second = np.linalg.eigh(matrix)[1][:, [-1, -2]].T
    angles = np.arctan2(second, first)
    # Cut the circle at its widest gap.
    order = np.argsort(angles, kind="stable")
    gaps = np.diff(angles[order], append=angles[order[0]] + 2 * np.pi)
    return np.roll(order, -1 - int(np.argmax(gaps)))
