"""Parts: the states of a layer on one rank, as they are merged with those of others."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace

from tensorstate_gpu._capturing.spread import Spread
from tensorstate_gpu._layers.accumulator import Accumulator
from tensorstate_gpu._layers.counters import LabelledCounters
from tensorstate_gpu._layers.fixed_rows import FixedRows
from tensorstate_gpu._layers.instance_groups import hashes_of
from tensorstate_gpu._layers.labels import Label
from tensorstate_gpu._layers.ledger import Ledger
from tensorstate_gpu._layers.numbered_keys import in_order
from tensorstate_gpu._states.state_counts import StateCounts, merge_all
from tensorstate_gpu._states.stored_groups import load_each
from tensorstate_gpu.errors import InputsUnknown, LabelsMissing, RowsNotKept
from tensorstate_gpu.information.group_table import SampledInstances

ByGroup = Sequence[StateCounts]
Notes = tuple[tuple[int, bytes], ...]


@dataclass(frozen=True, slots=True)
class Counted:
    """The counts of a layer by label and by group, as far as both are known; None for the others.

    ``by_both``: by group for each label; if known, it says what the others would. ``whole``: where
    neither labels nor groups are known.
    """

    by_both: Mapping[Label, ByGroup] | None = None
    by_label: Mapping[Label, StateCounts] | None = None
    by_group: ByGroup | None = None
    whole: StateCounts | None = None

    @classmethod
    def of(cls, accumulator: Accumulator, groups: int | None) -> "Counted":
        """Count what an accumulator has, which is some rows at least."""
        # RowsNotKept: counts without groups. MemoryError: by both there are more than by each.
        with suppress(LabelsMissing, RowsNotKept, MemoryError):
            by_both = load_each(accumulator.counted_groups_by_label(groups))
            return cls({label: each.parts for label, each in by_both.items()})
        by_label = by_group = None
        with suppress(LabelsMissing):
            by_label = load_each(accumulator.counted_by_label())
        with suppress(LabelsMissing, RowsNotKept):  # LabelsMissing: of no known input
            by_group = accumulator.counted_groups(groups).load().parts
        if by_label is None and by_group is None:
            return cls(whole=accumulator.histogram())
        return cls(by_label=by_label, by_group=by_group)

    @classmethod
    def of_counters(cls, counters: LabelledCounters, rows: FixedRows, neurons: int) -> "Counted":
        """Return what was counted of joined rows, of which there may be none."""
        if rows.groups is None:
            if rows.labels is None:
                return cls(whole=counters.counted(neurons).load())
            return cls(by_label=load_each(counters.counted_by(neurons)))
        by_both = {
            label: [part.load() for part in parts]
            for label, parts in counters.counted_by_group(neurons, by_label=True).items()
        }
        return cls(by_group=by_both.get(None)) if rows.labels is None else cls(by_both)

    @property
    def labels(self) -> tuple[Label, ...] | None:
        """Which labels there are."""
        known = self.by_label if self.by_both is None else self.by_both
        return None if known is None else tuple(known)

    def of_labels(self, neurons: int) -> Mapping[Label, StateCounts]:
        """Return the counts of each label."""
        if self.by_both is None:
            return self.by_label or {}
        return {label: merge_all([*parts], neurons) for label, parts in self.by_both.items()}

    def of_groups(self, neurons: int) -> ByGroup | None:
        """Return the counts of each group; None also if there are no rows."""
        if not self.by_both:
            return self.by_group
        return [merge_all([*parts], neurons) for parts in zip(*self.by_both.values(), strict=True)]

    def together(self, neurons: int) -> StateCounts:
        """Return all counts together."""
        if self.whole is not None:
            return self.whole
        parts = self.of_groups(neurons) or [*self.of_labels(neurons).values()]
        return merge_all([StateCounts.empty(neurons), *parts], neurons)

    def each(self, change: Callable[[StateCounts], StateCounts]) -> "Counted":
        """Return these counts with a part of each histogram."""
        return Counted(
            None
            if self.by_both is None
            else {label: [*map(change, parts)] for label, parts in self.by_both.items()},
            None
            if self.by_label is None
            else {label: change(part) for label, part in self.by_label.items()},
            None if self.by_group is None else [*map(change, self.by_group)],
            None if self.whole is None else change(self.whole),
        )


@dataclass(frozen=True, slots=True)
class Parts:
    """The states of a layer on this rank, all read at one time.

    ``states``, ``inputs``: how many there are; inputs None if that is not known. ``neurons``: None
    before the first batch. ``labels``: which there are; None unless all inputs have one.
    ``samples``: which inputs have each label, also those of which the layer has no rows, or which
    inputs there are (for None) unless all have one; empty where counts are not known by group.
    ``slices``: the rows, where they have a part of the neurons. They are counted when joined.
    ``notes``: what tells whether other ranks have the same labels and units, if some must.
    """

    neurons: int | None = None
    states: int = 0
    inputs: int | None = 0
    labels: tuple[Label, ...] | None = None
    samples: Mapping[Label, SampledInstances] = field(default_factory=dict)
    counted: Counted = Counted()
    slices: FixedRows | None = None
    notes: Notes = ()

    @classmethod
    def of(cls, accumulator: Accumulator, groups: int | None) -> "Parts":
        """Read those of a capture point that has all neurons."""
        found = cls._without_counts(accumulator)
        samples: Mapping[Label, SampledInstances] = {}
        with suppress(LabelsMissing, RowsNotKept):
            samples = accumulator.samples_by_label(groups)
        if not found.states:
            labels = () if accumulator.ledger.all_have("labels") else None
            return replace(found, labels=labels, samples=samples)
        counted = Counted.of(accumulator, groups)
        return replace(found, labels=counted.labels, samples=samples, counted=counted)

    @classmethod
    def of_slices(cls, accumulator: Accumulator, groups: int | None) -> "Parts":
        """Read those of a capture point that has a slice of the neurons."""
        found, rows = cls._without_counts(accumulator), FixedRows.of(accumulator, groups)
        labels = None if rows.labels is None else tuple(in_order({*rows.labels.tolist()}))
        if labels is not None and not found.states:
            labels = ()
        return replace(found, labels=labels, samples=rows.samples, slices=rows)

    @classmethod
    def _without_counts(cls, accumulator: Accumulator) -> "Parts":
        inputs = None
        with suppress(InputsUnknown):
            inputs = accumulator.ledger.count
        return cls(accumulator.neurons, accumulator.ledger.rows, inputs)

    @property
    def has_both(self) -> bool:
        """Whether states are, or can be, counted by label and group together."""
        if self.slices is not None:
            return self.labels is not None and self.slices.groups is not None
        return self.counted.by_both is not None

    def joined(self, spread: Spread | None) -> tuple["Parts", Exception | None]:
        """Return this rank's share of what it has with others, or the error that there was.

        Collective, if it has slices.
        """
        if spread is None or not self.states:
            return self, None
        assert self.neurons is not None
        counters = failure = None
        if self.slices is not None:
            counters, failure = spread.joined(self.slices, self.neurons)
        if failure is not None:
            return self, failure
        try:
            return self._shared(spread, counters), None
        except Exception as error:
            return self, error

    def _shared(self, spread: Spread, counters: LabelledCounters | None) -> "Parts":
        """Return this rank's share. ``counters``: what was counted of the joined rows, if any."""
        counted = self.counted
        if counters is not None and self.slices is not None:
            counted = Counted.of_counters(counters, self.slices, spread.neurons)
        return replace(self, counted=counted.each(spread.own_share), slices=None)


def notes_of(ledger: Ledger) -> Notes:
    """Return how many inputs have a label, and a unit, and a digest of these in their order.

    Where counts are kept, these are not, and the digest is that of none.
    """
    found = []
    for column in ledger.notes.values():
        digest = hashlib.blake2b(digest_size=8)
        for piece in column.pieces():
            digest.update(hashes_of(piece).astype("<u8").tobytes())
        found.append((column.count, digest.digest()))
    return tuple(found)


NOTHING = Parts()
