"""PyTorch: which rows of a tensor belong to which input of the model, and to which position."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.utils.rnn import PackedSequence

from tensorstate_gpu._capturing.pass_notes import Mask
from tensorstate_gpu._capturing.sampling import spaced_rows, whole_inputs
from tensorstate_gpu._layers.batches import Batches, divided, ragged, unassigned

from .axis_flow.factors import BATCH, OTHER, POSITION, SEQUENCES, Axes, Axis, Factor
from .found_axis import FoundAxis


@dataclass(frozen=True, slots=True)
class RowsByInput:
    """A view of a tensor whose rows, all entries beside the neuron axis, are sorted by input.

    ``inputs``: number of inputs, which share the rows in equal parts; None if it is not known which
    rows are whose. ``position``: the axis of the view that counts positions, if one is known.
    ``cause``: why something is not known.
    """

    view: torch.Tensor
    axis: int
    inputs: int | None
    position: int | None = None
    cause: str = ""
    sizes: tuple[int, ...] | None = None  # rows of each input, where they differ

    @property
    def rows(self) -> int:
        return self.view.numel() // max(self.view.shape[self.axis], 1)

    def batches(self, all_inputs: int | None) -> tuple[Batches, tuple[int, ...] | None]:
        """Return whose the rows are, and the sizes of the tensor of one input, without neurons.

        ``all_inputs``: number of inputs of the pass, if known. The sizes are None if not known.
        """
        if self.inputs is None:
            return unassigned(self.rows, all_inputs), None
        if self.sizes is not None:
            return ragged(self.sizes), None
        return _in_equal_parts(self.view.shape, self.axis, self.inputs)

    def why_not_masked(self, mask: Mask) -> str:
        """Return why a mask does not apply to these rows; nothing if it does."""
        if self.inputs is None:
            return self.cause
        if self.position is None:
            return "its positions were not followed"
        if len(mask) != self.inputs:
            return f"it has {self.inputs} inputs, the mask {len(mask)}"
        if (positions := self.view.shape[self.position]) != mask.shape[1]:
            return f"it has {positions} positions, the mask {mask.shape[1]}"
        return ""

    def kept(self, mask: Mask) -> tuple[NDArray[np.bool_], tuple[Batches, tuple[int, ...] | None]]:
        """Return of each row whether the mask keeps it, and what batches() returns of the kept."""
        assert self.inputs is not None
        assert self.position is not None
        shape = [1] * self.view.ndim
        shape[self.position] = mask.shape[1]
        whole = list(self.view.shape)
        whole[self.axis] = 1
        if self.position != 0:  # which is that of a single input without an axis
            shape[0] = len(mask)
        kept = np.broadcast_to(mask.reshape(shape), whole)
        each = kept.reshape(self.inputs, -1)
        _, sizes = self.batches(None)
        return each.ravel(), (ragged(each.sum(1).tolist()), sizes)

    def sampled(self, room: int, step: int) -> "RowsByInput":
        """Return at most ``room`` of the rows, which the step decides.

        Those of whole inputs, in a view, as long as they fit; else evenly spaced ones, in a copy.
        """
        if self.rows <= room:
            return self
        sizes = self._rows_of_inputs()
        chosen = None if sizes is None else whole_inputs(sizes, room, step)
        if sizes is None or chosen is None:
            return self._spaced(sizes, spaced_rows(self.rows, room, step))
        if self.sizes is None:
            view = self.view[chosen.start : chosen.stop]
            return replace(self, view=view, inputs=len(chosen))
        start, stop = sum(sizes[: chosen.start]), sum(sizes[: chosen.stop])
        own = self.sizes[chosen.start : chosen.stop]
        return replace(self, view=self.view[start:stop], inputs=len(chosen), sizes=own)

    def _rows_of_inputs(self) -> Sequence[int] | None:
        """Return the number of rows of each input; None if it is not known which are whose."""
        if self.sizes is not None or self.inputs is None:
            return self.sizes
        return [self.rows // self.inputs] * self.inputs

    def _spaced(self, sizes: Sequence[int] | None, numbers: NDArray[np.int64]) -> "RowsByInput":
        """Return the rows with these numbers."""
        moved = self.view.movedim(self.axis, -1)
        places = np.unravel_index(numbers, moved.shape[:-1])
        rows = moved[tuple(torch.from_numpy(place).to(moved.device) for place in places)]
        if sizes is None:
            return RowsByInput(rows, 1, None, cause=self.cause)
        of_input = np.searchsorted(np.cumsum(sizes), numbers, side="right")
        kept = tuple(np.bincount(of_input, minlength=len(sizes)).tolist())
        return RowsByInput(rows, 1, len(sizes), sizes=kept)


@lru_cache(maxsize=1024)  # most passes have the shapes of the one before
def _in_equal_parts(
    shape: tuple[int, ...], axis: int, inputs: int
) -> tuple[Batches, tuple[int, ...]]:
    """Return whose the rows are, in equal parts, and the sizes of one input without neurons."""
    rows = math.prod(n for i, n in enumerate(shape) if i != axis)
    has_inputs = axis != 0 and shape[0] == inputs
    sizes = tuple(n for i, n in enumerate(shape) if i != axis and not (has_inputs and i == 0))
    return divided(rows, inputs), sizes


def rows_by_input(
    tensor: torch.Tensor,
    axis: int,
    found: FoundAxis,
    inputs: int | None,
    sequences: PackedSequence | None = None,
) -> RowsByInput:
    """Sort the rows of a tensor by input.

    ``inputs``: the number of the model's inputs in this pass, where it is known. ``sequences``:
    those whose data the tensor is. Where a pass was followed, only what was followed counts: rows
    that merely divide by the number of inputs tell nothing. Elsewhere, inputs lie along the batch
    axis of the model, or along axis 0.
    """
    if tensor.ndim == 1:
        tensor, axis = tensor[None], 1
        if found.followed and inputs not in (None, 1):
            return RowsByInput(tensor, axis, None, cause=found.inputs_lost)
        return RowsByInput(tensor, axis, 1)
    if not -tensor.ndim <= axis < tensor.ndim:
        return RowsByInput(tensor, axis, 1)  # packing says what is wrong
    axis %= tensor.ndim
    if sequences is not None and axis and _are_of_inputs(sequences, found, inputs):
        return _by_sequence(tensor, axis, sequences)
    parts = _parts(found.factors, tensor.shape, axis, inputs)
    if parts is not None and not (found.batch_second and tensor.ndim == 3 and parts.batch == 0):
        return parts.sorted(tensor)
    if found.batch_second and tensor.ndim == 3 and (parts is not None or not found.followed):
        return RowsByInput(tensor.transpose(0, 1), axis, tensor.shape[1])
    if inputs == 1 or (found.factors and [f.kind for f in found.factors[axis]] == [BATCH]):
        return _of_one_input(tensor, axis, found)  # such as an image without a batch axis
    if found.followed:
        return RowsByInput(tensor, axis, None, cause=found.inputs_lost)
    batch = found.likely_batch(tensor.shape, axis, inputs)
    if axis and inputs not in (None, tensor.shape[batch]):
        return RowsByInput(tensor, axis, None, cause="this pass was not followed")
    if batch:
        moved = axis + 1 if axis < batch else axis
        return RowsByInput(tensor.movedim(batch, 0), moved, tensor.shape[batch])
    return RowsByInput(tensor, axis, tensor.shape[0] if axis else 1)


def _are_of_inputs(sequences: PackedSequence, found: FoundAxis, inputs: int | None) -> bool:
    """Return whether packed sequences are the model's inputs, in an order that they tell."""
    first = found.factors[0] if found.factors else ()
    if len(first) != 1 or first[0].kind != SEQUENCES or sequences.batch_sizes[0] != inputs:
        return False
    return bool(first[0].stride) == (sequences.sorted_indices is not None)


