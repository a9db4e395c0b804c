"""The efficiency of each layer, how far to trust it, and the highest that its rows could show."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

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
    places = np.arange(len(names))
    for quality, fill in FILLS.items():
        own = qualities == quality
        if own.any():
            ax.barh(
                places[own],
                percent["efficiency"][own],
                height=0.62,
                color=fill,
                hatch=_HATCHES[quality],
                edgecolor=BLUE,
                label=quality,
            )
    for dashed in (False, True):
        own = ((qualities == "bounds only") == dashed) & np.isfinite(percent["lower"])
        low, high = percent["lower"][own], percent["upper"][own]
        word = "95 % bounds" if dashed else "95 % interval"
        if own.any():
            lines = ax.hlines(places[own], low, high, colors="#000000", label=word)
            lines.set_linestyle("--" if dashed else "-")
            for ends in (low, high):
                ax.plot(ends, places[own], "|", color="#000000", markersize=8)
    ax.plot(percent["ceiling"], places, "D", color=ORANGE, mec=GREY, ms=5, label="ceiling")
    ax.invert_yaxis()
    name_layers(ax, names)
    ax.set(xlim=(0, 101), xlabel="efficiency in %")
    plain(ax, "x")
    plain_names(ax.legend(frameon=False, loc="upper left", bbox_to_anchor=(1.01, 1)))
    return ax
