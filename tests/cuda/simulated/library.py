"""The modules ``cupy`` and ``cupy.cuda`` of the simulated CUDA."""

import sys
import types
from importlib.util import find_spec

from tensorstate_gpu._arrays import cupy_library
from tensorstate_gpu.cuda import device

from . import arrays, kernels, memory, scheduler

DEVICES = 2


def _module():
    cupy, cuda = types.ModuleType("cupy"), types.ModuleType("cupy.cuda")
    for name in ("ndarray", "empty", "zeros", "full", "asarray", "asnumpy", "ascontiguousarray"):
        setattr(cupy, name, getattr(arrays, name))
    for name in ("concatenate", "sort", "argsort", "cumsum", "diff", "flatnonzero", "from_dlpack"):
        setattr(cupy, name, getattr(arrays, name))
    cupy.RawModule = kernels.RawModule
    cupy.get_default_memory_pool = lambda: memory.CUPY
    for name in ("Device", "Event", "Stream", "get_current_stream"):
        setattr(cuda, name, getattr(scheduler, name))
    for name in (
        "UnownedMemory",
        "MemoryPointer",
        "PythonFunctionAllocator",
        "get_allocator",
        "using_allocator",
        "alloc_pinned_memory",
    ):
        setattr(cuda, name, getattr(memory, name))
    cuda.runtime = types.SimpleNamespace(
        CUDARuntimeError=scheduler.CUDARuntimeError,
        getDeviceCount=lambda: DEVICES,
        runtimeGetVersion=lambda: 13020,
        driverGetVersion=lambda: 13000,
        getDeviceProperties=lambda index: {
            "name": b"a simulated GPU",
            "multiProcessorCount": scheduler.Device.attributes["MultiProcessorCount"],
            "totalGlobalMem": 1 << 30,
        },
        eventQuery=scheduler.event_query,
    )
    cuda.driver = types.SimpleNamespace(CUDADriverError=kernels.CUDADriverError)
    cuda.compiler = types.SimpleNamespace(CompileException=kernels.CompileException)
    cuda.memory = types.SimpleNamespace(
        OutOfMemoryError=memory.OutOfMemoryError,
        PythonFunctionAllocatorMemory=memory.PythonFunctionAllocatorMemory,
    )
    cupy.cuda = cuda
    return cupy


def install():
    """Be CuPy, in this process from now on."""
    assert "cupy" not in sys.modules
    sys.modules["cupy"] = _module()
    if find_spec("torch"):
        from . import torch_cuda

        torch_cuda.install()
    cupy_library.library.cache_clear()


def reset(seed=0):
    """Begin anew: nothing is queued, allocated, refused or loaded."""
    scheduler.GPU.reset(seed)
    for pool in memory.Pool.pools:
        pool.reset()
    kernels.Loading.left, kernels.Loading.only_without_cache = None, False
    device._kernels.cache_clear()
