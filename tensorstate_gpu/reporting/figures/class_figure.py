"""Which classes a layer tells apart: the divergence of their states against its null."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tensorstate_gpu._arguments import integer
from tensorstate_gpu.information import ClassDivergences
from tensorstate_gpu.reporting.figures.canvas import (
    Table,
    by_layer,
    column,
    columns_of,
    has_column,
    name_both_axes,
    new_axes,
    say_of_what,
    square_of,
)
from tensorstate_gpu.reporting.layer_names import find_name
from tensorstate_gpu.reporting.tidy_tables import (
    HasMeasures,
    divergence_columns,
    label_pair_columns,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_WRITTEN = 12  # classes with a number in each cell


def plot_class_divergences(
    found: ClassDivergences | HasMeasures | Table,
    ax: Axes | None = None,
    *,
    layer: str | int | None = None,
) -> Axes:
    """Draw which classes have states of their own, as a heat map.

    A cell is the Jensen-Shannon divergence of two classes minus its null: 0 where they differ as
    two samples of one class do, and 1 minus the null where they have no state in common. A cross
    says that permuted labels give such a difference in more than 5 % of the cases.

    Parameters
    ----------
    found : ClassDivergences, Report, or a table as divergences_to_pandas() returns
        What `information.class_divergences` returns, or a report with ``by_label=True``.
    ax : matplotlib axes, optional
        By default those of a new figure.
    layer : str or int, optional
        Which of the layers of the report or table, by name or place; needed if several have
        divergences.

    Raises
    ------
    TypeError
        If one of the arguments is something else.
    ValueError
        If there is no such layer, or none is named where there are several, or one is for what is
        of one layer; if the report has no divergences; if the table has no rows, or not these
        columns. IndexError for a place that is not in a report.
    """
    table = _table_of(found)
    if layer is not None and not isinstance(layer, str):
        layer = integer(layer, "layer, if it is no name,")
        if isinstance(found, HasMeasures):  # also of layers without divergences
            layer = find_name({each.layer: () for each in found.layers}, layer, of="report")
    rows = _rows_of(table, layer)
    names, divergence = square_of(table, "label", "other", "divergence", rows)
    _, null = square_of(table, "label", "other", "null", rows)
    _, p_value = square_of(table, "label", "other", "p_value", rows)
    shown = np.clip(divergence - null, 0, 1)
    size = min(12, max(4.0, 1.5 + 0.5 * len(names)))
    ax = new_axes(ax, 1.2 * size, size)
    image = ax.imshow(shown, cmap="viridis", vmin=0, vmax=1)
    ax.figure.colorbar(image, ax=ax, label="divergence beyond its null, in bits")
    name_both_axes(ax, [str(label) for label in names])
    ax.set(xlabel="label", ylabel="label")
    if rows is not None:
        say_of_what(ax, str(column(table, "layer")[rows][0]))
    for y, x in np.argwhere(~np.isnan(shown)).tolist():
        value, told = shown[y, x], p_value[y, x] <= 0.05
        number = f"{value:.2f}" if len(names) <= _WRITTEN else ""
        text = number if told else "x"
        ax.text(x, y, text, ha="center", va="center", size="small", color=_on(value))
    return ax


def _table_of(found: ClassDivergences | HasMeasures | Table) -> Table:
    if isinstance(found, ClassDivergences):
        return divergence_columns(found)
    if isinstance(found, HasMeasures) and all(each.divergences is None for each in found.by_label):
        raise ValueError(
            "the report compares no labels: it must be of labelled inputs, and made by "
            "report(by_label=True), with divergences=True where that is much to compute"
        )
    return columns_of(found, lambda report: label_pair_columns(report.by_label))


def _rows_of(table: Table, layer: str | int | None) -> NDArray[np.bool_] | None:
    """Return which rows are of the layer; None for a table of one that is not named."""
    if not has_column(table, "layer"):
        if layer is not None:
            raise ValueError(f"these divergences are of one layer only, got layer={layer!r}")
        return None
    chosen = [*by_layer(table, None if layer is None else [layer])]
    if len(chosen) > 1:
        names = ", ".join(name for name, _ in chosen)
        raise ValueError(f"there are several layers, one of which layer= must name: {names}")
    return chosen[0][1]


def _on(value: float) -> str:
    """The colour of a text on a cell: viridis is dark below."""
    return "black" if value > 0.6 else "white"
