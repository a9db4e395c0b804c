"""The measures of many labels of a layer, computed together."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np

from tensorstate_gpu import information
from tensorstate_gpu._states.counts_by_group import CountsByGroup
from tensorstate_gpu._states.grouped_counts import GroupedCounts
from tensorstate_gpu._states.measured_counts import MeasuredCounts
from tensorstate_gpu.information.bounds import pairs_of_words
from tensorstate_gpu.information.estimated_measure import ROUGH, quality_of
from tensorstate_gpu.information.estimates import needs_tree
from tensorstate_gpu.information.many_estimates import ManyEstimates
from tensorstate_gpu.information.many_samples import ManySamples
from tensorstate_gpu.reporting.layer_report import LayerReport

# Of labels that are computed together: their states, or groups, times neurons. Their arrays take
# some hundred bytes for each.
MOST_CELLS = 1 << 20
# As pairs_of_words(), of the labels of a table that are not small: some two seconds of a core.
MOST_PAIRS_OF_WORDS = 2**32
OneByOne = Callable[[GroupedCounts, bool], LayerReport]


def reports_of(
    labels: Sequence[GroupedCounts], one_by_one: OneByOne, *, trees: bool
) -> list[LayerReport]:
    """Return the measures of labels of the same groups, which all have rows; without names.

    ``one_by_one`` returns those of a label with many states, with a dependence tree or without; and
    ``trees`` says whether upper bounds may use them. Of labels whose trees are not made together,
    they do if they take no long time.
    """
    found: list[LayerReport] = []
    wide: list[int] = []
    for batch in _batches(labels):
        if batch[0] is batch[-1] and _cells(batch[0]) > MOST_CELLS:
            if needs_tree(batch[0].group_sums()):
                wide.append(len(found))
            found.append(one_by_one(batch[0], False))
            continue
        many = batch[0].many_with(batch[1:])
        estimates = ManyEstimates.of(many, trees=trees)
        needed = ~np.isnan(estimates.standard_error) & (estimates.least_coverage < ROUGH)
        wide += (len(found) + np.flatnonzero(needed & ~many.small())).tolist()
        found += _reports(many, estimates)
    if trees and are_trees_quick([labels[place] for place in wide]):
        for place in wide:
            found[place] = one_by_one(labels[place], True)
    return found


def are_trees_quick(labels: Iterable[CountsByGroup[MeasuredCounts]]) -> bool:
    """Return whether the trees of labels take no long time together."""
    pairs = (pairs_of_words(label.sizes, label.neurons) for label in labels)
    return sum(pairs) < MOST_PAIRS_OF_WORDS


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
    return label.neurons * max(len(label), int(label.sizes.sum()))


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
