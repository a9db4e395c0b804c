"""report(): measures the layers of a network, and combines their measures into those of it."""

import collections
import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from os import PathLike
from typing import Any

from tensorstate_gpu import information
from tensorstate_gpu._arguments import flag, real, share
from tensorstate_gpu._process.progress import ProgressCallback, readings, running_total
from tensorstate_gpu.errors import NoCapturePoints
from tensorstate_gpu.information import Estimate
from tensorstate_gpu.information.efficiencies import measure_layers
from tensorstate_gpu.information.estimated_measure import QUALITIES
from tensorstate_gpu.reporting.label_table import LabelTable, with_divergences
from tensorstate_gpu.reporting.layer_report import LayerReport, Measured, measured_layer
from tensorstate_gpu.reporting.report_table import Report

_ADVICE = (
    ": use run.report() after `with ts.capture(...) as run:`, or ts.Run([point, ...]).report(), or "
    "pass the model that build_efficiency_model() returned"
)


def report(
    model: Any,
    accuracy: float | None = None,
    beta: float = 2,
    *,
    by_label: bool = False,
    divergences: bool = False,
    include_out_of_step: bool = False,
    progress: ProgressCallback | None = None,
) -> Report:
    """Measure the layers of a model, of a Run, or of one Store or several.

    Layers of which nothing was captured are left out, and named in ``missing`` of the result.

    Parameters
    ----------
    model : any object with ``efficiency_layers``
    accuracy : float, optional
        The model's accuracy, from 0 to 1. If given, the report includes the aIQ.
    beta : float
        Weight of the accuracy in the aIQ.
    by_label : bool
        Whether to add a table for each layer with its measures by label; see ``run.labels()``. It
        has how much the states of each two labels differ, too, where that is little to compute.
    divergences : bool
        Whether to compute how much they differ however long it takes; then also ``by_label``. Not
        of layers that keep counts only, nor if inputs belong to units.
    include_out_of_step : bool
        Whether the measures of the network are also of layers that have seen other inputs than
        most, as after a pass that has failed in its middle. They are named in any case.
    progress : callable, optional
        Is called with how many states are measured so far, and how many are to be: those of all
        layers, and by label once more.

    Raises
    ------
    TypeError, ValueError
        The model has no capture points or no captured states, or accuracy or beta is invalid.

    Examples
    --------
    >>> import numpy as np
    >>> import tensorstate_gpu as ts
    >>> point = ts.CapturePoint("relu")
    >>> point.declare(neurons=2)
    >>> point.append(np.array([[0], [1], [3], [3]], np.uint8), instances=4)
    >>> found = report(ts.Run([point]), accuracy=0.9)
    >>> found["relu"].efficiency, round(found.aiq, 3)
    (0.75, 0.847)
    """
    points = getattr(model, "efficiency_layers", None)
    if not points:
        advice = _ADVICE if points is None else ""
        if isinstance(model, str | PathLike):
            advice = ": ts.Store(path).report() reads a store"
        raise NoCapturePoints(f"{type(model).__name__} has no capture points to report{advice}")
    by_label, divergences = flag(by_label, "by_label"), flag(divergences, "divergences")
    include_out_of_step = flag(include_out_of_step, "include_out_of_step")
    checked_accuracy(accuracy, beta)  # before layers are measured, which may take minutes
    labels = by_label or divergences
    states = 0 if progress is None else sum(point.state_count for point in points)
    total = states * (2 if labels else 1)
    # Layers that end up missing, as after a reset meanwhile, are done at the end, too.
    with readings(running_total(progress, total), total, 1) as on_measured:
        measured, missing = measure_layers(points, lambda point: measured_layer(point, on_measured))
        whole = summarise(measured, accuracy, beta, missing, include_out_of_step)
        labelled = [each for each in points if labels and each.name not in missing]
        tables = [LabelTable.of_layer(each, on_measured) for each in labelled]
    whole = dataclasses.replace(
        whole,
        notes=tuple(getattr(model, "report_notes", ())),
        origin=_origin_of(model, points),
    )
    if not labels:
        return whole
    return dataclasses.replace(
        whole, by_label=with_divergences(tables, labelled, always=divergences)
    )


def _origin_of(model: Any, points: Sequence[Any]) -> Mapping[str, str]:
    """Return what is known of where the states are from: a run knows it, or a capture point."""
    knows = next((each for each in (model, *points) if hasattr(each, "report_origin")), None)
    return {} if knows is None else knows.report_origin


def checked_accuracy(accuracy: float | None, beta: float) -> tuple[float | None, float]:
    """Return an accuracy and its weight as floats, or raise TypeError or ValueError."""
    beta = real(beta, "beta")
    if not 0 < beta < math.inf:
        raise ValueError(f"beta must be finite and greater than 0, got {beta}")
    return None if accuracy is None else share(accuracy, "accuracy"), beta


def summarise(
    measured: Sequence[Measured],
    accuracy: float | None,
    beta: float,
    missing: Iterable[str] = (),
    include_out_of_step: bool = False,
) -> Report:
    """Combine the measures of layers, and their estimates, into those of the network."""
    accuracy, beta = checked_accuracy(accuracy, beta)
    every = [each.report for each in measured]
    out_of_step = _out_of_step(every)
    counted = measured
    if not include_out_of_step:
        counted = [each for each in measured if each.report.layer not in out_of_step]
    layers = [each.report for each in counted]
    efficiency = information.network_efficiency([layer.efficiency for layer in layers])
    aiq = None if accuracy is None else information.aIQ(efficiency, accuracy, beta)
    network = _network_estimate([each.estimate for each in counted])
    quotient = None
    if network is not None and accuracy is not None:
        quotient = information.estimate_aIQ(network, accuracy, beta)
    return Report(
        layers=tuple(every),
        network_efficiency=efficiency,
        accuracy=accuracy,
        beta=beta,
        aiq=aiq,
        missing=tuple(missing),
        varying_efficiency=_varying_efficiency(layers),
        quality=max((layer.quality for layer in layers), key=QUALITIES.index),
        network_range=None if network is None else (network.lower, network.upper),
        aiq_range=None if quotient is None else (quotient.lower, quotient.upper),
        out_of_step=out_of_step,
        includes_out_of_step=include_out_of_step,
        profiles=tuple(each.profile for each in measured),
    )


def _out_of_step(layers: Sequence[LayerReport]) -> tuple[str, ...]:
    """Return the names of layers that have seen other inputs than most: than the fewest, if equal.

    Not those that run in some passes only, which has nothing to do with passes that fail.
    """
    always = [layer for layer in layers if layer.runs_always and layer.inputs]
    if not always:
        return ()
    seen = collections.Counter((layer.inputs or 0, layer.passes) for layer in always)
    most = min(always, key=lambda layer: (-seen[layer.inputs or 0, layer.passes], layer.inputs))
    return tuple(layer.layer for layer in always if not layer.is_in_step_with(most))


def _network_estimate(layers: Sequence[Estimate | None]) -> Estimate | None:
    """Return the estimated efficiency of the network, if all layers have one of the same inputs."""
    found = [layer for layer in layers if layer is not None]
    if len(found) < len(layers) or any(layer.sample != found[0].sample for layer in found):
        return None
    return information.estimate_network_efficiency(found)


def _varying_efficiency(layers: list[LayerReport]) -> float | None:
    varying = [layer.efficiency for layer in layers if layer.distinct > 1]
    if not varying or len(varying) == len(layers):
        return None
    return information.network_efficiency(varying)
