"""Estimate: a measure of the source, and how far it can be trusted."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Sequence
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from tensorstate_gpu._arguments import positive_integer
from tensorstate_gpu._html import html_table
from tensorstate_gpu.information.bounds import (
    greatest_entropy,
    is_tree_quick,
    least_entropy,
    unseen_entropy,
)
from tensorstate_gpu.information.counts_of_counts import CountsOfCounts
from tensorstate_gpu.information.estimators import estimate as corrected
from tensorstate_gpu.information.estimators import plug_in
from tensorstate_gpu.information.group_sums import GroupSums
from tensorstate_gpu.information.group_table import GroupTable, SampledInstances
from tensorstate_gpu.information.rarefactions import rarefied
from tensorstate_gpu.information.replicates import Replicates, bias_of, combined

Floats = NDArray[np.float64]
Measure = Literal["entropy", "efficiency"]
Quality = Literal["good", "rough", "bounds only"]
QUALITIES: tuple[Quality, ...] = get_args(Quality)

GOOD, ROUGH = 0.95, 0.9  # the least coverages
_CUT = "cut to what the neurons allow"


def quality_of(coverage: float) -> Quality:
    """Return what a coverage allows."""
    return "good" if coverage >= GOOD else "rough" if coverage >= ROUGH else "bounds only"


@dataclasses.dataclass(frozen=True, slots=True, repr=False)
class Estimate:
    """A measure of the source of a sample, and how far it can be trusted. float() gives the value.

    ``value``: by the estimator of Chao, Wang and Jost. ``is_cut``: whether it was more than the
    neurons allow, and is cut to that.
    ``plugin``: the measure of the sample itself. ``plugin_of_half``: what half of the rows would
    show of it.
    ``lower``, ``upper``: between them the measure of the source is, with 95 % confidence each; and
    ``how`` they are known: by the "interval", by "chao-wang-jost" minus its error, by "no
    coincidences" between instances, by the number of "neurons", by the "entropies of the neurons"
    or a "dependence tree" of them; or "nothing".
    ``coverage``: the share of rows whose state also occurs in another group of instances.
    ``rows``, ``instances``: the size of the sample.
    ``design_effect``: how much more the plug-in varies than if rows were independent; None if that
    is not known. Rows divided by it are the independent rows that say as much.
    """

    __module__ = "tensorstate_gpu.information"

    value: float
    plugin: float
    plugin_of_half: float
    lower: float
    upper: float
    how: tuple[str, str]
    coverage: float
    rows: int
    design_effect: float | None
    is_cut: bool
    # How far the source may be from the value because of its bias: below it, and above.
    bias: tuple[float, float] = dataclasses.field(repr=False)
    replicates: Replicates = dataclasses.field(repr=False)
    sample: SampledInstances = dataclasses.field(repr=False)

    def __float__(self) -> float:
        return self.value

    @property
    def instances(self) -> int:
        return self.sample.number

    @property
    def slope(self) -> float:
        """What the plug-in has gained by the second half of the rows.

        In bits of entropy, 1 says that it measures the sample, 0 that it has settled.
        """
        return self.plugin - self.plugin_of_half

    @property
    def standard_error(self) -> float | None:
        """Of the value, by leaving out each group. None if there are too few instances."""
        return self.replicates.standard_error

    @property
    def quality(self) -> Quality:
        """ "good" from a coverage of 0.95 on, "rough" from 0.9 on; else "bounds only".

        Also "bounds only" if there are too few instances for a standard error.
        """
        return "bounds only" if self.standard_error is None else quality_of(self.coverage)

    @property
    def confidence_interval(self) -> tuple[float, float] | None:
        """The 95 % interval of the measure of the source; None if there are bounds only."""
        return None if self.quality == "bounds only" else (self.lower, self.upper)

    def __repr__(self) -> str:
        error = self.standard_error
        margin = "" if error is None else f" +- {error:.2g}"
        cut = f" ({_CUT})" if self.is_cut else ""
        word = "bounds" if self.confidence_interval is None else "95 % interval"
        return (
            f"Estimate({self.value:.4g}{margin}{cut}, {word} {self.lower:.4g} to {self.upper:.4g}, "
            f"{self.quality}, coverage {100 * self.coverage:.1f} %, {self.instances:,} instances)"
        )

    def _repr_html_(self) -> str:
        error = self.standard_error
        known = self.confidence_interval is not None
        shown = {
            "value": f"{self.value:.4g}" + (f" ({_CUT})" if self.is_cut else ""),
            "standard error": "-" if error is None else f"{error:.2g}",
            "95 % interval" if known else "bounds": f"{self.lower:.4g} - {self.upper:.4g}",
            "quality": self.quality,
            "coverage": f"{100 * self.coverage:.1f} %",
            "instances": f"{self.instances:,}",
        }
        return html_table(shown, [tuple(shown.values())])

    def as_dict(self) -> dict[str, object]:
        """Return all of it but for what only computes with it, ready for JSON."""
        shown = [field.name for field in dataclasses.fields(self) if field.repr]
        more = ("instances", "slope", "standard_error", "quality", "confidence_interval")
        return {name: getattr(self, name) for name in (*shown, *more)}


def estimate(groups: object, measure: Measure = "entropy", neurons: int | None = None) -> Estimate:
    """Return the entropy or the efficiency of the source of a sample, with its error.

    Parameters
    ----------
    groups : GroupedCounts, or array_like of integers, (groups, states)
        What ``grouped()`` of a capture point or stored layer returns; or the counts of each state,
        one row for each group of independent instances. The rows of an instance are in one group.
    measure : "entropy" or "efficiency"
        Shannon's, in bits; or divided by the number of neurons.
    neurons : int, optional
        By default those of the GroupedCounts. Of an array, needed for the efficiency.

    Returns
    -------
    Estimate

    Raises
    ------
    TypeError, ValueError
        If ``groups`` is neither of these, holds negative counts or no rows; if the measure is
        unknown; if ``neurons`` is missing, not positive, or too few for the states.

    Notes
    -----
    Value: Chao, Wang and Jost (2013). Standard error: the delete-a-group jackknife, over groups of
    whole instances, so rows of one instance may be alike. Interval: value - t se to value + t se +
    b, where b is what may be left of the bias: value - plug-in, or twice the jackknife's estimate
    if that is more. It holds where the coverage is at least 0.9, and is not given elsewhere; see
    docs/statistics.md.

    Examples
    --------
    >>> import numpy as np
    >>> groups = np.random.default_rng(1).multinomial(100, [0.5, 0.25, 0.25], size=32)
    >>> estimate(groups)  # doctest: +NORMALIZE_WHITESPACE
    Estimate(1.499 +- 0.0087, 95 % interval 1.482 to 1.528, good, coverage 100.0 %,
    3,200 instances)
    """
    _check_measure(measure)
    table = GroupTable.of(groups)
    size = _checked_neurons(table, neurons)
    sums = GroupSums.of(table)
    by_tree = table.cofiring is not None and needs_tree(sums)
    tree = table.code_lengths() if by_tree else None
    return estimate_of_sums(sums, tree, measure, size)


def estimate_of_sums(
    sums: GroupSums, tree: Floats | None, measure: Measure, size: int | None
) -> Estimate:
    """Return what estimate() does, from sums over at least one row.

    ``tree``: where needs_tree(), the bits of each group. ``size``: the number of neurons.
    """
    _check_measure(measure)
    bits = _entropy_of_source(sums, tree, size)
    if measure == "entropy":
        return bits
    if size is None:
        raise ValueError("the efficiency needs neurons=, which GroupedCounts knows")
    return function_of([bits], lambda values: values[0] / size)


def _check_measure(measure: object) -> None:
    if measure not in get_args(Measure):
        raise ValueError(f"measure must be one of {', '.join(get_args(Measure))}, got {measure!r}")


def needs_tree(sums: GroupSums) -> bool:
    """Return whether an estimate needs a dependence tree, and gets it in no long time.

    It is for the upper bound; at a higher coverage, there is an interval, which is narrower.
    """
    return sums.coverage < ROUGH and is_tree_quick(sums)


def _checked_neurons(table: GroupTable, neurons: int | None) -> int | None:
    if neurons is None:
        return table.neurons
    size = positive_integer(neurons, "neurons")
    if table.neurons not in (None, size):
        raise ValueError(f"groups has {table.neurons} neurons, got neurons={size}")
    if size < (int(np.count_nonzero(table.total)) - 1).bit_length():
        raise ValueError(f"{len(table.total)} states are more than {size} neurons can have")
    return size


def _entropy_of_source(sums: GroupSums, tree: Floats | None, neurons: int | None) -> Estimate:
    @functools.cache
    def without(group: int) -> tuple[float, float]:
        return _both_entropies(sums.rests[group])

    each = sums.rows_by_group
    found, plugin = _both_entropies(sums.whole)
    noise = second_order_error(sums)
    replicates = Replicates.of(each, found, lambda group: without(group)[0], noise)
    of_sample = Replicates.of(each, plugin, lambda group: without(group)[1])
    value = min(found, math.inf if neurons is None else neurons)
    return with_interval(
        Estimate(
            value,
            plugin,
            rarefied(sums.whole, max(1, sums.rows // 2)),
            *_bounds(sums, tree, value, replicates, neurons),
            sums.coverage,
            sums.rows,
            _design_effect(sums, plugin, of_sample.standard_error),
            value < found,
            bias_of(value, plugin, replicates, unseen_entropy(sums)),
            replicates,
            sums.instances,
        )
    )


def _both_entropies(sample: CountsOfCounts) -> tuple[float, float]:
    """Return the estimated entropy of the source, and that of the sample, in bits."""
    return chao_wang_jost(sample), plug_in(sample) / math.log(2)


def _bounds(
    sums: GroupSums, tree: Floats | None, value: float, replicates: Replicates, neurons: int | None
) -> tuple[float, float, tuple[str, str]]:
    least, least_how = least_entropy(sums, value, replicates)
    most, most_how = greatest_entropy(sums, neurons, tree)
    return min(least, most), most, (least_how, most_how)


def with_interval(estimate: Estimate) -> Estimate:
    """Return an estimate that has bounds, with the 95 % interval in their place if there is one."""
    margin = estimate.replicates.margin
    if margin is None or estimate.quality == "bounds only":
        return estimate
    below, above = estimate.bias
    low, high = estimate.value - margin - below, estimate.value + margin + above
    lower, upper = max(low, estimate.lower), min(high, estimate.upper)
    how = ("interval", "interval" if upper == high else estimate.how[1])
    return dataclasses.replace(estimate, lower=lower, upper=upper, how=how)


def second_order_error(sums: GroupSums) -> float:
    """Return the standard deviation, in bits, of the entropy of equally likely states.

    It is that of chi squared / (2 N), times the mean design effect.
    """
    degrees = sums.whole.distinct - 1
    return sums.clustering * math.sqrt(2 * degrees) / (2 * sums.rows * math.log(2))


def chao_wang_jost(sample: CountsOfCounts) -> float:
    """Return the estimated entropy of the source, in bits."""
    return corrected(sample, "chao-wang-jost", 1, None)


def _design_effect(sums: GroupSums, plugin: float, error: float | None) -> float | None:
    """Return the variance of the plug-in by the jackknife, relative to that of independent rows."""
    rows = sums.rows
    of_a_row = sums.whole.total(lambda n: n / rows * np.log2(n / rows) ** 2) - plugin**2
    if error is None or of_a_row < 1e-9:  # equally frequent states: the plug-in cannot vary
        return None
    return error**2 * rows / of_a_row


def function_of(parts: Sequence[Estimate], measure: Callable[[Sequence[float]], float]) -> Estimate:
    """Return the estimate of a measure that grows with each of several others.

    All are of the same instances.
    """
    values = [part.value for part in parts]
    value = measure(values)
    below = measure([max(0.0, part.value - part.bias[0]) for part in parts])
    above = measure([part.value + part.bias[1] for part in parts])
    effects = [part.design_effect for part in parts if part.design_effect is not None]
    ways = ([part.how[side] for part in parts] for side in (0, 1))
    lower_how, upper_how = (", ".join(dict.fromkeys(way)) for way in ways)
    return with_interval(
        Estimate(
            value,
            measure([part.plugin for part in parts]),
            measure([part.plugin_of_half for part in parts]),
            measure([part.lower for part in parts]),
            measure([part.upper for part in parts]),
            (lower_how, upper_how),
            min(part.coverage for part in parts),
            sum(part.rows for part in parts),
            max(effects, default=None),
            any(part.is_cut for part in parts),
            (value - below, above - value),
            combined([part.replicates for part in parts], values, measure),
            parts[0].sample,
        )
    )
