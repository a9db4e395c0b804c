"""PyTorch: MethodPass, a forward pass that a public method of a model makes."""

import weakref
from collections.abc import Callable, Collection
from types import FrameType

import torch
from torch import nn

from tensorstate_gpu._capturing.pass_notes import PassNotes

from .axis_flow.factors import BATCH
from .current_pass import CurrentPass
from .method_calls import MethodCall, Place
from .pass_kinds import PassKinds

_PART, _LAYER = "part", "layer"
At = tuple[str, Place | None]  # where a part of the model begins, or its first layer ends


class MethodPass:
    """A pass that a method makes, from the first layer that runs in it on.

    It ends before the method does if the method runs the model on something else than what it is
    given itself, such as parts of it. ``current``: the pass of this thread. ``leave``: ends it.
    ``notes``: what is said of its inputs.
    """

    def __init__(
        self,
        call: MethodCall,
        current: CurrentPass,
        kinds: PassKinds,
        batch_axis: int,
        notes: PassNotes,
        leave: Callable[[], None],
    ) -> None:
        self.call, self.notes = call, notes
        self._current, self._kinds = current, kinds
        self._batch_axis, self._leave = batch_axis, leave
        self._has_run = False  # a layer, in this pass
        self._first_place: Place | None = None  # where the first layer was called
        self._entered: dict[nn.Module, Place | None] = {}  # parts called, and where
        # Of each place, how often it was come to, and after which weights.
        self._came: dict[At, list[weakref.ref[torch.Tensor] | None]] = {}

    @property
    def frame(self) -> FrameType:
        """The frame of the call."""
        return self.call.frame

    def takes(self, tensor: torch.Tensor) -> bool:
        """Return whether the first layer that runs does so in this pass. If not, it is over.

        ``tensor``: what the layer passes.
        """
        if not self.fits([tensor]):
            self._leave()
            return False
        self._has_run, self._first_place = True, self.call.place()
        self._note_at((_LAYER, self._first_place))
        return True

    def fits(self, tensors: Collection[torch.Tensor]) -> bool:
        """Return whether the first part of the model that is called has all inputs of the pass.

        ``tensors``: what it is given, or passes. What is called later may be about parts of them.
        """
        inputs, known = self._current.inputs or 1, self._current.known_axes
        one_input = inputs == 1 or (known is not None and known.takes_one_input)
        if self._has_run or one_input or not tensors:
            return True
        has_inputs = any(self._has_size(tensor, 1, inputs) for tensor in tensors)
        followed = self._followed(tensors, inputs)
        if True in followed and not has_inputs:
            self._kinds.note_elsewhere(self._current.signature)
        if followed:
            return True in followed
        return has_inputs or self._kinds.is_elsewhere(self._current.signature)

    def is_given_part(self, tensors: Collection[torch.Tensor]) -> bool:
        """Return whether a method that the method calls is given a part of the inputs for certain.

        What it is given may also be something else, such as a table of positions.
        """
        inputs = self._current.inputs
        return (
            not self._has_run and bool(inputs) and self._followed(tensors, inputs or 1) == {False}
        )

    def _followed(self, tensors: Collection[torch.Tensor], inputs: int) -> set[bool]:
        """Return whether tensors have all inputs, of those that were computed from inputs."""
        known = self._current.known_axes
        found: set[bool] = set()
        for tensor in tensors if known is not None else ():
            assert known is not None
            axes = known.axes(tensor) or ()
            sizes = {factor.size for axis in axes for factor in axis if factor.kind == BATCH}
            if sizes:
                found.add(inputs in sizes)
            elif known.has_lost_inputs(tensor):  # after a slice, or an order by chance
                found.add(self._has_size(tensor, inputs))
        return found

    def _has_size(self, tensor: torch.Tensor, *sizes: int) -> bool:
        """Return whether the axis of inputs has one of these sizes: of one entry, or of all inputs.

        It may also count windows or heads of each.
        """
        axis, ndim = self._batch_axis, tensor.ndim
        if not -ndim <= axis < ndim:
            return False
        size = tensor.shape[axis]
        return any(size == each or (each > 1 and size % each == 0) for each in sizes)

    def enters(self, module: nn.Module) -> bool:
        """Note that a part of the model is called. Return False if a loop calls it again."""
        place = self.call.place()
        if place is not None and self._entered.get(module) == place:
            return not self._comes_back(module, (_PART, place))
        self._entered.setdefault(module, place)
        self._note_at((_PART, place))
        return True

    def runs_again(self, module: nn.Module | None) -> bool:
        """Return whether a loop runs the first layer of the pass, which has just run, again."""
        place = self.call.place()
        is_there = place is not None and place == self._first_place
        return is_there and self._comes_back(module, (_LAYER, place))

    def begin_again(self, module: nn.Module | None) -> None:
        """Begin another pass, with a part of the model, if that is what begins it."""
        self._has_run = False
        self._entered, self._came = {}, {}
        if module is not None:
            self.enters(module)

    def _comes_back(self, module: nn.Module | None, at: At) -> bool:
        """Return whether a loop that comes to a place again begins another pass.

        Not if it is one over layers that share a part without weights, such as an activation: then
        other weights have computed what that part is given, each time.
        """
        if module is None or next(module.parameters(), None) is not None:
            return True
        came, kind = self._came.get(at, []), self._current.signature
        runs, known = len(came), self._current.known_axes
        if known is None:
            is_back = runs >= self._kinds.runs_at(kind, at)
        else:
            is_back = any(weight is known.latest_weight for weight in came)
            self._kinds.note_runs(kind, at, runs if is_back else None)
        self._note_at(at)
        return is_back

    def _note_at(self, at: At) -> None:
        """Note that the method has come to a place, and after which weights, if it is followed."""
        known = self._current.known_axes
        self._came.setdefault(at, []).append(None if known is None else known.latest_weight)
