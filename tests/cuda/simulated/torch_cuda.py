"""Torch tensors that say they are on a GPU: operations are queued, memory comes from a pool."""

import threading
import weakref
from contextlib import contextmanager

import numpy as np
import torch
from torch._subclasses.fake_tensor import is_fake
from torch.utils._pytree import tree_leaves, tree_map_only

from tensorstate_gpu._arrays import dlpack

from .arrays import located
from .memory import TORCH, OutOfMemoryError, PooledMemory
from .scheduler import GPU, Device, current, stream_numbered

_pointers = iter(range(0x7000, 1 << 30, 16))


class Stream:
    """As torch.cuda.Stream."""

    def __init__(self, device=None, pointer=None):
        self.index = current.devices[-1] if device is None else device
        self.cuda_stream = next(_pointers) if pointer is None else pointer

    @property
    def key(self):
        return self.index, self.cuda_stream

    def synchronize(self):
        GPU.finish(self.key)

    def wait_stream(self, other):
        passed = []
        GPU.put(other.key, lambda: passed.append(True))
        GPU.put(self.key, lambda: None, lambda: passed)


class _Entered(threading.local):
    """The streams that a thread has entered."""

    def __init__(self):
        self.streams = []


_entered = _Entered()


@contextmanager
def stream(entered):
    """As torch.cuda.stream()."""
    _entered.streams.append(entered)
    try:
        with Device(entered.index):
            yield
    finally:
        _entered.streams.pop()


def current_stream(device=None):
    index = current.devices[-1] if device is None else torch.device("cuda", device).index
    entered = [each for each in _entered.streams if each.index == index]
    return entered[-1] if entered else Stream(index, 0)


class Graph:
    """A CUDA graph: what is queued on its stream while it is recorded, to be queued again."""

    def __init__(self):
        self._stream, self._work = Stream(), []

    @contextmanager
    def recorded(self):
        """As torch.cuda.graph()."""
        GPU.finish_all()
        GPU.capturing[self._stream.key] = self._work
        try:
            with stream(self._stream):
                yield
        finally:
            del GPU.capturing[self._stream.key]

    def replay(self):
        for work in self._work:
            GPU.put(current_stream().key, *work)


class OnCuda(torch.Tensor):
    """A tensor of host memory that says it is on a GPU."""

    is_cuda, is_cpu = True, False
    is_borrowed = False  # whether its memory is that of another library
    index = 0
    __torch_function__ = torch._C._disabled_torch_function_impl

    @property
    def device(self):
        return torch.device("cuda", self.index)

    def __tensor_flatten__(self):
        """For torch.compile, which follows what such tensors consist of."""
        return ["on_host"], self.index

    @staticmethod
    def __tensor_unflatten__(inner, index, size, stride):
        return _on_cuda(inner["on_host"], index)

    @classmethod
    def __torch_dispatch__(cls, function, kinds, args=(), options=None):
        given = [x for x in tree_leaves((args, options)) if isinstance(x, OnCuda)]
        if any(is_fake(plain(x)) for x in given):  # while a graph is made
            inputs, keywords = tree_map_only(OnCuda, plain, (args, options or {}))
            results = function(*inputs, **keywords)
            return tree_map_only(torch.Tensor, lambda x: _on_cuda(x, given[0].index), results)
        if function.namespace == "tensorstate_gpu":  # one kernel for all devices, on the host
            for_all = torch._C.DispatchKey.CompositeExplicitAutograd
            return function._op_dk(for_all, *args, **(options or {}))
        tensors = [x for x in tree_leaves((args, options)) if isinstance(x, torch.Tensor)]
        index = given[0].index

        def run():
            inputs, keywords = tree_map_only(OnCuda, plain, (args, options or {}))
            return function(*inputs, **keywords)

        if function._schema.is_mutable:
            _put(index, run)
            return args[0]
        # The host needs its shape. What it contains now is not what the device will find.
        early = run()
        known = {_storage(tensor) for tensor in tensors}
        views = [_storage(tensor) in known for tensor in tree_leaves(early)]
        if all(views):
            return tree_map_only(torch.Tensor, lambda x: _on_cuda(x, index), early)
        assert not any(views)
        results = tree_map_only(torch.Tensor, lambda x: empty_like(x, index), early)
        _put(index, lambda: _copy_all(results, run()))
        return results

    def get_device(self):
        return self.index

    def __repr__(self):  # of what it contains, only the device knows
        return f"OnCuda{tuple(self.shape)}"

    def record_stream(self, stream):
        """Does nothing for memory that is not of a tensor of torch's, like torch."""
        if not self.is_borrowed:
            _of_tensors[_storage(self)].readers.add(stream.key)

    def cpu(self):
        """Wait, and copy."""
        current_stream(self.index).synchronize()
        return plain(self).clone()

    def __dlpack_device__(self):
        return 2, self.index

    def __dlpack__(self, *, stream=None, **_):
        if self.index != current.devices[-1]:
            raise BufferError("Can't export tensors on a different CUDA device index")
        reader, here = stream_numbered(1 if stream is None else stream), current_stream(self.index)
        if stream != -1 and reader != here.key:
            Stream(*reader).wait_stream(here)
        capsule = torch._C._to_dlpack(plain(self))
        return located(capsule, 2, self.index)


