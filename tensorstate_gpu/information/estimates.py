"""estimate(): the entropy or the efficiency of the source of a sample, with its error."""

from __future__ import annotations

import dataclasses
import functools
import math
from typing import Literal, Protocol, get_args, runtime_checkable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tensorstate_gpu._arguments import choice, positive_integer
from tensorstate_gpu._arrays.host_arrays import host_array
from tensorstate_gpu.information.bounds import (
    entropy_of_doubt,
    greatest_entropy,
    have_error,
    is_tree_quick,
    least_entropy,
)
from tensorstate_gpu.information.counts_of_counts import CountsOfCounts, remembered
from tensorstate_gpu.information.estimated_measure import (
    ROUGH,
    Estimate,
    function_of,
    with_interval,
)
from tensorstate_gpu.information.estimators import estimate as corrected
from tensorstate_gpu.information.estimators import plug_in
from tensorstate_gpu.information.group_sums import GroupSums, Summed, sums_of
from tensorstate_gpu.information.group_table import SampledInstances
from tensorstate_gpu.information.incidences import are_instances, limitless_bits
from tensorstate_gpu.information.rarefactions import rarefied
from tensorstate_gpu.information.replicates import Replicates, limits_of_bias, second_order_error

Floats = NDArray[np.float64]
Measure = Literal["entropy", "efficiency"]


@runtime_checkable
class Coded(Protocol):
    """Histograms by group that know which neurons fire together, such as GroupedCounts."""

    def code_lengths(self) -> Floats: ...


def estimate(
    groups: object,
    measure: Measure = "entropy",
    neurons: int | None = None,
    *,
    instances: ArrayLike | None = None,
) -> Estimate:
    """Return the entropy or the efficiency of the source of a sample, with its error.

    Parameters
    ----------
    groups : GroupedCounts, or array_like of integers, (groups, states)
        What ``grouped()`` of a capture point or stored layer returns; or the counts of each state,
        one row for each of up to 100,000 groups of independent instances. The rows of an instance
        are in one group.
    measure : "entropy" or "efficiency"
        Shannon's, in bits; or divided by the number of neurons.
    neurons : int, optional
        By default those of the GroupedCounts. Of an array, needed for the efficiency.
    instances : array_like of integers, (groups,), optional
        Of an array, how many instances each group has. By default, each row counts as an instance:
        then the error is too small where instances have several rows.

    Returns
    -------
    Estimate

    Raises
    ------
    TypeError, ValueError
        If ``groups`` is neither of these, holds negative counts, no rows or too many groups; if the
        measure is unknown; if ``neurons`` is missing, not positive, or too few for the states; if
        ``instances`` are no integers >= 0 of this shape, or given for what knows them.

    Notes
    -----
    Value: Chao, Wang and Jost (2013). Standard error: the delete-a-group jackknife, over groups of
    whole instances, so rows of one instance may be alike. Interval: value - t se to value + t se +
    b, where b is what may be left of the bias: the most of value - plug-in and three times the
    jackknife's estimate; and what states may add of which the sample has none, or fewer by chance.
    Where rows are not instances, it reaches as far up as that of the value by incidences, which
    counts states by groups (after Chao and others, 2014), if that is more.
    Where instances have states of their own, and no two groups share a rare one, it reaches as far
    up as states that only the neurons limit.
    It holds where the coverage is at least 0.9, and is given where that is so with 95 % confidence.
    A kind of instance that the sample has none of, with many more states than all others, can add
    up to 3 (neurons - entropy) / instances bits more; see docs/statistics.md.

    Examples
    --------
    >>> import numpy as np
    >>> groups = np.random.default_rng(1).multinomial(100, [0.5, 0.25, 0.25], size=32)
    >>> estimate(groups)  # doctest: +NORMALIZE_WHITESPACE
    Estimate(1.499 +- 0.0087 bits, 95 % interval 1.482 to 1.528, good, coverage 100.0 %,
    3,200 instances)
    """
    choice(measure, "measure", get_args(Measure))
    sums = sums_of(groups)
    if instances is not None:
        sums = dataclasses.replace(sums, instances=_checked_instances(groups, instances, sums))
    size = _checked_neurons(sums, neurons)
    tree = groups.code_lengths() if isinstance(groups, Coded) and needs_tree(sums) else None
    return estimate_of_sums(sums, tree, measure, size)


def estimate_of_sums(
    sums: GroupSums, tree: Floats | None, measure: Measure, size: int | None
) -> Estimate:
    """Return what estimate() does, from sums over at least one row.

    ``tree``: where needs_tree(), the bits of each group. ``size``: the number of neurons.
    """
    choice(measure, "measure", get_args(Measure))
    bits = _entropy_of_source(sums, tree, size)
    if measure == "entropy":
        return bits
    if size is None:
        raise ValueError("the efficiency needs neurons=, which GroupedCounts knows")
    return function_of([bits], lambda values: values[0] / size)


