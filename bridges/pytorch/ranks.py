"""PyTorch: TorchRanks, the processes of a process group of torch.distributed."""

from __future__ import annotations  # a torch without distributed has no ProcessGroup

from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np

try:
    import torch
except ImportError as error:
    raise ImportError("merging ranks needs torch: pip install torch") from error
import torch.distributed as dist
from numpy.typing import NDArray

from tensorstate_gpu._arrays.frameworks import NO_RANKS
from tensorstate_gpu._arrays.ranks_protocol import FormerRanks
from tensorstate_gpu._states.rank_exchange import in_step

ValueT = TypeVar("ValueT")
ElementT = TypeVar("ElementT", bound=np.generic)


class TorchRanks:
    """The processes of a process group; see the protocol Ranks.

    ``device``: where the group's backend expects tensors; nccl has none on the host.
    """

    def __init__(self, group: dist.ProcessGroup, device: torch.device) -> None:
        self._group, self._device = group, device
        self.rank, self.size = dist.get_rank(group), dist.get_world_size(group)
        self.places = dist.get_process_group_ranks(group)

    def of_all(self, value: ValueT) -> list[ValueT]:
        values: list[ValueT] = [value] * self.size
        dist.all_gather_object(values, value, group=self._group)
        return values

    def gathered(self, value: ValueT, dst: int) -> list[ValueT] | None:
        values = [value] * self.size if dst == self.rank else None
        dist.gather_object(value, values, dst=self.places[dst], group=self._group)
        return values

    def summed(self, array: NDArray[np.int64]) -> NDArray[np.int64]:
        total = in_step(self, lambda: torch.tensor(array, device=self._device))
        dist.all_reduce(total, group=self._group)
        return in_step(self, lambda: _on_host(total))

    def exchanged(self, array: NDArray[ElementT], sizes: Sequence[int]) -> list[NDArray[ElementT]]:
        incoming = self._sizes_for_this_rank(sizes)

        def room() -> tuple[torch.Tensor, torch.Tensor]:
            sent = torch.from_numpy(array).to(self._device)
            return sent, sent.new_empty((sum(incoming), *sent.shape[1:]))

        sent, received = in_step(self, room)
        dist.all_to_all_single(received, sent, incoming, list(sizes), group=self._group)
        whole: NDArray[ElementT] = in_step(self, lambda: _on_host(received))
        return np.split(whole, np.cumsum(incoming)[:-1])

    def _sizes_for_this_rank(self, sizes: Sequence[int]) -> list[int]:
        sent = torch.tensor(sizes, dtype=torch.int64, device=self._device)
        received = torch.empty_like(sent)
        dist.all_to_all_single(received, sent, group=self._group)
        incoming: list[int] = received.tolist()
        return incoming

    def __reduce__(self) -> tuple[type[FormerRanks], tuple[int, int, list[int]]]:
        return FormerRanks, (self.rank, self.size, self.places)


def _on_host(tensor: torch.Tensor) -> NDArray[Any]:
    array: NDArray[Any] = tensor.cpu().numpy()
    return array


def ranks_of(process_group: object) -> TorchRanks:
    """Return the ranks of a process group; None stands for the default one.

    Raises RuntimeError if there is none, TypeError for anything else, and ValueError if this
    process does not belong to it.
    """
    if not (dist.is_available() and dist.is_initialized()):
        raise RuntimeError(NO_RANKS)
    group = dist.group.WORLD if process_group is None else process_group
    if group is dist.GroupMember.NON_GROUP_MEMBER:
        raise ValueError("this process does not belong to process_group: only its ranks may merge")
    if not isinstance(group, dist.ProcessGroup):
        raise TypeError(
            "process_group must be a group of torch.distributed, such as new_group() or "
            f"mesh.get_group() return, got {type(group).__name__}"
        )
    return TorchRanks(group, _device_of(group))


def _device_of(group: dist.ProcessGroup) -> torch.device:
    """Return where a group communicates: on the host if it can, or else on this rank's device."""
    kinds = [entry.partition(":")[0] for entry in dist.get_backend_config(group).split(",")]
    if "cpu" in kinds:
        return torch.device("cpu")
    return torch.device(kinds[0], torch.get_device_module(kinds[0]).current_device())
