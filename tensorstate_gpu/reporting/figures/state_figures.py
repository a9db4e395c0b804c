"""How often states repeat, and how many more each doubling of the rows discovers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tensorstate_gpu.information.counts_of_counts import CountsOfCounts
from tensorstate_gpu.information.rarefactions import rarefied
from tensorstate_gpu.reporting.figures.canvas import (
    Layers,
    Table,
    by_layer,
    columns_of,
    integers,
    line_styles,
    name_lines,
    new_axes,
    plain,
    shown_layers,
)
from tensorstate_gpu.reporting.tidy_tables import HasMeasures, repetition_columns

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def plot_rank_frequency(
    report: HasMeasures | Table, layers: Layers = None, ax: Axes | None = None
) -> Axes:
    """Draw how often each state occurred, the most frequent one first, on logarithmic axes.

    A straight line is a power law; a level one is states that are equally frequent; a line that
    ends at 1 has states that were seen once, so there are more that were not seen.

    Parameters
    ----------
    report : Report, or a table as its repetitions_to_pandas() returns
    layers : str or int, or a list of these, optional
        Names, or places in the report or table. By default all.
    ax : matplotlib.axes.Axes, optional
        Where to draw; by default in a new figure.

    Returns
    -------
    Axes
        Those that were drawn in.

    Raises
    ------
    TypeError
        If one of the arguments is something else.
    ValueError
        If there is no such layer, or if the table has no rows, or not these columns.
    """
    table = _repetitions(report)
    chosen = list(by_layer(table, layers))
    names = shown_layers(name for name, _ in chosen)
    ax = new_axes(ax)
    for (name, rows), style in zip(chosen, line_styles(), strict=False):
        times, distinct = (integers(table, key)[rows][::-1] for key in ("times", "distinct"))
        ranks = np.cumsum(distinct)
        first = np.concatenate([[1], ranks[:-1] + 1])
        across = np.stack([first, ranks], axis=1).ravel()
        alone = "o" if ranks[-1] == 1 else None  # of one state there is no line
        shown: dict[str, Any] = {"label": names[name], "marker": alone, **style}
        ax.plot(across, np.repeat(times, 2), linewidth=1.8, **shown)
    ax.set(xscale="log", yscale="log", xlabel="rank of the state", ylabel="times it occurred")
    plain(ax, "both")
    name_lines(ax)
    return ax


def plot_discovery(
    report: HasMeasures | Table, layers: Layers = None, ax: Axes | None = None
) -> Axes:
    """Draw the entropy that fewer rows of the same sample would show, for each layer.

    The legend says how many bits the second half of the rows has added. If that is 1, the entropy
    measures how many rows there are; below 0.1 it has about settled.

    Parameters and errors as for `plot_rank_frequency`.
    """
    table = _repetitions(report)
    chosen = list(by_layer(table, layers))
    names = shown_layers(name for name, _ in chosen)
    ax = new_axes(ax)
    for (name, places), style in zip(chosen, line_styles(), strict=False):
        sample = CountsOfCounts(
            integers(table, "times")[places], integers(table, "distinct")[places]
        )
        rows = halved(sample.rows)
        bits = [rarefied(sample, int(each), moments_from=100) for each in rows]
        gained = f" (+{bits[-1] - bits[-2]:.2f} bits)" if len(bits) > 1 else ""
        ax.plot(rows, bits, marker="o", markersize=3.5, label=names[name] + gained, **style)
    ax.set_xscale("log", base=2)
    ax.set(xlabel="rows", ylabel="entropy in bits", ylim=(0, None))
    plain(ax, "both")
    name_lines(ax, "gained by the last half")
    return ax


def _repetitions(report: HasMeasures | Table) -> Table:
    return columns_of(report, lambda report: repetition_columns(report.profiles))


def halved(rows: int) -> NDArray[np.int64]:
    """Return all rows, half of them, a quarter, ..., ascending."""
    halves = [rows >> step for step in range(rows.bit_length())]
    return np.array(halves[::-1], np.int64)
