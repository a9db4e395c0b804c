"""The code around CuPy: clear messages for its errors, and the order of streams.

CuPy itself is simulated, as its documentation describes it; `make gpu` uses the real one.
"""

import sys
from contextlib import nullcontext
from types import SimpleNamespace

import numpy as np
import pytest

from tensorstate_gpu._arrays.dlpack import CUDA, Tensor
from tensorstate_gpu._arrays.elements import ELEMENT_TYPES
from tensorstate_gpu.cuda import device, host_copy, host_memory
from tensorstate_gpu.cuda.launch import Launch
from tests.support.numba_cuda import not_run_without_older_numpy


class CUDARuntimeError(RuntimeError):
    pass


class CUDADriverError(RuntimeError):
    pass


class CompileException(Exception):
    pass


class OutOfMemoryError(MemoryError):
    pass


def raising(error):
    def call(*_, **__):
        raise error

    return call


class Stream:
    """Logs what is queued and waited for."""

    def __init__(self, ptr, log):
        self.ptr, self._log = ptr, log

    def record(self, event):
        self._log.append(f"record {self.ptr}")
        assert event == Device.current, "an event belongs to a device"
        return self.ptr

    def wait_event(self, event):
        self._log.append(f"{self.ptr} waits for {event} on device {Device.current}")

    def __enter__(self):
        self._before, CURRENT[0] = CURRENT[0], self

    def __exit__(self, *_):
        CURRENT[0] = self._before

    def is_capturing(self):
        return False

    def synchronize(self):
        self._log.append(f"the host waits for {self.ptr}")


CURRENT = [Stream(0, [])]


class Device:
    compute_capability = "90"
    current = 0

    def __init__(self, index=None):
        self.id = Device.current if index is None else index

    def __enter__(self):
        self._before, Device.current = Device.current, self.id

    def __exit__(self, *_):
        Device.current = self._before


@pytest.fixture
def cupy(monkeypatch):
    runtime = SimpleNamespace(
        CUDARuntimeError=CUDARuntimeError,
        getDeviceCount=lambda: 1,
        runtimeGetVersion=lambda: 13020,
    )
    cuda = SimpleNamespace(
        runtime=runtime,
        Device=Device,
        Event=lambda disable_timing: Device.current,
        get_current_stream=lambda: CURRENT[0],
        get_allocator=lambda: None,
        using_allocator=lambda allocator: nullcontext(),
        compiler=SimpleNamespace(CompileException=CompileException),
        memory=SimpleNamespace(OutOfMemoryError=OutOfMemoryError),
        driver=SimpleNamespace(CUDADriverError=CUDADriverError),
    )
    pool = SimpleNamespace(free_bytes=lambda: 0, free_all_blocks=lambda: None)
    fake = SimpleNamespace(
        cuda=cuda, ndarray=type("ndarray", (), {}), get_default_memory_pool=lambda: pool
    )
    monkeypatch.setitem(sys.modules, "cupy", fake)
    for cached in (device.library, device._check_compute_capability, device._kernels):
        cached.cache_clear()
    yield fake
    for cached in (device.library, device._check_compute_capability, device._kernels):
        cached.cache_clear()


def test_cupy_for_another_cuda(cupy):
    cupy.cuda.runtime.getDeviceCount = raising(CUDARuntimeError("cudaErrorInsufficientDriver"))
    with pytest.raises(RuntimeError, match=r"no usable GPU: cudaErrorInsufficientDriver.*cuda12"):
        device.library()


def test_cupy_that_cannot_be_imported(monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)
    device.library.cache_clear()
    with pytest.raises(ImportError, match=r"need CuPy: pip install .*importing it says: .*cupy"):
        device.library()


def test_an_old_gpu(cupy, monkeypatch):
    monkeypatch.setattr(Device, "compute_capability", "61")
    tensor = Tensor((), 0, (1, 1), (4, 4), ELEMENT_TYPES["float32"], (CUDA, 3))
    with (
        pytest.raises(RuntimeError, match=r"cuda:3 has compute capability 6.1; 7.0 or newer"),
        device.working_on(tensor),
    ):
        pass


def test_a_gpu_that_the_compiler_does_not_know(cupy):
    cupy.RawModule = raising(CompileException("invalid value for --gpu-architecture"))
    with pytest.raises(
        RuntimeError, match=r"pack_rows.cu cannot be compiled .* by CUDA 13: invalid"
    ):
        device.run(Launch("pack_rows", "pack_rows", (), (1, 1), ()))


def test_no_memory_to_load_a_kernel(cupy):
    module = SimpleNamespace(get_function=raising(CUDADriverError("CUDA_ERROR_OUT_OF_MEMORY: no")))
    cupy.RawModule = lambda **_: module
    with pytest.raises(MemoryError, match=r"no room .* to load pack_rows.cu: CUDA_ERROR_OUT_OF"):
        device.run(Launch("pack_rows", "pack_rows", (), (1, 1), ()))
    module.get_function = raising(CUDADriverError("CUDA_ERROR_ILLEGAL_ADDRESS"))
    with pytest.raises(CUDADriverError, match="ILLEGAL_ADDRESS"):
        device.run(Launch("pack_rows", "pack_rows", (), (1, 1), ()))


def test_no_memory_on_the_device(cupy):
    cupy.empty = raising(OutOfMemoryError("out of memory allocating 8 bytes"))
    with pytest.raises(MemoryError, match=r"no room on the GPU .* shape \(3, 4\): out of memory"):
        device.empty((3, 4), np.uint8)


