"""The measures of each label of a layer; labels of few inputs that are alike are measured once."""

import dataclasses
from collections.abc import Hashable, Mapping, Sequence

from tensorstate_gpu._states.counts_by_group import CountsByGroup
from tensorstate_gpu._states.grouped_counts import GroupedCounts
from tensorstate_gpu._states.state_counts import StateCounts
from tensorstate_gpu.information import Estimate
from tensorstate_gpu.information.estimates import estimate_of_sums
from tensorstate_gpu.information.replicates import LEAST_GROUPS
from tensorstate_gpu.reporting.layer_profile import Counts
from tensorstate_gpu.reporting.layer_report import LayerReport
from tensorstate_gpu.reporting.text import printable_name

Label = int | str
ByGroup = CountsByGroup[Counts]
# A dependence tree takes some milliseconds. Of more labels, upper bounds do without, as those of
# several ranks do: nobody reads the bounds of 100,000 labels one by one.
MOST_TREES = 1000
_FEW = 8  # distinct states up to which labels may well be alike


def measures_of(
    together: Mapping[Label, Counts], by_label: Mapping[Label, ByGroup] | None = None
) -> tuple[LayerReport, ...]:
    """Measure the histogram of each label; with its histograms by group, also estimate.

    What a label of few inputs has for measures depends on how often its states occurred in which
    groups, and not on which states: 100,000 labels of two inputs are of some ten kinds.
    """
    measured: dict[Hashable, LayerReport] = {}
    reports = []
    for label, counts in together.items():
        grouped = None if by_label is None else by_label[label]
        key = _key(counts, grouped)
        if key is None or key not in measured:
            efficiency = None if grouped is None else _efficiency(grouped, len(together))
            report = LayerReport.of(shown_label(label), counts, efficiency)
            if key is not None:
                measured[key] = report
        else:
            report = dataclasses.replace(measured[key], layer=shown_label(label))
        reports.append(report)
    return tuple(reports)


def shown_label(label: Label) -> str:
    """Return a label as the name of a row."""
    return printable_name(str(label))


def _efficiency(grouped: ByGroup, labels: int) -> Estimate:
    if labels <= MOST_TREES:
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
