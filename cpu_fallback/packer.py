"""Packer: packs the batches of a layer, for which a kernel is chosen once."""

import numpy as np
from numpy.typing import NDArray

from tensorstate_gpu._arrays.dlpack import Tensor
from tensorstate_gpu._arrays.layout import Layout
from tensorstate_gpu._arrays.thresholds import FiringTest
from tensorstate_gpu._process.num_threads import min_bytes_per_thread

from .pack import Plan, plan_of, scratch_rows
from .team import shared_plan

_FEW_BYTES = 2 * min_bytes_per_thread()  # with less to do, a second thread is of no use


class Packer:
    """Packs tensors of torch with equal layouts and formats; see the Backend protocol."""

    __slots__ = ("_plan", "_shared", "is_small")

    place = None

    def __init__(self, plan: Plan) -> None:
        self._plan, self._shared = plan, shared_plan(plan)
        rows, width = plan.shape
        self.is_small = max(plan.traffic, rows * (64 + width)) < _FEW_BYTES

    def pack(self, address: int, owner: object) -> NDArray[np.uint8]:
        plan = self._plan
        packed, target = scratch_rows(plan.shape)
        if self._shared is not None and self._shared.pack(address, target):
            return packed
        if self.is_small:
            plan.kernel(address, plan.numbers, plan.test, packed, 0, plan.shape[0])
        else:
            plan.pack(address, packed, owner)
        return packed


def packer(states: Tensor, layout: Layout, firing: FiringTest) -> Packer | None:
    """Return what packs tensors like this one; None if there is a threshold for each neuron."""
    one_test = len(firing.low) == 1
    return Packer(plan_of(layout, firing)) if one_test and layout.states else None
