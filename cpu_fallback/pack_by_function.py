"""Packing by a function that the user wrote: for any strides, compiled for each function."""

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from tensorstate_gpu._arrays.dlpack import Tensor
from tensorstate_gpu._arrays.elements import ElementType
from tensorstate_gpu._arrays.firing_function import (
    FiringFunction,
    Values,
    byte_packer,
    native_dtype,
    values,
)
from tensorstate_gpu._arrays.layout import Layout

from .threads import in_parallel

Kernel = Callable[[NDArray[Any], Values, NDArray[np.uint8], int, int], None]


def compress_by_function(
    states: Tensor, layout: Layout, function: FiringFunction
) -> NDArray[np.uint8]:
    """Pack into uint8 of shape (states, row bytes); see the Backend protocol."""
    packed = np.empty((layout.states, layout.row_bytes), np.uint8)
    if packed.size:
        kernel, element = _kernel(states.element, function), states.element
        for numbers, rows in layout.blocks(states, packed):
            native = numbers.numpy().view(native_dtype(element))
            _pack(kernel, native, values(element), rows)
    return packed


def _pack(kernel: Kernel, numbers: NDArray[Any], values: Values, rows: NDArray[np.uint8]) -> None:
    def task(start: int, stop: int) -> None:
        kernel(numbers, values, rows, start, stop)

    # A user's function takes about as long as reading 64 bytes.
    in_parallel(task, len(rows), 64 * numbers.size)


@lru_cache(maxsize=64)
def _kernel(element: ElementType, function: FiringFunction) -> Kernel:
    """Compile the kernel that packs numbers of a format by a function."""
    compiled = numba.njit(nogil=True, error_model="numpy")
    pack_byte = byte_packer(element, function, compiled)

    @compiled
    def pack(
        numbers: NDArray[Any], values: Values, packed: NDArray[np.uint8], start: int, stop: int
    ) -> None:
        run = numbers.shape[1]
        for state in range(start, stop):
            for byte in range(packed.shape[1]):
                packed[state, byte] = pack_byte(
                    numbers, values, state // run, state % run, 8 * byte
                )

    return pack
