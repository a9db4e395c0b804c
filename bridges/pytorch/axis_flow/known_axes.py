"""KnownAxes: what is known of the axes of tensors, call by call."""

import weakref
from collections.abc import Iterable, Sequence
from typing import Any

from torch import Tensor, nn

from .calls import Call, axes_of_outputs, name_of, tensors_in
from .factors import (
    BATCH,
    NEURON,
    Axes,
    batch,
    counts_inputs,
    has,
    neuron_axis,
    neuron_places,
    others,
    position,
    without,
)
from .listed_inputs import ListedInputs
from .lost_neurons import lost_neurons
from .noted_axes import INPUTS_LOST_AT, NotedAxes
from .same_shape import rule_of
from .sequences import forget_numbers, note_inverse, note_numbers
from .taken_rows import TakenRows
from .views import axes_of_target
from .weighted import takes_inputs_for_neurons, takes_inputs_for_steps, takes_one_sequence
from .writes import after_write, indexed_axes

# Functions that return no tensor, or none that is new; they are called most often.
_IGNORED = {
    *("size", "dim", "stride", "numel", "item", "is_contiguous", "is_floating_point", "tolist"),
    *("__len__", "__bool__", "__get__", "ndimension", "data_ptr", "is_complex", "get_device"),
}

_WRITING = {"__setitem__", "copy_", "data="}


