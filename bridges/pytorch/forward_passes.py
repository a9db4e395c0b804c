"""PyTorch: ForwardPasses, the passes of a model: where each begins, and where it ends."""

import sys
import weakref
from collections.abc import Mapping
from types import FrameType
from typing import Any

import torch
from torch import nn

from .axis_flow.mode import is_running
from .entrances import EntranceWatcher, entrances
from .followed_passes import FollowedPasses, PassUser
from .given_tensors import Given, given_to, parameters_of
from .marked_classes import OwnHook
from .method_calls import MethodCall
from .method_pass import MethodPass
from .pass_counter import PassCounter


class ForwardPasses(FollowedPasses, OwnHook):
    """The forward passes of a model: they begin with it, with a part of it, or with a method.

    ``mask``: the argument of the model that is the mask, if any.
    """

    def __init__(self, batch_axis: int, mask: str | None = None) -> None:
        super().__init__(batch_axis, mask)
        self._watchers: list[EntranceWatcher] = []
        self._ends: list[Any] = []  # handles
        self._has_end: weakref.WeakSet[nn.Module] = weakref.WeakSet()

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
        return ForwardPasses, (self.batch_axis, self._mask.name)

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
            return
        current.stop_following()  # of a pass that was noted, but ended by an interrupt
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

    # ---- methods -------------------------------------------------------------------------------

    def begin_method(self, call: MethodCall) -> None:
        """Begin a pass with a method that is given tensors, unless one is running."""
        current = self.current
        is_inside = current.frame is not None and is_running(current.frame)
        if (is_inside and current.method is None) or not self._users:
            return
        names = call.names if self._mask.name is not None else ()
        given = given_to(names, call.args, call.kwargs, may_load=False)
        if not given.listed and given.first_with(self.batch_axis, None) is None:
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
            call, current, self._kinds, self.batch_axis, notes, self._leave_parts
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