def _by_sequence(tensor: torch.Tensor, axis: int, sequences: PackedSequence) -> RowsByInput:
    """Sort rows that are given time step by time step, the longest sequence first."""
    sizes = sequences.batch_sizes.numpy()
    numbers = np.concatenate([np.arange(size) for size in sizes])
    if sequences.sorted_indices is not None:
        numbers = sequences.sorted_indices.cpu().numpy()[numbers]
    order = torch.from_numpy(np.argsort(numbers, kind="stable")).to(tensor.device)
    counts = np.bincount(numbers, minlength=sizes[0])
    view = tensor.index_select(0, order)
    return RowsByInput(view, axis, len(counts), sizes=tuple(counts.tolist()))


def _of_one_input(tensor: torch.Tensor, axis: int, found: FoundAxis) -> RowsByInput:
    """All rows belong to the only input."""
    places = [
        i
        for i, factors in enumerate(found.factors or ())
        if i != axis and [factor.kind for factor in factors] == [POSITION]
    ]
    return RowsByInput(tensor, axis, 1, places[0] if len(places) == 1 else None)


@dataclass(frozen=True, slots=True)
class _Parts:
    """A tensor's axes, split so that inputs and positions have axes of their own."""

    shape: tuple[int, ...]
    axis: int
    batch: int
    position: int | None

    def sorted(self, tensor: torch.Tensor) -> RowsByInput:
        view = tensor.view(self.shape) if len(self.shape) > tensor.ndim else tensor
        if not self.batch:
            return RowsByInput(view, self.axis, self.shape[0], self.position)
        return RowsByInput(
            view.movedim(self.batch, 0),
            self._moved(self.axis),
            self.shape[self.batch],
            None if self.position is None else self._moved(self.position),
        )

    def _moved(self, axis: int) -> int:
        return axis + 1 if axis < self.batch else axis


