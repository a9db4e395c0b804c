"""The true neuron axis of each call of a leaf layer, found without the library under study.

Flip one neuron of a weighted layer, run the model again, and compare: along the neuron axis only a
part of a tensor changes, along the others all of it. The latest weighted layer that reaches a
tensor decides, since its neurons are the ones that the tensor holds. Where not simply the entry of
that neuron changes, another one is flipped: an axis on which both change the same part (all tokens
but the class token, say) does not tell neurons apart.

The verdicts:

known      one axis holds the neurons
split      several do: with heads apart, a neuron is a head and a place in it
batch      the only axis that does also counts model inputs
mixed      each neuron changes all of the tensor, or the model takes another path
untouched  nothing with weights feeds the tensor
"""

import dataclasses
from collections.abc import Sequence

import torch
from torch import nn

from .neurons import matrices, noise_in_parameters
from .passes import Inputs, LeafCall, ProducerCall, changed_outputs, recorded

# The neurons that are flipped. Of packed queries, keys and values these are a query and a value.
SHARES = (0.1, 0.9)
# And these, one after the other, as long as a tensor does not change (a key, for example), or only
# once and everywhere.
MORE_SHARES = (0.5, 0.3, 0.7, 0.02, 0.4, 0.6, 0.98)
ROUNDING = 1e-6
# A norm without weights lets a neuron change all others, but itself the most, nearly everywhere.
# So may one token among all tokens, but not by so much.
NEARLY_EVERYWHERE, FAR_MORE = 0.9, 4.0


@dataclasses.dataclass(frozen=True)
class Truth:
    """What is known of one call."""

    layer: str
    number: int
    shape: tuple[int, ...]
    verdict: str
    axes: tuple[int, ...] = ()


def true_axes(model: nn.Module, inputs: Inputs) -> list[Truth]:
    """Return the truth about each call of a leaf layer in a forward pass, in the order of calls.

    The model is to be in eval mode. Random numbers of its own are the same in each pass.
    """
    calls, producers = recorded(model, inputs)
    with noise_in_parameters(model):
        fed = _changes(model, inputs, calls)
    others = [_changes(model, inputs.with_copied(*places), calls) for places in ((0, 1), (1, 0))]
    found: dict[LeafCall, Truth] = {}
    # Of children that a module computes with and does not call, the last is taken to be used last.
    order = sorted(range(len(producers)), key=lambda i: (producers[i].position, i), reverse=True)
    for producer in [producers[i] for i in order]:
        waiting = [call for call in calls if fed[call] is not None and call not in found]
        found |= _verdicts_by(model, inputs, waiting, producer, others)
    return [found.get(call) or _truth(call, "untouched") for call in calls]


def _verdicts_by(
    model: nn.Module,
    inputs: Inputs,
    waiting: Sequence[LeafCall],
    producer: ProducerCall,
    others: Sequence[dict[LeafCall, torch.Tensor | None]],
) -> dict[LeafCall, Truth]:
    """Return the verdicts on those calls that the neurons of a producer decide."""

    def verdicts(waiting: Sequence[LeafCall], producer: ProducerCall) -> dict[LeafCall, Truth]:
        watched = [call for call in waiting if call.position > producer.position]
        changes = _changes_by_flips(model, inputs, watched, producer) if watched else {}
        found = {
            call: judged(changes[call], [each[call] for each in others])
            for call in watched
            if changes[call]
        }
        if producer.matrix is not None:
            count = producer.neurons
            found = {c: of for c, of in found.items() if _is_own(changes[c], of[1], count)}
        return {call: _truth(call, verdict, axes) for call, (verdict, axes) in found.items()}

    places = matrices(producer.producer)
    if not places:
        return verdicts(waiting, producer)
    found: dict[LeafCall, Truth] = {}
    for axes in reversed(places):  # the last parameter is taken to be used last
        rest = [call for call in waiting if call not in found]
        producers = [dataclasses.replace(producer, matrix=place) for place in axes]
        found |= _told_once([verdicts(rest, each) for each in producers])
    return found


