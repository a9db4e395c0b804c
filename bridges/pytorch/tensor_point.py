"""TensorPoint: a capture point that packs tensors, as the pass that they belong to tells."""

import weakref
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import nn
from torch.nn.utils.rnn import PackedSequence

from tensorstate_gpu._arrays.array_types import NativeArray
from tensorstate_gpu._arrays.dlpack import Tensor, borrow, plain_torch_tensor
from tensorstate_gpu._arrays.thresholds import Threshold
from tensorstate_gpu._capturing.pass_notes import Mask
from tensorstate_gpu._layers.capture_warnings import warn_of_unmasked
from tensorstate_gpu._process.num_threads import prefer_single_thread
from tensorstate_gpu._states.backends import backend_for, device_of
from tensorstate_gpu._states.packing import pack

from .axis_point import AxisPoint
from .batch_plan import BatchPlan, BatchPlans, Planned
from .found_axis import LAYER, FoundAxis
from .other_devices import has_backend, pack_by_torch
from .quantized import integers_of
from .rows_by_input import RowsByInput, rows_by_input
from .spread_tensors import Layout, layout_by_weight, layout_given, local_part
from .tensors import NotDense, check_dense, values_of


class TensorPoint(AxisPoint):
    """A capture point of tensors: finds their inputs, and packs the rows to be kept."""

    _told_of_mask = False
    _module: "weakref.ref[nn.Module] | None" = None
    _place = "post"
    _layout: Layout | None = None  # of the first tensor
    _ndim = 0  # of the last tensor
    may_be_slice = False  # of a tensor parallel model, without a sign of how it is spread
    _plans: BatchPlans | None = None  # None: each batch is looked at

    def __init__(self, *args: Any, **keywords: Any) -> None:
        super().__init__(*args, **keywords)
        if self.firing is None:
            self._plans = BatchPlans()

    def _capture(
        self,
        tensor: torch.Tensor,
        traced: str | None,
        inputs: int | None,
        sequences: PackedSequence | None,
        planned: Planned | None = None,
    ) -> bool:
        """Pack a tensor, and record its rows; return False if it is left out.

        ``traced``, ``inputs``: what a compiled graph knows of it, and of the pass. ``sequences``:
        those whose data it is. ``planned``: the plan for it, if that was looked up. Raises
        TypeError or ValueError if its numbers cannot be packed.
        """
        given = tensor
        layout: Layout | None = None
        if planned is None and self._plans and sequences is None:
            planned = self._plans.find(tensor)
        if planned is None or not tensor.ndim:  # which is a state in passes of some kinds only
            if type(tensor) is not torch.Tensor:  # most are plain ones: no call for those
                tensor, layout = local_part(given)
            if not tensor.ndim:
                if self._axis_of(given, traced).of_one_neuron:
                    tensor = tensor.unsqueeze(0)  # of a batch of one input, squeeze() left no axis
                elif self._passes is not None:  # as the criterion of a model that returns its loss
                    self._skip("a number without axes")
                    return False
            check_dense(tensor, self.name)
            if tensor.is_neg():
                tensor = given = tensor.resolve_neg()
        found = self._axis_of(given, traced)
        if found.of_one_neuron:
            tensor = tensor.unsqueeze(-1)
        is_new = self._is_inferred and (found.moved or tensor.shape[found.axis] != self._width)
        if is_new and self._is_left_out(found, tensor.shape[found.axis], self.neurons):
            return False
        if layout is not None or self._ndim != tensor.ndim or self.intake.accumulator is None:
            self._note_layout(layout, tensor, found)
        if self._passes is not None:
            inputs = self._passes.tell_inputs() or inputs or self.intake.notes_now().inputs
        if planned is not None and self._keep_as_planned(*planned, given, found, inputs):
            return True
        threshold = self.options.threshold
        if tensor.is_quantized:
            tensor, threshold = self._of_quantized(tensor, found.axis)
        by_input = rows_by_input(tensor, found.axis, found, inputs, sequences)
        if by_input.inputs is None and self._passes is not None and self._passes.end_broken():
            return self._capture(given, traced, None, sequences)
        self._keep(by_input, threshold, found, inputs)
        if self._plans is not None:
            self._plans.add(given, sequences, by_input, threshold, found, inputs)
        return True

    def _keep_as_planned(
        self,
        plan: BatchPlan,
        address: int,
        tensor: torch.Tensor,
        found: FoundAxis,
        inputs: int | None,
    ) -> bool:
        """Pack and record rows like those of an earlier batch, if they are like those.

        Returns whether it did; also False if there was no room, and nothing was recorded.
        """
        is_same = plan.found is found and plan.inputs == inputs
        if not is_same or self.intake.accumulator is None:  # of a first batch, more is noted
            return False
        if self._passes is not None and self._may_have_mask():
            return False
        packer = plan.packer
        if packer.place is None:
            if packer.is_small:
                self._record_planned(plan, address, tensor)
            else:
                with prefer_single_thread():
                    self._record_planned(plan, address, tensor)
            return True
        device, stream, memory = packer.place()
        try:
            with device, stream, memory:
                self._record_planned(plan, address, tensor)
        except MemoryError:  # the host may have room
            return False
        return True

    def _record_planned(self, plan: BatchPlan, address: int, tensor: torch.Tensor) -> None:
        if not self.capture_on:  # record() asks, too: the point of a later call has its own
            return
        self.intake.record(
            plan.packer.pack(address, tensor),
            plan.neurons,
            plan.found.axis,
            plan.batches,
            plan.found.origin,
            plan.cause,
            plan.spatial_shape,
        )

    def _keep(
        self, by_input: RowsByInput, threshold: Threshold, found: FoundAxis, inputs: int | None
    ) -> None:
        """Pack and record rows, on the host where their device has no backend, or no room."""
        packed: NativeArray
        states = plain_torch_tensor(by_input.view)
        if states is None:
            by_input = replace(by_input, view=values_of(by_input.view))
            states = plain_torch_tensor(by_input.view)
        if states is None and not has_backend(by_input.view):
            packed, neurons = pack_by_torch(by_input.view, by_input.axis, threshold, self.firing)
            self._record(packed, neurons, found, by_input, inputs)
            return
        try:
            self._pack_and_record(by_input, states, threshold, found, inputs)
        except MemoryError:
            if by_input.view.is_cpu:
                raise
            by_input = replace(by_input, view=by_input.view.cpu())  # the host may have room
            self._pack_and_record(by_input, None, threshold, found, inputs)

    def _pack_and_record(
        self,
        by_input: RowsByInput,
        states: Tensor | None,
        threshold: Threshold,
        found: FoundAxis,
        inputs: int | None,
    ) -> None:
        """Pack and record rows on their device. ``states``: they, where a bridge describes them."""
        if states is None:
            states = borrow(by_input.view, "states")
        # On a CPU, the threads of the framework are busy during a pass; while a device computes,
        # they are idle. And a CPU has no stream or memory to enter.
        backend, on_cpu = backend_for(states.device), by_input.view.is_cpu
        with prefer_single_thread() if on_cpu else backend.working_on(states, exports=False):
            packed, neurons = pack(states, by_input.axis, threshold, self.options.firing)
            if self.intake.accumulator is None:
                self.intake.note_nan(states, packed)
            self._record(packed, neurons, found, by_input, inputs)

    def _record(
        self,
        packed: NativeArray,
        neurons: int,
        found: FoundAxis,
        by_input: RowsByInput,
        inputs: int | None,
    ) -> None:
        """Record packed rows, but for those that a mask leaves out."""
        mask = self._applicable(by_input)
        if mask is None:
            batches, spatial_shape = by_input.batches(inputs)
        else:
            kept, (batches, spatial_shape) = by_input.kept(mask)
            packed = backend_for(device_of(packed)).rows_where(packed, kept)
        self.record(
            packed,
            neurons,
            found.axis,
            batches,
            found.origin,
            by_input.cause or None,
            spatial_shape,
        )

    def _may_have_mask(self) -> bool:
        """Return whether a mask is said of the pass, or its arguments may have one."""
        assert self._passes is not None
        if self._passes.current.signature is None:
            return bool(self.options.mask) or self.intake.notes_now().mask is not None
        return self._passes.current.mask is not None

    def _applicable(self, by_input: RowsByInput) -> Mask | None:
        """Return the mask of the pass, if it applies to the rows of a tensor; else say so once."""
        if self._passes is None:
            return None
        mask = self._passes.current.mask
        began_in_graph = self._passes.current.signature is None
        if began_in_graph:
            mask = self.intake.notes_now().mask
        if mask is not None:
            cause = by_input.why_not_masked(mask)
        else:  # the arguments of a compiled model are not seen
            cause = "its pass is compiled" if began_in_graph and self.options.mask else ""
        if not cause:
            return mask
        if not self._told_of_mask:
            self._told_of_mask = True
            self._passes.warn_of(warn_of_unmasked, self.name, cause)
        return None

    def _skip(self, cause: str) -> None:
        """Note a call that passes nothing to capture, and warn once."""
        raise NotImplementedError

    def _note_layout(self, layout: Layout | None, tensor: torch.Tensor, found: FoundAxis) -> None:
        """Note how the first tensor is spread over ranks, and that others are as well.

        ``tensor``: the part that this rank has.
        """
        self._ndim = tensor.ndim
        if self.intake.accumulator is not None:  # most batches are not the first
            if layout is not None and not layout.is_like(self._layout):
                raise ValueError(
                    f"{self.name}: a batch is spread over ranks as {layout.placements}, earlier "
                    "ones are not; reset_states() starts over"
                )
            return
        module = None if self._module is None else self._module()
        if layout is None and module is not None and found.origin == LAYER:
            axis = found.axis % tensor.ndim
            layout = layout_by_weight(module, self._place, tensor.shape, axis, self.name)
        self._layout = layout
        self.may_be_slice = layout is None and self._passes is not None and self._passes.is_parallel
        if layout is not None:
            axis = found.axis
            self.use_spread(layout.spread(axis, self.name), tensor.shape[axis])

    def spread_as(self, mesh: object, placements: Sequence[object]) -> None:
        axis, own = self.axis, self.neurons
        if axis is None or own is None or not self._ndim:
            return  # nothing captured here: no rank has slices of the same rows
        layout = layout_given(mesh, placements, self._ndim, axis, own)
        self.use_spread(layout.spread(axis, self.name), own)
        self.may_be_slice = False

    def _of_quantized(self, tensor: torch.Tensor, axis: int) -> tuple[torch.Tensor, Any]:
        if self.firing is not None:
            return tensor.dequantize(), self.threshold
        try:
            return integers_of(tensor, axis, self.threshold)
        except NotDense as error:
            raise NotDense(f"{self.name}: {error}", error.kind) from None
