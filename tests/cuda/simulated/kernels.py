"""The kernels of a simulated CuPy: compiled by g++, under the header of tests/cuda/simt."""

import numpy as np

from tensorstate_gpu.cuda import launch
from tests.cuda.simt import machine

from . import memory
from .scheduler import GPU, current, get_current_stream


class CUDADriverError(RuntimeError):
    """As CuPy's."""


class CompileException(Exception):
    """As CuPy's."""


class Loading:
    """Whether there is memory to load kernels, which is in no pool."""

    left = None  # how many more can be loaded; None: all
    only_without_cache = False  # whether the pools have all the rest of the memory


def _cached():
    return sum(pool.cached for pool in memory.Pool.pools)


class RawModule:
    """As cupy.RawModule."""

    def __init__(self, *, code, options):
        header = (launch.KERNELS / "device.h").read_text()
        assert header in code
        defines = tuple(option for option in options if option.startswith("-D"))
        self._library = machine.compiled(code.replace(header, '#include "device.h"\n'), defines)

    def get_function(self, name):
        return RawKernel(getattr(self._library, f"launch_{name}"))


class RawKernel:
    """As cupy.RawKernel: loaded on a device when it is first used there."""

    def __init__(self, function):
        self._function, self._loaded = function, set()
        self.max_dynamic_shared_size_bytes = 48 << 10

    @property
    def kernel(self):
        """Load it, like any look at it."""
        if current.devices[-1] not in self._loaded:
            if Loading.left == 0 or (Loading.only_without_cache and _cached()):
                raise CUDADriverError("CUDA_ERROR_OUT_OF_MEMORY: out of memory")
            if Loading.left is not None:
                Loading.left -= 1
            self._loaded.add(current.devices[-1])
        return self._function

    def __call__(self, grid, block, arguments, *, shared_mem=0):
        assert shared_mem <= self.max_dynamic_shared_size_bytes
        (threads,) = block
        assert all(isinstance(argument, np.generic) for argument in arguments)
        function = self.kernel
        GPU.put(
            get_current_stream().key,
            lambda: machine.launch(function, grid, threads, shared_mem, arguments),
        )
