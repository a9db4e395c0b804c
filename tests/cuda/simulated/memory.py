"""The memory of a simulated GPU: reused in the order of streams, full of garbage, and limited."""

import ctypes
import math
import threading
import weakref
from collections import defaultdict
from contextlib import contextmanager

import numpy as np

from .scheduler import GPU, current, get_current_stream

GARBAGE = 0xA5


class OutOfMemoryError(MemoryError):
    """As CuPy's."""


class Pool:
    """Blocks of exactly the sizes asked for, so that the address sanitizer sees where they end.

    A block that is given back is reused at once, by work on the stream that it was allocated for.
    CuPy and torch have a pool each, of the same memory: neither uses what is free in the other's.
    """

    pools = ()
    limit = None  # of the bytes in all pools

    def __init__(self, spares_graphs=False):
        Pool.pools += (self,)
        self._spares_graphs = spares_graphs  # frees nothing by itself while any is recorded
        self.reset()

    def reset(self):
        Pool.limit = None
        self.life = object()
        self._free = defaultdict(list)
        self.used = self.cached = self.allocations = 0
        self._last = math.inf

    def refuse_after(self, allocations):
        """Refuse all allocations after so many more."""
        self._last = self.allocations + allocations

    def take(self, size, stream):
        """Return a block for work on a stream, which fills it with garbage first."""
        GPU.check()
        self.allocations += 1
        free = self._free[stream, size]
        spared = self._spares_graphs and GPU.capturing
        if not free and self._is_short_of(size) and not spared:
            self.free_all_blocks()
        if not free and not self._spares_graphs:
            GPU.check_not_capturing()  # as cudaMalloc does; torch calls it in another mode
        if self.allocations > self._last or (not free and self._is_short_of(size)):
            raise OutOfMemoryError(f"out of memory allocating {size:,} bytes")
        self.cached -= size if free else 0
        self.used += size
        block = free.pop() if free else np.empty(size, np.uint8)
        assert block.ctypes.data % 16 == 0
        GPU.put(stream, lambda: block.fill(GARBAGE))
        return block

    def _is_short_of(self, size):
        held = sum(pool.used + pool.cached for pool in self.pools)
        return self.limit is not None and held + size > self.limit

    def give_back(self, stream, block, life):
        if life is not self.life:  # taken before a reset
            return
        self.used -= block.size
        self.cached += block.size
        self._free[stream, block.size].append(block)

    # ---- as CuPy's pool ------------------------------------------------------------------------

    def used_bytes(self):
        return self.used

    def free_bytes(self):
        return self.cached

    def set_limit(self, size):
        """Leave so many bytes to this pool; 0: no limit."""
        others = sum(pool.used + pool.cached for pool in self.pools if pool is not self)
        Pool.limit = size + others if size else None

    def free_all_blocks(self):
        """Leave what is free to the other pool. Waits for the device, as cudaFree does."""
        GPU.finish_all()
        self._free.clear()
        self.cached = 0


CUPY, TORCH = Pool(), Pool(spares_graphs=True)


class PooledMemory:
    """A block of a pool, until nobody holds it."""

    def __init__(self, size, pool=CUPY, stream=None):
        self._pool, self.stream = pool, stream or get_current_stream().key
        self._life = pool.life
        self.bytes = pool.take(size, self.stream)
        self.ptr, self.size = self.bytes.ctypes.data, size
        self.readers = set()  # other streams, whose work so far ends before it is reused

    @property
    def __array_interface__(self):
        return self.bytes.__array_interface__

    def __del__(self):
        if hasattr(self, "bytes"):
            for stream in self.readers:
                GPU.finish(stream)
            self._pool.give_back(self.stream, self.bytes, self._life)


class UnownedMemory:
    """As cupy.cuda.UnownedMemory."""

    def __init__(self, ptr, size, owner, device_id=-1):
        self.ptr, self.size, self.owner = ptr, size, owner
        memory = (ctypes.c_char * size).from_address(ptr) if size else b""
        self.bytes = np.frombuffer(memory, np.uint8)


class PythonFunctionAllocatorMemory:
    """Memory of a function of the program, until nobody holds it."""

    def __init__(self, size, allocate, free):
        device = current.devices[-1]
        self.ptr = allocate(size, device)
        self.size, self._free = size, lambda ptr: free(ptr, device)
        self.bytes = UnownedMemory(self.ptr, size, None).bytes

    def __del__(self):
        if hasattr(self, "_free"):
            self._free(self.ptr)


class PythonFunctionAllocator:
    """As cupy.cuda.PythonFunctionAllocator."""

    def __init__(self, allocate, free):
        self._functions = allocate, free

    def malloc(self, size):
        return MemoryPointer(PythonFunctionAllocatorMemory(size, *self._functions), 0)


class MemoryPointer:
    """As cupy.cuda.MemoryPointer."""

    def __init__(self, mem, offset):
        self.mem, self.offset = mem, offset

    @property
    def ptr(self):
        return self.mem.ptr + self.offset


def _pooled(size):
    return MemoryPointer(PooledMemory(size), 0)


class _Allocator(threading.local):
    """The allocator of this thread."""

    function = staticmethod(_pooled)


_allocator = _Allocator()


def get_allocator():
    return _allocator.function


@contextmanager
def using_allocator(function):
    before, _allocator.function = _allocator.function, function
    try:
        yield
    finally:
        _allocator.function = before


def alloc(size):
    return get_allocator()(size)


_pinned = defaultdict(list)  # free blocks of pinned host memory, by size


def alloc_pinned_memory(size):
    """Return memory that its next owner gets as soon as nobody holds it."""
    if not _pinned[size]:
        GPU.check_not_capturing()
    block = _pinned[size].pop() if _pinned[size] else np.empty(size, np.uint8)
    block.fill(GARBAGE)
    held = (ctypes.c_ubyte * size).from_buffer(block)
    weakref.finalize(held, _pinned[size].append, block)
    return held
