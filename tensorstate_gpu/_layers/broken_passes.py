"""Broken forward passes: where passes begin, and whether the last one did not get to all layers."""

from collections.abc import Iterable, Sized
from typing import Protocol


class PassClock(Protocol):
    """What knows of the passes of a model; PassTimes is one.

    ``begun``: how many have begun. ``open``: those that have not ended.
    """

    begun: int

    @property
    def open(self) -> Sized: ...


class PassStarts:
    """Recognises the start of a forward pass.

    It is known by the clock of the model, if there is one. Outside of the passes that it knows of,
    as where a part of the model is called, the layer that is called first is called again.
    """

    def __init__(self) -> None:
        self.clock: PassClock | None = None
        # Passes at the last batch; 0: it came outside of these, -1: before the last one.
        self._begun: int | None = None
        self._followed: PassClock | None = None  # by the last batch
        self._first_layer: str | None = None
        self._batches_since_first = 0
        self._first_has_left = False

    def go_on_with(self, clock: PassClock | None) -> None:
        """Follow another clock of the same model, where the one before goes no further."""
        followed = self._followed
        if clock is not None and followed is not None and followed is self.clock is not clock:
            # The last batch came in the last pass, or in one before.
            self._begun = self._begun and (clock.begun if self._begun == followed.begun else -1)
            self._followed = clock
        self.clock = clock

    def leave(self, name: str) -> None:
        """Let passes begin with another layer: this one does not run in them any more."""
        self._first_has_left |= name == self._first_layer

    def begins_with(self, name: str, layers: int) -> bool:
        """Return whether the next batch, of the layer ``name``, starts a new forward pass."""
        clock, before = self.clock, self._begun
        if clock is not None and clock.open:
            known, self._followed = self._followed, clock
            self._begun = clock.begun
            return before is not None and (before != self._begun or known is not clock)
        self._begun = 0
        if before or self._first_has_left:
            self._first_layer, self._batches_since_first = name, 0
            self._first_has_left = False
            return True
        self._batches_since_first += 1
        # Choose a new first layer if the model no longer calls the old one.
        if self._first_layer is None or self._batches_since_first > 10 * layers:
            self._first_layer, self._batches_since_first = name, 0
            return False
        if name != self._first_layer:
            return False
        self._batches_since_first = 0
        return True

    @property
    def knows_pass(self) -> bool:
        """Whether the last batch came in a pass of which a clock knows."""
        return bool(self._begun)

    def are_broken(
        self, layers: Iterable[tuple[int, bool]], in_pass: Iterable[bool | None]
    ) -> bool:
        """Return whether the last pass did not get to all layers, after an exception.

        ``layers``: how many instances each has had since that pass began, and whether it runs in
        every pass. ``in_pass``: whether a pass has begun and not ended, where that is known.
        """
        each, known = list(layers), list(in_pass)
        if len({instances for instances, _ in each}) <= 1:
            return False
        if self._begun and self._followed is not None:
            # It knows the pass: layers may run twice, or in some passes only. If the pass failed
            # before it came to a layer, these instances are of the one before, which is complete.
            return self._begun == self._followed.begun and any(known)
        out_of_step = len({instances for instances, always in each if always}) > 1
        return out_of_step or any(running is not False for running in known)
