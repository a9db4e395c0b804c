"""Host memory for what comes from the device: pinned, or with pages that threads have touched."""

import math
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import repeat
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from tensorstate_gpu._arrays.cupy_library import library
from tensorstate_gpu._process.interrupts import deferred_interrupts
from tensorstate_gpu._process.num_threads import get_num_threads

_PAGE = 4096  # bytes; touching larger pages more than once costs little
_BYTES_OF_A_THREAD = 1 << 22
LARGE = 2 * _BYTES_OF_A_THREAD


def pinned(shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
    """Allocate pinned host memory. Raises MemoryError if there is none left."""
    cupy, size = library(), math.prod(shape)
    try:
        memory = cupy.cuda.alloc_pinned_memory(size * np.dtype(dtype).itemsize)
    except cupy.cuda.runtime.CUDARuntimeError as error:
        raise MemoryError(f"no pinned memory for {dtype} of shape {shape}: {error}") from error
    return np.frombuffer(memory, dtype, size).reshape(shape)


def touched(shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
    """Allocate a large array, of which several threads have written to all pages.

    The system makes a page at its first write, which is slower than the copy: 160 MB took 46 ms
    from an H200 to new memory, and 16 ms to memory that 16 threads had touched in 4 ms.
    """
    array = np.empty(shape, dtype)
    threads = min(get_num_threads(), max(1, array.nbytes // _BYTES_OF_A_THREAD))
    parts = np.array_split(array.reshape(-1).view(np.uint8)[::_PAGE], threads)
    # Without threads, as at the end of Python, memory is as good, but slower. Ctrl-C comes later: a
    # thread that starts then would never end.
    with deferred_interrupts(), suppress(RuntimeError), ThreadPoolExecutor(threads) as pool:
        list(pool.map(np.ndarray.fill, parts, repeat(0)))
    return array
