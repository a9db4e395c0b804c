"""PyTorch: BatchPlan, what is done with batches that are like an earlier one."""

from typing import Any

import torch
from torch.nn.utils.rnn import PackedSequence

from tensorstate_gpu._arrays.backend_protocol import Packer
from tensorstate_gpu._arrays.dlpack import plain_torch_tensor, plain_types
from tensorstate_gpu._arrays.thresholds import Threshold
from tensorstate_gpu._states.packing import packer_of

from .found_axis import FoundAxis
from .rows_by_input import RowsByInput

Kind = tuple[object, ...]
_PLAIN = plain_types()
_MOST_KINDS = 16  # of the batches of a layer; when there are more, plans are made anew


def kind_of(tensor: torch.Tensor, sequences: PackedSequence | None) -> Kind | None:
    """Return what decides how a tensor is packed, besides its numbers and where they are.

    None if there is more to it than numbers in memory. ``sequences``: those whose data it is.
    """
    try:
        is_plain = type(tensor) in _PLAIN and tensor.layout is torch.strided and sequences is None
        if not is_plain or tensor.is_quantized or tensor.is_nested or tensor.is_neg():
            return None
        if not tensor.data_ptr() or tensor.data_ptr() % tensor.itemsize:
            return None
        return type(tensor), tensor.shape, tensor.stride(), tensor.dtype, tensor.device
    except RuntimeError:  # inside torch.func: it has no memory of its own
        return None


class BatchPlan:
    """What is done with all batches of a kind, if the rest is the same as well.

    On a GPU, small layers compute faster than the host finds out again what is to be done. On a CPU
    the layers have pushed all code of a hook out of its caches, so that less code takes less time.
    A plan has no tensor, stream or memory.

    ``found``, ``inputs``: the neuron axis, and the number of the model's inputs. ``batches``,
    ``spatial_shape``: see RowsByInput.batches(). ``cause``: why it is not known which rows belong
    to which input.
    """

    __slots__ = ("batches", "cause", "found", "inputs", "neurons", "packer", "spatial_shape")

    def __init__(
        self, packer: Packer, by_input: RowsByInput, found: FoundAxis, inputs: int | None
    ) -> None:
        self.packer, self.found, self.inputs = packer, found, inputs
        self.neurons = by_input.view.shape[by_input.axis]
        self.batches, self.spatial_shape = by_input.batches(inputs)
        self.cause = by_input.cause or None


Planned = tuple[BatchPlan, int]  # and the address of the numbers


class BatchPlans(dict[Kind, BatchPlan]):
    """The plans of a layer, by the kind of batch."""

    def find(self, tensor: Any) -> Planned | None:
        """Return the plan for a tensor, if there is one, and where its numbers are.

        Takes anything. Of the conditions of kind_of(), those are left out that the kind of a tensor
        tells: no other has a plan.
        """
        if type(tensor) not in _PLAIN or tensor.is_neg():
            return None
        try:
            address = tensor.data_ptr()
            kind = type(tensor), tensor.shape, tensor.stride(), tensor.dtype, tensor.device
        except RuntimeError:  # as above; or nested, or sparse
            return None
        # No address: without numbers, or inside torch.func.functionalize().
        plan = self.get(kind) if address and not address % tensor.itemsize else None
        return None if plan is None else (plan, address)

    def add(
        self,
        tensor: torch.Tensor,
        sequences: PackedSequence | None,
        by_input: RowsByInput,
        threshold: Threshold,
        found: FoundAxis,
        inputs: int | None,
    ) -> None:
        """Make a plan from a batch that was captured, if its kind can have one.

        Of sequences, ``by_input`` has a copy; of all others, a view that begins with the tensor.
        """
        if isinstance(threshold, tuple):  # one for each neuron: no packer has those
            return
        kind, states = kind_of(tensor, sequences), plain_torch_tensor(by_input.view)
        if kind is None or states is None or states.address != tensor.data_ptr():
            return
        old = self.get(kind)
        if old is not None and old.found is found and old.inputs == inputs:
            return  # this plan is right; something else kept it from being used, such as a mask
        packer = packer_of(states, int(by_input.axis), threshold)
        if packer is not None:
            if len(self) >= _MOST_KINDS:
                self.clear()
            self[kind] = BatchPlan(packer, by_input, found, inputs)
