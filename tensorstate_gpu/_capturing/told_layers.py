"""ToldLayer: what each rank tells the others of a layer, and whether the ranks agree."""

import dataclasses
import functools
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tensorstate_gpu._arrays.ranks_protocol import Ranks
from tensorstate_gpu._capturing.capture_point import CapturePoint
from tensorstate_gpu._capturing.rank_parts import NOTHING, Notes, Parts, notes_of
from tensorstate_gpu._capturing.rank_run import RankFacts
from tensorstate_gpu._capturing.spread import Spread
from tensorstate_gpu._layers.labels import Label
from tensorstate_gpu._layers.names_together import names_together
from tensorstate_gpu._states.rank_exchange import same_on_all
from tensorstate_gpu.errors import NotCapturable, RanksDisagree
from tensorstate_gpu.information.group_table import SampledInstances


def read_parts(point: CapturePoint) -> tuple[Parts, Spread | None]:
    """Read what this rank has, and how that is spread, at one time."""
    try:
        with point.read_at_once() as accumulator:
            spread = point.spread  # which a pass notes before its rows
            if point.may_be_slice:
                raise NotCapturable(
                    f"{point.name}: a plain tensor in a tensor parallel model may be a slice, a "
                    "copy, or rows of its own: say which by run.sync(layouts=...)"
                )
            if accumulator is None:
                return NOTHING, spread
            read = Parts.of_slices if point.has_slices else Parts.of
            parts = read(accumulator, point.options.groups)
            notes = () if spread is None else notes_of(accumulator.ledger)
            return dataclasses.replace(parts, notes=notes), spread
    except MemoryError as error:
        raise MemoryError(
            f"{point.name}: ranks merge counts in memory. Where these are more, give each rank a "
            "store (storage_path=), and read all of them as one by open_stores() after the job. "
            f"{error}"
        ) from error


@dataclass(frozen=True, slots=True)
class ToldLayer:
    """What a rank tells the others of a layer; see Parts.

    ``has_both``: whether it counts by label and group together. ``is_first``: whether it speaks for
    the ranks that have the same inputs.
    """

    shown: RankFacts
    is_later_call: bool
    rule: str  # when a neuron fires
    neurons: int | None
    states: int
    inputs: int | None
    labels: tuple[Label, ...] | None
    samples: Mapping[Label, SampledInstances]
    notes: Notes
    has_both: bool
    is_first: bool
    place: int  # of the rank, in the whole job
    partners: tuple[int, ...]  # ranks that have the same rows

    @classmethod
    def of(
        cls, point: CapturePoint, spread: Spread | None, parts: Parts, ranks: Ranks
    ) -> "ToldLayer":
        """Return what this rank tells, which has ``parts`` of the layer."""
        is_first = spread is None or spread.is_first
        shown = RankFacts(
            name=point.name,
            other_names=point.other_names,
            axis=point.axis,
            axis_origin=point.axis_origin,
            nan_share=point.nan_share,
            passes=point.passes,
            failed_passes=point.failed_passes,
            inputs=parts.inputs if is_first else 0,
        )
        return cls(
            shown=shown,
            is_later_call=point.call_of is not None,
            rule=str(point.options.firing_rule()),
            neurons=parts.neurons if spread is None else spread.neurons,
            states=parts.states,
            inputs=parts.inputs,
            labels=parts.labels,
            samples=parts.samples,
            notes=parts.notes,
            has_both=parts.has_both,
            is_first=is_first,
            place=ranks.places[ranks.rank],
            partners=() if spread is None else spread.partners,
        )

    @property
    def name(self) -> str:
        return self.shown.name

    @property
    def takes_part(self) -> bool:
        """Whether it has inputs, perhaps without rows."""
        return self.inputs is None or self.inputs > 0

    @property
    def sample(self) -> SampledInstances | None:
        """Its inputs, where counts are by group; None of inputs for which another rank speaks."""
        if not self.samples:
            return None
        whole = functools.reduce(SampledInstances.merge, self.samples.values())
        return whole if self.is_first else whole.without_instances()


def by_layer(each: Sequence[Sequence[ToldLayer]]) -> list[list[ToldLayer]]:
    """Return what the ranks say of each layer. Raises RanksDisagree if a rank lacks a layer.

    Later calls of a layer appear in the passes of a rank: no rank need have all of them.
    """
    for rank, facts in enumerate(each):
        same_on_all(
            [[layer.name for layer in of if not layer.is_later_call] for of in (each[0], facts)],
            f"the layers, of ranks 0 and {rank}",
        )
    names = names_together([[layer.name for layer in facts] for facts in each])
    told = {name: list[ToldLayer]() for name in names}
    for layer in itertools.chain.from_iterable(each):
        told[layer.name].append(layer)
    return list(told.values())


def check_partners(captured: Sequence[ToldLayer], name: str) -> None:
    """Raise RanksDisagree unless all ranks that have the same rows are here, with as many.

    Their labels must be the same, too: each rank counts a part of the rows by its own.
    """
    by_place = {each.place: each for each in captured}
    for each in captured:
        for place in each.partners:
            other = by_place.get(place)
            same_on_all(
                [each.states, 0 if other is None else other.states],
                f"{name}: the number of rows of ranks {each.place} and {place}, which share them",
            )
            if other is not None and _differ(each, other):
                raise RanksDisagree(
                    f"{name}: ranks {each.place} and {place} share their inputs, but not the "
                    "labels or units of these"
                )


def _differ(one: ToldLayer, other: ToldLayer) -> bool:
    """Return whether the inputs of two ranks have other labels or units, as far as both know."""
    if one.notes != other.notes:
        return True
    if one.samples and other.samples:
        return one.samples != other.samples
    return one.labels != other.labels
