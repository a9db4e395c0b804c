"""What only the simulated CUDA can arrange: full memory, two devices, failing kernels."""

import itertools

import numpy as np
import pytest

import tensorstate_gpu as ts
from tensorstate_gpu import cpu_fallback, cuda
from tensorstate_gpu._layers import chunked_buffer
from tensorstate_gpu._process.num_threads import min_bytes_per_thread
from tensorstate_gpu.cuda import device
from tests.cuda.cases.capture import record
from tests.cuda.cases.streams import assert_counts, packed
from tests.cuda.simulated.arrays import ndarray
from tests.cuda.simulated.kernels import Loading
from tests.cuda.simulated.memory import (
    CUPY,
    TORCH,
    MemoryPointer,
    Pool,
    PooledMemory,
    UnownedMemory,
)
from tests.cuda.simulated.scheduler import GPU, CUDARuntimeError, Device, Stream, current
from tests.support.samples import sweep

torch = pytest.importorskip("torch")

LABELS = [0] * 20 + [1] * 40


class Layer:
    """A layer whose output is captured, and the rows that it passed."""

    def __init__(self, on_cuda, keep, neurons=100):
        self.on_cuda, self.keep, self.neurons = on_cuda, keep, neurons
        self.module = torch.nn.Identity()
        self.hook = ts.StateCaptureHook("layer", keep=keep)
        self.hook.attach(self.module)
        self.rows = []

    def __call__(self, seed, index=0):
        """Pass a batch, in which states repeat; its rows count unless this raises."""
        numbers = torch.Generator().manual_seed(seed)
        distinct = torch.randn(50, self.neurons, generator=numbers)
        values = distinct[torch.randint(0, 50, (len(LABELS),), generator=numbers)]
        with Device(index):
            x = self.on_cuda(values, index)
            self.hook.labels(LABELS)
            self.module(x)
        self.rows.append(packed(values))

    def check(self):
        rows = np.concatenate(self.rows)
        labels = np.array(len(self.rows) * LABELS)
        assert_counts(self.hook.histogram(), rows)
        for label, counts in self.hook.counts_by().items():
            assert_counts(counts, rows[labels == label])
        if self.keep == "states":
            np.testing.assert_array_equal(self.hook.raw_states, rows)


@pytest.fixture(params=["states", "counts"])
def layer(request, on_cuda):
    return Layer(on_cuda, request.param)


# ---- memory --------------------------------------------------------------------------------------


@pytest.mark.parametrize("room", [0, 1000, 10_000, 100_000])
def test_a_device_that_is_full_from_the_first_batch_on(on_cuda, layer, room):
    """The model goes on: the host captures it."""
    on_cuda(torch.empty(len(LABELS), layer.neurons))  # memory for batches
    Pool.limit = TORCH.used + TORCH.cached + room
    for seed in range(3):
        layer(seed)
    layer.check()


def test_torchs_free_memory_is_used(on_cuda, layer):
    """CuPy would find none; torch has it."""
    on_cuda(torch.empty(1 << 24, dtype=torch.uint8))
    torch.cuda.synchronize()
    Pool.limit = TORCH.cached + 1000
    for seed in range(3):
        layer(seed)
    layer.check()
    assert not CUPY.allocations


def test_results_are_in_torchs_memory(on_cuda):
    x = on_cuda(torch.randn(1000, 64))
    before = TORCH.used
    result = ts.compress_states(x)
    assert TORCH.used == before + result.numel()
    del result
    assert TORCH.used == before


def test_torchs_lack_of_memory_is_a_memory_error(on_cuda):
    x = on_cuda(torch.randn(1000, 64))
    Pool.limit = TORCH.used
    with pytest.raises(MemoryError, match=r"no room on the GPU for .*uint8.* of shape \(1000, 8\)"):
        ts.compress_states(x)


@sweep
@pytest.mark.parametrize("before", [0, 1])
def test_any_allocation_may_fail(on_cuda, layer, before, every):
    """In the first batch, or in the next one, from some allocation on."""
    for left in itertools.count(step=1 if every else 5):
        layer = Layer(on_cuda, layer.keep)
        for seed in range(before):
            layer(seed)
        values = on_cuda(torch.empty(len(LABELS), layer.neurons))  # is there for the batch
        del values
        begun = TORCH.allocations
        TORCH.refuse_after(1 + left)
        layer(before)
        TORCH.refuse_after(1 << 40)
        layer(before + 1)
        layer.check()
        if TORCH.allocations < begun + left:
            return