def _told_once(verdicts: Sequence[dict[LeafCall, Truth]]) -> dict[LeafCall, Truth]:
    """Return the verdicts of calls that one of two axes of a parameter leads to, and only one.

    A flip of an input of a matrix changes all of its outputs: it tells no axis.
    """
    told = [{c: t for c, t in each.items() if t.verdict != "mixed"} for each in verdicts]
    return {
        call: truth
        for each in told
        for call, truth in each.items()
        if sum(call in other for other in told) == 1
    }


def _changes_by_flips(
    model: nn.Module, inputs: Inputs, watched: Sequence[LeafCall], producer: ProducerCall
) -> dict[LeafCall, list[torch.Tensor]]:
    """Return for each call what some neurons of a producer change, each for itself."""
    changes: dict[LeafCall, list[torch.Tensor]] = {call: [] for call in watched}

    def flip(share: float | None, watched: Sequence[LeafCall]) -> list[LeafCall]:
        """Note the changes, and return the calls that may need another flip."""
        found = _changes(model, inputs, watched, (producer, share)) if watched else {}
        changed = {call: change for call, change in found.items() if change is not None}
        if share is None:
            return list(changed)
        for call, change in changed.items():
            changes[call].append(change)
        return [
            c for c in watched if c not in changed or not _is_plain(changed[c], producer, share)
        ]

    first, second = SHARES
    flip(second, flip(first, watched))
    waiting = flip(None, [call for call in watched if not changes[call]])
    waiting += [c for c in watched if len(changes[c]) == 1 and not _tells_an_axis(changes[c])]
    for share in MORE_SHARES:
        flip(share, waiting)
        waiting = [c for c in waiting if len(changes[c]) < 2 and not _tells_an_axis(changes[c])]
    return changes


def _tells_an_axis(changes: Sequence[torch.Tensor]) -> bool:
    return bool(changes) and judged(changes, [])[0] != "mixed"


def _is_plain(change: torch.Tensor, producer: ProducerCall, share: float) -> bool:
    """Whether a tensor changes just at the neuron's own place, in an axis of all neurons.

    That is the neuron axis, and another flip would tell no more.
    """
    count = producer.neurons
    own = torch.arange(count) == int(share * count)
    parts = changed_parts(change)
    axes = [axis for axis, entries in enumerate(parts) if not bool(entries.all())]
    return count > 2 and len(axes) == 1 and torch.equal(parts[axes[0]], own)


def _truth(call: LeafCall, verdict: str, axes: Sequence[int] = ()) -> Truth:
    return Truth(call.layer, call.number, tuple(call.output.shape), verdict, tuple(axes))


def _changes(
    model: nn.Module,
    inputs: Inputs,
    calls: Sequence[LeafCall],
    flip: tuple[ProducerCall, float | None] | None = None,
) -> dict[LeafCall, torch.Tensor | None]:
    """Return how much each number changes in another pass; None for calls without a change."""
    outputs = changed_outputs(model, inputs, calls, flip)
    return {
        call: change_between(call.output, outputs.get((call.layer, call.number))) for call in calls
    }


def change_between(before: torch.Tensor, after: torch.Tensor | None) -> torch.Tensor | None:
    """Return |after - before|, 0 where it is rounding; None if nothing changes.

    A tensor that is missing or has another shape counts as changed everywhere, alike.
    """
    if after is None or after.shape != before.shape:
        return torch.ones(before.shape)
    if torch.equal(before, after):
        return None
    kind = torch.cfloat if before.is_complex() else torch.float
    before, after = before.to(kind), after.to(kind)
    change = (after - before).abs().nan_to_num(0.0, 0.0, 0.0)  # -inf - -inf, in masked scores
    most = float(change.max()) if change.numel() else 0.0
    if most <= ROUNDING * float(before.abs().nan_to_num(0.0, 0.0, 0.0).max()):
        return None
    return torch.where(change > ROUNDING * most, change, 0.0)


