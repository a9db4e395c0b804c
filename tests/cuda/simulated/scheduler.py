"""The streams of a simulated GPU: queues whose work runs late, in an order by chance."""

import itertools
import random
import threading
import types
from collections import defaultdict, deque
from typing import NamedTuple

NOT_READY, CAPTURING = 600, 900  # cudaErrorNotReady, cudaErrorStreamCaptureUnsupported


class CUDARuntimeError(RuntimeError):
    """As CuPy's."""

    def __init__(self, status, said):
        super().__init__(said)
        self.status = status


class Work(NamedTuple):
    """What a stream does next, once it is ready to."""

    run: object
    is_ready: object


class Scheduler:
    """The queues of all streams of all devices, by device and address."""

    def __init__(self):
        self.lock = threading.RLock()
        self.reset(0)

    def reset(self, seed):
        """Forget all that is queued."""
        self.life = object()  # first: what the queues hold may end with them, and ask for it
        self._random = random.Random(seed)
        self._eagerness = self._random.choice([0, 0.05, 0.5])  # of the device, by each call
        self._queues = defaultdict(deque)
        self._error = None  # of a kernel: every later call raises it
        self.log = []  # where the host waited
        self.capturing = {}  # what CUDA graphs record, by stream

    def put(self, stream, run, is_ready=lambda: True):
        """Queue work on a stream. The device may then come a little further, on any stream.

        If a CUDA graph records the stream, the work is only recorded.
        """
        self.check()
        with self.lock:
            if stream in self.capturing:
                self.capturing[stream].append(Work(run, is_ready))
                return
            self._queues[stream].append(Work(run, is_ready))
            while self._random.random() < self._eagerness:
                self._step()

    def run_until(self, is_done):
        """Let the device work until something is done that the host waits for."""
        self.check()
        with self.lock:
            while not is_done():
                if not self._step():
                    raise AssertionError("the streams wait for each other")
                self.check()

    def finish(self, stream):
        """Wait for a stream."""
        self.check_not_capturing()
        self.log.append(f"waits for stream {stream[1]:#x}")
        self.run_until(lambda: not self._queues[stream])

    def finish_all(self):
        self.check_not_capturing()
        self.run_until(lambda: not any(self._queues.values()))

    def _step(self):
        """Run the first work of a stream by chance; return whether there was one that could."""
        waiting = [queue for queue in self._queues.values() if queue and queue[0].is_ready()]
        if not waiting or self._error:
            return False
        queue = self._random.choice(waiting)
        try:
            queue[0].run()
        except CUDARuntimeError as error:
            self._error = error
        else:
            queue.popleft()
        return True

    def check_not_capturing(self):
        """Whatever stream a graph records: in CUDA's global mode, which is the default."""
        if self.capturing:
            raise CUDARuntimeError(CAPTURING, "cudaErrorStreamCaptureUnsupported: the host waits")

    def check(self):
        """Raise the error that a kernel caused, as every call of CUDA does from then on."""
        if self._error:
            raise CUDARuntimeError(self._error.status, str(self._error))

    @property
    def status(self):
        """Like the status of a query: 0, or that of the error."""
        return self._error.status if self._error else 0


GPU = Scheduler()


class _Current(threading.local):
    """Which device and which streams are current in this thread."""

    def __init__(self):
        self.devices = [0]
        self.streams = defaultdict(list)  # entered, by device


current = _Current()


class Device:
    """As cupy.cuda.Device."""

    compute_capability = "90"
    attributes = types.MappingProxyType(
        {"MultiProcessorCount": 2, "MaxSharedMemoryPerBlockOptin": 40_000}
    )

    def __init__(self, index=None):
        self.id = current.devices[-1] if index is None else index

    def __enter__(self):
        current.devices.append(self.id)
        return self

    def __exit__(self, *_):
        current.devices.pop()


_pointers = itertools.count(0x5000, 16)


class Stream:
    """As cupy.cuda.Stream. The stream of address 0 is another one on each device."""

    def __init__(self, ptr=0, device=-1, *, non_blocking=False):
        if non_blocking:
            ptr, device = next(_pointers), current.devices[-1]
        self.ptr, self.device_id = ptr, device

    @classmethod
    def from_external(cls, stream):
        version, pointer = stream.__cuda_stream__()
        assert version == 0
        return cls(pointer, current.devices[-1])

    @property
    def key(self):
        """The device and address. The one of address 0 is that of the current device."""
        return (self.device_id if self.ptr else current.devices[-1], self.ptr)

    def __enter__(self):
        if self.device_id not in (-1, current.devices[-1]):
            raise RuntimeError(f"stream of device {self.device_id} on {current.devices[-1]}")
        current.streams[current.devices[-1]].append(self)
        return self

    def __exit__(self, *_):
        current.streams[current.devices[-1]].pop()

    def record(self, event=None):
        event = event or Event()
        event.record(self)
        return event

    def wait_event(self, event):
        mark = event.marks
        GPU.put(self.key, lambda: None, lambda: event.passed >= mark)

    def synchronize(self):
        GPU.finish(self.key)

    def is_capturing(self):
        return self.key in GPU.capturing


def get_current_stream(device_id=-1):
    entered = current.streams[current.devices[-1] if device_id == -1 else device_id]
    return entered[-1] if entered else Stream()


def stream_numbered(number):
    """The key of the stream that DLPack gives a number, on the current device: 1 is address 0."""
    return (current.devices[-1], 0 if number == 1 else number)


class Event:
    """As cupy.cuda.Event."""

    def __init__(self, block=False, disable_timing=False, interprocess=False):
        self.marks = self.passed = 0
        self._device, self._life = current.devices[-1], GPU.life

    @property
    def is_past(self):
        """Whether all that it was recorded behind has run, or is forgotten."""
        return self.passed >= self.marks or self._life is not GPU.life

    @property
    def ptr(self):
        return self

    def record(self, stream=None):
        key = (stream or get_current_stream()).key
        if key[0] != self._device:
            raise CUDARuntimeError(400, "cudaErrorInvalidResourceHandle: event of another device")
        self.marks += 1
        mark = self.marks
        GPU.put(key, lambda: setattr(self, "passed", mark))

    @property
    def done(self):
        return event_query(self) == 0

    def synchronize(self):
        GPU.check()
        GPU.check_not_capturing()
        if not self.is_past:
            GPU.log.append("waits for an event")
        GPU.run_until(lambda: self.is_past)


def event_query(event):
    """As cupy.cuda.runtime.eventQuery: a status, also after an error."""
    if GPU.capturing:
        return CAPTURING
    return GPU.status or (0 if event.is_past else NOT_READY)
