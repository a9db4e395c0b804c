"""The measures of each label of a layer; labels of few inputs that are alike are measured once."""

import dataclasses
from collections.abc import Hashable, Iterable, Mapping, Sequence

from tensorstate_gpu._process.progress import OnDone
from tensorstate_gpu._states.grouped_counts import GroupedCounts
from tensorstate_gpu._states.state_counts import StateCounts
from tensorstate_gpu._states.stored_counts import StoredCounts
from tensorstate_gpu._states.stored_groups import StoredGroups
from tensorstate_gpu.information import Estimate
from tensorstate_gpu.information.estimates import estimate_of_sums, needs_tree
from tensorstate_gpu.information.replicates import LEAST_GROUPS
from tensorstate_gpu.reporting.layer_profile import Counts
from tensorstate_gpu.reporting.layer_report import LayerReport
from tensorstate_gpu.reporting.many_labels import are_trees_quick, reports_of
from tensorstate_gpu.reporting.text import printable_name

Label = int | str
ByGroup = GroupedCounts | StoredGroups
# A dependence tree takes some milliseconds. Of more labels, upper bounds do without, as those of
# several ranks do: nobody reads the bounds of 100,000 labels one by one.
MOST_TREES = 1000
FEW_LABELS = 100  # are measured one by one; others together, which takes no longer
_FEW = 8  # distinct states up to which labels may well be alike


def measures_of(
    together: Mapping[Label, Counts],
    by_label: Mapping[Label, ByGroup] | None = None,
    *,
    trees: bool = False,
) -> tuple[LayerReport, ...]:
    """Measure the histogram of each label; with its histograms by group, also estimate.

    ``trees``: whether upper bounds may use dependence trees.

    What a label of few inputs has for measures depends on how often its states occurred in which
    groups, and not on which states: 100,000 labels of two inputs are of some ten kinds.
    """
    measured: dict[Hashable, LayerReport] = {}
    reports = []
    for label, counts in together.items():
        grouped = None if by_label is None else by_label[label]
        key = _key(counts, grouped)
        if key is None or key not in measured:
            efficiency = None if grouped is None else _efficiency(grouped, trees)
            report = LayerReport.of(shown_label(label), counts, efficiency)
            if key is not None:
                measured[key] = report
        else:
            report = dataclasses.replace(measured[key], layer=shown_label(label))
        reports.append(report)
    return tuple(reports)


def measures_of_groups(
    by_label: Mapping[Label, ByGroup], on_read: OnDone | None = None
) -> tuple[LayerReport, ...]:
    """Estimate the measures of each label, from its histograms by group."""
    each = list(by_label.values())
    in_memory = [grouped for grouped in each if isinstance(grouped, GroupedCounts)]
    if len(each) <= FEW_LABELS or len(in_memory) < len(each):
        together = {label: grouped.together() for label, grouped in by_label.items()}
        read(each, together.values(), on_read)
        return measures_of(together, by_label, trees=_may_use_trees(each))

    def alone(grouped: GroupedCounts, tree: bool) -> LayerReport:
        return LayerReport.of("", grouped.together(), _efficiency(grouped, tree))

    found = reports_of(in_memory, alone, trees=len(each) <= MOST_TREES)
    named = zip(by_label, found, strict=True)
    return tuple(dataclasses.replace(one, layer=shown_label(label)) for label, one in named)


def _may_use_trees(labels: Sequence[ByGroup]) -> bool:
    return len(labels) <= MOST_TREES and are_trees_quick(
        label for label in labels if needs_tree(label.group_sums())
    )


def read(groups: Iterable[ByGroup], counts: Iterable[Counts], on_read: OnDone | None) -> None:
    """Read what measures need of counts in files, and say how much of it is done."""
    for grouped in groups:
        if isinstance(grouped, StoredGroups):
            grouped.group_sums(on_read)
    for each in counts:
        if isinstance(each, StoredCounts):
            each.tally(on_read)


def shown_label(label: Label) -> str:
    """Return a label as the name of a row."""
    return printable_name(str(label))


def _efficiency(grouped: ByGroup, tree: bool) -> Estimate:
    if tree:
        return grouped.estimate("efficiency")
    return estimate_of_sums(grouped.group_sums(), None, "efficiency", grouped.neurons)


def _key(counts: Counts, grouped: ByGroup | None) -> Hashable:
    """Return what the measures of a label of few inputs depend on; None for others."""
    if not isinstance(counts, StateCounts) or len(counts) > _FEW:
        return None
    key = *_fires(counts), *counts.counts.tolist()
    if grouped is None:
        return key
    if not isinstance(grouped, GroupedCounts):
        return None
    groups = _groups(counts, grouped)
    # With enough groups for an error, bounds depend on which neurons fire.
    return None if len(groups) >= LEAST_GROUPS else (key, grouped.sample.has_units, *groups)


def _fires(counts: StateCounts) -> tuple[bool, bool]:
    """Return whether a neuron fires in the only state, and whether all do; else False."""
    if len(counts) != 1:
        return False, False
    firing = int.from_bytes(counts.packed.tobytes()).bit_count()
    return firing > 0, firing == counts.neurons


def _groups(counts: StateCounts, grouped: GroupedCounts) -> Sequence[Hashable]:
    """Return the instances of each group that has some, and which states occurred how often."""
    place = {bytes(row): number for number, row in enumerate(counts.packed)}
    return [
        (instances, *(place[bytes(row)] for row in part.packed), *part.counts.tolist())
        for part, instances in zip(grouped.parts, grouped.sample.by_group, strict=True)
        if instances
    ]
