"""PyTorch: a custom operator that makes torch.compile keep the capture in its graph."""

import itertools
import weakref
from typing import Any

import numpy as np

try:
    import torch
except ImportError as error:
    raise ImportError("PyTorch hooks need torch: pip install torch") from error
from torch.nn.utils.rnn import PackedSequence

from .axis_flow import axes_in_graph
from .axis_flow.across_graphs import HERE, inputs_of_part
from .batch_plan import Planned
from .graph_borders import NOTHING_KNOWN
from .marked_classes import MarkingHook
from .module_log import ModuleLog
from .pass_counter import PassCounter
from .pass_operators import NOT_IN_CUDA_GRAPHS
from .spread_tensors import part_in_graph
from .tensors import is_exporting, is_real_forward, shared_tensor
from .untraced import tell_dynamo


class Receiver(MarkingHook):
    """Receives the tensors that pass its hook, also from compiled graphs.

    A graph contains no Python objects, so it refers to a receiver by a key. The key is data in a
    tensor: a number would be a constant of the graph, and each layer would need a graph of its own.
    """

    batch_axis = "0"  # of the inputs of the model; see axes_in_graph()

    def _register(self, counter: PassCounter) -> None:
        key = next(_new_keys)
        _receivers[key] = self
        # The tensor is a view of this array, which is written without torch: inside fake modes,
        # inference mode and traces as well.
        self._key_and_active = np.array([key, True], np.int64)
        # The operator declares that it mutates this tensor, so torch.compile keeps the call.
        self._anchor = shared_tensor(self._key_and_active)
        Receiver._use_log(self, ModuleLog(counter))  # of no model: the intake gets none

    def _use_log(self, log: ModuleLog) -> None:
        """Note in a log in which passes of a model the layer runs."""
        self.pass_log = log
        self._clock = log.counter.tensor  # at hand for compiled graphs, which guard each attribute

    @property
    def active(self) -> bool:
        """Whether tensors are received. Compiled graphs read it whenever they run."""
        return bool(self._key_and_active.item(1))

    @active.setter
    def active(self, active: bool) -> None:
        self._key_and_active[1] = active

    def deliver(self, tensor: torch.Tensor, sequences: PackedSequence | None = None) -> None:
        """Receive a tensor now. ``sequences``: those whose data the tensor is."""
        if self._key_and_active[1] and is_real_forward(tensor):  # as self.active, for each batch
            self.receive(tensor, self.pass_log.counter.clock_at(tensor), sequences=sequences)

    def deliver_nothing(self) -> None:
        """Like deliver(), of a call that passes no tensor."""
        if self.active:
            self.receive_nothing()

    def receive(
        self,
        tensor: torch.Tensor,
        clock: int,
        traced: str | None = None,
        inputs: int | None = None,
        sequences: PackedSequence | None = None,
        planned: Planned | None = None,
    ) -> None:
        """Receive a tensor of a forward pass that counts, and the clock of its PassCounter.

        ``traced``: of a tensor in a compiled graph, what axes_in_graph() returned. ``inputs``: the
        number of the model's inputs, if such a graph knows it. ``planned``: the plan for it.
        """
        raise NotImplementedError

    def receive_nothing(self, *, nested: bool = False) -> None:
        """Note a call that passes no tensor; ``nested``: in a graph, a nested one."""
        raise NotImplementedError


def capture_in_graph(
    tensor: torch.Tensor, anchor: torch.Tensor, clock: torch.Tensor, batch_axis: str
) -> None:
    """Let the graph that is made deliver a tensor, whenever it runs, to the receiver of an anchor.

    Exported programs receive nothing: they outlive this process and its keys.
    """
    if not is_exporting():
        plain = part_in_graph(tensor).detach()  # now the last node of the graph
        traced = axes_in_graph(batch_axis)
        torch.ops.tensorstate_gpu.capture(plain, anchor, clock, traced)


def skip_in_graph(anchor: torch.Tensor, *, nested: bool = False) -> None:
    """Like capture_in_graph(), of a call that passes no tensor, or a nested one."""
    if not is_exporting():
        torch.ops.tensorstate_gpu.skip(anchor, nested)


_new_keys = itertools.count()
_receivers: "weakref.WeakValueDictionary[int, Receiver]" = weakref.WeakValueDictionary()

_library: Any = torch.library.Library("tensorstate_gpu", "DEF")  # type: ignore[no-untyped-call]
_library.define(
    "capture(Tensor x, Tensor(a!) anchor, Tensor clock, str traced) -> ()", tags=NOT_IN_CUDA_GRAPHS
)
_library.define("skip(Tensor(a!) anchor, bool nested) -> ()", tags=NOT_IN_CUDA_GRAPHS)


def _capture(x: torch.Tensor, anchor: torch.Tensor, clock: torch.Tensor, traced: str) -> None:
    """Called by compiled graphs. Does nothing if the receiver no longer exists."""
    key, active = anchor.tolist()
    if not active:
        return
    receiver = _receivers.get(key)
    if receiver is not None and is_real_forward(x):
        counter = receiver.pass_log.counter
        known = traced if HERE.fits else NOTHING_KNOWN
        inputs = counter.here.inputs or inputs_of_part(traced)
        receiver.receive(x, counter.clock_at(x), known, inputs)


def _skip(anchor: torch.Tensor, nested: bool) -> None:
    """Called by compiled graphs, like _capture()."""
    key, active = anchor.tolist()
    receiver = _receivers.get(key) if active else None
    if receiver is not None:
        receiver.receive_nothing(nested=nested)


def _capture_fake(x: torch.Tensor, anchor: torch.Tensor, clock: torch.Tensor, traced: str) -> None:
    """Do nothing else: traced calls are not captured."""
    tell_dynamo()  # it may have been imported since the model was captured


def _skip_fake(anchor: torch.Tensor, nested: bool) -> None:
    """Do nothing."""


_library.impl("capture", _capture, "CompositeExplicitAutograd")
_library.impl("skip", _skip, "CompositeExplicitAutograd")
torch.library.register_fake("tensorstate_gpu::capture", _capture_fake, lib=_library)
torch.library.register_fake("tensorstate_gpu::skip", _skip_fake, lib=_library)
