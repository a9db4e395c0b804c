"""LayerFacts: what is known of a layer besides its states; stores keep it in their record."""

import dataclasses
from collections.abc import Sequence
from typing import Protocol

from tensorstate_gpu._layers.broken_passes import PassClock


@dataclasses.dataclass(frozen=True, slots=True)
class LayerFacts:
    """What is known of a layer besides its states.

    ``passes``: in how many passes of its model it ran, and how many there were.
    ``bypass``: what has run the layer without its capture point in the others, if that is known.
    ``other_names``: those of a layer that is registered in its model under several.
    ``call_of``: for a later call of a layer within a pass, the name of the first one's states.
    ``spatial_shape``: the sizes of the activations without instances and neurons, if all have the
    same.
    ``shuffled``: whether a framework has put inputs into an order of its own.
    ``failed``: how many of the passes have failed, and so may not have come to the layer.
    ``shared``: whether several calls in a pass had one capture point, which counts the inputs of
    each.
    """

    passes: tuple[int, int] | None = None
    bypass: str | None = None
    other_names: tuple[str, ...] = ()
    call_of: str | None = None
    spatial_shape: tuple[int, ...] | None = None
    shuffled: bool = False
    failed: int = 0
    shared: bool = False

    @property
    def runs_always(self) -> bool:
        """Whether the layer runs in each pass of its model that does not fail, as far as is known.

        A pass may fail before it comes to the layer, or after.
        """
        return self.passes is None or self.passes[0] >= self.passes[1] - self.failed

    @classmethod
    def joined(cls, parts: Sequence["LayerFacts"]) -> "LayerFacts":
        """Return what is known of a layer of which several runs have captured a part each."""
        known = [part.passes for part in parts if part.passes is not None]
        passes = None
        if known and len(known) == len(parts):
            passes = sum(ran for ran, _ in known), sum(every for _, every in known)
        shapes = {part.spatial_shape for part in parts if part.spatial_shape is not None}
        names = dict.fromkeys(name for part in parts for name in part.other_names)
        return cls(
            passes=passes,
            bypass=next((part.bypass for part in parts if part.bypass is not None), None),
            other_names=tuple(names),
            call_of=next((part.call_of for part in parts if part.call_of is not None), None),
            spatial_shape=shapes.pop() if len(shapes) == 1 else None,
            shuffled=any(part.shuffled for part in parts),
            failed=sum(part.failed for part in parts),
            shared=any(part.shared for part in parts),
        )

    def to_json(self) -> dict[str, object]:
        """Return what is known, without what is not."""
        return {
            field.name: value
            for field in dataclasses.fields(self)
            if (value := getattr(self, field.name)) != field.default
        }

    @classmethod
    def from_json(cls, found: dict[str, object]) -> "LayerFacts":
        """Return what to_json() has made. Raises TypeError or ValueError for something else."""
        passes = _numbers(found.get("passes"))
        if passes is not None and (len(passes) != 2 or passes[0] > passes[1]):
            raise ValueError(f"{passes} are no passes")
        return cls(
            passes=None if passes is None else (passes[0], passes[1]),
            bypass=_text(found.get("bypass")),
            other_names=_texts(found.get("other_names", [])),
            call_of=_text(found.get("call_of")),
            spatial_shape=_numbers(found.get("spatial_shape")),
            shuffled=found.get("shuffled") is True,
            failed=(_numbers([found.get("failed", 0)]) or (0,))[0],
            shared=found.get("shared") is True,
        )


def spatial_shape(shape: Sequence[int], axis: int) -> tuple[int, ...]:
    """Return the sizes of activations without neurons, along ``axis``, and without inputs.

    Inputs are along axis 0, unless that is the axis of the neurons.

    >>> spatial_shape((32, 7, 9, 64), 3), spatial_shape((64, 7), 0)
    ((7, 9), (7,))
    """
    return tuple(size for i, size in enumerate(shape) if i not in (0, axis))


def _numbers(found: object) -> tuple[int, ...] | None:
    if found is None:
        return None
    if not isinstance(found, list) or any(type(n) is not int or n < 0 for n in found):
        raise ValueError(f"{found!r} are not counts")
    return tuple(found)


def _texts(found: object) -> tuple[str, ...]:
    if not isinstance(found, list) or not all(isinstance(text, str) for text in found):
        raise ValueError(f"{found!r} are not texts")
    return tuple(found)


def _text(found: object) -> str | None:
    if found is not None and not isinstance(found, str):
        raise ValueError(f"{found!r} is not a text")
    return found


