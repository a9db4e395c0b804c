"""AxisPoint: a capture point that finds the neurons of tensors, as their passes tell."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch

from tensorstate_gpu._capturing.capture_point import CapturePoint
from tensorstate_gpu._layers.capture_warnings import warn_of_contradicted, warn_of_guesses

from .eager_gaps import OUTSIDE
from .forward_passes import ForwardPasses
from .found_axis import FLOW, GUESS, LAYER, RULE, FoundAxis, find_axis
from .neuron_axes import UNKNOWN, AxisRule


class AxisPoint(CapturePoint):
    """A capture point of tensors that finds the axis of their neurons, once for each kind of pass.

    Without passes of a model that are followed, the class of the layer tells the axis, if anything.
    """

    _rule: AxisRule | None = None
    _passes: ForwardPasses | None = None
    _is_inferred = False  # whether the axis was inferred in some pass: later ones may differ
    _width = -1  # neurons of the last batch with such an axis

    def __init__(self, *args: Any, **keywords: Any) -> None:
        super().__init__(*args, **keywords)
        # By the kind of the model's inputs, and the number of axes.
        self._found: dict[tuple[object, int], FoundAxis] = {}

    def _sizes_with_neurons(self, sizes: tuple[object, ...]) -> tuple[object, ...]:
        found = self._found_with(len(sizes))
        return (*sizes, 1) if found is not None and found.of_one_neuron else sizes

    def _axis_for(self, sizes: Sequence[object]) -> int:
        if self.neuron_axis is not None or not sizes:
            return super()._axis_for(sizes)
        of_one = self._found_with(len(sizes) - 1)
        if of_one is not None and of_one.of_one_neuron:
            return of_one.axis
        found = self._found_with(len(sizes))
        return (self._rule or UNKNOWN).axis(len(sizes)) if found is None else found.axis

    def _found_with(self, ndim: int) -> FoundAxis | None:
        """Return the axis of tensors with so many axes, if there have been any."""
        return next((found for (_, n), found in self._found.items() if n == ndim), None)

    def forget_guesses(self) -> None:
        """Forget what was guessed of the axes: no rows are left that mean it."""
        for key, found in [*self._found.items()]:
            if found.origin in (RULE, GUESS):
                del self._found[key]
            elif found.moved:
                self._found[key] = replace(found, moved=False)

    def has_seen(self, kind: object) -> bool:
        """Return whether the axes in passes of a kind have been followed."""
        return any(of == kind and not found.missed for (of, _), found in self._found.items())

    def _axis_of(self, tensor: torch.Tensor, traced: str | None) -> FoundAxis:
        """Return the axis of a tensor's neurons; found once for each kind of the model's inputs."""
        passes = self._passes
        kind = None if passes is None else passes.current.signature
        if kind is None:
            if traced is None and passes is not None and passes.is_outside_of_graphs():
                traced = OUTSIDE
            kind = traced
        found = self._found.get((kind, tensor.ndim))
        if found is None or (found.missed and passes is not None and passes.current.flow):
            found = find_axis(
                tensor, self._rule or UNKNOWN, self.neuron_axis, passes, traced, found
            )
            found = self._found[kind, tensor.ndim] = self._as_known(found)
            if passes is not None and found.origin in (FLOW, RULE, GUESS):
                self._is_inferred = True
            if passes is not None and found.origin == GUESS:
                passes.warn_of(warn_of_guesses, self.name, found.cause)
        return found

    def _is_left_out(self, found: FoundAxis, neurons: int, before: int | None) -> bool:
        """Return whether a batch of so many neurons does not mean what earlier ones do, and warn.

        The axis of one or the other is wrong, or the layer has no fixed number of neurons: the
        user's forward does not fail for that. Where a rule says the axis, it is the latter.
        ``before``: neurons of earlier ones, if there are any.
        """
        assert self._passes is not None
        if neurons and not found.moved and (found.origin == RULE or before in (None, neurons)):
            self._width = neurons
            return False
        cause = f"{neurons} neurons along axis {found.axis} ({found.origin})"
        self._passes.warn_of(warn_of_contradicted, self.name, cause)
        if found.origin == FLOW and not found.moved:
            self._passes.tell_sizes_apart()
        return True

    def _as_known(self, found: FoundAxis) -> FoundAxis:
        """Return an axis as it is known after a comparison with those of passes of other kinds.

        A rule or a guess gives way to an axis that is certain in passes of another kind, or else to
        what was guessed first. A certain one has moved if batches were captured along another,
        guessed one. Numbers without axes are told by passes of their own kind alone: what squeeze()
        leaves of one input may be a loss of several.
        """
        if not found.ndim:
            return found
        others = [each for (_, ndim), each in [*self._found.items()] if ndim == found.ndim]
        if found.origin in (RULE, GUESS):
            known = (each for each in others if each.origin in (LAYER, FLOW))
            if (other := next(known, None)) is not None:
                found = found.as_elsewhere(other)
            elif others:
                # Where passes of another kind could only guess, the rule for these is a guess, too.
                is_guess = GUESS in {each.origin for each in others}
                origin = GUESS if is_guess else found.origin
                found = replace(found, axis=others[0].axis, origin=origin)
        if found.origin in (LAYER, FLOW):
            guessed = (each.axis for each in others if each.origin in (RULE, GUESS))
            return replace(found, moved=any(axis != found.axis for axis in guessed))
        return found
