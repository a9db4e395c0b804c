"""The numbers behind the charts of a layer, few enough for a page of a hundred layers."""

from __future__ import annotations

import base64

import numpy as np
from numpy.typing import NDArray

from tensorstate_gpu.information.rarefactions import rarefied
from tensorstate_gpu.neurons.synchrony import correlations_of
from tensorstate_gpu.reporting.figures.neuron_figures import by_angle
from tensorstate_gpu.reporting.figures.state_figures import halved
from tensorstate_gpu.reporting.layer_profile import LayerProfile
from tensorstate_gpu.reporting.tidy_tables import repetition_columns

Data = dict[str, object]
MOST_POINTS = 200  # of a line
MOST_NEURONS = 512  # with a point each; of more, a histogram
MOST_CORRELATED = 96  # neurons in a heat map
_BINS = 50


def layer_data(profile: LayerProfile) -> Data:
    """Return what the page's script reads, ready for JSON."""
    percent = 100 * profile.firing / profile.states
    data: Data = {"discovery": _discovery(profile), "ranks": _ranks(profile)}
    if len(percent) <= MOST_NEURONS:
        data["rates"] = percent.round(2).tolist()
    else:
        data["rate_bins"] = _bins(percent)
    return data | _correlations(profile)


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
        "correlations": base64.b64encode(ordered.tobytes()).decode(),
    }
