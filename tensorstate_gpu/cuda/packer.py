"""Packer: packs the batches of a layer, for which a kernel is chosen once."""

from functools import partial

import numpy as np

from tensorstate_gpu._arrays.cupy_types import DeviceArray
from tensorstate_gpu._arrays.dlpack import Tensor
from tensorstate_gpu._arrays.layout import Layout
from tensorstate_gpu._arrays.thresholds import FiringTest

from . import device
from .launch import Launch
from .pack import LARGEST_READ, launch_of_one_test


class Packer:
    """Packs tensors of torch with equal layouts and formats; see the Backend protocol.

    It has no stream, no memory and no loaded kernel: those are of the moment.
    """

    __slots__ = ("_launches", "_shape", "_states", "place")

    is_small = False

    def __init__(self, states: Tensor, layout: Layout, firing: FiringTest) -> None:
        self.place = partial(device.place_of_torch, states.device[1])
        self._shape = layout.states, layout.row_bytes
        self._states = states.element, layout, firing
        self._launches: dict[int, Launch] = {}  # by how far addresses are from an aligned one

    def pack(self, address: int, owner: object) -> DeviceArray:
        device.check_not_recorded()
        packed = device.library().empty(self._shape, np.uint8)
        offset = address % LARGEST_READ
        launch = self._launches.get(offset)
        if launch is None:
            launch = self._launches[offset] = launch_of_one_test(offset, *self._states)
        device.run(launch, np.uint64(address), np.uint64(packed.data.ptr))
        return packed


def packer(states: Tensor, layout: Layout, firing: FiringTest) -> Packer | None:
    """Return what packs tensors like this one; None if there is a threshold for each neuron."""
    one_test = len(firing.low) == 1
    return Packer(states, layout, firing) if one_test and layout.states else None