def _put(index, run):
    GPU.put(current_stream(index).key, run)


_of_tensors = weakref.WeakValueDictionary()  # the memory of tensors, by address


def _storage(tensor):
    return tensor.untyped_storage().data_ptr()


def _on_cuda(tensor, index):
    if is_fake(tensor):
        about = {"dtype": tensor.dtype, "device": "meta", "strides": tensor.stride()}
        made = torch.Tensor._make_wrapper_subclass(OnCuda, tensor.shape, **about)
    else:
        made = torch.Tensor._make_subclass(OnCuda, tensor)
    made.index, made.on_host = index, tensor
    return made


def plain(tensor):
    """The same memory, as it is now."""
    return tensor.on_host


def empty_like(tensor, index=0):
    """A tensor of the shape and strides of another, in memory of torch's pool."""
    size = tensor.numel() * tensor.itemsize
    if not size:
        return _on_cuda(torch.empty_like(tensor, device="cpu"), index)
    taken = _taken(size, current_stream(index).key)
    _of_tensors[taken.ptr] = taken
    memory = torch.from_numpy(np.asarray(taken))
    return _on_cuda(memory.view(tensor.dtype).as_strided(tensor.shape, tensor.stride()), index)


def empty(*shape, dtype=None, device=None, **options):
    """As torch.empty()."""
    if device is None or torch.device(device).type != "cuda":
        return _empty_on_host(*shape, dtype=dtype, device=device, **options)
    like = _empty_on_host(*shape, dtype=dtype, device="meta")
    return empty_like(like, torch.device(device).index)


_empty_on_host = torch.empty


def _copy_all(targets, sources):
    for target, source in zip(tree_leaves(targets), tree_leaves(sources), strict=True):
        target.on_host.copy_(source)


def on_cuda(values, index=0):
    """A copy of a tensor of the host, made on the current stream."""
    made, values = empty_like(values, index), values.detach().clone()
    _put(index, lambda: plain(made).copy_(values))
    return made


def from_dlpack(array):
    """As torch.from_dlpack()."""
    kind, index = array.__dlpack_device__()
    if kind != 2:
        return _from_host(array)
    capsule = array.__dlpack__(stream=current_stream(index).cuda_stream or 1)
    made = _on_cuda(torch._C._from_dlpack(located(capsule, 1)), index)
    made.is_borrowed = True
    return made


_from_host = torch.from_dlpack


# ---- torch's allocator ---------------------------------------------------------------------------


def _taken(size, stream):
    try:
        return PooledMemory(size, TORCH, stream)
    except OutOfMemoryError as error:
        raise torch.OutOfMemoryError(f"CUDA out of memory. {error}") from error


_lent = {}  # by address


def caching_allocator_alloc(size, device, stream):
    """As torch.cuda's. Of torch itself, where it means that device already, only the end."""
    taken = _taken(size, (device, stream))
    _lent[taken.ptr] = taken
    return taken.ptr


def caching_allocator_delete(pointer):
    del _lent[pointer]


def install():
    """Be torch.cuda, in this process from now on."""
    dlpack.plain_types().add(OnCuda)
    torch.from_dlpack, torch.empty = from_dlpack, empty
    for name in ("Stream", "stream", "current_stream"):
        setattr(torch.cuda, name, globals()[name])
    for name in ("caching_allocator_alloc", "caching_allocator_delete"):
        setattr(torch.cuda, name, globals()[name])
    torch._C._cuda_getCurrentRawStream = lambda index: current_stream(index).cuda_stream
    torch._C._cuda_getDevice = lambda: current.devices[-1]
    torch._C._cuda_cudaCachingAllocator_raw_alloc = lambda size, stream: caching_allocator_alloc(
        size, torch._C._cuda_getDevice(), stream
    )
    torch.cuda.current_device = lambda: current.devices[-1]
    torch.cuda.is_current_stream_capturing = lambda: current_stream().key in GPU.capturing
    torch.cuda.synchronize = lambda device=None: GPU.finish_all()
    # torch.compile keeps it while it makes a graph.
    torch.cuda.get_rng_state = lambda device="cuda": torch.empty(0, dtype=torch.uint8)
    torch.cuda.set_rng_state = lambda state, device="cuda": None
    torch.cuda._sleep = lambda cycles: None
    torch.cuda.empty_cache = TORCH.free_all_blocks
    torch.cuda.is_available = torch.cuda.is_initialized = lambda: True
    torch.cuda.memory_reserved = lambda device=None: TORCH.used + TORCH.cached
    torch.cuda.memory_allocated = lambda device=None: TORCH.used
