"""PyTorch: ThreadPass, the pass of a model that a thread makes, by the calls that make it."""

import sys
import threading
from types import FrameType
from typing import Protocol
from weakref import WeakKeyDictionary

try:
    import torch
except ImportError as error:
    raise ImportError("PyTorch hooks need torch: pip install torch") from error

from tensorstate_gpu._capturing.pass_notes import PassNotes

from .axis_flow.mode import is_running


class Method(Protocol):
    """A call of a method of the model, in which a pass begins when a layer runs."""

    @property
    def frame(self) -> FrameType:
        """The frame of the call."""

    @property
    def notes(self) -> PassNotes:
        """What is said of its inputs."""

    def takes(self, tensor: torch.Tensor) -> bool:
        """Return whether a tensor that a layer passes belongs to a pass of it."""


class ThreadPass(threading.local):
    """The last pass of this thread."""

    time = 0  # odd as long as it has not ended
    begun = 0  # passes of this thread
    inputs: int | None = None  # how many, if a graph knows it
    frame: FrameType | None = None  # of its call, if that is outside of graphs
    around: FrameType | None = None  # else of the call of what is compiled, if that is known
    inside: tuple[FrameType, ...] = ()  # of calls of the model within it
    owner: "Owner | None" = None
    method: Method | None = None  # that runs, and in which a pass may begin
    is_of_method = False  # the pass: no call of the model has begun it
    # How many passes tasks of asyncio have begun, since someone has asked for that.
    of_tasks: WeakKeyDictionary[object, int] | None = None

    def is_running(self) -> bool:
        return self.frame is not None and is_running(self.frame)

    def may_run(self) -> bool:
        """Return whether a call that makes the pass has not ended, or nothing tells."""
        frame = self.frame or self.around
        return frame is None or is_running(frame)

    def begin(self, time: int, inputs: int | None, frame: FrameType | None) -> None:
        self.time, self.inputs, self.frame, self.inside = time, inputs, frame, ()
        self.around, self.is_of_method = None, False


class Owner:
    """An object that exists as long as a thread."""


def call_of_compiled() -> FrameType | None:
    """Return the frame of torch.compile's own that calls what is compiled, in a graph that runs.

    It ends with the call, also with one that fails. None if it is not where it was in 2.13.
    """
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        is_named_so = frame.f_code.co_name == "compile_wrapper"
        if is_named_so and frame.f_globals.get("__name__") == _OF_COMPILED:
            return frame
        frame = frame.f_back
    return None


_OF_COMPILED = "torch._dynamo.eval_frame"
