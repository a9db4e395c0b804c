"""A thread that writes while the model goes on."""

import collections
import threading
from collections.abc import Callable
from typing import NamedTuple

from tensorstate_gpu._locks import ForkSafeLock

WAITING_BYTES = 1 << 26  # what may wait to be written: 16 chunks


class _Job(NamedTuple):
    work: Callable[[], None]
    size: int  # bytes held until it is done


class BackgroundWriter:
    """Does jobs in order, in a thread of its own.

    A job that fails stays the first. Its exception is raised to whoever comes next; who comes after
    that has it tried again: a job must be one that can be done twice.

    ``when_idle`` is called in the thread after ``idle_seconds`` without a job.
    """

    def __init__(self, when_idle: Callable[[], None], idle_seconds: float | None) -> None:
        self._when_idle = when_idle
        self._idle_seconds = idle_seconds
        self._jobs: collections.deque[_Job] = collections.deque()
        self._bytes = 0
        self._failure: BaseException | None = None  # not raised yet
        self._stopped = False  # by a failure
        self._last: BaseException | None = None
        self._mutex = ForkSafeLock()
        self._changed = threading.Condition(self._mutex)
        self._thread: threading.Thread | None = None
        self._ended = False

    def submit(self, work: Callable[[], None], size: int = 0) -> None:
        """Have a job done after those before it; never waits. RuntimeError after end()."""
        with self._mutex:
            if self._ended:
                raise RuntimeError("the writer of this store has ended")
            self._jobs.append(_Job(work, size))
            self._bytes += size
            self.start()
            self._changed.notify_all()

    def start(self) -> None:
        """Start the thread, so that it can be idle."""
        with self._mutex:
            if self._thread is None:
                # A daemon: whoever made it closes the store before the program ends.
                self._thread = threading.Thread(
                    target=self._work, name="tensorstate writer", daemon=True
                )
                self._thread.start()

    def wait_for_room(self) -> None:
        """Wait until less than WAITING_BYTES wait to be written; raise what went wrong."""
        if self._bytes < WAITING_BYTES and not self._stopped:
            return
        with self._mutex:
            self._raise_failure()
            self._go_on()
            self._changed.wait_for(lambda: self._stopped or self._bytes < WAITING_BYTES)
            self._raise_failure()

    def wait(self) -> None:
        """Wait until all jobs are done; where one had failed it is tried again first."""
        if threading.current_thread() is self._thread:  # a finalizer that ran here by chance
            return
        with self._mutex:
            self._go_on()
            self._changed.wait_for(lambda: self._stopped or not self._jobs)
            self._raise_failure()

    def end(self) -> None:
        """Let the thread go, when it has done what waits; what has failed is given up."""
        with self._mutex:
            self._ended = True
            self._changed.notify_all()

    def _go_on(self) -> None:
        if self._ended and self._stopped:
            raise RuntimeError(
                "states could not be written, and have been given up"
            ) from self._last
        self._stopped, self._failure = False, None
        self._changed.notify_all()

    def _raise_failure(self) -> None:
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure

    def _work(self) -> None:
        while True:
            with self._mutex:
                if not self._changed.wait_for(self._may_go_on, self._idle_seconds):
                    job = None
                elif not self._jobs or self._stopped:
                    return  # ended
                else:
                    job = self._jobs[0]
            self._do(_Job(self._when_idle, 0) if job is None else job)

    def _may_go_on(self) -> bool:
        return self._ended or (bool(self._jobs) and not self._stopped)

    def _do(self, job: _Job) -> None:
        try:
            job.work()
        except BaseException as error:
            error.add_note(
                "What was committed is whole. When the cause is gone, the next batch or commit() "
                "writes the rest; or open the store with mode='a'."
            )
            with self._mutex:
                self._failure = self._last = error
                self._stopped = True
                self._changed.notify_all()
            return
        with self._mutex:
            if self._jobs and self._jobs[0] is job:
                self._jobs.popleft()
                self._bytes -= job.size
            self._changed.notify_all()
