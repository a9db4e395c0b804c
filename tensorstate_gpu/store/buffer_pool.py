"""Memory of whole chunks that is used again: pages that were touched once cost nothing."""

import collections
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tensorstate_gpu.store.background_writer import WAITING_BYTES


class BufferPool:
    """For all arrays of a store together; keeps as much as may wait to be written."""

    def __init__(self, chunk_bytes: int) -> None:
        self._chunk_bytes = chunk_bytes
        self._free: collections.deque[NDArray[np.uint8]] = collections.deque(
            maxlen=WAITING_BYTES // chunk_bytes
        )

    def array(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
        """An array with any values; ``dtype``: not of strings."""
        size = dtype.itemsize * int(np.prod(shape))
        memory = self._free.pop() if self._free else np.empty(self._chunk_bytes, np.uint8)
        if len(memory) < size:  # one row is longer than a chunk
            memory = np.empty(size, np.uint8)
        return memory[:size].view(dtype).reshape(shape)

    def give_back(self, values: NDArray[Any]) -> None:
        """Take the memory of an array that nobody uses, if it is of numbers and long enough."""
        memory = values.base
        if not isinstance(memory, np.ndarray) or memory.dtype.kind not in "iu":
            return
        if memory.nbytes >= self._chunk_bytes:
            self._free.append(memory.reshape(-1).view(np.uint8))
