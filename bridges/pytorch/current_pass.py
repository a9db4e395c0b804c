"""PyTorch: CurrentPass, the forward pass of a model that a thread makes now."""

import sys
import threading
from types import FrameType
from typing import Any

from tensorstate_gpu._capturing.pass_notes import Mask

from .axis_flow import AxisFlow, KnownAxes
from .axis_flow.mode import is_running
from .eager_passes import EAGER


class CurrentPass(threading.local):
    """The forward pass of this thread."""

    module: Any = None  # the outermost module that was called
    frame: FrameType | None = None  # of that call
    signature: Any = None  # of its inputs
    plain_kind: Any = None  # the same without flags and sizes
    inputs: int | None = None
    may_be_batch = False  # a list of tensors, each of which was taken for an input
    is_part = False  # of a pass of a compiled model, outside of its graphs
    mask: Mask | None = None
    flow: AxisFlow | None = None
    calls: dict[Any, int] | None = None  # of each capture point
    handled: BaseException | None = None  # by the program, when the pass began
    method: Any = None  # a MethodPass, where a method of the module makes the pass
    is_accepted: bool | None = None  # in a method: by the filter of passes

    def begin(self, module: Any, frame: FrameType) -> None:
        self.module, self.frame, self.calls = module, frame, {}
        self.handled = sys.exception()
        self.method = self.is_accepted = None  # of a pass that an interrupt has ended
        self.is_part = False

    def has_failed(self) -> bool:
        """Return whether an error ends the pass, asked in a hook that is always called."""
        return sys.exception() is not self.handled

    def is_refused(self) -> bool:
        """Return whether the pass of a method is not captured, so that it shows no axes."""
        return self.is_accepted is False

    def is_around(self, frame: FrameType) -> bool:
        """Return whether a call of the model, by its frame, is one within this pass."""
        around = self.frame
        return around is not None and around is not frame and is_running(around)

    def end(self) -> None:
        vars(self).clear()

    def end_broken(self) -> bool:
        """End a pass whose call runs no more, as after an interrupt. Return whether there was one.

        What it was given would be taken for that of layers that are called by themselves.
        """
        if self.frame is None or is_running(self.frame):
            return False
        self.stop_following()
        self.end()
        return True

    @property
    def known_axes(self) -> KnownAxes | None:
        return None if self.flow is None else self.flow.known

    def follow(self, flow: AxisFlow) -> None:
        """Begin to follow, unless what would run is compiled, and cannot run as it is."""
        if not EAGER.begin(flow):
            return
        self.flow = flow
        flow.__enter__()

    def stop_following(self) -> None:
        flow = self.flow
        if flow is not None:
            flow.leave()
            self.flow = None
            EAGER.end(flow)
