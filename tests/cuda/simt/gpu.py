"""The same tests on a GPU: arrays are copied there, with their strides and their alignment."""

import ctypes

import numpy as np

from tensorstate_gpu._arrays.dlpack import CUDA, Tensor
from tensorstate_gpu.cuda import device


class Gpu:
    """A real device. Without one, the first use raises, and the tests fail."""

    def install(self, monkeypatch):
        self._cupy = device.library()

    def to_device(self, array):
        return self._cupy.asarray(array)

    def to_host(self, array):
        return self._cupy.asnumpy(array)

    def device_tensor(self, bits, element):
        """Return the tensor that borrow() would return."""
        low, high = np.lib.array_utils.byte_bounds(bits)
        skew = low % 16
        memory = np.frombuffer(b"\xa5" * skew + ctypes.string_at(low, high - low), np.uint8)
        there = self._cupy.asarray(memory)
        address = there.data.ptr + skew + bits.ctypes.data - low
        return Tensor((there,), address, bits.shape, bits.strides, element, (CUDA, 0))