@pytest.mark.parametrize("neurons", [20, 100])
def test_kernels_may_find_no_memory(on_cuda, layer, neurons):
    """They are loaded one by one, when they are first needed: some are, the others not."""
    for left in range(12):
        Loading.left = None
        layer = Layer(on_cuda, layer.keep, neurons)
        device._kernels.cache_clear()
        Loading.left = left
        layer(0)
        Loading.left = None
        layer(1)
        layer.check()


def test_weighted_rows_are_counted_whole_or_not_at_all(machine):
    rows = np.random.default_rng(0).integers(0, 256, (90, 8), np.uint8)
    weights = np.arange(1, 91)
    there = machine.to_device(rows), machine.to_device(weights)
    for left in itertools.count():
        counter = cuda.counter(8)
        CUPY.refuse_after(left)
        try:
            counter.add(*there)
            refused = False
        except MemoryError:
            refused = True
        CUPY.refuse_after(1 << 40)
        added = counter.drain()[1].sum()
        assert added == (0 if refused else weights.sum())
        if not refused:
            return


def cached(pool, size):
    """Fill all free memory of the device with what a pool has freed and keeps."""
    for each in Pool.pools:
        each.free_all_blocks()
    block = PooledMemory(size, pool)
    del block
    torch.cuda.synchronize()
    Pool.limit = sum(each.used + each.cached for each in Pool.pools)


@pytest.mark.parametrize("keep", ["states", "counts"])
def test_memory_that_torch_has_cached_is_given_to_arrays_of_other_libraries(machine, keep):
    """Of CuPy here; of JAX likewise, whose arrays come in as CuPy's."""
    point = ts.CapturePoint("layer", keep=keep)
    values = [np.random.default_rng(seed).normal(size=(60, 100)) for seed in range(3)]
    there = [machine.to_device(each) for each in values]
    cached(TORCH, 1 << 24)
    for each in there:
        rows = ts.compress_states(each)
        assert isinstance(rows, ndarray)
        record(point, rows, 100)
    assert CUPY.allocations > 6
    assert not TORCH.cached
    assert_counts(point.histogram(), np.concatenate([packed(torch.tensor(v)) for v in values]))


def test_memory_that_cupy_has_cached_is_given_to_torch(on_cuda, layer):
    values = on_cuda(torch.randn(60, 64))
    layer(0)
    GPU.finish_all()
    cached(CUPY, 1 << 24)
    before = TORCH.allocations
    rows = ts.compress_states(values)
    layer(1)
    assert TORCH.allocations > before + 1
    assert not CUPY.cached
    assert rows.is_cuda
    layer.check()


def test_memory_that_is_in_use_is_no_cache(machine):
    x = machine.to_device(np.ones((60, 64)))
    Pool.limit = CUPY.used
    with pytest.raises(MemoryError, match=r"no room on the GPU for .* of shape \(60, 8\)"):
        ts.compress_states(x)
    assert CUPY.allocations == 2  # the array, and one try


@pytest.mark.parametrize("of_torch", [True, False])
def test_kernels_are_loaded_where_torch_has_cached_the_memory(machine, on_cuda, of_torch):
    values = np.random.default_rng(0).normal(size=(60, 64)).astype(np.float32)
    x = on_cuda(torch.from_numpy(values)) if of_torch else machine.to_device(values)
    cached(TORCH, 1 << 24)
    Pool.limit, Loading.only_without_cache = None, True
    rows = ts.compress_states(x)
    got = rows.cpu().numpy() if of_torch else machine.to_host(rows)
    np.testing.assert_array_equal(got, packed(torch.from_numpy(values)))


def plugged_in(monkeypatch):
    """Let torch have an allocator like RMM's: it has no statistics, and raises errors of C++."""

    def without_statistics(device=None):
        raise RuntimeError("CUDAPluggableAllocator does not yet support getDeviceStats.")

    def raising(take):
        def taken(*arguments, **keywords):
            try:
                return take(*arguments, **keywords)
            except torch.OutOfMemoryError as error:
                raise RuntimeError("std::bad_alloc: out_of_memory: maximum pool size") from error

        return taken

    for name in ("memory_reserved", "memory_allocated"):
        monkeypatch.setattr(torch.cuda, name, without_statistics)
    raw_alloc = "_cuda_cudaCachingAllocator_raw_alloc"
    monkeypatch.setattr(torch._C, raw_alloc, raising(getattr(torch._C, raw_alloc)))
    monkeypatch.setattr(torch, "empty", raising(torch.empty))


@pytest.mark.parametrize("room", [0, 10_000])
def test_torch_with_an_allocator_that_is_plugged_in(on_cuda, layer, room, monkeypatch):
    plugged_in(monkeypatch)
    layer(0)
    x = on_cuda(torch.randn(1200, layer.neurons))
    torch.cuda.synchronize()
    Pool.limit = TORCH.used + room
    with pytest.raises(MemoryError, match=r"no room on the GPU .*bad_alloc"):
        ts.compress_states(x)
    Pool.limit = None
    on_cuda(torch.empty(len(LABELS), layer.neurons))  # memory for batches
    Pool.limit = TORCH.used + TORCH.cached + room
    for seed in range(1, 4):
        layer(seed)
    layer.check()
    assert not CUPY.allocations