@lru_cache(maxsize=1024)
def _parts(
    factors: Axes | None, shape: tuple[int, ...], neurons: int, inputs: int | None
) -> _Parts | None:
    """Split the axes; None if it is not known which one counts the inputs."""
    if factors is None or inputs is None or len(factors) != len(shape):
        return None
    sizes: list[int] = []
    kinds: list[str] = []
    axis = 0
    for i, (of_axis, size) in enumerate(zip(factors, shape, strict=True)):
        if i == neurons:
            axis = len(sizes)
            split = [(OTHER, size)]
        else:
            split = _split(of_axis, size, inputs)
        kinds += [kind for kind, _ in split]
        sizes += [part for _, part in split]
    batches = [i for i, kind in enumerate(kinds) if kind == BATCH and sizes[i] == inputs]
    positions = [i for i, kind in enumerate(kinds) if kind == POSITION]
    if len(batches) != 1 or kinds.count(BATCH) != 1:
        return None
    return _Parts(tuple(sizes), axis, batches[0], positions[0] if len(positions) == 1 else None)


def _split(axis: Axis, size: int, inputs: int) -> list[tuple[str, int]]:
    """Return the parts of an axis in this pass, whose batch may have another size."""
    axis = _with_others_merged(axis)
    kinds = [factor.kind for factor in axis]
    if len(axis) == 1:
        return [(kinds[0], size)]
    if BATCH not in kinds and POSITION not in kinds:
        return [(OTHER, size)]
    sizes = [inputs if factor.kind == BATCH else factor.size for factor in axis]
    others = [k for k, kind in enumerate(kinds) if kind != BATCH]
    if len(others) == 1 and size % max(inputs, 1) == 0:
        sizes[others[0]] = size // max(inputs, 1)
    fits = math.prod(sizes) == size
    return list(zip(kinds, sizes, strict=True)) if fits else [(OTHER, size)]


def _with_others_merged(axis: Axis) -> Axis:
    """Return an axis in which factors that count neither inputs nor positions are one, side by
    side: of images of other sizes, their product is known.
    """
    merged: list[Factor] = []
    for factor in axis:
        is_other = factor.kind not in (BATCH, POSITION)
        if is_other and merged and merged[-1].kind == OTHER:
            merged[-1] = Factor(OTHER, merged[-1].size * factor.size)
        else:
            merged.append(Factor(OTHER, factor.size) if is_other else factor)
    return tuple(merged)
