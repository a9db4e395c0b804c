"""Asynchronous copies of device arrays to pinned host memory, on a stream of their own."""

from contextlib import suppress
from functools import lru_cache
from typing import Any

from numpy.typing import NDArray

from tensorstate_gpu._arrays.cupy_types import CudaStream, DeviceArray

from .device import library
from .host_memory import pinned

_DONE = 0  # cudaSuccess
# cudaErrorNotReady; and cudaErrorStreamCaptureUnsupported: while a thread records a CUDA graph in
# the global mode, the default, no thread may ask.
_NOT_KNOWN = 600, 900


def copy_stream() -> CudaStream:
    """Return a stream of the current device for copies to the host, for which no kernel waits."""
    return _copy_stream(library().cuda.Device().id)


@lru_cache
def _copy_stream(current_device: int) -> CudaStream:
    return library().cuda.Stream(non_blocking=True)


class AsyncHostCopy:
    """An asynchronous copy of a contiguous device array to pinned host memory.

    ``stream``: copies wait for the current stream, and run on this one; None: on the current one.
    ``array``: lives until its copy has arrived; whoever has read the copy may set it to None.
    """

    array: DeviceArray | None

    def __init__(self, array: DeviceArray, stream: CudaStream | None = None) -> None:
        self._stream, self.shape = stream, array.shape
        self._copy = pinned(array.shape, array.dtype)
        self._copied = library().cuda.Event(disable_timing=True)
        self.copy(array)

    def copy(self, array: DeviceArray) -> None:
        """Copy what an array of this shape contains by then, in the order of the current stream.

        The copy before must have arrived, and is no longer valid.
        """
        self.array = array
        if self._stream is not None:
            self._copied.record()
            self._stream.wait_event(self._copied)  # as it is now: it can be recorded again
        array.get(stream=self._stream, out=self._copy, blocking=False)
        self._copied.record(self._stream)

    def arrived(self) -> NDArray[Any] | None:
        """Return the copy if it is known to be complete, and None otherwise; see numpy()."""
        status = library().cuda.runtime.eventQuery(self._copied.ptr)
        if status != _DONE and status not in _NOT_KNOWN:  # a kernel has failed: nothing arrives
            self._copied.synchronize()  # raises
        return self._copy if status == _DONE else None

    def numpy(self) -> NDArray[Any]:
        """Return the copy, which is valid while this object lives. Waits until it is complete."""
        self._copied.synchronize()
        return self._copy

    def __del__(self) -> None:
        if hasattr(self, "_copied"):  # otherwise the memory is reused while the device writes to it
            failed = library().cuda.runtime.CUDARuntimeError  # nothing writes there any more
            with suppress(failed):
                self._copied.synchronize()