class KnownAxes(NotedAxes):
    """What is known of the axes of tensors, from the functions that have been called."""

    def __init__(self) -> None:
        super().__init__()
        self.inputs: int | None = None  # the batch size
        self.takes_one_input = False  # what was taken for several inputs is one
        self.is_told = False  # to some layer, how many inputs there are
        self.inputs_are_steps = False  # of sequences, for some layer
        self.is_one_sequence = False  # likewise, of a single one, which was noticed too late
        self.has_joined_list = False  # the tensors of a list are one batch now
        self.has_run_branches = False  # of torch.cond and the like; see branches.py
        self.latest_weight: weakref.ref[Tensor] | None = None  # with which something was computed
        self._listed, self._taken = ListedInputs(), TakenRows()

    # ---- what a model is given -----------------------------------------------------------------

    def mark_inputs(self, tensors: Iterable[Tensor], axis: int) -> None:
        """Mark the batch axis of the tensors that a model is given: those of one size there."""
        for tensor in tensors:
            if not -tensor.ndim <= axis < tensor.ndim:
                continue
            size = tensor.shape[axis]
            self.inputs = size if self.inputs is None else self.inputs
            if size == self.inputs:
                self.have_other_axes |= tensor.ndim > 1
                axes = list(others(tensor.shape))
                axes[axis] = batch(size)
                self._axes[tensor] = tuple(axes)

    def mark_given_within(self, tensor: Tensor, axis: int) -> None:
        """Note that a tensor is given to another captured model, in a pass of this one.

        If its batch axis is not the one that counts the inputs here, the layers within cannot be
        told those of both models.
        """
        if not isinstance(tensor, Tensor) or not -tensor.ndim <= axis < tensor.ndim:
            return
        axes, size = self.axes(tensor) or others(tensor.shape), tensor.shape[axis]
        if axes[axis] != batch(size) and (self._comes_from_inputs(tensor) or size == self.inputs):
            lost = f"{INPUTS_LOST_AT}another captured model"
            self.note_before(tensor, without(axes, BATCH), lost)

    def note_before(
        self, tensor: Tensor, axes: Axes | None, inputs_lost: str, cause: str = ""
    ) -> None:
        """Note what is known of a tensor from before.

        ``inputs_lost``, ``cause``: why its inputs, and its neurons, are not.
        """
        if axes is not None:
            self._axes[tensor] = axes
        self._note_why_unknown(tensor, cause)
        sizes = [f.size for axis in axes or () for f in axis if f.kind == BATCH]
        self.have_other_axes |= bool(sizes) and tensor.ndim > 1
        if sizes and self.inputs is None:
            self.inputs = sizes[0]
        elif not sizes:
            self._note_why_inputs_are_lost(tensor, inputs_lost)
            self._taken.note_unread(tensor)

    def note_passed_on(self, tensor: Tensor, earlier: "KnownAxes") -> None:
        """Note where the neurons are of a tensor that an earlier pass may have returned.

        What it says of inputs is about those of that pass.
        """
        known = earlier.axes(tensor)
        place = neuron_axis(known)
        axes = list(self.axes(tensor) or others(tensor.shape))
        if known is not None and place is not None and not has(axes[place], BATCH):
            axes[place] = known[place]
            self._axes[tensor] = tuple(axes)

    def mark_listed(self, tensors: Sequence[Tensor]) -> None:
        """Mark the tensors of a list that a model is given: each is an input."""
        self._listed.mark(tensors)
        self.inputs = len(tensors) if self.inputs is None else self.inputs

    def mark_positions(self, tensor: Tensor, axis: int) -> None:
        """Mark the axis of a model input that counts positions, such as those of tokens."""
        axes = list(self.axes(tensor) or others(tensor.shape))
        axes[axis] = position(tensor.shape[axis])
        self._axes[tensor] = tuple(axes)

    # ---- following -----------------------------------------------------------------------------

    def follow(self, func: Any, args: Any, kwargs: dict[str, Any], result: Any) -> None:
        """Note what a call that has returned tells of its outputs."""
        try:
            self._follow(func, args, kwargs, result)
        except Exception:  # whatever a rule did not expect: nothing is known of these outputs
            for tensor in tensors_in([result]):
                self._axes.pop(tensor, None)

    def _follow(self, func: Any, args: Any, kwargs: dict[str, Any], result: Any) -> None:
        name = name_of(func)
        if name in _WRITING:
            index, value = (args[1], args[2]) if name == "__setitem__" else (Ellipsis, args[1])
            forget_numbers(args[0])
            self._write(name, args[0], index, value)
            return
        outputs = list(result) if isinstance(result, (tuple, list)) else [result]
        if name in _IGNORED or not any(isinstance(output, Tensor) for output in outputs):
            return
        known = (self.axes, self.is_lost, self.is_weight, self.has_lost_inputs)
        call = Call(name, func, args, kwargs, outputs, *known)
        for tensor in call.tensors:
            self._recognise(tensor)
        weights = (weakref.ref[Tensor](t) for t in call.tensors if isinstance(t, nn.Parameter))
        self.latest_weight = next(weights, self.latest_weight)
        note_inverse(call)
        note_numbers(call)
        self.takes_one_input |= takes_inputs_for_neurons(call)
        self.inputs_are_steps |= takes_inputs_for_steps(call)
        if takes_one_sequence(call):
            self.takes_one_input |= not self.is_told
            self.is_one_sequence |= self.is_told and not self.takes_one_input
        self.have_other_axes &= not self.takes_one_input  # what has one axis has its features
        has_all_inputs = self._listed.follow(call)
        self._taken.follow(call)
        are_moved = self._taken.are_moved_by(call)
        for output, axes in zip(outputs, axes_of_outputs(call, rule_of(name)), strict=True):
            if isinstance(output, Tensor):
                axes = without(axes, BATCH) if are_moved and axes is not None else axes
                self._note_inputs(call, output, axes)
                self._note(call, output, axes)
        self._mapped.follow(call.tensors, outputs, self._leads_to_neurons)
        if has_all_inputs:
            self._note_all_inputs(call.out)

    def _note_all_inputs(self, tensor: Tensor) -> None:
        """Note that axis 0 counts the inputs that the model was given in a list."""
        self.has_joined_list = True
        axes = self.axes(tensor) or others(tensor.shape)
        if not has(axes[0], NEURON):
            self._axes[tensor] = (batch(len(tensor)), *axes[1:])

    def _note_inputs(self, call: Call, output: Tensor, axes: Axes | None) -> None:
        """Note where a tensor's inputs were lost, before its axes are noted."""
        if counts_inputs(axes):
            return
        lost = any(counts_inputs(self.axes(tensor)) for tensor in call.tensors)
        before = (self._inputs_lost_at.get(tensor) for tensor in call.tensors)
        if name := (call.name if lost else next(filter(None, before), None)):
            self._inputs_lost_at[output] = name

    def _note(self, call: Call, output: Tensor, axes: Axes | None) -> None:
        # Asked first: in place, the output is an input.
        name = None
        if neuron_axis(axes) is None:
            name = lost_neurons(call, output, axes, self._lost_at, self._comes_from_inputs)
        before = self._axes.get(output)  # of what is written in place
        if before is not None and (axes is None or neuron_places(before) != neuron_places(axes)):
            self._lose(output, call.name)
        elif before is not None and axes is not None:
            self._forget_what_was_moved(output, before, axes, call.name)
        if name is not None:
            self._lost_at[output] = name
        if axes is not None:
            self._note_axes(output, axes)
        if call.tensors and (all(map(self.is_weight, call.tensors)) or _are_chosen_weights(call)):
            self._weights[output] = True

    def _write(self, name: str, target: Any, index: Any, value: Any) -> None:
        """A tensor of which nothing was known has its neurons where they are written to.

        One whose neurons were elsewhere is lost.
        """
        whole = self._listed.write(target, index, value)
        if whole is not None:
            self._note_all_inputs(whole)
            return
        self._recognise(value)
        before, written = self.axes(target), self.axes(value)
        if self._taken.are_moved(target, before, index, value):
            self._forget(BATCH, target, name)
            before = self.axes(target)
        found = None if written is None else axes_of_target(target, index, written)
        if before is None:
            if found is not None:
                self._axes[target] = found
            return
        places = neuron_places(found or written or ())
        if self.is_lost(value) or (places and places != neuron_places(before)):
            self._lose(target, name)
        elif isinstance(value, Tensor):
            lost_inputs = self.has_lost_inputs(value)
            indexed = indexed_axes(target.ndim, index)
            after = after_write(before, indexed, value, written, lost_inputs)
            self._forget_what_was_moved(target, before, after, name)


def _are_chosen_weights(call: Call) -> bool:
    """Return whether a call takes matrices from a stack of weights: one for each expert."""
    stack = call.input
    chosen = call.name in ("__getitem__", "index_select") and call.is_weight(stack)
    if not chosen or stack.ndim < 3:
        return False
    return call.out.ndim == stack.ndim or call.shape[-2:] == tuple(stack.shape[-2:])
