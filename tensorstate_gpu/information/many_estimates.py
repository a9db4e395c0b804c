"""ManyEstimates: the estimates of many small samples, such as labels, computed together.

The formulas are those of estimate_of_sums() without a dependence tree, of arrays in place of
numbers: results differ in the last digits.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tensorstate_gpu.information.bounds import NO_COINCIDENCE
from tensorstate_gpu.information.estimated_measure import ROUGH
from tensorstate_gpu.information.group_sums import ONE_SIDED
from tensorstate_gpu.information.many_samples import Entropies, Ints, ManySamples
from tensorstate_gpu.information.replicates import BIASES, LEAST_GROUPS, student_quantile

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


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
    def of(cls, many: ManySamples) -> ManyEstimates:
        """Estimate the entropies of many samples."""
        neurons = many.firing.shape[-1]
        groups, coverage, found = _Groups.of(many), _Coverage.of(many), Entropies.of(many)
        noise = _second_order_error(many, groups, found)
        error, bias = groups.error(found.source, found.source_without, noise)
        margin = error * groups.quantile
        value = np.minimum(found.source, neurons)
        most = np.minimum(neurons, _by_the_neurons(many, groups, coverage))
        least = np.minimum(most, _least(many, groups, coverage, value, margin))
        too_high = np.maximum(0.0, np.maximum(found.sample - value, BIASES * bias))
        too_low = np.maximum(0.0, np.maximum(value - found.sample, -BIASES * bias))
        low = value - margin - np.minimum(value, too_high)
        high = value + margin + too_low + _entropy_of_share(coverage.doubt)
        printed = groups.are_enough & (coverage.least >= ROUGH)
        return cls(
            value,
            found.sample,
            found.of_half,
            error,
            np.where(printed, np.maximum(low, least), least),
            np.where(printed, np.minimum(high, most), most),
            coverage.share,
            coverage.least,
            printed,
            many.rows(),
            found.distinct,
        )


@dataclass(frozen=True, slots=True, eq=False)
class _Groups:
    """The groups of samples, as Replicates has them.

    ``rows``, ``shares``, (samples, groups): of rows. ``number``, (samples,): of how many groups of
    equal size. ``quantile``: of Student's distribution, NaN without enough groups.
    """

    rows: Floats
    shares: Floats
    number: Floats
    are_enough: Bools
    quantile: Floats

    @classmethod
    def of(cls, many: ManySamples) -> _Groups:
        rows = many.by_group(many.counts)
        shares = rows / rows.sum(axis=1, keepdims=True)
        number = 1 / (shares**2).sum(axis=1)
        enough = number >= LEAST_GROUPS
        quantile = np.full(len(number), np.nan)
        quantile[enough] = [student_quantile(each - 1) for each in number[enough].tolist()]
        return cls(rows, shares, number, enough, quantile)

    def of_samples(self, chosen: Ints) -> _Groups:
        """Return those of some samples."""
        return _Groups(
            self.rows[chosen],
            self.shares[chosen],
            self.number[chosen],
            self.are_enough[chosen],
            self.quantile[chosen],
        )

    def error(
        self, value: Floats, without: Floats, noise: Floats | float = 0.0
    ) -> tuple[Floats, Floats]:
        """Return the standard error of a measure, NaN without enough groups, and its bias."""
        counts = (self.shares > 0) & (self.shares < 1)
        deviations = np.where(counts, (1 - self.shares) * (without - value[:, None]), 0.0)
        bias = deviations.sum(axis=1)
        squares = ((deviations - self.shares * bias[:, None]) ** 2).sum(axis=1)
        degrees = np.where(self.are_enough, self.number - 1, np.nan)
        return np.hypot(np.sqrt(squares * self.number / degrees), noise), bias


@dataclass(frozen=True, slots=True, eq=False)
class _Coverage:
    """The coverage of samples, as GroupSums has it, (samples,).

    ``share``: of the sample; ``doubt``: how much less it may be; ``least``: the least of the
    source. ``alone``: whether each state is in one group only. ``independent``: how many instances
    are known not to depend on each other; ``effective``: as how many these count.
    """

    share: Floats
    doubt: Floats
    least: Floats
    alone: Bools
    independent: Floats
    effective: Floats

    @classmethod
    def of(cls, many: ManySamples) -> _Coverage:
        rows, rows_alone = many.by_group(many.counts), many.rows_alone()
        whole = rows.sum(axis=1)
        share = 1 - rows_alone.sum(axis=1) / whole
        instances = many.instances.astype(np.float64)
        number = instances.sum(axis=1)
        independent = np.where(many.has_units, (instances > 0).sum(axis=1), number)
        of_sizes = _effect_of_sizes(rows, instances)
        effective = _effective(instances, independent, many.has_units) / of_sizes
        counted = np.maximum(1.0, np.where(many.has_units, number, number / of_sizes))
        doubt = np.maximum(
            _greatest_share(1 - share, counted) - (1 - share), 3 / np.maximum(3.0, effective)
        )
        by_groups = ONE_SIDED * _error_by_groups(rows, rows_alone, share)
        doubt = np.where(many.has_units, np.maximum(doubt, by_groups), doubt)
        least = np.maximum(0.0, share - doubt)
        return cls(share, doubt, least, many.share_no_state(), independent, effective)


def _effect_of_sizes(rows: Floats, instances: Floats) -> Floats:
    """Return how many times fewer instances would do, if all had equally many rows."""
    number, whole = instances.sum(axis=1), rows.sum(axis=1)
    squares = ((rows * number[:, None] - instances * whole[:, None]) ** 2).sum(axis=1)
    rest = number**2 - (instances**2).sum(axis=1)
    effect: Floats = 1 + np.where(rest > 0, number * squares, 0.0) / (
        whole**2 * np.maximum(rest, 1)
    )
    return effect


def _effective(instances: Floats, independent: Floats, has_units: Bools) -> Floats:
    """Return as how many independent instances these count, by their numbers in groups."""
    groups, number = instances.shape[1], instances.sum(axis=1)
    squares = ((instances - number[:, None] / groups) ** 2).sum(axis=1)
    belong = has_units & (squares > 0)
    share = number * (1 - 1 / groups) / np.where(belong, squares, 1.0)
    of_units: Floats = np.maximum(independent, number * np.minimum(1.0, share))
    return np.where(belong, of_units, number)


def _greatest_share(share: Floats, number: Floats) -> Floats:
    """Return Wilson's upper limit of the shares that these are samples of."""
    z = ONE_SIDED / number
    spread = np.sqrt(share * (1 - share) / number + z**2 / 4)
    limit: Floats = (share + ONE_SIDED * (z / 2 + spread)) / (1 + ONE_SIDED * z)
    return limit


