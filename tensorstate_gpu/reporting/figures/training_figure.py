"""How measures of layers change while a network learns."""

from __future__ import annotations

from collections.abc import Mapping
from numbers import Real
from typing import TYPE_CHECKING, cast

import numpy as np

from tensorstate_gpu.reporting.figures.canvas import (
    Table,
    column,
    floats,
    integers,
    line_styles,
    name_lines,
    new_axes,
    plain,
    shown_layers,
    table_of,
)
from tensorstate_gpu.reporting.training_table import Log, training_columns

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def plot_training(
    log: Log | Table,
    measure: str = "efficiency",
    phase: str = "train",
    ax: Axes | None = None,
) -> Axes:
    """Draw a measure of each layer over the steps of a training.

    Parameters
    ----------
    log : mapping of step to scalars, or a table as `training_to_pandas` returns
        What `StateMonitor.scalars` returned at each step that is drawn: ``log[monitor.global_step]
        = monitor.scalars()``. A step without the measure is left out.
    measure : str
        "efficiency", "ceiling", "coverage" or "dead_share", drawn in %, or "entropy" in bits.
    phase : str
        "train", "eval", or another of the monitor's.
    ax : matplotlib.axes.Axes, optional
        Where to draw; by default in a new figure.

    Returns
    -------
    Axes
        Those that were drawn in.

    Raises
    ------
    TypeError
        If the log is neither, or for a measure or phase that is no str.
    ValueError
        If no step has the measure; names those that there are.
    """
    for name, value in (("measure", measure), ("phase", phase)):
        if not isinstance(value, str):
            raise TypeError(f"{name} must be a str, got {type(value).__name__}")
    table = _table_of(log)
    steps, values = integers(table, "step"), floats(table, "value")
    phases, measures, layers = (column(table, name) for name in ("phase", "measure", "layer"))
    # The network's own efficiency has no layer: None, or NaN in a pandas frame.
    of_layers = np.array([isinstance(layer, str) for layer in layers], bool)
    shown = (phases == phase) & (measures == measure) & of_layers
    if not shown.any():
        known = ", ".join(sorted({f"{p}/{m}" for p, m in zip(phases, measures, strict=True)}))
        raise ValueError(f"the log has no {phase}/{measure}/...; there are {known or 'no scalars'}")
    factor = 1 if measure == "entropy" else 100
    ax = new_axes(ax)
    names = shown_layers(layers[shown])
    for (layer, name), style in zip(names.items(), line_styles(), strict=False):
        own = shown & (layers == layer)
        own = np.flatnonzero(own)[np.argsort(steps[own], kind="stable")]
        line = steps[own], factor * values[own]
        ax.plot(*line, marker="o", markersize=3.5, label=name, **style)
    unit = "bits" if measure == "entropy" else "%"
    ax.set(xlabel="step", ylabel=f"{measure.replace('_', ' ')} in {unit}", ylim=(0, None))
    plain(ax, "both")
    # Beside the axes: there may be many layers.
    name_lines(ax, phase, beside=True)
    return ax


def _table_of(log: Log | Table) -> Table:
    """Return the table of a log, whose values are mappings, or of those of one step by mistake."""
    if isinstance(log, Mapping) and all(isinstance(each, Mapping | Real) for each in log.values()):
        return training_columns(cast(Log, log))
    return table_of(log, training_columns)
