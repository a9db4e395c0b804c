"""Merges the capture points of all ranks of a job: they agree on layers, then exchange states."""

import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from tensorstate_gpu._arrays.ranks_protocol import Ranks
from tensorstate_gpu._capturing.capture_point import CapturePoint
from tensorstate_gpu._capturing.rank_parts import NOTHING, Counted, Parts
from tensorstate_gpu._capturing.rank_run import RankFacts, RankLayer, RankRun
from tensorstate_gpu._capturing.spread import Spread
from tensorstate_gpu._capturing.told_layers import (
    ToldLayer,
    by_layer,
    check_partners,
    read_parts,
)
from tensorstate_gpu._layers.labels import Label
from tensorstate_gpu._layers.numbered_keys import in_order
from tensorstate_gpu._states.grouped_counts import RankGroups
from tensorstate_gpu._states.rank_exchange import agreed, check_sum, in_step, same_on_all
from tensorstate_gpu._states.state_counts import (
    RankCounts,
    StateCounts,
    merge_all,
    owned,
    with_tallies,
)
from tensorstate_gpu.information.group_table import SampledInstances


def merged(find_points: Callable[[], Sequence[CapturePoint]], ranks: Ranks) -> RankRun:
    """Merge the states of all ranks. Collective; see Run.sync().

    ``find_points``: what it raises on one rank is an error on all.
    """
    parts: dict[str, Parts] = {}
    spreads: dict[str, Spread | None] = {}

    def read() -> list[ToldLayer]:
        facts = []
        for point in find_points():
            own, spread = read_parts(point)
            spread = None if spread is None else spread.among(ranks.places)
            parts[point.name], spreads[point.name] = own, spread
            facts.append(ToldLayer.of(point, spread, own, ranks))
        return facts

    mergings = [_Merging.of(facts) for facts in by_layer(agreed(ranks, read))]
    failures = []
    for name, spread in spreads.items():
        parts[name], failure = parts[name].joined(spread)
        failures.append(failure)
    agreed(ranks, lambda: _raise_first(failures))
    found = [each.owned(parts.get(each.name, NOTHING), ranks) for each in mergings]
    counts = iter(with_tallies(ranks, [own for owns in found for own in owns.histograms]))
    layers = [each.layer(owns, counts, ranks) for each, owns in zip(mergings, found, strict=True)]
    return RankRun(layers, ranks.size)


def _raise_first(failures: Sequence[Exception | None]) -> None:
    for failure in failures:
        if failure is not None:
            raise failure


@dataclass(frozen=True, slots=True)
class _Owned:
    """What this rank owns of a layer: histograms of all states, and by label; by group; by both."""

    histograms: list[StateCounts]
    groups: list[StateCounts]
    groups_by: list[list[StateCounts]]  # for each label


