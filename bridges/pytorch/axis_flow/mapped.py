"""Which tensors torch.vmap has computed from neurons.

A function mode sees the calls within it, whose tensors lack the mapped axis, and not the end of it,
which puts that axis in some place. So nothing is known of the axes of its results.
"""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef

VMAP = "vmap"  # noted in place of a function


class MappedMemory:
    """The memory of what torch.vmap has computed from neurons.

    What holds it is remembered, not its address, where other tensors may come to be later.
    """

    def __init__(self) -> None:
        self._holders: set[StorageWeakRef] = set()

    def __contains__(self, tensor: Any) -> bool:
        return bool(self._holders) and not self._holders.isdisjoint(_holders_of(tensor))

    def follow(
        self, read: Iterable[Tensor], written: Iterable[Any], has_neurons: Callable[[Tensor], bool]
    ) -> None:
        """Note what a call within vmap has written, if it was given neurons or weights."""
        mapped = [each for each in written if isinstance(each, Tensor) and _is_wrapped(each)]
        wholes = map(whole_of, read) if mapped else ()
        if any(each in self or has_neurons(each) for each in wholes):
            self._holders.update(*map(_holders_of, mapped))


def _holders_of(tensor: Tensor) -> list[StorageWeakRef]:
    """Return what holds the memory of a tensor, if anything does."""
    try:
        return [StorageWeakRef(whole_of(tensor).untyped_storage())]  # type: ignore[no-untyped-call]
    except (NotImplementedError, RuntimeError):  # sparse tensors
        return []


def _is_wrapped(tensor: Tensor) -> bool:
    return torch._C._functorch.is_batchedtensor(tensor)


def whole_of(tensor: Tensor) -> Tensor:
    """Return the tensor that holds what a tensor within vmap stands for, of all that is mapped."""
    while torch._C._functorch.is_functorch_wrapped_tensor(tensor):
        tensor = torch._C._functorch.get_unwrapped(tensor)
    return tensor


def memory_of(tensor: Tensor) -> int:
    """Return the address of a tensor's memory, which its views share."""
    try:
        storage = tensor.untyped_storage()
        return storage.data_ptr() or storage._cdata  # what stands for tensors has no data
    except (NotImplementedError, RuntimeError):  # sparse tensors, tensors of functorch
        return id(tensor)
