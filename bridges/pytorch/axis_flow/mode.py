"""AxisFlow: a torch function mode that follows the axes of all tensors during one forward pass."""

import sys
from collections.abc import Iterable
from types import FrameType
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils.weak import WeakTensorKeyDictionary

from .calls import Call, axes_of_outputs, tensors_in
from .factors import BATCH, Axes, batch, has, neuron_axis, others, position
from .same_shape import rule_of
from .sequences import note_inverse
from .views import axes_of_target
from .weighted import takes_inputs_for_neurons

# Functions that return no tensor, or none that is new; they are called most often.
_IGNORED = {
    *("size", "dim", "stride", "numel", "item", "is_contiguous", "is_floating_point", "tolist"),
    *("__len__", "__bool__", "__set__", "ndimension", "data_ptr", "is_complex", "get_device"),
}
_PROPERTIES = {"T", "mT", "H", "mH", "data", "real", "imag"}


class AxisFlow(TorchFunctionMode):
    """Follows axes through the functions that one thread calls. It changes no result.

    ``frame``: of the call that is followed. PyTorch runs no hook after a KeyboardInterrupt; the
    mode then notices that the frame has gone, and does nothing until leave() is called.
    """

    def __init__(self, frame: FrameType) -> None:
        super().__init__()
        self.inputs: int | None = None  # the batch size
        self.takes_one_input = False  # what was taken for several inputs is one
        self._frame = frame
        self._axes: Any = WeakTensorKeyDictionary()
        self._weights: Any = WeakTensorKeyDictionary()
        self._lost_at: Any = WeakTensorKeyDictionary()
        self._inputs_lost_at: Any = WeakTensorKeyDictionary()

    # ---- what is known -------------------------------------------------------------------------

    def axes(self, tensor: Any) -> Axes | None:
        """Return the axes of a tensor, or None."""
        return self._axes.get(tensor) if isinstance(tensor, Tensor) else None

    def lost_at(self, tensor: Tensor) -> str | None:
        """Return the name of the function after which nothing was known of a tensor."""
        name: str | None = self._lost_at.get(tensor)
        return name

    def why_inputs_are_lost(self, tensor: Tensor) -> str:
        """Return why it is not known of a tensor which of its entries belong to which input."""
        name = self._inputs_lost_at.get(tensor)
        return f"inputs lost at {name}" if name else "computed from nothing that counts inputs"

    def is_weight(self, tensor: Any) -> bool:
        """Return whether a tensor is a parameter, or was computed from parameters alone."""
        return isinstance(tensor, nn.Parameter) or tensor in self._weights

    def mark_inputs(self, tensors: Iterable[Tensor], axis: int) -> None:
        """Mark the batch axis of the tensors that a model is given: those of one size there."""
        for tensor in tensors:
            if not -tensor.ndim <= axis < tensor.ndim:
                continue
            size = tensor.shape[axis]
            self.inputs = size if self.inputs is None else self.inputs
            if size == self.inputs:
                axes = list(others(tensor.shape))
                axes[axis] = batch(size)
                self._axes[tensor] = tuple(axes)

    def mark_positions(self, tensor: Tensor, axis: int) -> None:
        """Mark the axis of a model input that counts positions, such as those of tokens."""
        axes = list(self.axes(tensor) or others(tensor.shape))
        axes[axis] = position(tensor.shape[axis])
        self._axes[tensor] = tuple(axes)

    # ---- following -----------------------------------------------------------------------------

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        if torch.compiler.is_compiling() or not is_running(self._frame):
            return result
        try:
            self._follow(func, args, kwargs, result)
        except Exception:  # whatever a rule did not expect: nothing is known of these outputs
            self._forget(result)
        return result

    def _follow(self, func: Any, args: Any, kwargs: dict[str, Any], result: Any) -> None:
        name = getattr(func, "__name__", "")
        if name == "__get__":
            name = getattr(getattr(func, "__self__", None), "__name__", "")
            if name not in _PROPERTIES:
                return
        if name == "__setitem__":
            self._assign(args[0], args[1], args[2])
        elif name == "copy_" and self.axes(args[0]) is None:
            self._assign(args[0], Ellipsis, args[1])
        outputs = list(result) if isinstance(result, (tuple, list)) else [result]
        if name in _IGNORED or not any(isinstance(output, Tensor) for output in outputs):
            return
        call = Call(name, func, args, kwargs, outputs, self.axes, self.is_weight)
        note_inverse(call)
        self.takes_one_input |= takes_inputs_for_neurons(call)
        for output, axes in zip(outputs, axes_of_outputs(call, rule_of(name)), strict=True):
            if isinstance(output, Tensor):
                self._note_inputs(call, output, axes)
                self._note(call, output, axes)

    def _note_inputs(self, call: Call, output: Tensor, axes: Axes | None) -> None:
        """Note where a tensor's inputs were lost, before its axes are noted."""
        if _counts_inputs(axes):
            return
        lost = any(_counts_inputs(self.axes(tensor)) for tensor in call.tensors)
        before = (self._inputs_lost_at.get(tensor) for tensor in call.tensors)
        if name := (call.name if lost else next(filter(None, before), None)):
            self._inputs_lost_at[output] = name

    def _note(self, call: Call, output: Tensor, axes: Axes | None) -> None:
        if neuron_axis(axes) is None:  # noted first: in place, the output is an input
            before = [self._lost_at.get(tensor) for tensor in call.tensors]
            had = [t for t in call.tensors if neuron_axis(self.axes(t)) is not None]
            if name := (call.name if had else next(filter(None, before), None)):
                self._lost_at[output] = name
        if axes is not None:
            self._axes[output] = axes
        elif output in self._axes and call.name != "copy_":
            del self._axes[output]
        if call.tensors and all(map(self.is_weight, call.tensors)):
            self._weights[output] = True

    def _assign(self, target: Any, index: Any, value: Any) -> None:
        """A tensor of which nothing was known has its neurons where they are written to."""
        written = self.axes(value)
        if written is None or self.axes(target) is not None:
            return
        axes = axes_of_target(target, index, written)
        if axes is not None:
            self._axes[target] = axes

    def _forget(self, result: Any) -> None:
        for tensor in tensors_in([result]):
            self._axes.pop(tensor, None)

    def leave(self) -> None:
        """End the following: leave the stack of modes, wherever this one lies in it."""
        stack = []
        while torch._C._len_torch_function_stack():
            mode = torch._C._pop_torch_function_stack()
            if mode is self:
                break
            stack.append(mode)
        for mode in reversed(stack):
            torch._C._push_on_torch_function_stack(mode)


def _counts_inputs(axes: Axes | None) -> bool:
    return any(has(axis, BATCH) for axis in axes or ())


def is_running(sought: FrameType) -> bool:
    """Return whether a call of this thread has not ended yet."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and frame is not sought:
        frame = frame.f_back
    return frame is not None