def test_arrays_of_other_libraries_beside_an_allocator_that_is_plugged_into_torch(
    machine, monkeypatch
):
    plugged_in(monkeypatch)
    x = machine.to_device(np.ones((60, 64)))
    cached(TORCH, 1 << 24)
    with pytest.raises(MemoryError, match=r"no room on the GPU for .* of shape \(60, 8\)"):
        ts.compress_states(x)


# ---- devices -------------------------------------------------------------------------------------


def test_torch_may_not_have_noticed_that_another_device_is_current(layer, monkeypatch):
    """It enters a device that it has not used only if it has to."""
    monkeypatch.setattr(torch._C, "_cuda_getDevice", lambda: 0)
    allocate, devices = torch.cuda.caching_allocator_alloc, []

    def noted(size, device, stream):
        devices.append(device)
        return allocate(size, device, stream)

    monkeypatch.setattr(torch.cuda, "caching_allocator_alloc", noted)
    for seed in range(3):
        layer(seed, 1)
    layer.check()
    assert set(devices) == {1}


def test_a_model_on_two_devices_at_once(layer):
    """As DataParallel has it. The host waits for none of them, and the batches stay in order."""
    for seed in range(6):
        layer(seed, index=seed % 2)
    assert GPU.log == []
    layer.check()


# ---- failures ------------------------------------------------------------------------------------


def test_a_failed_kernel_is_told(on_cuda):
    """A kernel of the program: nothing runs on the device any more, and no rows arrive."""

    def fail():
        raise CUDARuntimeError(700, "cudaErrorIllegalAddress: an illegal memory access")

    layer = Layer(on_cuda, "states")
    layer(0)
    GPU.put((0, 0), fail)
    with pytest.raises(CUDARuntimeError, match="illegal memory access"):
        GPU.finish_all()
    with pytest.raises(CUDARuntimeError, match="illegal memory access"):
        layer.hook.intake.accumulator.collect_transferred(wait=False)


def test_arrays_that_begin_within_a_number():
    memory = np.zeros(4 * 65, np.uint8)
    there = UnownedMemory(memory.ctypes.data, memory.size, memory)
    x = ndarray((8, 8), np.float32, MemoryPointer(there, 2))
    with pytest.raises(ValueError, match="states must begin at a multiple of 4 bytes on a GPU"):
        ts.compress_states(x)


# ---- arrays of other libraries -------------------------------------------------------------------


class OfAnotherLibrary:
    """An array that its library writes on a stream of its own, as JAX does."""

    def __init__(self, array, stream):
        self._array, self._stream = array, stream

    def __dlpack_device__(self):
        return self._array.__dlpack_device__()

    def __dlpack__(self, *, stream=None, **_):
        reader = Stream(0 if stream in (None, 1) else stream, current.devices[-1])
        reader.wait_event(self._stream.record())
        with self._stream:
            return self._array.__dlpack__(stream=-1)


@pytest.mark.parametrize("own", [True, False])
@pytest.mark.parametrize("seed", range(8))
def test_arrays_that_are_written_on_another_stream(machine, own, seed):
    """The stream that reads them waits, which is the one that CuPy uses now."""
    values = np.random.default_rng(0).normal(size=(300, 64)).astype(np.float32)
    written, reading = Stream(non_blocking=True), Stream(non_blocking=own)
    with written:
        array = machine.to_device(np.zeros_like(values))
        array[:] = machine.to_device(values)
    with reading:
        rows = machine.to_host(ts.compress_states(OfAnotherLibrary(array, written)))
    np.testing.assert_array_equal(rows, ts.compress_states(values))


# ---- the host's threads --------------------------------------------------------------------------


def test_rows_of_a_device_are_stored_by_several_threads(on_cuda, monkeypatch):
    """While a CPU computes a pass, its threads are busy; while a device does, they are idle."""
    least = []
    copy = cpu_fallback.copy_rows
    monkeypatch.setattr(
        cpu_fallback, "copy_rows", lambda *rows: least.append(min_bytes_per_thread()) or copy(*rows)
    )
    monkeypatch.setattr(chunked_buffer, "_SMALL", 0)
    layer = Layer(on_cuda, "states")
    for seed in range(3):
        layer(seed)
        GPU.finish_all()  # so that the next pass stores the rows
    assert set(least) == {1 << 21}
    layer.check()
