"""Estimates of mutual information: what the states of a layer tell about their labels."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol, TypeVar, cast, runtime_checkable

import numpy as np
from numpy.typing import ArrayLike

from tensorstate_gpu.information.bounds import entropy_of_doubt, unseen_entropy
from tensorstate_gpu.information.class_information import check_labels
from tensorstate_gpu.information.estimated_measure import Estimate, with_interval
from tensorstate_gpu.information.estimates import chao_wang_jost
from tensorstate_gpu.information.estimators import plug_in
from tensorstate_gpu.information.group_sums import GroupSums, sums_of
from tensorstate_gpu.information.group_table import Grouped, GroupTable, Ints
from tensorstate_gpu.information.rarefactions import rarefied
from tensorstate_gpu.information.replicates import Replicates, limits_of_bias

Label = TypeVar("Label")
_BATCH = 1 << 16  # states of labels whose sums are computed together


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
        pairs of label and state that the sample lacks could hide it; at most to the labels' own
        entropy, with its error, and to log2(K) if each of K labels, more than one, was seen in two
        groups. Else the source may have labels that the sample lacks.

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
    rows, pairs = zip(*map(_pairs, _batches(each)), strict=True)
    states = sums_of(_together(each))
    return _estimated(np.concatenate(rows), GroupSums.together(pairs), states)


def information_of_sums(by_label: Sequence[GroupSums], states: GroupSums) -> Estimate:
    """Return what estimate_mutual_information() does, from sums over at least one row.

    ``by_label``: those of each label. ``states``: those of all labels together.
    """
    rows = np.array([sums.rows_by_group for sums in by_label])
    return _estimated(rows, GroupSums.together(by_label), states)


def _estimated(rows: Ints, pairs: GroupSums, states: GroupSums) -> Estimate:
    """Estimate it. ``rows``: of each label, by group. ``pairs``: those of label and state."""
    of_labels = GroupSums.of(GroupTable.of(rows.T))  # of a sample in which each label is a state
    pairs = dataclasses.replace(pairs, instances=states.instances)
    parts = of_labels, states, pairs
    exact = _information(*(chao_wang_jost(part.whole) for part in parts))
    replicates = Replicates.of(
        states.rows_by_group,
        exact,
        lambda g: _information(*(chao_wang_jost(part.rests[g]) for part in parts)),
    )
    plugin, unseen = _information(*map(_bits, parts)), float(unseen_entropy(states.cover))
    value = min(_bits(of_labels), max(0.0, exact))
    below, above = limits_of_bias(value, plugin, replicates)
    # The labels of a sample have less entropy than those of the source: much less if they are many.
    above = max(above, unseen) + max(0.0, exact - value)
    return with_interval(
        Estimate(
            value=value,
            plugin=plugin,
            plugin_of_half=_information(
                *(rarefied(part.whole, max(1, states.rows // 2)) for part in parts)
            ),
            lower=0.0,
            upper=_most_information(of_labels, states, unseen),
            how=("nothing", "entropy of the labels"),
            coverage=pairs.coverage,
            least_coverage=pairs.least_coverage,
            rows=states.rows,
            design_effect=None,
            is_cut=False,
            in_bits=True,
            bias=(below + _hidden(pairs, of_labels), above),
            replicates=replicates,
            sample=states.instances,
        )
    )


def _hidden(pairs: GroupSums, of_labels: GroupSums) -> float:
    """Return how many bits less states may tell because pairs are rare or not in the sample.

    By Fano's inequality: if a state does not tell the label of a share of the rows, labels keep at
    most log2(labels - 1) bits of these. So it may be wherever the pair of state and label was not
    seen in two groups, and for the share that the coverage conceals. Without that, intervals of
    many labels that states confuse seldom end above the truth: where each pair of state and wrong
    label is rare, the sample has few of them, and the states of these seem to tell their label.
    """
    share = 1 - pairs.least_coverage
    most = min(math.log2(max(1, of_labels.whole.distinct - 1)), _bits(of_labels))
    return float(entropy_of_doubt(pairs.cover)) + share * most


def _most_information(of_labels: GroupSums, states: GroupSums, unseen: float) -> float:
    """Return the upper end of the labels' entropy, of which states cannot tell more.

    That of the sample is less than that of the source: where states tell their labels exactly,
    intervals that ended there would end below the truth. But where each label was seen in two
    groups, there are hardly others (Good and Turing), and labels have at most log2 of their number.
    A single one says nothing of what it is told from: there may be another one.
    """
    value, labels = chao_wang_jost(of_labels.whole), of_labels.whole.distinct
    replicates = Replicates.of(
        states.rows_by_group, value, lambda g: chao_wang_jost(of_labels.rests[g])
    )
    most = value + (replicates.margin or 0.0) + unseen
    has_all_labels = labels > 1 and not of_labels.in_groups[0].any()
    return max(_bits(of_labels), min(most, math.log2(labels))) if has_all_labels else most


def _bits(part: GroupSums) -> float:
    """Return the entropy of a sample."""
    return plug_in(part.whole) / math.log(2)


def _information(labels: float, states: float, pairs: float) -> float:
    return labels + states - pairs


def _batches(each: Sequence[object]) -> Iterator[list[object]]:
    """Yield labels, small ones together: 100,000 labels of a few inputs have no sums of their own.

    Those of the same groups, which merging would check later.
    """
    batch: list[object] = []
    free = 0
    is_pairable = _by_kind(each, Pairable)
    for groups in each:
        pairable = cast(Pairable, groups)
        size = int(pairable.sizes.sum()) if is_pairable[type(groups)] else _BATCH
        if batch and (size > free or len(groups) != len(batch[0])):  # type: ignore[arg-type]
            yield batch
            batch = []
        free = (free if batch else _BATCH) - size
        batch.append(groups)
    yield batch


def _pairs(batch: list[object]) -> tuple[Ints, GroupSums]:
    """Return the rows of labels by group, and the sums over pairs of label and state."""
    first, *others = batch
    if not others or not isinstance(first, Pairable):
        sums = sums_of(first)
        return sums.rows_by_group[None], sums
    rows, table = first.pairs_with(others)
    if not rows.any(axis=1).all():
        raise ValueError("groups holds no rows; at least one is needed")
    return rows, GroupSums.of(table)


def _by_kind(each: Sequence[object], protocol: type) -> dict[type, bool]:
    """Return of each type whether it has a protocol, which takes long to find out."""
    kinds = {type(groups): groups for groups in each}
    return {kind: isinstance(groups, protocol) for kind, groups in kinds.items()}


def _check_kinds(each: Sequence[object]) -> None:
    """Raise TypeError unless all are histograms that can be merged here, or all are arrays."""
    each = list({type(groups): groups for groups in each}.values())
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
        is_grouped = _by_kind(each, Grouped)
        first, *others = sorted(each, key=lambda groups: is_grouped[type(groups)])
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
class Pairable(Protocol):
    """Histograms by group in memory, such as GroupedCounts."""

    @property
    def sizes(self) -> Ints: ...

    def pairs_with(self, others: Sequence[object]) -> tuple[Ints, GroupTable]: ...


@runtime_checkable
class OfRanks(Protocol):
    """Histograms by group of all ranks of a job, such as RankGroups."""

    def estimate_information(self, by_label: Any) -> Estimate: ...