def _error_by_groups(rows: Floats, rows_alone: Floats, coverage: Floats) -> Floats:
    shares = rows / rows.sum(axis=1, keepdims=True)
    differences = (1 - coverage)[:, None] * shares - rows_alone / rows.sum(axis=1, keepdims=True)
    number = 1 / (shares**2).sum(axis=1)
    several = number > 1
    factor = np.where(several, number, np.inf) / np.where(several, number - 1, 1.0)
    with np.errstate(invalid="ignore"):
        error = np.sqrt(factor * (differences**2).sum(axis=1))
    return np.where(several, error, np.inf)


def _entropy_of_share(share: Floats) -> Floats:
    """Return the entropy in bits of shares > 0 and the rest; the most up to there."""
    share = np.minimum(0.5, share)
    return -share * np.log2(share) - (1 - share) * np.log2(1 - share)


def _second_order_error(many: ManySamples, groups: _Groups, found: Entropies) -> Floats:
    """Return the standard deviations, in bits, of the entropies of equally likely states."""
    rows, states = groups.rows.sum(axis=1), found.distinct - 1
    freedom = ((groups.rows > 0).sum(axis=1) - 1) * states
    squares = (many.squares() / np.maximum(groups.rows, 1.0)).sum(axis=1)
    clustering = np.maximum(0.0, rows * (squares - 1) / np.maximum(freedom, 1))
    error: Floats = clustering * np.sqrt(2.0 * states) / (2 * rows * math.log(2))
    return np.where(freedom > 0, error, 0.0)


def _least(
    many: ManySamples, groups: _Groups, coverage: _Coverage, value: Floats, margin: Floats
) -> Floats:
    """Return the lower bounds, as least_entropy() does."""
    pairs = 1 - 1 / groups.number
    instances = np.where(
        many.has_units, np.minimum(groups.number, coverage.independent), coverage.effective
    )
    bits = 2 * np.log2(np.maximum(1.0, instances)) + np.log2(np.where(pairs > 0, pairs, 1.0))
    without = np.where(pairs > 0, np.maximum(0.0, bits - NO_COINCIDENCE), 0.0)
    by_error = np.where(groups.are_enough, np.maximum(0.0, value - margin), 0.0)
    return np.where(coverage.alone, without, by_error)


def _by_the_neurons(many: ManySamples, groups: _Groups, coverage: _Coverage) -> Floats:
    """Return the upper bounds by the entropies of the neurons; infinite without an error."""
    most = np.full(len(groups.number), np.inf)
    chosen = np.flatnonzero(groups.are_enough)
    firing, rows = many.firing[chosen], groups.rows[chosen]
    total, whole = firing.sum(axis=1), rows.sum(axis=1)
    value = _sums_of_entropies(total, whole)
    without = _sums_of_entropies(total[:, None] - firing, whole[:, None] - rows)
    own = groups.of_samples(chosen)
    error, _ = own.error(value, without)
    unseen = _entropy_of_share(3 / np.maximum(1.0, coverage.effective[chosen]))
    most[chosen] = value + error * own.quantile + unseen
    return most


def _sums_of_entropies(firing: NDArray[np.int64], rows: Floats) -> Floats:
    """Return the sums of the neurons' own entropies in bits, with Miller's correction."""
    number = np.maximum(rows, 1.0)[..., None]
    p = firing / number
    silent = 1 - p
    bits = p * np.log2(np.where(p > 0, p, 1.0)) + silent * np.log2(np.where(silent > 0, silent, 1))
    both = ((firing > 0) & (firing < number)).sum(axis=-1)
    found: Floats = both / (2 * number[..., 0] * math.log(2)) - bits.sum(axis=-1)
    return found
