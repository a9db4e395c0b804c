"""StandIns: tensors without data, in place of those that the nodes of a graph stand for."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.fx import Node
from torch.utils._pytree import tree_map


class StandIns:
    """Tensors without data, one for each that a graph computes, with plain sizes.

    They share memory where the tensors do, which tells what else a write to one of them changes.
    """

    def __init__(self) -> None:
        self._tensors: dict[int, tuple[Tensor, Tensor]] = {}  # by the id of what they stand for
        self._memories: dict[int, torch.UntypedStorage] = {}  # by that of the tensors

    def of(self, argument: Any) -> Any:
        """Return what stands for an argument of a node: for a node, tensors with plain shapes."""
        if isinstance(argument, Node):
            return tree_map(self._stand_in, argument.meta.get("example_value"))
        return argument

    def note_same(self, value: Any, output: Any) -> None:
        """Note that a value is one of the outputs of a function: a copy of it, of operators such as
        flex_attention.
        """
        if isinstance(value, Tensor) and id(value) not in self._tensors:
            self._tensors[id(value)] = (value, output)

    def _stand_in(self, value: Any) -> Any:
        if isinstance(value, torch.SymInt):
            return value.node.hint
        if not isinstance(value, Tensor):
            return value
        if value.is_nested:  # whose sizes are no numbers: nothing is known of it
            return None
        if id(value) not in self._tensors:
            self._tensors[id(value)] = (value, _with_plain_shape(value, self._memory_for(value)))
        return self._tensors[id(value)][1]

    def _memory_for(self, value: Tensor) -> torch.UntypedStorage | None:
        """Return the memory of what stands for a tensor, which that of its views shares."""
        try:
            key = value.untyped_storage()._cdata
        except (NotImplementedError, RuntimeError):  # of sparse tensors, for example
            return None
        return self._memories.setdefault(key, torch.empty(0, device="meta").untyped_storage())


def _with_plain_shape(tensor: Tensor, memory: torch.UntypedStorage | None) -> Tensor:
    """Return a tensor without data whose sizes are no symbols: comparing these would be a guard."""
    sizes, strides = (
        [size.node.hint if isinstance(size, torch.SymInt) else size for size in each]
        for each in (tensor.shape, tensor.stride())
    )
    plain = torch.empty_strided(sizes, strides, dtype=tensor.dtype, device="meta")
    if memory is not None:
        plain.set_(memory, 0, sizes, strides)
    return nn.Parameter(plain, requires_grad=False) if isinstance(tensor, nn.Parameter) else plain
