"""Threads that write while the model goes on."""

import collections
import threading
from collections.abc import Callable
from typing import NamedTuple, Protocol

from tensorstate_gpu._process.locks import ForkSafeLock
from tensorstate_gpu.errors import StoreClosed

WAITING_BYTES = 1 << 26  # what may wait to be written: 16 chunks


class Submit(Protocol):
    """BackgroundWriter.submit."""

    def __call__(self, work: Callable[[], None], size: int = 0, *, alone: bool = False) -> None: ...


class _Job(NamedTuple):
    number: int  # in the order of submission
    work: Callable[[], None]
    size: int  # bytes held until it is done
    alone: bool


class BackgroundWriter:
    """Does jobs in threads of its own: as many at once as there are ``threads``.

    A job that is ``alone`` begins when all before it are done, and ends before others begin.

    When a job fails no other begins. Its exception is raised to whoever comes next; who comes after
    that has it tried again: a job must be one that can be done twice.

    ``when_idle`` is called in a thread after ``idle_seconds`` without a job.
    """

    def __init__(
        self, threads: int, when_idle: Callable[[], None], idle_seconds: float | None
    ) -> None:
        self._count = threads
        self._when_idle = when_idle
        self._idle_seconds = idle_seconds
        self._waiting: collections.deque[_Job] = collections.deque()
        self._running: list[_Job] = []
        self._bytes = 0  # of both
        self._submitted = 0
        self._failure: BaseException | None = None  # not raised yet
        self._stopped = False  # by a failure
        self._last: BaseException | None = None
        self._mutex = ForkSafeLock()
        self._changed = threading.Condition(self._mutex)
        self._threads: list[threading.Thread] = []
        self._ended = False

    def submit(self, work: Callable[[], None], size: int = 0, *, alone: bool = False) -> None:
        """Have a job done; never waits. RuntimeError after end()."""
        with self._mutex:
            if self._ended:
                raise StoreClosed("the writer of this store has ended")
            self._submitted += 1
            self._waiting.append(_Job(self._submitted, work, size, alone))
            self._bytes += size
            self.start()
            self._changed.notify_all()

    def start(self) -> None:
        """Start the threads, so that they can be idle."""
        with self._mutex:
            while len(self._threads) < self._count:
                idle_seconds = None if self._threads else self._idle_seconds  # of the first one
                # A daemon: whoever made it closes the store before the program ends.
                thread = threading.Thread(
                    target=self._work, args=(idle_seconds,), name="tensorstate writer", daemon=True
                )
                thread.start()
                self._threads.append(thread)

    def wait_for_room(self) -> None:
        """Wait until less than WAITING_BYTES wait to be written; raise what went wrong."""
        if self._bytes < WAITING_BYTES and not self._stopped:
            return
        with self._mutex:
            self._raise_failure()
            self._go_on()
            self._changed.wait_for(lambda: self._stopped or self._bytes < WAITING_BYTES)
            if self._stopped:
                self._raise_last()

    def wait(self) -> None:
        """Wait until the jobs so far are done; where one had failed it is tried again first.

        Not for those that other threads submit meanwhile: they may never come to an end.
        """
        if self.is_in_its_thread():
            return
        with self._mutex:
            self._go_on()
            last = self._submitted
            self._changed.wait_for(lambda: self._is_done(last))
            if any(job.number <= last for job in self._waiting):
                self._raise_last()

    def is_in_its_thread(self) -> bool:
        """Whether this runs in one of its threads: a finalizer may, by chance."""
        return threading.current_thread() in self._threads

    def _is_done(self, last: int) -> bool:
        jobs = self._running if self._stopped else [*self._running, *self._waiting]
        return all(job.number > last for job in jobs)

    def end(self) -> None:
        """Let the threads go, when they have done what waits; what has failed is given up."""
        with self._mutex:
            self._ended = True
            self._changed.notify_all()

    def give_up(self) -> None:
        """Let the threads go, now; returns when no job is running any more.

        Who waits for a job that was not begun is told that it failed.
        """
        with self._mutex:
            if self._waiting:
                self._stopped = True
                self._last = self._last or RuntimeError("states were given up, not written")
            self.end()
            if not self.is_in_its_thread():
                self._changed.wait_for(lambda: not self._running)

    def _go_on(self) -> None:
        if self._ended and self._stopped:
            raise StoreClosed("states could not be written, and have been given up") from self._last
        self._stopped, self._failure = False, None
        self._changed.notify_all()

    def _raise_failure(self) -> None:
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure

    def _raise_last(self) -> None:
        """Also where another thread was told already: nobody takes what is not done for done."""
        self._failure = None
        if self._last is not None:
            raise self._last

    def _work(self, idle_seconds: float | None) -> None:
        while True:
            with self._mutex:
                if not self._changed.wait_for(self._can_begin_or_end, idle_seconds):
                    job = _Job(0, self._when_idle, 0, False)
                elif self._stopped or not self._waiting:
                    return
                else:
                    job = self._waiting.popleft()
                    self._running.append(job)
            self._do(job)
            del job  # and the memory that it holds

    def _can_begin_or_end(self) -> bool:
        if self._stopped or not self._waiting:
            return self._ended
        if self._waiting[0].alone:
            return not self._running
        return not any(job.alone for job in self._running)

    def _do(self, job: _Job) -> None:
        failure: BaseException | None = None
        try:
            job.work()
        except BaseException as error:
            failure = error
            failure.add_note(
                "What was committed is whole. When the cause is gone, the next batch or commit() "
                "writes the rest; or open the store with mode='a'."
            )
        with self._mutex:
            if job in self._running:  # not so when it came from idleness
                self._running.remove(job)
                if failure is None:
                    self._bytes -= job.size
                else:
                    self._waiting.appendleft(job)
            if failure is not None:
                self._failure = self._last = failure
                self._stopped = True
            self._changed.notify_all()
