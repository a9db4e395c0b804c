"""The machine's limit: the fastest of several threaded readers, or writers, of the same bytes."""

import ctypes
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numba import njit

from tensorstate_gpu.cpu_fallback.threads import in_parallel

Call = Callable[[], object]


@njit(nogil=True, cache=True)
def _or_words(words: Any) -> Any:
    total = np.int64(0)
    for word in words:
        total |= word
    return total


@njit(nogil=True, cache=True)
def _set_bytes(target: Any) -> None:
    for i in range(len(target)):
        target[i] = 1


def readers(words: np.ndarray) -> dict[str, Call]:
    """Calls that read int64 words once, on as many threads as our kernels use."""
    tensor = torch.from_numpy(words)

    def numba_or() -> None:
        in_parallel(lambda i, j: _or_words(words[i:j]), len(words), words.nbytes)

    def numpy_max() -> None:
        in_parallel(lambda i, j: words[i:j].max(), len(words), words.nbytes)

    def numpy_sum() -> None:
        in_parallel(lambda i, j: np.add.reduce(words[i:j]), len(words), words.nbytes)

    return {
        "Numba OR": numba_or,
        "NumPy max": numpy_max,
        "NumPy sum": numpy_sum,
        "torch sum": lambda: tensor.sum(),
    }


def writers(count: int) -> dict[str, Call]:
    """Calls that fill a new array of ``count`` bools, as unpacking has to."""

    def numba_fill() -> None:
        target = np.empty(count, np.uint8)
        in_parallel(lambda i, j: _set_bytes(target[i:j]), count, count)

    def numpy_fill() -> None:
        target = np.empty(count, np.uint8)
        in_parallel(lambda i, j: target[i:j].fill(1), count, count)

    def memset() -> None:
        target = np.empty(count, np.uint8)
        base = target.ctypes.data
        in_parallel(lambda i, j: ctypes.memset(base + i, 1, j - i), count, count)

    return {"Numba fill": numba_fill, "NumPy fill": numpy_fill, "memset": memset}
