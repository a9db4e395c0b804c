"""PyTorch: MethodPass, a forward pass that a public method of a model makes."""

from collections.abc import Callable, Collection
from types import FrameType

import torch
from torch import nn

from tensorstate_gpu._capturing.pass_notes import PassNotes

from .axis_flow.factors import BATCH
from .current_pass import CurrentPass
from .method_calls import MethodCall


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
        batch_axis: int,
        notes: PassNotes,
        leave: Callable[[], None],
    ) -> None:
        self.call, self.notes = call, notes
        self._current, self._batch_axis, self._leave = current, batch_axis, leave
        self._entered: set[nn.Module] = set()  # parts of the model that have been called

    @property
    def frame(self) -> FrameType:
        """The frame of the call."""
        return self.call.frame

    def takes(self, tensor: torch.Tensor) -> bool:
        """Return whether a layer that passes a tensor runs in this pass. If not, it is over."""
        if not self.fits([tensor]):
            self._leave()
            return False
        return True

    def fits(self, tensors: Collection[torch.Tensor]) -> bool:
        """Return whether a part of the model is given, or passes, all inputs of the pass."""
        inputs, known = self._current.inputs, self._current.known_axes
        if not inputs or not tensors or (known is not None and known.takes_one_input):
            return True
        for tensor in tensors:
            axes = None if known is None else known.axes(tensor)
            sizes = {f.size for axis in axes or () for f in axis if f.kind == BATCH}
            if sizes:
                return inputs in sizes
        return any(self._has_inputs(tensor, inputs) for tensor in tensors)

    def _has_inputs(self, tensor: torch.Tensor, inputs: int) -> bool:
        """Return whether a tensor may have all inputs, as far as its sizes tell.

        The axis of inputs also counts windows or heads of each; where steps come first, it is next.
        """
        shape, axis = tensor.shape, self._batch_axis
        if -tensor.ndim <= axis < tensor.ndim and shape[axis] % inputs == 0:
            return True
        return inputs in shape[:2]

    def enters(self, module: nn.Module) -> bool:
        """Note that a part of the model is called. Return whether it has not been called before."""
        is_new = module not in self._entered
        self._entered.add(module)
        return is_new

    def begin_again(self, module: nn.Module | None) -> None:
        """Begin another pass, with a part of the model, if that is what begins it."""
        self._entered = set() if module is None else {module}
