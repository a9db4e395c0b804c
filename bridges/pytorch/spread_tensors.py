"""PyTorch: tensors that are spread over ranks: DTensor, and the outputs of layers in parallel."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from tensorstate_gpu._arrays.frameworks import loaded_module, ranks_of
from tensorstate_gpu._capturing.spread import Spread, Step
from tensorstate_gpu.errors import NotCapturable

from .definitions import neurons as defined_neurons


@dataclass(frozen=True, slots=True)
class Layout:
    """How a tensor is spread over a mesh of ranks: a placement of torch for each of its axes.

    ``shape``: that of the whole tensor.
    """

    mesh: Any
    placements: tuple[Any, ...]
    shape: tuple[int, ...]

    def spread(self, axis: int, name: str) -> Spread:
        """Return how states with their neurons along an axis are spread.

        Raises NotCapturable, which names the layer, for placements from which no rank has states.
        """
        steps = [
            Step(kind, ranks_of(self.mesh.get_group(dim)))
            for dim in reversed(range(self.mesh.ndim))
            if self.mesh.size(dim) > 1 and (kind := self._kind(dim, axis, name))
        ]
        return Spread(tuple(steps), self.shape[axis])

    def is_like(self, other: "Layout | None") -> bool:
        """Return whether another tensor is spread in the same way."""
        if other is None:
            return False
        return self.mesh == other.mesh and self.placements == other.placements

    def cuts(self, dim: int, axis: int) -> bool:
        """Return whether an axis of the mesh cuts an axis of the tensor."""
        placement, ndim = self.placements[dim], len(self.shape)
        return bool(placement.is_shard() and placement.dim % ndim == axis % ndim)

    def _kind(self, dim: int, axis: int, name: str) -> Any:
        from torch.distributed.tensor import Shard

        placement = self.placements[dim]
        if placement.is_partial():
            raise NotCapturable(
                f"{name}: its tensor is the partial sum of a rank ({placement}), which does not "
                "fire yet: capture the layer whose output is reduced, or exclude= it"
            )
        if placement.is_replicate():
            return "copies"
        if type(placement) is not Shard:
            raise NotCapturable(
                f"{name}: states that are placed as {placement} cannot be joined: exclude= it"
            )
        return "neurons" if self.cuts(dim, axis) else None


def layout_given(
    mesh: object, placements: Sequence[object], ndim: int, axis: int, own: int
) -> Layout:
    """Return how a plain tensor is spread, as the user says.

    ``own``: the neurons that this rank has, along an axis of ``ndim``. As DTensor.from_local(), it
    takes all parts to be of equal size. Raises TypeError or ValueError for anything that is no mesh
    and its placements.
    """
    from torch.distributed.device_mesh import DeviceMesh
    from torch.distributed.tensor import Placement

    if not isinstance(mesh, DeviceMesh) or not all(isinstance(p, Placement) for p in placements):
        raise TypeError(
            "layouts= must have a DeviceMesh and placements, such as (mesh, [Shard(-1)])"
        )
    if len(placements) != mesh.ndim:
        raise ValueError(
            f"layouts= must have a placement for each axis of the mesh, got {len(placements)} for "
            f"{mesh.ndim}"
        )
    known = Layout(mesh, tuple(placements), (1,) * ndim)
    parts = [mesh.size(dim) for dim in range(mesh.ndim) if known.cuts(dim, axis)]
    shape = [1] * ndim
    shape[axis] = own * math.prod(parts)
    return Layout(mesh, tuple(placements), tuple(shape))


def local_part(tensor: torch.Tensor) -> tuple[torch.Tensor, Layout | None]:
    """Return the part of a tensor that this rank has, and how the whole is spread over ranks.

    Waits for a part that is still on its way. Nothing is communicated. A plain tensor is returned
    as it is.
    """
    if type(tensor) is torch.Tensor:
        return tensor, None
    layout = None
    if is_spread(tensor):
        whole: Any = tensor
        layout = Layout(whole.device_mesh, tuple(whole.placements), tuple(whole.shape))
        tensor = whole.to_local()
    if type(tensor).__name__ == "AsyncCollectiveTensor":
        arriving: Any = tensor
        tensor = arriving.wait()
    return tensor, layout


def part_in_graph(tensor: torch.Tensor) -> torch.Tensor:
    """Return the part of a tensor that this rank has, while torch.compile makes a graph.

    Operators are not told how a DTensor is spread. Raises NotCapturable for partial sums.
    """
    if type(tensor).__name__ != "DTensor":  # what torch.compile can find out
        return tensor
    whole: Any = tensor
    if any(placement.is_partial() for placement in whole.placements):
        raise NotCapturable("partial sums of ranks do not fire yet: exclude= the layer")
    part: torch.Tensor = whole.to_local()
    return part


def is_spread(tensor: object) -> bool:
    """Return whether a tensor is a DTensor, without importing what defines it."""
    module = loaded_module("torch.distributed.tensor")
    return module is not None and isinstance(tensor, module.DTensor)


def layout_by_weight(
    module: nn.Module, place: str, shape: Sequence[int], axis: int, name: str
) -> Layout | None:
    """Return how the plain output of a layer is spread whose weight is: as ColwiseParallel does.

    None if all of its neurons are here, as far as its definition tells. ``place``: "pre" for its
    input. Raises NotCapturable if a part of them is, and its weight does not tell which.
    """
    weight: Any = getattr(module, "weight", None)
    whole, own = defined_neurons(module, place), shape[axis]
    if not is_spread(weight) or whole in (None, own):
        return None
    of_weight = _axis_of_weight(module, place)
    mesh, placements = weight.device_mesh, weight.placements
    here = weight.to_local().shape[of_weight]
    if here != own and _is_cut_twice(weight) and mesh.mesh_dim_names is not None:
        # FSDP, along the first axis, had put its parts together while the layer computed.
        mesh, placements = mesh[mesh.mesh_dim_names[1:]], placements[1:]
        here = _own_part(mesh, placements, of_weight, whole)
    cut = [p.is_shard(of_weight) for p in placements]
    if here != own or not any(cut):
        raise NotCapturable(
            f"{name}: this rank has {own} of {whole} neurons, and it is not known of which: return "
            "a DTensor from the layer (use_local_output=False), or exclude= it"
        )
    from torch.distributed.tensor import Replicate, Shard

    sizes = [*shape[:axis], whole, *shape[axis + 1 :]]
    placements = tuple(Shard(axis) if is_cut else Replicate() for is_cut in cut)
    return Layout(mesh, placements, tuple(sizes))


def _own_part(mesh: Any, placements: Sequence[Any], axis: int, size: int) -> int:
    """Return how much of an axis this rank has, as torch cuts tensors: in parts of equal size."""
    for dim, placement in enumerate(placements):
        if placement.is_shard(axis):
            part = -(-size // mesh.size(dim))
            size = max(0, min(part, size - part * mesh.get_local_rank(dim)))
    return size


def _axis_of_weight(module: nn.Module, place: str) -> int:
    """Return the axis of a weight that has an entry for each neuron."""
    is_embedding = isinstance(module, (nn.Embedding, nn.EmbeddingBag))
    return int((place == "pre") != is_embedding)


def has_spread_weights(model: nn.Module) -> bool:
    """Return whether layers of a model compute with parts of their weights: tensor parallelism.

    FSDP spreads weights, too, but puts them together before a layer computes. Together with tensor
    parallelism, its weights are on a mesh of several axes, and cut along the first.
    """
    if loaded_module("torch.distributed.tensor") is None:
        return False
    sharded: Any = getattr(loaded_module("torch.distributed.fsdp"), "FSDPModule", ())
    put_together = {
        inner
        for outer in model.modules()
        if isinstance(outer, sharded)
        for inner in outer.modules()
    }
    return any(
        is_spread(weight) and (module not in put_together or _is_cut_twice(weight))
        for module in model.modules()
        for weight in module.parameters(recurse=False)
    )


def _is_cut_twice(weight: Any) -> bool:
    return weight.device_mesh.ndim > 1 and not weight.placements[0].is_replicate()