class PassSource(Protocol):
    """What counts the passes of a layer; the bridge of a framework has it."""

    @property
    def clock(self) -> PassClock:
        """What knows of the passes of the model."""

    def passes(self, *, ended: bool = False) -> tuple[int, int] | None:
        """Return in how many passes the layer ran, and how many there were; None if none were.

        ``ended``: leave out a pass that still runs, or has failed.
        """

    def failed(self, *, ended: bool = False) -> int:
        """Return how many passes have failed; ``ended``: leave out one that still runs."""

    def in_pass(self) -> bool | None:
        """Return whether a pass has begun and not ended; None if there were none."""

    def overlaps(self) -> bool:
        """Return whether the last pass ran beside another, which may have come further."""

    def leave_out_failed_pass(self) -> None:
        """Count no further passes, nor one that has begun and not ended."""

    def is_shared(self) -> bool:
        """Return whether the layer ran several times in a pass, at one capture point."""

    def bypass(self) -> str | None:
        """Return what has run the layer without its capture point, if that is known."""


class LayerLog:
    """Collects the facts of a layer while it is captured.

    ``earlier``: those of an earlier capture that this one continues. ``call_of``: as in LayerFacts.
    """

    def __init__(self, earlier: LayerFacts | None = None, *, call_of: str | None = None) -> None:
        self.pass_source: PassSource | None = None
        self.begin(earlier)
        self.other_names: tuple[str, ...] = () if earlier is None else earlier.other_names
        self.call_of = call_of if earlier is None else earlier.call_of

    def begin(self, earlier: LayerFacts | None = None) -> None:
        """Forget what was noted of passes and batches, and continue an earlier capture, if any."""
        self._earlier = earlier
        self.noted_shape: tuple[int, ...] | None = None  # of the last batch
        shape = None if earlier is None else earlier.spatial_shape
        self._spatial_shapes = set() if shape is None else {shape}
        self.shuffled = earlier is not None and earlier.shuffled

    def note_spatial_shape(self, shape: tuple[int, ...] | None) -> None:
        """Note the sizes of a batch's activations without instances and neurons."""
        self.noted_shape = shape
        if shape is not None and len(self._spatial_shapes) < 2:
            self._spatial_shapes.add(shape)

    def facts(self) -> LayerFacts:
        """Return the facts as they are now."""
        return self._facts(ended=False)

    def facts_to_store(self) -> LayerFacts:
        """Return the facts without a pass that still runs: a commit may be made in its middle."""
        return self._facts(ended=True)

    def _facts(self, ended: bool) -> LayerFacts:
        """``ended``: only of passes that have ended."""
        source, earlier = self.pass_source, self._earlier
        shapes = [*self._spatial_shapes]
        bypass = None if source is None else source.bypass()
        failed_before = 0 if earlier is None else earlier.failed
        was_shared = earlier is not None and earlier.shared
        return LayerFacts(
            passes=self._passes(None if source is None else source.passes(ended=ended)),
            bypass=bypass or (None if earlier is None else earlier.bypass),
            other_names=self.other_names,
            call_of=self.call_of,
            spatial_shape=shapes[0] if len(shapes) == 1 else None,
            shuffled=self.shuffled,
            failed=failed_before + (0 if source is None else source.failed(ended=ended)),
            shared=was_shared or (source is not None and source.is_shared()),
        )

    @property
    def clock(self) -> PassClock | None:
        """What knows of the passes of the model, if something does."""
        return None if self.pass_source is None else self.pass_source.clock

    def in_pass(self) -> bool | None:
        """Return whether a pass has begun and not ended, if that is known."""
        return None if self.pass_source is None else self.pass_source.in_pass()

    def passes_overlap(self) -> bool:
        """Return whether the last pass is known to have run beside another."""
        return self.pass_source is not None and self.pass_source.overlaps()

    def leave_out_failed_pass(self) -> None:
        """Count no further passes, nor one that has begun and not ended: it was taken back."""
        if self.pass_source is not None:
            self.pass_source.leave_out_failed_pass()

    def _passes(self, new: tuple[int, int] | None) -> tuple[int, int] | None:
        """Return all passes. They are not known if those of the earlier capture are not."""
        before = (0, 0) if self._earlier is None else self._earlier.passes
        if before is None or new is None:
            return new if self._earlier is None else before
        return before[0] + new[0], before[1] + new[1]

    def __reduce__(self) -> tuple[type["LayerLog"], tuple[LayerFacts]]:
        """A copy has the facts of now."""
        return LayerLog, (self.facts(),)