def test_no_pinned_memory(cupy):
    cupy.cuda.alloc_pinned_memory = raising(CUDARuntimeError("cudaErrorMemoryAllocation"))
    with pytest.raises(MemoryError, match=r"no pinned memory .* shape \(3,\): cudaErrorMemory"):
        host_memory.pinned((3,), np.uint8)


def test_work_on_the_owner_stream_does_not_wait(cupy):
    log = []
    CURRENT[0] = Stream(7, log)
    home = device.OwnerStream()
    with home.entered():
        log.append("work")
    assert log == ["work"]


def test_work_from_another_stream_is_ordered_with_the_owner_stream(cupy):
    log = []
    home_stream, here = Stream(7, log), Stream(8, log)
    CURRENT[0] = home_stream
    home = device.OwnerStream()
    CURRENT[0] = here
    with home.entered():
        log.append(f"work on {CURRENT[0].ptr}")
    assert CURRENT[0] is here
    assert log == [
        *("record 8", "7 waits for 8 on device 0", "work on 7"),
        *("record 7", "8 waits for 7 on device 0"),
    ]


def test_the_default_streams_of_two_devices_are_different(cupy):
    log = []
    CURRENT[0] = Stream(0, log)
    home = device.OwnerStream()
    with Device(1), home.entered():
        log.append(f"work on device {Device.current}")
    assert log == [
        *("record 0", "0 waits for 0 on device 0", "work on device 0"),
        *("record 0", "0 waits for 0 on device 1"),
    ]
    assert Device.current == 0


@pytest.mark.parametrize("owner", ["cupy", "another"])
def test_the_host_waits_only_for_frameworks_without_stream_exchange(cupy, owner):
    log = []
    CURRENT[0] = Stream(7, log)
    owners = (cupy.ndarray(),) if owner == "cupy" else (object(),)
    tensor = Tensor(owners, 0, (1, 1), (4, 4), ELEMENT_TYPES["float32"], (CUDA, 3))
    with device.working_on(tensor):
        log.append(f"work on device {Device.current}")
    assert log == ["work on device 3", *(["the host waits for 7"] if owner == "another" else [])]


def test_pinned_memory_lives_until_the_copy_is_complete(cupy):
    log = []
    cupy.cuda.alloc_pinned_memory = bytearray
    cupy.cuda.Event = lambda disable_timing: SimpleNamespace(
        record=lambda stream: log.append("record"), synchronize=lambda: log.append("wait"), ptr=3
    )
    cupy.cuda.runtime.eventQuery = lambda ptr: 600
    array = np.arange(6, dtype=np.uint8).reshape(2, 3)

    def get(stream, out, blocking):
        np.copyto(out, array)
        log.append(f"copy, blocking {blocking}")

    copy = host_copy.AsyncHostCopy(SimpleNamespace(shape=(2, 3), dtype=array.dtype, get=get))
    assert log == ["copy, blocking False", "record"]
    assert copy.arrived() is None
    np.testing.assert_array_equal(copy.numpy(), array)
    del copy
    assert log[2:] == 2 * ["wait"]


def test_a_copy_waits_for_what_is_queued_and_nothing_waits_for_it(cupy):
    log = []
    CURRENT[0] = Stream(7, log)
    cupy.cuda.alloc_pinned_memory = bytearray
    cupy.cuda.Event = lambda disable_timing: SimpleNamespace(
        record=lambda stream=CURRENT[0]: log.append(f"record {stream.ptr}"),
        synchronize=lambda: None,
    )
    copies = SimpleNamespace(ptr=9, wait_event=lambda event: log.append("9 waits"))

    def get(stream, out, blocking):
        log.append(f"copy on {stream.ptr}, blocking {blocking}")

    host_copy.AsyncHostCopy(SimpleNamespace(shape=(2, 3), dtype=np.dtype("u1"), get=get), copies)
    assert log == ["record 7", "9 waits", "copy on 9, blocking False", "record 9"]


def test_failed_work_is_ordered_too(cupy):
    log = []
    CURRENT[0] = Stream(7, log)
    home = device.OwnerStream()
    CURRENT[0] = Stream(8, log)
    with pytest.raises(MemoryError), home.entered():
        raise MemoryError
    assert log[-2:] == ["record 7", "8 waits for 7 on device 0"]


def test_a_numpy_that_numba_cuda_does_not_know(monkeypatch):
    pytest.importorskip("numba_cuda")
    from tensorstate_gpu.cuda import numba_device

    stream = SimpleNamespace(ptr=0)
    fake = SimpleNamespace(cuda=SimpleNamespace(get_current_stream=lambda: stream))
    monkeypatch.setattr(device, "library", lambda: fake)
    monkeypatch.setattr(numba_device.cuda, "default_stream", lambda: None)
    missing = AttributeError("module 'numpy' has no attribute 'row_stack'")
    kernel = {(128, 256, None): raising(missing)}
    with pytest.raises(
        RuntimeError, match=r"cannot compile with NumPy 2\.\d.*row_stack.*older NumPy"
    ):
        numba_device.run(kernel, 1)
    with pytest.raises(pytest.skip.Exception, match="older NumPy"), not_run_without_older_numpy():
        numba_device.run(kernel, 1)
    with pytest.raises(RuntimeError, match="another"), not_run_without_older_numpy():
        raise RuntimeError("another")
