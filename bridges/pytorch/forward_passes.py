"""PyTorch: follows the axes through the first forward pass of each kind of inputs."""

import functools
import sys
import weakref
from collections.abc import Mapping
from types import FrameType
from typing import Any, Protocol

import torch
from torch import nn

from tensorstate_gpu._capturing.pass_notes import PassNotes
from tensorstate_gpu._layers.capture_warnings import warn_of_no_mask, warn_of_steps

from .axis_flow import AxisFlow, KnownAxes
from .axis_flow.mode import is_running
from .current_pass import CurrentPass
from .eager_gaps import begin_outside, note_given
from .entrances import EntranceWatcher, entrances
from .given_tensors import Given, given_to, parameters_of
from .layer_warnings import LayerWarnings, Warn
from .marked_classes import OwnHook
from .mask_argument import MaskArgument
from .method_calls import MethodCall
from .method_pass import MethodPass
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


class ForwardPasses(OwnHook):
    """The forward passes of a model, of which the first with each kind of inputs is followed.

    See PassKinds. More passes are followed, but not many, as long as some layer has not run.

    ``mask``: the argument of the model that is the mask, if any.
    """

    def __init__(self, batch_axis: int, mask: str | None = None) -> None:
        self.current = CurrentPass()
        self._batch_axis, self._mask = batch_axis, MaskArgument(mask, batch_axis)
        self._names: list[str] = []  # of the model's arguments
        self._root: weakref.ref[nn.Module] | None = None
        self._counter: PassCounter | None = None
        self._kinds = PassKinds()
        self._earlier_axes: KnownAxes | None = None  # of the latest pass that was followed
        self._told_of_steps = False
        self._unnamed_mask = ""  # of a mask that may be among further arguments, if at all
        self._warnings = LayerWarnings()
        self._watchers: list[EntranceWatcher] = []
        self._ends: list[Any] = []  # handles
        self._has_end: weakref.WeakSet[nn.Module] = weakref.WeakSet()
        self._users: list[PassUser] = []

    def attach(self, model: nn.Module, counter: PassCounter) -> None:
        """Watch the model and its children: some models are used through these alone.

        ``counter``: of the model's passes, which is told of those that fail. Raises ValueError if
        the model has no argument for the mask.
        """
        self._root, self._counter = weakref.ref(model), counter
        counter.current = self.current
        self._names, takes_others = parameters_of(model)
        if self._mask.name not in (None, *self._names):
            unnamed = f"no argument {self._mask.name!r}; there are {', '.join(self._names)}"
            if not takes_others:
                raise ValueError(f"mask: {type(model).__name__} has {unnamed}")
            self._unnamed_mask = unnamed
        self._watchers += [EntranceWatcher(self, module) for module in entrances(model)]

    def __reduce__(self) -> tuple[Any, ...]:
        """A copy follows nothing."""
        return ForwardPasses, (self._batch_axis, self._mask.name)

    def add_user(self, user: PassUser) -> None:
        self._users.append(user)

    def remove_user(self, user: PassUser) -> None:
        """Stop watching the model when its last hook has been removed."""
        self._users.remove(user)
        if not self._users:
            self.leave()
            self._watchers.clear()

    def leave(self) -> None:
        """Stop watching the model until rejoin(). What was followed is still known then.

        A pass that another thread makes keeps what it has noted, and the frame of its call, until
        that thread ends, or makes another pass after rejoin(): only the thread itself can end it.
        """
        for hook in (*self._watchers, *self._ends):
            hook.remove()
        self._ends.clear()
        self._has_end.clear()
        self.current.stop_following()
        self.current.end()  # an interrupted pass would keep its tensors

    def rejoin(self) -> None:
        """Watch the model again."""
        for watcher in self._watchers:
            watcher.rejoin()

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

    # ---- passes --------------------------------------------------------------------------------

    def end_broken(self) -> bool:
        """End the pass of this thread if none of its calls runs. Return whether there was one."""
        return self._counter is not None and self._counter.end_broken()

    def begin(
        self, module: nn.Module, args: Any, kwargs: Mapping[str, Any], frame: FrameType
    ) -> None:
        """Begin a pass, unless one is running. ``frame``: of the call of the module."""
        current = self.current
        is_inside = current.frame is not None and is_running(current.frame)
        method = current.method
        if is_inside and (method is None or self._is_part(method, module, args, kwargs)):
            return  # else an interrupt may have ended a pass
        current.stop_following()
        if self._counter is not None and self._counter.here.frame is not frame:
            self._counter.end_broken()  # most passes have just begun for the counter, too
        if module not in self._has_end:
            # Only where passes begin outside of compiled graphs: torch.compile would make another
            # graph for each such hook, because it is one that is always called.
            self._has_end.add(module)
            self._ends.append(module.register_forward_hook(self._end, always_call=True))
        current.begin(module, frame)
        if any(user.takes_pass() for user in self._users):
            self._follow(given_to(self._names_for(module), args, kwargs), frame)

    def _names_for(self, module: nn.Module) -> list[str]:
        return self._names if self._mask.name is not None and self._is_root(module) else []

    def _is_root(self, module: object) -> bool:
        return self._root is not None and self._root() is module

    def _follow(self, given: Given, frame: FrameType) -> None:
        """Note the inputs of a pass that begins, and follow it if its kind has not been."""
        current, axis = self.current, self._batch_axis
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
            current.follow(flow)

    def _end(self, module: nn.Module, args: Any, output: Any) -> None:
        """Called as a hook."""
        if torch.compiler.is_compiling():
            return
        current = self.current
        if current.module is not module or current.is_around(sys._getframe(1)):
            return
        if self._counter is not None and not current.is_part:
            self._counter.note_over()
        self._finish(current.has_failed())

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
            warn_of_steps(self._batch_axis, one_sequence=known.is_one_sequence)

    # ---- methods -------------------------------------------------------------------------------

    def begin_method(self, call: MethodCall) -> None:
        """Begin a pass with a method that is given tensors, unless one is running."""
        current = self.current
        is_inside = current.frame is not None and is_running(current.frame)
        if (is_inside and current.method is None) or not self._users:
            return
        names = call.names if self._mask.name is not None else ()
        given = given_to(names, call.args, call.kwargs, may_load=False)
        if not given.listed and given.first_with(self._batch_axis, None) is None:
            return
        if is_inside and current.method is not None:
            if not current.method.is_given_part(given.all_tensors):
                return
            self._leave_parts()
        self._begin_method(call, given)

    def _begin_method(self, call: MethodCall, given: Given) -> None:
        current, notes = self.current, self._users[0].notes_of_thread()
        current.stop_following()
        current.begin(call.module, call.frame)
        current.method = MethodPass(
            call, current, self._kinds, self._batch_axis, notes, self._leave_parts
        )
        if any(user.takes_pass() for user in self._users):
            self._follow(given, call.frame)
        if self._kinds.is_in_parts(current.signature):
            current.end()
        elif self._counter is not None and call.module is (self._root and self._root()):
            self._counter.begin_method(current.method)

    def end_method(self, call: MethodCall, *, has_failed: bool) -> None:
        """End the pass of a method, if it has not ended before."""
        method = self.current.method
        if method is not None and method.call is call:
            self._leave_method(has_failed)

    def _is_part(
        self, method: MethodPass, module: nn.Module, args: Any, kwargs: Mapping[str, Any]
    ) -> bool:
        """Return whether a part of the model is called in the pass of a method, or in its next.

        If not, that pass is over.
        """
        if module is self.current.module:
            self._leave_method()
            return False
        if not method.fits(given_to((), args, kwargs).all_tensors):
            self._leave_parts()
            return False
        if not method.enters(module):
            self.begin_again(module)
        return True

    def runs_again(self, point: object, module: nn.Module | None) -> bool:
        """Return whether a layer that runs again is the first of a method that does so in a loop.

        ``point``: its capture point. ``module``: the layer, if it still exists.
        """
        method, calls = self.current.method, self.current.calls
        is_first = method is not None and next(iter(calls or ()), None) is point
        return is_first and method.runs_again(module)

    def begin_again(self, module: nn.Module | None = None) -> None:
        """Begin the next pass of a method that runs parts of the model in a loop.

        ``module``: the part that begins it, if it is not a layer.
        """
        current = self.current
        assert current.method is not None
        current.method.begin_again(module)
        is_refused = current.is_refused()
        current.calls, current.is_accepted = {}, None
        if self._counter is not None:
            self._counter.end_method()
        if (known := current.known_axes) is not None and not is_refused:
            self._note_followed(current.signature, known)
            if self._kinds.is_done(current.signature):
                current.stop_following()

    def _leave_parts(self) -> None:
        """End the pass of a method that runs the model on parts of what it is given, for good."""
        kind = self.current.signature
        self._leave_method()
        self._kinds.note_parts(kind)

    def _leave_method(self, has_failed: bool = False) -> None:
        """End the pass of a method; what the method runs from now on is as if it were not there."""
        if self._counter is not None:
            self._counter.end_method(has_failed=has_failed)
            self._counter.here.method = None
        self._finish(has_failed)