@dataclass(frozen=True, slots=True)
class _Merging:
    """How all ranks merge a layer. ``neurons``: None if none has captured it."""

    shown: RankFacts
    neurons: int | None
    labels: tuple[Label, ...] | None
    sample: SampledInstances | None
    samples: dict[Label, SampledInstances]  # where all ranks know labels and groups

    @property
    def name(self) -> str:
        return self.shown.name

    @classmethod
    def of(cls, facts: Sequence[ToldLayer]) -> "_Merging":
        """Agree on a layer, from what ranks say of it. Raises RanksDisagree if they cannot."""
        name = facts[0].name
        same_on_all([each.rule for each in facts], f"{name}: when a neuron fires")
        captured = [each for each in facts if each.states]
        check_sum(each.states for each in captured)
        same_on_all([each.neurons for each in captured], f"{name}: the number of neurons")
        check_partners(captured, name)
        asked = [each for each in facts if each.takes_part]
        labels = _union([each.labels for each in asked])
        sample = _whole_sample([each.sample for each in asked], name)
        by_label = {}
        # A rank without memory for both has none by label and group.
        if labels is not None and sample is not None and all(each.has_both for each in captured):
            by_label = _by_label(asked, labels, sample)
        return cls(
            RankFacts.together([each.shown for each in facts]),
            captured[0].neurons if captured else None,
            labels,
            sample,
            by_label,
        )

    def owned(self, parts: Parts, ranks: Ranks) -> _Owned:
        """Exchange the states of the layer. Collective."""
        if self.neurons is None:
            return _Owned([], [], [])
        neurons, counted = self.neurons, parts.counted
        if self.samples:
            own = owned(ranks, in_step(ranks, lambda: self._by_both(counted, neurons)))
            return in_step(ranks, lambda: self._owned_by_both(own, neurons))
        own = owned(ranks, in_step(ranks, lambda: self._by_each(counted, neurons)))
        return in_step(ranks, lambda: self._owned_by_each(own, neurons))

    def _by_each(self, counted: Counted, neurons: int) -> list[StateCounts]:
        """Return the states by label, then those by group; those of all if neither is known."""
        empty = StateCounts.empty(neurons)
        by_label = {} if self.labels is None else counted.of_labels(neurons)
        sent = [by_label.get(label, empty) for label in self.labels or ()]
        if self.sample is not None:
            groups = counted.of_groups(neurons)
            sent += [empty] * len(self.sample.by_group) if groups is None else groups
        return sent or [counted.together(neurons)]

    def _owned_by_each(self, own: list[StateCounts], neurons: int) -> _Owned:
        labels = len(self.labels or ())
        whole = merge_all(own[labels:] or own, neurons)
        groups = own[labels:] if self.sample is not None else []
        return _Owned([whole, *own[:labels]], groups, [])

    def _by_both(self, counted: Counted, neurons: int) -> list[StateCounts]:
        """Return the states by label and group, which say the rest."""
        given, none = counted.by_both or {}, self._without_states(neurons)
        return [part for label in self.samples for part in given.get(label, none)]

    def _owned_by_both(self, own: list[StateCounts], neurons: int) -> _Owned:
        groups_of_each = len(self._without_states(neurons))
        rows = [own[at : at + groups_of_each] for at in range(0, len(own), groups_of_each)]
        groups = [merge_all(list(each), neurons) for each in zip(*rows, strict=True)]
        labels = [merge_all(each, neurons) for each in rows]
        return _Owned([merge_all(groups, neurons), *labels], groups, rows)

    def _without_states(self, neurons: int) -> list[StateCounts]:
        assert self.sample is not None
        return [StateCounts.empty(neurons)] * len(self.sample.by_group)

    def layer(self, own: _Owned, counts: Iterator[RankCounts], ranks: Ranks) -> RankLayer:
        """Return the merged layer. ``counts``: those of all ranks, of each histogram."""
        whole = next(counts) if own.histograms else None
        of_labels = [next(counts) for _ in own.histograms[1:]]
        groups = None
        if self.sample is not None and self.neurons is not None:
            groups = RankGroups.of(ranks, own.groups, self.sample)
        both = zip(own.groups_by, self.samples.values(), strict=True)
        groups_by = dict(zip(self.samples, RankGroups.of_each(ranks, list(both)), strict=True))
        if self.labels is None:
            return RankLayer(self.shown, whole, None, groups, {})
        by_label = {
            label: each for label, each in zip(self.labels, of_labels, strict=True) if each.total
        }
        groups_by = {label: each for label, each in groups_by.items() if label in by_label}
        return RankLayer(self.shown, whole, by_label, groups, groups_by)


def _union(labels: Sequence[tuple[Label, ...] | None]) -> tuple[Label, ...] | None:
    """Return the labels of all ranks, in order; None if a rank has inputs without labels."""
    known = [each for each in labels if each is not None]
    if not known or len(known) < len(labels):
        return None
    return tuple(in_order({label for each in known for label in each}))


def _by_label(
    asked: Sequence[ToldLayer], labels: Sequence[Label], sample: SampledInstances
) -> dict[Label, SampledInstances]:
    """Return which inputs of all ranks have each label."""
    none = sample.without_instances()
    own = [each.samples for each in asked if each.is_first]
    return {
        label: functools.reduce(
            SampledInstances.merge, (samples.get(label, none) for samples in own), none
        )
        for label in labels
    }


def _whole_sample(samples: Sequence[SampledInstances | None], name: str) -> SampledInstances | None:
    """Return the inputs of all ranks; None if a rank has states that are not counted by group."""
    known = [each for each in samples if each is not None]
    if not known or len(known) < len(samples):
        return None
    same_on_all([len(each.by_group) for each in known], f"{name}: the number of groups")
    return functools.reduce(SampledInstances.merge, known)
