"""BackgroundWriter: a job queue and the threads that write."""

import collections
import threading
from collections.abc import Callable
from typing import NamedTuple, Protocol

from tensorstate_gpu._process.fork_safe_lock import ForkSafeLock
from tensorstate_gpu.errors import StoreClosed

MAX_QUEUED_BYTES = 1 << 26  # of data that waits to be written: 16 chunks
_LOOK_AGAIN_SECONDS = 1.0


class SubmitJob(Protocol):
    """The type of BackgroundWriter.submit."""

    def __call__(
        self, work: Callable[[], None], size: int = 0, *, exclusive: bool = False
    ) -> None: ...


class _Job(NamedTuple):
    number: int  # in the order of submission
    work: Callable[[], None]
    size: int  # bytes held until it is done
    exclusive: bool


class BackgroundWriter:
    """Runs jobs in ``threads`` background threads, in the order of submission.

    An ``exclusive`` job starts when all earlier jobs are done, and ends before later ones start.

    After a job fails, no other job starts. The next call raises its exception, and the call after
    that makes the threads try the job again. So each job must be safe to run twice. An exception
    is raised once, and not kept: its traceback has the caller's frames, and so perhaps the store.

    ``when_idle`` is called in a thread after ``idle_seconds`` without a job.
    """

    def __init__(
        self, threads: int, when_idle: Callable[[], None], idle_seconds: float | None
    ) -> None:
        self._count = threads
        self._when_idle = when_idle
        self._idle_seconds = idle_seconds
        self._queue: collections.deque[_Job] = collections.deque()
        self._running: list[_Job] = []
        self._bytes = 0  # held by queued and running jobs
        self._submitted = 0
        self._unraised_error: BaseException | None = None
        self._stopped = False  # after an error
        self._told = ""  # of the last error
        self._mutex = ForkSafeLock()
        self._changed = threading.Condition(self._mutex)
        self._threads: list[threading.Thread] = []
        self._ended = False

    def submit(self, work: Callable[[], None], size: int = 0, *, exclusive: bool = False) -> None:
        """Queue a job and return immediately. Raises StoreClosed after end()."""
        with self._mutex:
            if self._ended:
                raise StoreClosed("the writer of this store has ended")
            self._submitted += 1
            self._queue.append(_Job(self._submitted, work, size, exclusive))
            self._bytes += size
            self.start()
            self._changed.notify_all()

    def start(self) -> None:
        """Start the threads, if they are not running."""
        with self._mutex:
            while len(self._threads) < self._count:
                idle_seconds = None if self._threads else self._idle_seconds  # first thread only
                # A daemon thread: closing_at_exit.py closes the store before the program ends.
                thread = threading.Thread(
                    target=self._run_jobs,
                    args=(idle_seconds,),
                    name="tensorstate writer",
                    daemon=True,
                )
                thread.start()
                self._threads.append(thread)

    def wait_for_queue_space(self) -> None:
        """Wait until fewer than MAX_QUEUED_BYTES are queued. Raises the error of a failed job."""
        if self._bytes < MAX_QUEUED_BYTES and not self._stopped:
            return
        with self._mutex:
            while self._stopped or self._bytes >= MAX_QUEUED_BYTES:
                self._raise_new_error()
                self.try_again()
                self._wait_until(lambda: self._stopped or self._bytes < MAX_QUEUED_BYTES)

    def wait(self) -> None:
        """Wait until all jobs submitted so far are done, after trying a failed one again.

        So is one that fails now, but began before: the cause may be gone since then. Jobs that
        other threads submit in the meantime are not waited for: there may be no end of them.
        """
        if self.is_writer_thread():
            return
        with self._mutex:
            self.try_again()
            last, begun = self._submitted, [*self._running]
            self._wait_until(lambda: not any(job in self._running for job in begun))
            if not self._ended:
                self.try_again()
            self._wait_until(lambda: self._is_done(last))
            while any(job.number <= last for job in [*self._queue]):
                self._raise_new_error()
                self.try_again()  # another thread has raised it
                self._wait_until(lambda: self._is_done(last))

    def has_failed_with(self, error: Exception) -> bool:
        """Return whether an exception is that of the last job that failed."""
        return _told(error) == self._told

    def is_writer_thread(self) -> bool:
        """Return whether the caller runs in one of the threads, as a finalizer may."""
        return threading.current_thread() in self._threads

    def _is_done(self, last: int) -> bool:
        jobs = self._running if self._stopped else [*self._running, *self._queue]
        return all(job.number > last for job in jobs)

    def end(self) -> None:
        """Let the threads end when the queue is empty. A failed job is not tried again."""
        with self._mutex:
            self._ended = True
            self._changed.notify_all()

    def cancel(self) -> None:
        """Let the threads end after the running jobs, and wait for these.

        Callers that wait for a job that did not start get an error.
        """
        with self._mutex:
            if self._queue:
                self._stopped = True
            self.end()
            if not self.is_writer_thread():
                self._wait_until(lambda: not self._running)

    def try_again(self) -> None:
        """Let the threads try a job that failed again. Raises StoreClosed if they have ended."""
        with self._mutex:
            if self._ended and self._stopped:
                told = self._told and f": {self._told}"
                raise StoreClosed(f"states could not be written, and were discarded{told}")
            self._stopped, self._unraised_error = False, None
            self._changed.notify_all()

    def _wait_until(self, condition: Callable[[], bool]) -> None:
        """Wait with the mutex for what jobs bring about.

        Not for a notification alone: a signal handler that waits, too, may receive it, after this
        call has found that there is something to wait for.
        """
        while not self._changed.wait_for(condition, _LOOK_AGAIN_SECONDS):
            pass

    def _raise_new_error(self) -> None:
        failure, self._unraised_error = self._unraised_error, None
        try:
            if failure is not None:
                raise failure
        finally:
            del failure  # or its traceback would refer to it

    def _run_jobs(self, idle_seconds: float | None) -> None:
        """Run jobs until the writer ends; after so many seconds without one, call when_idle."""
        while True:
            with self._mutex:
                if not self._changed.wait_for(self._can_take_job_or_end, idle_seconds):
                    job = _Job(0, self._when_idle, 0, False)
                elif self._stopped or not self._queue:
                    return
                else:
                    job = self._queue.popleft()
                    self._running.append(job)
            self._run(job)
            del job  # frees the memory that it holds

    def _can_take_job_or_end(self) -> bool:
        if self._stopped or not self._queue:
            return self._ended
        if self._queue[0].exclusive:
            return not self._running
        return not any(job.exclusive for job in self._running)

    def _run(self, job: _Job) -> None:
        """Run a job. If it fails, it is the next one when the threads are started again."""
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
            if job in self._running:  # false for the call of when_idle
                self._running.remove(job)
                if failure is None:
                    self._bytes -= job.size
                else:
                    self._queue.appendleft(job)
            if failure is not None:
                self._unraised_error, self._told = failure, _told(failure)
                self._stopped = True
            self._changed.notify_all()


def _told(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"
