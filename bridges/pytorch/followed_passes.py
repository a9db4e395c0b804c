"""PyTorch: FollowedPasses follows the axes through the first pass of each kind of inputs."""

import functools
import weakref
from types import FrameType
from typing import Any, Protocol

import torch
from torch import nn

from tensorstate_gpu._capturing.pass_notes import PassNotes
from tensorstate_gpu._layers.capture_warnings import warn_of_no_mask, warn_of_steps

from .axis_flow import AxisFlow, KnownAxes
from .current_pass import CurrentPass
from .eager_gaps import begin_outside, note_given
from .given_tensors import Given
from .layer_warnings import LayerWarnings, Warn
from .mask_argument import MaskArgument
from .pass_counter import PassCounter
from .pass_kinds import PassKinds
from .spread_tensors import has_spread_weights


class PassUser(Protocol):
    """A capture point that follows the passes of a model."""

    def notes_now(self) -> PassNotes:
        """Return what is said about the inputs of the pass that this thread makes."""

    def notes_of_thread(self) -> PassNotes:
        """Return that of it which is said in this thread, of all layers."""

    def takes_pass(self) -> bool:
        """Return whether the pass that begins is captured; in a method, whether it may be."""

    def has_seen(self, kind: object) -> bool:
        """Return whether its axes in passes of a kind have been followed."""


class FollowedPasses:
    """The passes of a model, of which the first with each kind of inputs is followed.

    See PassKinds. More passes are followed, but not many, as long as some layer has not run.

    ``mask``: the argument of the model that is the mask, if any.
    """

    def __init__(self, batch_axis: int, mask: str | None = None) -> None:
        self.current = CurrentPass()
        self.batch_axis, self._mask = batch_axis, MaskArgument(mask, batch_axis)
        self._names: list[str] = []  # of the model's arguments
        self._root: weakref.ref[nn.Module] | None = None
        self._counter: PassCounter | None = None
        self._kinds = PassKinds()
        self._earlier_axes: KnownAxes | None = None  # of the latest pass that was followed
        self._told_of_steps = False
        self._unnamed_mask = ""  # of a mask that may be among further arguments, if at all
        self._warnings = LayerWarnings()
        self._users: list[PassUser] = []

    def warn_of(self, warn: Warn, name: str, cause: str = "") -> None:
        """Warn of a layer, once: at the end of the pass that runs, or now. ``cause``: why."""
        self._warnings.note(warn, name, cause)
        if self.current.frame is None:
            self._warnings.say()

    def tell_inputs(self) -> int | None:
        """Tell a layer the number of inputs of this thread's pass, if it is known."""
        current = self.current
        if current.flow is not None:  # asked for each batch: not by a property
            known = current.flow.known
            known.is_told = True
            if known.takes_one_input:
                return 1
        if current.may_be_batch and not self._has_joined_list():
            return None
        if self._kinds.has_one_input(current.signature):
            return 1
        counter = self._counter
        if current.inputs is None and counter is not None and counter.is_in_graphs():
            return counter.here.inputs
        return current.inputs

    def _has_joined_list(self) -> bool:
        """Return whether the pass has made one batch of a list, or is of a kind that does so."""
        known = self.current.known_axes
        joins = self._kinds.joins_list(self.current.signature)
        return joins if known is None else known.has_joined_list

    @functools.cached_property
    def is_parallel(self) -> bool:
        """Whether layers of the model compute with parts of their weights, asked in a pass."""
        root = None if self._root is None else self._root()
        return root is not None and has_spread_weights(root)

    def is_outside_of_graphs(self) -> bool:
        """Return whether what runs now is a part of a compiled pass that is in no graph."""
        return self._counter is not None and self._counter.is_in_graphs()

    def was_followed(self) -> bool:
        """Return whether earlier passes of this kind were followed. If so, the next is, too."""
        return self._kinds.follow_again(self.current.signature)

    def tell_sizes_apart(self) -> None:
        """Let each size of what the model is given be a kind of its own, in passes like this."""
        self._kinds.tell_sizes_apart(self.current.plain_kind)

    def _names_for(self, module: nn.Module) -> list[str]:
        return self._names if self._mask.name is not None and self._is_root(module) else []

    def _is_root(self, module: object) -> bool:
        return self._root is not None and self._root() is module

    def _follow(self, given: Given, frame: FrameType) -> None:
        """Note the inputs of a pass that begins, and follow it if its kind has not been."""
        current, axis = self.current, self.batch_axis
        notes = self._users[0].notes_now()
        if self._counter is not None:
            self._counter.keep_notes(self._users[0].notes_of_thread())
        given = given.by_what_lists_are(axis, notes.inputs)
        current.mask = self._mask.mask_of(given, notes)
        if self._unnamed_mask and current.mask is None and self._is_root(current.module):
            cause = f"which has {self._unnamed_mask}"
            self._warnings.note(warn_of_no_mask, type(current.module).__name__, cause)
        first = given.first_with(axis, notes.inputs)  # labels tell which of several counts them
        listed = notes.inputs or len(given.listed) or None
        current.inputs = listed if first is None else first.shape[axis]
        current.may_be_batch = first is None and notes.inputs is None and bool(given.listed)
        positions = None if current.mask is None else min(current.mask.shape[1], 2)
        self._kinds.note_begin(current, given, first, positions)
        counter = self._counter
        if counter is not None and counter.here.frame is None and counter.is_in_graphs():
            begin_outside(current, given.all_tensors, counter.here.inputs)
        if not self._kinds.is_done(current.signature) and torch._C._get_tracing_state() is None:
            current.follow(self._new_flow(given, first, frame))

    def _new_flow(self, given: Given, first: torch.Tensor | None, frame: FrameType) -> AxisFlow:
        """Return what follows the pass that begins, told of all that the model is given.

        ``first``: the tensor that tells how many inputs there are.
        """
        current, axis = self.current, self.batch_axis
        flow = AxisFlow(frame)
        flow.known.inputs = None if first is None else current.inputs
        if current.is_part:
            note_given(flow.known, given.all_tensors, current.inputs)
        else:
            flow.known.mark_inputs([tensor for _, tensor in given.tensors], axis)
        if (earlier := self._earlier_axes) is not None:
            for tensor in given.all_tensors:
                flow.known.note_passed_on(tensor, earlier)
        if first is None and given.listed and not current.is_part:
            flow.known.mark_listed(given.listed)
        if current.mask is not None:
            self._mask.mark_positions(flow.known, given, current.mask)
        return flow

    def _finish(self, has_failed: bool) -> None:
        current = self.current
        kind, known, is_refused = current.signature, current.known_axes, current.is_refused()
        current.stop_following()
        current.end()
        if known is not None and not has_failed and not is_refused:
            self._note_followed(kind, known)
        self._warnings.say()

    def _note_followed(self, kind: Any, known: KnownAxes) -> None:
        self._earlier_axes = known
        has_seen_all = all(user.has_seen(kind) for user in self._users)
        self._kinds.note_followed(kind, known, has_seen_all=has_seen_all)
        if (known.inputs_are_steps or known.is_one_sequence) and not self._told_of_steps:
            self._told_of_steps = True
            warn_of_steps(self.batch_axis, one_sequence=known.is_one_sequence)
