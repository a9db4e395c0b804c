"""BufferPool: reuses the memory of full chunks, which avoids page faults."""

import collections
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tensorstate_gpu.store.background_writer import MAX_QUEUED_BYTES


class BufferPool:
    """Reusable buffers for all arrays of a store; holds at most MAX_QUEUED_BYTES."""

    def __init__(self, chunk_bytes: int) -> None:
        self._chunk_bytes = chunk_bytes
        self._free: collections.deque[NDArray[np.uint8]] = collections.deque(
            maxlen=MAX_QUEUED_BYTES // chunk_bytes
        )

    def allocate(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
        """Return an uninitialised array of a numeric dtype."""
        size = dtype.itemsize * int(np.prod(shape))
        memory = self._free.pop() if self._free else np.empty(self._chunk_bytes, np.uint8)
        if len(memory) < size:  # a single row that is larger than a chunk
            memory = np.empty(size, np.uint8)
        return memory[:size].view(dtype).reshape(shape)

    def release(self, values: NDArray[Any]) -> None:
        """Take back the memory of an unused array, if it is numeric and large enough."""
        memory = values.base
        if not isinstance(memory, np.ndarray) or memory.dtype.kind not in "iu":
            return
        if memory.nbytes >= self._chunk_bytes:
            self._free.append(memory.reshape(-1).view(np.uint8))
