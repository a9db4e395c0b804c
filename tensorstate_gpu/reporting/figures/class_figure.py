"""Which classes a layer tells apart: the divergence of their states against its null."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tensorstate_gpu.information import ClassDivergences
from tensorstate_gpu.reporting.figures.canvas import new_axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_WRITTEN = 12  # classes with a number in each cell


def plot_class_divergences(found: ClassDivergences, ax: Axes | None = None) -> Axes:
    """Draw which classes have states of their own, as a heat map.

    A cell is the Jensen-Shannon divergence of two classes minus its null: 0 where they differ as
    two samples of one class do, 1 where they have no state in common. A cross says that permuted
    labels give such a difference in more than 5 % of the cases.

    Parameters
    ----------
    found : ClassDivergences
        What `information.class_divergences` returns.
    """
    beyond = np.clip(found.divergence - found.null, 0, 1)
    shown = np.where(np.eye(len(beyond), dtype=bool), np.nan, beyond)
    size = min(12, max(4.0, 1.5 + 0.5 * len(beyond)))
    ax = new_axes(ax, 1.2 * size, size)
    image = ax.imshow(shown, cmap="viridis", vmin=0, vmax=1)
    ax.figure.colorbar(image, ax=ax, label="divergence beyond its null, in bits")
    names = [str(label) for label in found.labels]
    ax.set_xticks(range(len(names)), names, rotation=90 if max(map(len, names)) > 2 else 0)
    ax.set_yticks(range(len(names)), names)
    for label in (*ax.get_xticklabels(), *ax.get_yticklabels()):
        label.set_parse_math(False)
    for row, column in np.argwhere(~np.isnan(shown)).tolist():
        value, told = beyond[row, column], found.p_value[row, column] <= 0.05
        number = f"{value:.2f}" if len(names) <= _WRITTEN else ""
        text = number if told else "x"
        ax.text(column, row, text, ha="center", va="center", size=8, color=_on(value))
    return ax


def _on(value: float) -> str:
    """The colour of a text on a cell: viridis is dark below."""
    return "black" if value > 0.6 else "white"
