"""SmallBatches: packed rows that are counted together: kernels/small_batches.cu."""

import numpy as np

from tensorstate_gpu._arrays.cupy_library import is_ours_alone
from tensorstate_gpu._arrays.cupy_types import DeviceArray

from . import device
from .launch import BYTES_AT_ONCE, blocks_for, cached_launch

_JOINED = 8  # batches, by one launch
MOST_BATCHES = _JOINED  # that wait
_MOST_BYTES = 1 << 18  # of a batch; larger ones keep the device busy


class SmallBatches:
    """Batches of packed rows (states, bytes) that wait on the device, all of the same width.

    To launch the counting of one takes the host longer than the device to count it. The memory of
    the rows belongs to one stream, on which all of this happens.
    """

    def __init__(self) -> None:
        self.waiting: list[DeviceArray] = []

    def add(self, rows: DeviceArray) -> bool:
        """Let rows wait if they are few, and nobody writes to them or takes back their memory.

        Returns whether they do.
        """
        is_small = 0 < rows.size <= _MOST_BYTES and rows.flags.c_contiguous
        if is_small and is_ours_alone(rows):
            self.waiting.append(rows)
            return True
        return False

    def joined(self) -> DeviceArray:
        """Return the rows of all batches, of which there must be one. Raises MemoryError."""
        first = self.waiting[0]
        if len(self.waiting) == 1:
            return first
        rows = device.empty((sum(map(len, self.waiting)), first.shape[1]), np.uint8)
        sizes = [batch.size for batch in self.waiting]
        addresses = [batch.data.ptr for batch in self.waiting]
        missing = [0] * (_JOINED - len(sizes))
        arguments: list[np.generic] = [np.uint64(rows.data.ptr)]
        arguments += map(np.uint64, addresses + missing)
        arguments += map(np.uint32, sizes + missing)
        grid = blocks_for(-(-max(sizes) // BYTES_AT_ONCE)), len(sizes)
        device.run(cached_launch("small_batches", "join_batches", (), grid, ()), *arguments)
        return rows
