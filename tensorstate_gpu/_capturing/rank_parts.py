"""Parts: the states of a layer on one rank, as they are merged with those of others."""

import functools
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field

from tensorstate_gpu._capturing.capture_point import CapturePoint
from tensorstate_gpu._capturing.spread import Spread
from tensorstate_gpu._layers.numbered_keys import Label
from tensorstate_gpu._states.grouped_counts import GroupedCounts
from tensorstate_gpu._states.state_counts import StateCounts
from tensorstate_gpu.errors import LabelsMissing, RowsNotKept
from tensorstate_gpu.information.group_table import SampledInstances


@dataclass(frozen=True, slots=True)
class Parts:
    """The states of a layer on this rank; None stands for what there is not.

    ``groups_by``: by group for each label; if known, it says what the two before it would.
    ``samples``: which inputs have each label, if counts are by group for each, also those of which
    the layer has no rows.
    """

    whole: StateCounts | None = None
    labelled: dict[Label, StateCounts] | None = None
    grouped: GroupedCounts | None = None
    groups_by: dict[Label, GroupedCounts] | None = None
    samples: Mapping[Label, SampledInstances] = field(default_factory=dict)

    @classmethod
    def of(cls, point: CapturePoint) -> "Parts":
        """Read those of a capture point. Raises NothingCaptured if it has none."""
        whole = point.histogram()
        labelled = grouped = None
        # RowsNotKept: counts without groups. MemoryError: by both there are more than by each.
        with suppress(LabelsMissing, RowsNotKept, MemoryError):
            return cls(whole, groups_by=point.grouped_by(), samples=point.samples_by_label())
        with suppress(LabelsMissing):
            labelled = point.counts_by()
        with suppress(LabelsMissing, RowsNotKept):  # LabelsMissing: of no known input
            grouped = point.grouped()
        return cls(whole, labelled, grouped)

    def by_label(self) -> dict[Label, StateCounts] | None:
        """Return the counts of each label."""
        if self.groups_by is None:
            return self.labelled
        return {label: groups.together() for label, groups in self.groups_by.items()}

    def groups(self) -> GroupedCounts | None:
        """Return the counts of each group."""
        if self.groups_by is None:
            return self.grouped
        first, *others = self.groups_by.values()
        return first.merge(*others)

    @property
    def labels(self) -> tuple[Label, ...] | None:
        """Which labels there are."""
        known = self.labelled if self.groups_by is None else self.groups_by
        return None if known is None else tuple(known)

    @property
    def sample(self) -> SampledInstances | None:
        """Which inputs there are, where counts are by group."""
        if self.samples:
            return functools.reduce(SampledInstances.merge, self.samples.values())
        return None if self.grouped is None else self.grouped.sample

    def own_share(self, spread: Spread) -> "Parts":
        """Return this rank's share of what several ranks have copies of."""
        assert self.whole is not None
        labelled = grouped = groups_by = None
        samples = self.samples
        if self.labelled is not None:
            labelled = {label: spread.own_share(part) for label, part in self.labelled.items()}
        if self.grouped is not None:
            grouped = _own_share(self.grouped, spread)
        if self.groups_by is not None:
            groups_by = {label: _own_share(part, spread) for label, part in self.groups_by.items()}
        if not spread.is_first:
            samples = {label: each.without_instances() for label, each in samples.items()}
        return Parts(spread.own_share(self.whole), labelled, grouped, groups_by, samples)


def _own_share(groups: GroupedCounts, spread: Spread) -> GroupedCounts:
    sample = groups.sample if spread.is_first else groups.sample.without_instances()
    return GroupedCounts.of_sample([spread.own_share(part) for part in groups.parts], sample)


NOTHING = Parts()