def needs_tree(sums: GroupSums) -> bool:
    """Return whether an estimate needs a dependence tree, and gets it in no long time.

    It is for the upper bound, which needs an error; where the coverage allows one, an interval is
    narrower.
    """
    return sums.least_coverage < ROUGH and have_error(sums) and is_tree_quick(sums)


def _checked_instances(groups: object, instances: ArrayLike, sums: GroupSums) -> SampledInstances:
    if isinstance(groups, Summed):
        raise TypeError(f"instances is for arrays: {type(groups).__name__} knows them")
    number, found = len(sums.rows_by_group), host_array(instances, "instances")
    if found.dtype.kind not in "iu" or found.shape != (number,):
        raise TypeError(
            f"instances must be integers of shape ({number},), one for each group, got "
            f"{found.dtype} of shape {found.shape}"
        )
    if found.min() < 0 or (sums.rows_by_group[found == 0] > 0).any():
        raise ValueError("instances must not be negative, nor 0 for a group with rows")
    if sum(by_group := found.tolist()) >= 2**63:
        raise ValueError(f"instances must be fewer than 2**63, got {sum(by_group)}")
    return SampledInstances(tuple(by_group))


def _checked_neurons(sums: GroupSums, neurons: int | None) -> int | None:
    if neurons is None:
        return sums.neurons
    size = positive_integer(neurons, "neurons")
    if sums.neurons not in (None, size):
        raise ValueError(f"groups has {sums.neurons} neurons, got neurons={size}")
    states = sums.whole.distinct
    if size < (states - 1).bit_length():
        raise ValueError(f"{states} states are more than {size} neurons can have")
    return size


def _entropy_of_source(sums: GroupSums, tree: Floats | None, neurons: int | None) -> Estimate:
    @functools.cache
    def without(group: int) -> tuple[float, float]:
        return _both_entropies(sums.rests[group])

    each = sums.rows_by_group
    found, plugin = _both_entropies(sums.whole)
    distinct = np.array(sums.whole.distinct)
    noise = float(second_order_error(each, sums.squares, distinct))
    replicates = Replicates.of(each, found, lambda group: without(group)[0], noise)
    of_sample = Replicates.of(each, plugin, lambda group: without(group)[1])
    value = min(found, math.inf if neurons is None else neurons)
    too_high, too_low = limits_of_bias(value, plugin, replicates)
    if replicates.margin is not None and _has_other_end(sums):
        rests = np.array([without(group)[0] for group in range(len(each))])
        end = _end_by_incidences(sums, found, rests, plugin, noise)
        too_low = max(too_low, end - replicates.margin - value)
    too_low += float(entropy_of_doubt(sums.cover))
    if neurons is not None:
        rows = sums.rows_by_group, sums.rows_alone
        too_low += float(limitless_bits(sums.cover, sums.in_groups, *rows, neurons))
    lower, upper, how = _bounds(sums, tree, value, replicates, neurons)
    return with_interval(
        Estimate(
            value=value,
            plugin=plugin,
            plugin_of_half=_of_half(sums.whole),
            lower=lower,
            upper=upper,
            how=how,
            coverage=sums.coverage,
            least_coverage=sums.least_coverage,
            rows=sums.rows,
            design_effect=_design_effect(sums, plugin, of_sample.standard_error),
            is_cut=value < found,
            in_bits=True,
            bias=(too_high, too_low),
            replicates=replicates,
            sample=sums.instances,
        )
    )


def _has_other_end(sums: GroupSums) -> bool:
    """Return whether there is an interval whose upper end by incidences may be another one."""
    of_instances = np.array(sums.instances.by_group), np.array(sums.instances.has_units)
    return sums.least_coverage >= ROUGH and not are_instances(sums.rows_by_group, *of_instances)


def _end_by_incidences(
    sums: GroupSums, found: float, without: Floats, plugin: float, noise: float
) -> float:
    entropies = np.array(found), without, np.array(plugin)
    return float(sums.incidences().upper_end(*entropies, sums.rows_by_group / sums.rows, noise))


@remembered
def _of_half(sample: CountsOfCounts) -> float:
    """Return the entropy that half of the rows would show, in bits."""
    return rarefied(sample, max(1, sample.rows // 2))


@remembered
def _both_entropies(sample: CountsOfCounts) -> tuple[float, float]:
    """Return the estimated entropy of the source, and that of the sample, in bits."""
    return chao_wang_jost(sample), plug_in(sample) / math.log(2)


def _bounds(
    sums: GroupSums, tree: Floats | None, value: float, replicates: Replicates, neurons: int | None
) -> tuple[float, float, tuple[str, str]]:
    least, least_how = least_entropy(sums, value, replicates)
    most, most_how = greatest_entropy(sums, neurons, tree)
    return min(least, most), most, (least_how, most_how)


@remembered
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
