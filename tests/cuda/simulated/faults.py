"""Faults in the product's host code: tests must see each of them."""

from contextlib import contextmanager, nullcontext

from tensorstate_gpu import cuda
from tensorstate_gpu.cuda import device, host_copy


def _entered(*, before, after):
    """OwnerStream.entered() without one of its waits."""

    @contextmanager
    def entered(self):
        library = device.library().cuda
        caller = library.get_current_stream()
        queued = caller.record(library.Event())
        with self._device, self._stream:
            if before:
                self._stream.wait_event(queued)
            yield
            if after:
                caller.wait_event(self._stream.record(library.Event()))

    return entered


def _do_not_wait_before():
    device.OwnerStream.entered = _entered(before=False, after=True)


def _do_not_wait_after():
    device.OwnerStream.entered = _entered(before=True, after=False)


def _stay_on_the_default_stream():
    cuda.working_on = lambda tensor, **_: nullcontext()
    device.place_of_torch = lambda index: (nullcontext(),) * 3


def _read_rows_before_they_came():
    host_copy.AsyncHostCopy.numpy = lambda self: self._copy


def _reuse_pinned_memory_while_it_is_written():
    begin = host_copy.AsyncHostCopy.__init__

    def copy(self, array, stream=None):
        begin(self, array, stream)
        self._copy = self._copy.copy()

    host_copy.AsyncHostCopy.__init__ = copy


def _copy_rows_before_they_are_packed():
    def copy(self, array):
        self.array = array
        array.get(stream=self._stream, out=self._copy, blocking=False)
        self._copied.record(self._stream)

    host_copy.AsyncHostCopy.copy = copy


def _reuse_rows_while_they_are_copied():
    begin = host_copy.AsyncHostCopy.copy

    def copy(self, array):
        begin(self, array)
        self.array = None

    host_copy.AsyncHostCopy.copy = copy


def _reuse_host_memory_of_rows_in_transit():
    send = cuda.transfer.send

    def sent(self, rows):
        send(self, rows)
        self._free = self._in_flight[-1][0]

    cuda.transfer.send = sent


def _let_small_batches_of_other_streams_wait():
    add = cuda.counter.add

    def added(self, packed, weights=None):
        if weights is None and len(self._small.waiting) < 8 and self._small.add(packed):
            self._total += len(packed)
        else:
            add(self, packed, weights)

    cuda.counter.add = added


FAULTS = {
    "no wait before": _do_not_wait_before,
    "no wait after": _do_not_wait_after,
    "not on the tensor's stream": _stay_on_the_default_stream,
    "rows read before they came": _read_rows_before_they_came,
    "pinned memory reused while it is written": _reuse_pinned_memory_while_it_is_written,
    "rows copied before they are packed": _copy_rows_before_they_are_packed,
    "rows reused while they are copied": _reuse_rows_while_they_are_copied,
    "small batches of other streams wait": _let_small_batches_of_other_streams_wait,
    "host memory of rows in transit reused": _reuse_host_memory_of_rows_in_transit,
}