def judged(
    changes: Sequence[torch.Tensor], others: Sequence[torch.Tensor | None]
) -> tuple[str, tuple[int, ...]]:
    """Return the verdict on a tensor, and the axes of its neurons.

    ``changes``: what a flip of each of some neurons changes in it. ``others``: what another input
    changes, first in the first place of the batch, then in the second.
    """
    parts = [changed_parts(change) for change in changes]
    axes = [axis for axis in range(changes[0].ndim) if _tells_apart([p[axis] for p in parts])]
    if len(axes) > 1:
        axes = _without_phases(axes, parts)
    if not axes:
        axes = [axis for axis in range(changes[0].ndim) if _dominates(changes, axis)]
    if len(axes) != 1:
        return ("split" if axes else "mixed"), tuple(axes)
    return ("batch" if _counts_inputs(others, axes[0]) else "known"), tuple(axes)


def changed_parts(change: torch.Tensor) -> list[torch.Tensor]:
    """Return, for each axis, at which of its entries anything changes."""
    return [
        (change != 0).movedim(axis, 0).flatten(1).any(1) if change.ndim > 1 else change != 0
        for axis in range(change.ndim)
    ]


def _is_part(entries: torch.Tensor) -> bool:
    return 0 < 2 * int(entries.sum()) <= len(entries)


def _tells_apart(entries: Sequence[torch.Tensor]) -> bool:
    """Whether the neurons change different parts of an axis, at least one at most half of it."""
    different = len(entries) == 1 or any(not torch.equal(entries[0], e) for e in entries[1:])
    return different and any(_is_part(each) for each in entries)


def _is_own(changes: Sequence[torch.Tensor], axes: Sequence[int], neurons: int) -> bool:
    """Whether what a neuron changes along its axes is one entry, or all of them to some degree.

    A row of a table of relative positions changes a few positions: these are no neurons. Nor are
    they where it is one, for the axis has not the sizes of a part or of a multiple of all rows.
    """
    parts = [changed_parts(change) for change in changes]
    return all(
        bool(part[axis].all())
        or (
            int(part[axis].sum()) == 1
            and 0 in (neurons % len(part[axis]), len(part[axis]) % neurons)
        )
        for part in parts
        for axis in axes
    )


def _counts_inputs(others: Sequence[torch.Tensor | None], axis: int) -> bool:
    """Whether no entry of an axis changes with both inputs."""
    parts = [changed_parts(change)[axis] for change in others if change is not None]
    return len(parts) == 2 and not bool((parts[0] & parts[1]).any())


def _without_phases(axes: list[int], parts: Sequence[list[torch.Tensor]]) -> list[int]:
    """Return the axis with one entry for each neuron, if on the others it is at every nth place.

    PixelShuffle puts neurons on every other row: the rows are places, the channels still neurons.
    """
    single = [axis for axis in axes if all(int(part[axis].sum()) == 1 for part in parts)]
    others = [part[axis] for axis in axes if axis not in single for part in parts]
    return single if len(single) == 1 and all(map(_is_every_nth, others)) else axes


def _is_every_nth(entries: torch.Tensor) -> bool:
    steps = entries.nonzero().flatten().diff()
    return len(steps) > 0 and int(steps[0]) > 1 and bool((steps == steps[0]).all())


def _dominates(changes: Sequence[torch.Tensor], axis: int) -> bool:
    """Whether each neuron has an entry of its own that changes far more, nearly everywhere."""
    if changes[0].shape[axis] < 3 or len(changes) < 2:
        return False
    places = []
    for change in changes:
        strongest = change.argmax(axis).flatten()
        place = int(strongest.mode().values)
        most, second = change.movedim(axis, 0).flatten(1).mean(1).topk(2).values
        everywhere = float((strongest == place).double().mean()) >= NEARLY_EVERYWHERE
        if not everywhere or most < FAR_MORE * second:
            return False
        places.append(place)
    return len(set(places)) == len(places)
