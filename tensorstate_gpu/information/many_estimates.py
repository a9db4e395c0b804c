"""ManyEstimates: the estimates of many small samples, such as labels, computed together.

As by estimate_of_sums() without a dependence tree, by the same formulas but for the entropies,
which are sums of the states' own terms here: results differ in the last digits.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tensorstate_gpu.information.bounds import (
    entropies_of_neurons,
    entropy_of_doubt,
    unseen_entropy,
    without_coincidences,
)
from tensorstate_gpu.information.estimated_measure import ROUGH
from tensorstate_gpu.information.group_coverage import Bools, Floats, GroupCoverage, Ints
from tensorstate_gpu.information.incidences import Incidences, are_instances, limitless_bits
from tensorstate_gpu.information.many_samples import Entropies, ManySamples
from tensorstate_gpu.information.replicates import (
    as_equal_groups,
    bias_of,
    deviations_of,
    error_of,
    margin_of,
    second_order_error,
)


@dataclass(frozen=True, slots=True, eq=False)
class ManyEstimates:
    """Of each sample, (samples,): the entropy of its source in bits, and how far to trust it.

    As the fields of an Estimate. ``standard_error`` is NaN where there are too few groups.
    ``has_interval``: whether ``lower`` and ``upper`` are an interval, and not bounds. ``rows``,
    ``distinct``: of the sample, and of its states.
    """

    value: Floats
    plugin: Floats
    plugin_of_half: Floats
    standard_error: Floats
    lower: Floats
    upper: Floats
    coverage: Floats
    least_coverage: Floats
    has_interval: Bools
    rows: Ints
    distinct: Ints

    @classmethod
    def of(cls, many: ManySamples, *, trees: bool = False) -> ManyEstimates:
        """Estimate the entropies of many samples.

        ``trees``: whether upper bounds of those that needs_tree() use one, if they are small.
        """
        neurons = many.firing.shape[-1]
        rows, found = many.by_group(many.counts), Entropies.of(many)
        cover = GroupCoverage.of(rows, many.rows_alone(), many.instances, many.has_units)
        shares = rows / rows.sum(axis=1, keepdims=True)
        groups = as_equal_groups(shares)
        deviations, bias = deviations_of(shares, found.source, found.source_without)
        noise = second_order_error(rows, many.squares(), found.distinct)
        error = error_of(deviations, groups, noise)
        margin = margin_of(error, groups)
        value = np.minimum(found.source, neurons)
        most = np.minimum(neurons, _by_the_neurons(many, rows, unseen_entropy(cover)))
        needed = np.flatnonzero(~np.isnan(error) & (cover.least < ROUGH) & many.small())
        if trees and len(needed):
            by_tree = _by_trees(many, needed, rows[needed], unseen_entropy(cover)[needed])
            most[needed] = np.minimum(most[needed], by_tree)
        least = np.minimum(most, _least(many, groups, cover, value - margin))
        too_high, too_low = bias_of(value, found.sample, bias)
        low = value - margin - too_high
        in_groups, alone = many.in_groups(), many.rows_alone()
        beyond = entropy_of_doubt(cover) + limitless_bits(cover, in_groups, rows, alone, neurons)
        high = value + margin + too_low + beyond
        printed = ~np.isnan(error) & (cover.least >= ROUGH)
        repeats = np.flatnonzero(printed & ~are_instances(rows, many.instances, many.has_units))
        if len(repeats):
            end = _ends_by_incidences(many, found, rows, noise, repeats)
            high[repeats] = np.maximum(high[repeats], end + beyond[repeats])
        return cls(
            value=value,
            plugin=found.sample,
            plugin_of_half=found.of_half,
            standard_error=error,
            lower=np.where(printed, np.maximum(low, least), least),
            upper=np.where(printed, np.minimum(high, most), most),
            coverage=cover.share,
            least_coverage=cover.least,
            has_interval=printed,
            rows=many.rows(),
            distinct=found.distinct,
        )


def _ends_by_incidences(
    many: ManySamples, found: Entropies, rows: Floats, noise: Floats, chosen: Ints
) -> Floats:
    """Return the upper ends of some samples by incidences, but for what they lack."""
    incidences = Incidences(
        found.rare[:, chosen],
        found.rare_without[:, chosen],
        many.in_groups()[:, chosen],
        many.rows_alone()[chosen],
        many.rows_left()[chosen],
    )
    return incidences.upper_end(
        found.source[chosen],
        found.source_without[chosen],
        found.sample[chosen],
        rows[chosen] / rows[chosen].sum(axis=1, keepdims=True),
        noise[chosen],
    )


def _least(many: ManySamples, groups: Floats, cover: GroupCoverage, by_error: Floats) -> Floats:
    """Return the lower bounds, as least_entropy() does."""
    return np.where(
        many.share_no_state(),
        without_coincidences(groups, many.instances, many.has_units, cover),
        np.where(np.isnan(by_error), 0.0, np.maximum(0.0, by_error)),
    )


def _by_the_neurons(many: ManySamples, rows: Floats, unseen: Floats) -> Floats:
    """Return the upper bounds by the entropies of the neurons; infinite without an error."""
    return _upper(*entropies_of_neurons(many.firing, rows), rows, unseen)


def _by_trees(many: ManySamples, chosen: Ints, rows: Floats, unseen: Floats) -> Floats:
    """Return the upper bounds of some samples by dependence trees."""
    bits, whole = many.code_lengths(chosen), rows.sum(axis=1)
    total = bits.sum(axis=1)
    without = (total[:, None] - bits) / np.maximum(1, whole[:, None] - rows)
    return _upper(total / whole, without, rows, unseen)


def _upper(value: Floats, without: Floats, rows: Floats, unseen: Floats) -> Floats:
    """Return a measure with its error, and what is not in the sample."""
    shares = rows / rows.sum(axis=1, keepdims=True)
    groups = as_equal_groups(shares)
    deviations, _ = deviations_of(shares, value, without)
    most = value + margin_of(error_of(deviations, groups), groups) + unseen
    return np.where(np.isnan(most), np.inf, most)
