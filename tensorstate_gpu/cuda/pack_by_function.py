"""Packing by a function that the user wrote, compiled by Numba-CUDA: for any strides."""

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

try:
    import numba_cuda  # noqa: F401 replaces the numba.cuda that is part of Numba
    from numba import cuda
except ImportError as error:
    raise ImportError(
        "firing= on a GPU needs numba-cuda: pip install 'numba-cuda[cu13]' (or cu12)"
    ) from error

from tensorstate_gpu._arrays.cupy_types import DeviceArray
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

from . import device, numba_device
from .launch import blocks_for


def compress_by_function(states: Tensor, layout: Layout, function: FiringFunction) -> DeviceArray:
    """Pack into uint8 of shape (states, row bytes); see the Backend protocol."""
    packed = device.empty((layout.states, layout.row_bytes), np.uint8)
    if packed.size:
        kernel, element = _kernel(states.element, function), states.element
        table = device.library().asarray(values(element))
        for numbers, rows in layout.blocks(states, packed):
            native = device.view(numbers).view(native_dtype(element))
            numba_device.run(kernel, blocks_for(rows.size), native, table, rows)
    return packed


@lru_cache(maxsize=64)
def _kernel(element: ElementType, function: FiringFunction) -> "cuda.Kernel":
    """Compile the kernel that packs numbers of a format by a function."""
    pack_byte = byte_packer(element, function, cuda.jit(device=True))

    @numba_device.kernel
    def pack(numbers: NDArray[Any], values: Values, packed: NDArray[np.uint8]) -> None:
        thread = cuda.grid(1)
        row_bytes, run = packed.shape[1], numbers.shape[1]
        state, byte = thread // row_bytes, thread % row_bytes
        if state < packed.shape[0]:
            packed[state, byte] = pack_byte(numbers, values, state // run, state % run, 8 * byte)

    return pack
