"""The efficiency of each layer, how far to trust it, and the highest that its rows could show."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tensorstate_gpu.reporting.figures.canvas import (
    BLUE,
    GREY,
    ORANGE,
    Table,
    column,
    columns_of,
    floats,
    name_layers,
    new_axes,
    plain,
    plain_names,
)
from tensorstate_gpu.reporting.tidy_tables import HasMeasures, layer_columns

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FILLS = {"good": BLUE, "rough": "#7fb8d8", "bounds only": "#ffffff"}
_HATCHES = {"good": "", "rough": "", "bounds only": "////"}
TALLEST = 30  # inches: layers share it from about 100 on


def plot_efficiency(report: HasMeasures | Table, ax: Axes | None = None) -> Axes:
    """Draw a bar for the efficiency of each layer, in the order of the report.

    A line shows where the efficiency for unlimited inputs is with 95 % confidence: an interval, or
    bounds, which are dashed. A mark shows the ceiling: the highest efficiency that so few states
    could show. The fill shows the quality.

    Parameters
    ----------
    report : Report, or a table as its to_pandas() returns
    ax : matplotlib.axes.Axes, optional
        Where to draw; by default in a new figure.

    Returns
    -------
    Axes
        Those that were drawn in.

    Raises
    ------
    ValueError
        If the table has no rows, or not these columns.
    """
    table = columns_of(report, lambda report: layer_columns(report.layers))
    names = column(table, "layer").astype(str).tolist()
    if not names:
        raise ValueError("the table has no rows")
    ax = new_axes(ax, 8, min(TALLEST, 1.6 + 0.3 * len(names)))
    percent = {n: 100 * floats(table, n) for n in ("efficiency", "ceiling", "lower", "upper")}
    qualities = column(table, "quality").astype(str)
    _draw_bars(ax, percent["efficiency"], qualities)
    _draw_ranges(ax, percent["lower"], percent["upper"], qualities == "bounds only")
    ceilings = percent["ceiling"]
    shown: dict[str, Any] = {
        "color": ORANGE,
        "mec": GREY,
        "ms": 5,
        "clip_on": False,
    }  # one of 100 % is whole
    ax.plot(ceilings, range(len(names)), "D", label="ceiling", **shown)
    ax.invert_yaxis()
    name_layers(ax, names)
    ax.set(xlim=(0, 101), xlabel="efficiency in %")
    plain(ax, "x")
    plain_names(ax.legend(frameon=False, loc="upper left", bbox_to_anchor=(1.01, 1)))
    return ax


def _draw_bars(ax: Axes, percent: NDArray[np.float64], qualities: NDArray[np.str_]) -> None:
    places = np.arange(len(percent))
    for quality, fill in FILLS.items():
        own = qualities == quality
        if own.any():
            ax.barh(
                places[own],
                percent[own],
                height=0.62,
                color=fill,
                hatch=_HATCHES[quality],
                edgecolor=BLUE,
                label=quality,
            )


def _draw_ranges(
    ax: Axes,
    lower: NDArray[np.float64],
    upper: NDArray[np.float64],
    are_bounds: NDArray[np.bool_],
) -> None:
    places = np.arange(len(lower))
    for dashed, word in ((False, "95 % interval"), (True, "95 % bounds")):
        own = (are_bounds == dashed) & np.isfinite(lower)
        if own.any():
            lines = ax.hlines(places[own], lower[own], upper[own], colors="#000000", label=word)
            lines.set_linestyle("--" if dashed else "-")
            for ends in (lower[own], upper[own]):
                ax.plot(ends, places[own], "|", color="#000000", markersize=8)
