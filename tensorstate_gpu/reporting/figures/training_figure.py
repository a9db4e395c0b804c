"""How measures of layers change while a network learns."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from tensorstate_gpu.reporting.figures.canvas import line_styles, new_axes, plain, plain_names

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def plot_training(
    log: Mapping[int, Mapping[str, float]],
    measure: str = "efficiency",
    phase: str = "train",
    ax: Axes | None = None,
) -> Axes:
    """Draw a measure of each layer over the steps of a training.

    Parameters
    ----------
    log : mapping of step to scalars
        What `StateMonitor.scalars` returned at each step that is drawn: ``log[monitor.global_step]
        = monitor.scalars()``. A step without the measure is left out.
    measure : str
        "efficiency", "ceiling", "coverage" or "dead_share", drawn in %, or "entropy" in bits.
    phase : str
        "train", "eval", or another of the monitor's.
    ax : matplotlib Axes, optional
        By default those of a new figure.

    Returns
    -------
    matplotlib Axes

    Raises
    ------
    ImportError
        If matplotlib is not installed.
    ValueError
        If no step has the measure; names those that there are.
    """
    begin = f"{phase}/{measure}/"
    keys = dict.fromkeys(key for scalars in log.values() for key in scalars)
    layers = [key.removeprefix(begin) for key in keys if key.startswith(begin)]
    if not layers:
        known = sorted({"/".join(key.split("/")[:2]) for key in keys})
        raise ValueError(f"the log has no {begin}...; there are {', '.join(known) or 'no scalars'}")
    factor = 1 if measure == "entropy" else 100
    ax = new_axes(ax)
    for layer, style in zip(layers, line_styles(), strict=False):
        points = [
            (step, factor * scalars[begin + layer])
            for step, scalars in sorted(log.items())
            if begin + layer in scalars
        ]
        ax.plot(*zip(*points, strict=True), marker="o", markersize=3.5, label=layer, **style)
    unit = "bits" if measure == "entropy" else "%"
    ax.set(xlabel="step", ylabel=f"{measure.replace('_', ' ')} in {unit}", ylim=(0, None))
    plain(ax, "both")
    # Beside the axes: there may be many layers.
    plain_names(ax.legend(frameon=False, title=phase, loc="upper left", bbox_to_anchor=(1, 1)))
    return ax
