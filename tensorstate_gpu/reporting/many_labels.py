"""The measures of many labels of a layer, computed together."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from tensorstate_gpu import information
from tensorstate_gpu._states.grouped_counts import GroupedCounts
from tensorstate_gpu.information.estimated_measure import ROUGH, quality_of
from tensorstate_gpu.information.many_estimates import ManyEstimates
from tensorstate_gpu.information.many_samples import ManySamples
from tensorstate_gpu.reporting.layer_report import LayerReport

# Of labels that are computed together: their states, or groups, times neurons. Their arrays take
# some hundred bytes for each.
MOST_CELLS = 1 << 20
OneByOne = Callable[[GroupedCounts], LayerReport]


def reports_of(
    labels: Sequence[GroupedCounts], one_by_one: OneByOne, *, trees: bool
) -> list[LayerReport]:
    """Return the measures of labels of the same groups, which all have rows; without names.

    ``one_by_one`` returns those of a label with many states; and, if ``trees``, of one for whose
    upper bound a dependence tree is used.
    """
    found: list[LayerReport] = []
    for batch in _batches(labels):
        if batch[0] is batch[-1] and _cells(batch[0]) > MOST_CELLS:
            found.append(one_by_one(batch[0]))
            continue
        many = batch[0].many_with(batch[1:])
        estimates = ManyEstimates.of(many)
        reports = _reports(many, estimates)
        if trees:
            has_error = ~np.isnan(estimates.standard_error)
            for place in np.flatnonzero(has_error & (estimates.least_coverage < ROUGH)):
                reports[place] = one_by_one(batch[place])
        found += reports
    return found


def _batches(labels: Sequence[GroupedCounts]) -> Iterator[list[GroupedCounts]]:
    batch: list[GroupedCounts] = []
    free = MOST_CELLS
    for label in labels:
        cells = _cells(label)
        if batch and cells > free:
            yield batch
            batch, free = [], MOST_CELLS
        batch.append(label)
        free -= cells
    yield batch


def _cells(label: GroupedCounts) -> int:
    return label.neurons * max(len(label), sum(map(len, label.parts)))


def _reports(many: ManySamples, found: ManyEstimates) -> list[LayerReport]:
    neurons = many.firing.shape[-1]
    firing, single = many.firing.sum(axis=1), found.distinct == 1
    measures = {
        "states": found.rows,
        "distinct": found.distinct,
        "entropy": found.plugin,
        "efficiency": found.plugin / neurons,
        "fires": ~single | firing.any(axis=1),
        "always_fires": single & (firing > 0).all(axis=1),
        "coverage": found.coverage,
        "slope": found.plugin - found.plugin_of_half,
        "estimate": found.value / neurons,
        "standard_error": found.standard_error / neurons,
        "lower": found.lower / neurons,
        "upper": found.upper / neurons,
    }
    rows = zip(*(column.tolist() for column in measures.values()), strict=True)
    each = [dict(zip(measures, row, strict=True)) for row in rows]
    for one, has_interval in zip(each, found.has_interval.tolist(), strict=True):
        one["ceiling"] = information.ceiling(one["states"], neurons)
        one["quality"] = quality_of(one["coverage"]) if has_interval else "bounds only"
        if math.isnan(one["standard_error"]):
            one["standard_error"] = None
    return [LayerReport("", None, neurons, **one) for one in each]
