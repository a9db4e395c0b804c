"""Estimates of measures of several layers, of labels, and of two networks."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol, TypeVar, runtime_checkable

import numpy as np
from numpy.typing import ArrayLike

from tensorstate_gpu._arguments import share
from tensorstate_gpu.information.bounds import unseen_entropy
from tensorstate_gpu.information.class_information import check_labels
from tensorstate_gpu.information.efficiencies import aIQ, network_efficiency
from tensorstate_gpu.information.estimated_measure import Estimate, function_of, with_interval
from tensorstate_gpu.information.estimates import chao_wang_jost
from tensorstate_gpu.information.estimators import plug_in
from tensorstate_gpu.information.group_sums import GroupSums, sums_of
from tensorstate_gpu.information.group_table import Grouped, GroupTable, Ints
from tensorstate_gpu.information.rarefactions import rarefied
from tensorstate_gpu.information.replicates import Replicates, bias_of, combined

Label = TypeVar("Label")


def estimate_network_efficiency(efficiencies: Iterable[Estimate]) -> Estimate:
    """Return the geometric mean of the efficiencies of a network's layers, with its error.

    Parameters
    ----------
    efficiencies : iterable of Estimate
        Of each layer, by `estimate` with the measure "efficiency".

    Returns
    -------
    Estimate
        Its coverage is the least of the layers'.

    Raises
    ------
    TypeError, ValueError
        If these are no Estimates, or those of entropies; if there are none; or if they are not of
        the same instances.

    Examples
    --------
    >>> import numpy as np
    >>> from tensorstate_gpu.information import estimate
    >>> groups = np.random.default_rng(0).multinomial(100, [0.5, 0.5], size=32)
    >>> layers = [estimate(groups, "efficiency", neurons) for neurons in (2, 8)]
    >>> [round(layer.value, 2) for layer in layers]
    [0.5, 0.13]
    >>> round(estimate_network_efficiency(layers).value, 2)
    0.25
    """
    parts = _ratios(efficiencies, "efficiencies")
    return function_of(parts, lambda values: network_efficiency([max(0.0, v) for v in values]))


def estimate_aIQ(efficiency: Estimate, accuracy: float, weight: float) -> Estimate:
    """Return the artificial intelligence quotient, with the error of the network's efficiency.

    Parameters
    ----------
    efficiency : Estimate
        Of the network: `estimate_network_efficiency`.
    accuracy : float
        From 0 to 1, as the efficiency is. It counts as exact.
    weight : float
        As for `aIQ`.

    Returns
    -------
    Estimate

    Raises
    ------
    TypeError, ValueError
        If ``efficiency`` is no Estimate, or that of an entropy; if ``accuracy`` is not from 0 to 1;
        as for `aIQ`.

    Examples
    --------
    >>> import numpy as np
    >>> from tensorstate_gpu.information import estimate
    >>> groups = np.random.default_rng(0).multinomial(100, [0.5, 0.5], size=32)
    >>> network = estimate_network_efficiency([estimate(groups, "efficiency", neurons=2)])
    >>> round(estimate_aIQ(network, accuracy=0.9, weight=2).value, 2)
    0.74
    """
    quality = share(accuracy, "accuracy")
    return function_of(
        _ratios([efficiency], "efficiency"),
        lambda values: aIQ(max(0.0, values[0]), quality, weight),
    )


def estimate_difference(first: Estimate, second: Estimate) -> Estimate:
    """Return how much more the first measure is than the second, with its error.

    Both are of the same instances, so what is special about these instances cancels: the error is
    often much smaller than that of either.

    Parameters
    ----------
    first, second : Estimate
        Of two layers or networks that have seen the same instances.

    Returns
    -------
    Estimate

    Raises
    ------
    TypeError, ValueError
        If one is no Estimate, if one is in bits and the other a ratio, or if their instances are
        not the same.

    Examples
    --------
    >>> import numpy as np
    >>> from tensorstate_gpu.information import estimate
    >>> groups = np.random.default_rng(0).multinomial(100, [0.5, 0.25, 0.25], size=32)
    >>> found = estimate_difference(estimate(groups), estimate(groups))
    >>> f"{found.value} +- {found.standard_error:.4f} bits"
    '0.0 +- 0.0012 bits'
    """
    one, other = parts = _estimates([first, second], "first and second")
    if one.in_bits != other.in_bits:
        raise ValueError("first and second must both be in bits, or both be ratios")
    effects = [part.design_effect for part in parts if part.design_effect is not None]
    return with_interval(
        Estimate(
            one.value - other.value,
            one.plugin - other.plugin,
            one.plugin_of_half - other.plugin_of_half,
            one.lower - other.upper,
            one.upper - other.lower,
            (f"{one.how[0]}, {other.how[1]}", f"{one.how[1]}, {other.how[0]}"),
            min(one.coverage, other.coverage),
            min(one.least_coverage, other.least_coverage),
            one.rows + other.rows,
            max(effects, default=None),
            one.is_cut or other.is_cut,
            one.in_bits,
            (one.bias[0] + other.bias[1], one.bias[1] + other.bias[0]),
            combined([part.replicates for part in parts], (0.0, 0.0), _difference),
            one.sample,
        )
    )


def estimate_mutual_information(by_label: Mapping[Label, object]) -> Estimate:
    """Return how much the state of a row tells about its label, in bits, with its error.

    Parameters
    ----------
    by_label : mapping of label to GroupedCounts or StoredGroups, or to integers, (groups, states)
        What ``grouped_by()`` or ``counted_groups_by()`` of a capture point or stored layer returns.
        The same group of each label has the same instances; of arrays, the same entry is the same
        state.

    Returns
    -------
    Estimate
        The difference of entropies is above the truth where states were seen seldom. The interval
        reaches up as far as a state that no instance has could tell its label, and down as far as
        one could hide it; at most to the labels' own entropy, with its error.

    Raises
    ------
    TypeError, ValueError
        If there are no labels or no rows, if a label is NaN, if the numbers of groups, neurons or
        states differ, or for the counts of all ranks of a job, which have an estimate of their own:
        ``layer.grouped().estimate_information(layer.grouped_by())``.

    Examples
    --------
    Three states, of which one is a state of both labels:

    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> cats = rng.multinomial(100, [0.5, 0.5, 0], size=32)  # (groups, states)
    >>> dogs = rng.multinomial(100, [0, 0.5, 0.5], size=32)
    >>> round(estimate_mutual_information({"cat": cats, "dog": dogs}).value, 2)
    0.52
    """
    check_labels(by_label)
    each = list(by_label.values())
    if not each:
        raise ValueError("by_label is empty; at least one label is needed")
    _check_kinds(each)
    sums = [sums_of(groups) for groups in each]
    return information_of_sums(sums, sums_of(_together(each)))


def information_of_sums(by_label: Sequence[GroupSums], states: GroupSums) -> Estimate:
    """Return what estimate_mutual_information() does, from sums over at least one row.

    ``by_label``: those of each label. ``states``: those of all labels together.
    """
    of_labels = _labels(by_label)
    pairs = dataclasses.replace(GroupSums.together(by_label), instances=states.instances)
    parts = of_labels, states, pairs
    exact = _information(*(chao_wang_jost(part.whole) for part in parts))
    replicates = Replicates.of(
        states.rows_by_group,
        exact,
        lambda g: _information(*(chao_wang_jost(part.rests[g]) for part in parts)),
    )
    plugin, unseen = _information(*map(_bits, parts)), unseen_entropy(states)
    value = min(_bits(of_labels), max(0.0, exact))
    below, above = bias_of(value, plugin, replicates, unseen)
    return with_interval(
        Estimate(
            value,
            plugin,
            _information(*(rarefied(part.whole, max(1, states.rows // 2)) for part in parts)),
            0.0,
            _most_information(of_labels, states, unseen),
            ("nothing", "entropy of the labels"),
            pairs.coverage,
            pairs.least_coverage,
            states.rows,
            None,
            False,
            True,
            (max(below, unseen), above),
            replicates,
            states.instances,
        )
    )


def _most_information(of_labels: GroupSums, states: GroupSums, unseen: float) -> float:
    """Return the upper end of the labels' entropy, of which states cannot tell more.

    That of the sample is less than that of the source: intervals that ended there held in none of
    60 samples whose states told ten labels exactly.
    """
    value = chao_wang_jost(of_labels.whole)
    replicates = Replicates.of(
        states.rows_by_group, value, lambda g: chao_wang_jost(of_labels.rests[g])
    )
    return value + (replicates.margin or 0.0) + unseen


def _bits(part: GroupSums) -> float:
    """Return the entropy of a sample."""
    return plug_in(part.whole) / math.log(2)


def _information(labels: float, states: float, pairs: float) -> float:
    return labels + states - pairs


def _difference(values: Sequence[float]) -> float:
    return values[0] - values[1]


def _labels(by_label: Sequence[GroupSums]) -> GroupSums:
    """Return the sums of a sample in which each label is a state."""
    rows = np.array([sums.rows_by_group for sums in by_label])
    return GroupSums.of(GroupTable.of(rows.T))


def _check_kinds(each: Sequence[object]) -> None:
    """Raise TypeError unless all are histograms that can be merged here, or all are arrays."""
    if any(isinstance(groups, OfRanks) for groups in each):
        raise TypeError(
            "by_label has counts of all ranks of a job, of which no rank has all states: "
            "layer.grouped().estimate_information(layer.grouped_by())"
        )
    if len({isinstance(groups, Mergeable) for groups in each}) > 1:
        kinds = " and ".join(sorted({type(groups).__name__ for groups in each}))
        raise TypeError(f"by_label must hold counts by group, or arrays alone, got {kinds}")


def _together(each: Sequence[object]) -> object:
    """Return the counts of all labels together."""
    if isinstance(each[0], Mergeable):
        # Those on disk take any others; those in memory only their like.
        first, *others = sorted(each, key=lambda groups: isinstance(groups, Grouped))
        assert isinstance(first, Mergeable)
        return first.merge(*others)
    return functools.reduce(_added, map(_counts, each[1:]), _counts(each[0]))


def _counts(groups: object) -> Ints:
    """Return an array that a GroupTable has accepted."""
    counts: ArrayLike = groups  # type: ignore[assignment]
    return np.asarray(counts).astype(np.int64)


def _added(one: Ints, other: Ints) -> Ints:
    if one.shape != other.shape:
        raise ValueError(
            f"all labels must have the same groups and states, got {one.shape} and {other.shape}"
        )
    return one + other


@runtime_checkable
class Mergeable(Protocol):
    """Histograms by group, such as GroupedCounts."""

    def merge(self, *others: object) -> object: ...


@runtime_checkable
class OfRanks(Protocol):
    """Histograms by group of all ranks of a job, such as RankGroups."""

    def estimate_information(self, by_label: Any) -> Estimate: ...


def _ratios(given: Iterable[Estimate], argument: str) -> list[Estimate]:
    """Return estimates of efficiencies of the same instances, at least one."""
    parts = _estimates(given, argument)
    if any(part.in_bits for part in parts):
        raise ValueError(f'{argument} must be Estimates of efficiencies: estimate("efficiency")')
    return parts


def _estimates(given: Iterable[Estimate], argument: str) -> list[Estimate]:
    """Return estimates of the same instances, at least one."""
    parts = list(given)
    for part in parts:
        if not isinstance(part, Estimate):
            advice = ": its estimate() makes one" if hasattr(part, "estimate") else ""
            raise TypeError(f"{argument} must be Estimates, got {type(part).__name__}{advice}")
    if not parts:
        raise ValueError(f"{argument} is empty; at least one Estimate is needed")
    if any(part.sample != parts[0].sample for part in parts):
        raise ValueError(
            f"{argument} must be of the same instances, in the same groups: their errors depend on "
            "each other"
        )
    return parts
