"""The numbers behind the charts of a page, few enough for a hundred layers."""

from __future__ import annotations

import base64
import math

import numpy as np
from numpy.typing import NDArray

from tensorstate_gpu.information import ClassDivergences
from tensorstate_gpu.information.rarefactions import rarefied
from tensorstate_gpu.neurons.synchrony import correlations_of
from tensorstate_gpu.reporting.figures.neuron_figures import by_angle
from tensorstate_gpu.reporting.figures.state_figures import halved
from tensorstate_gpu.reporting.layer_profile import LayerProfile
from tensorstate_gpu.reporting.text import decimals_of, rounded_percent
from tensorstate_gpu.reporting.tidy_tables import repetition_columns
from tensorstate_gpu.reporting.training_table import Log, training_columns

Data = dict[str, object]
MOST_POINTS = 200  # of a line
MOST_LINES = 12  # of a training: so many can be told apart
MOST_NEURONS = 512  # with a point each; of more, a histogram
MOST_CORRELATED = 96  # neurons in a heat map
_BINS = 50


def layer_data(profile: LayerProfile) -> Data:
    """Return what the page's script reads, ready for JSON."""
    percent = 100 * profile.firing / profile.states
    data: Data = {"discovery": _discovery(profile), "ranks": _ranks(profile)}
    if len(percent) <= MOST_NEURONS:
        data["rates"] = [_rate(each) for each in percent.tolist()]
    else:
        data["rate_bins"] = _bins(percent)
    return data | _firing_map(profile) | _correlations(profile)


def _rate(percent: float) -> float:
    """Return a firing rate to be shown: 0 and 100 are those of neurons that never change."""
    return round(percent, decimals_of(min(percent, 100 - percent), 2))


def _discovery(profile: LayerProfile) -> list[list[float]]:
    sample = profile.repetitions
    return [
        [int(rows), round(rarefied(sample, int(rows), moments_from=100), 4)]
        for rows in halved(sample.rows)
    ]


def _ranks(profile: LayerProfile) -> list[list[int]]:
    """Where each step begins: its rank, and how often the states of this rank occurred."""
    columns = repetition_columns([profile])
    times, distinct = (np.asarray(columns[name])[::-1] for name in ("times", "distinct"))
    first = np.concatenate([[1], 1 + np.cumsum(distinct)])
    steps = np.column_stack([first, np.append(times, times[-1:])])
    # Evenly on a logarithmic axis.
    wanted = np.geomspace(1, len(steps), MOST_POINTS).round().astype(int) - 1
    chosen: list[list[int]] = steps[np.unique(wanted)].tolist()
    return chosen


def _bins(percent: NDArray[np.float64]) -> list[list[object]]:
    """How many neurons are in each bin: from, to, neurons, and of which kind they are."""
    changing = percent[(percent > 0) & (percent < 100)]
    numbers, edges = np.histogram(changing, _BINS, (0, 100))
    bins: list[list[object]] = [
        [low, high, number, "changes"]
        for low, high, number in zip(
            edges.tolist(), edges[1:].tolist(), numbers.tolist(), strict=False
        )
        if number
    ]
    width = 100 / _BINS
    dead, always = int((percent == 0).sum()), int((percent == 100).sum())
    bins += [[0, width / 2, dead, "never fires"]] * bool(dead)
    bins += [[100 - width / 2, 100, always, "always fires"]] * bool(always)
    return bins


def _firing_map(profile: LayerProfile) -> Data:
    """The map of the first input: its width, and a byte for each square, in base64."""
    if profile.first_map is None:
        return {}
    shares, step = profile.first_map
    percent = (100 * shares).round().astype(np.uint8)
    return {"map": _base64(percent), "map_width": shares.shape[1], "map_step": step}


def _correlations(profile: LayerProfile) -> Data:
    """Correlations of those neurons that change most, in the order of what they do.

    A signed byte for each pair, in base64: JSON would take four times as much.
    """
    if profile.cofiring is None:
        return {}
    rates = profile.firing / profile.states
    variances = rates * (1 - rates)
    most = np.argsort(-variances, kind="stable")[:MOST_CORRELATED]
    chosen = np.sort(most[variances[most] > 0])
    if len(chosen) < 2:
        return {}
    matrix = correlations_of(profile.cofiring[np.ix_(chosen, chosen)], profile.states)
    order = by_angle(matrix)
    ordered = (100 * matrix[np.ix_(order, order)]).round().astype(np.int8)
    return {
        "neurons": chosen[order].tolist(),
        "correlations": _base64(ordered),
    }


def divergence_data(found: ClassDivergences | None) -> Data | None:
    """Return what the page's script reads of the divergences of labels, ready for JSON.

    A signed byte for each two labels, in base64: hundredths of a bit beyond the null, or -1 where
    permuted labels differ as much in more than 5 % of the cases.
    """
    if found is None:
        return None
    beyond = (100 * np.clip(found.divergence - found.null, 0, 1)).round()
    told = np.where(found.p_value <= 0.05, beyond, -1).astype(np.int8)
    return {"labels": [str(label) for label in found.labels], "divergences": _base64(told)}


def training_data(log: Log | None) -> list[Data]:
    """Return the efficiencies of layers over a training, with a part for each phase.

    Of many layers, those whose efficiency has changed most.
    """
    lines: dict[str, dict[str, list[list[float]]]] = {}
    table = training_columns({} if log is None else log)
    for step, phase, measure, layer, value in zip(*table.values(), strict=True):
        if measure == "efficiency" and layer is not None and math.isfinite(value):
            point = [step, rounded_percent(value)]
            lines.setdefault(phase, {}).setdefault(layer, []).append(point)
    return [
        {"phase": phase, "layers": len(of_layers), "lines": _most_changed(of_layers)}
        for phase, of_layers in lines.items()
    ]


def _most_changed(lines: dict[str, list[list[float]]]) -> list[Data]:
    def change(layer: str) -> float:
        values = [value for _, value in lines[layer]]
        return max(values) - min(values)

    chosen = set(sorted(lines, key=change, reverse=True)[:MOST_LINES])
    return [
        {"layer": layer, "points": _thinned(points, MOST_POINTS)}
        for layer, points in lines.items()
        if layer in chosen
    ]


def _thinned(points: list[list[float]], most: int) -> list[list[float]]:
    """Return at most so many points, evenly, with the first and the last."""
    places = np.linspace(0, len(points) - 1, most).round().astype(int)
    return [points[place] for place in np.unique(places)]


def _base64(array: NDArray[np.int8] | NDArray[np.uint8]) -> str:
    return base64.b64encode(array.tobytes()).decode()
