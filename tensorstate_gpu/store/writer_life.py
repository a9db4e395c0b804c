"""WriterLife: whether a writer may still write, and how it closes."""

import os
from typing import Protocol

from tensorstate_gpu._process.interrupts import deferred_interrupts
from tensorstate_gpu.errors import StoreClosed
from tensorstate_gpu.store.background_writer import BackgroundWriter
from tensorstate_gpu.store.files import Files


class FinalCommit(Protocol):
    """What a writer does when it closes; RunWriter implements it."""

    def uncommitted_rows(self) -> int:
        """Return the number of rows added since the last commit."""

    def inputs(self) -> tuple[int, int]:
        """Return how many inputs are committed, and how many were captured, as far as is known."""

    def settle(self) -> None:
        """Store all batches that are in transit from a device, and take broken passes back."""

    def submit_commit(self, *, ends: bool | None = None) -> None:
        """Queue a commit of all batches so far for the background threads.

        ``ends``: for the last one, whether the writer ends properly.
        """

    def delete_replaced(self) -> None:
        """Delete files that commits have replaced, and which readers might still have needed."""

    def reject_batches(self, reject: bool) -> None:
        """Reject further batches, or accept them again."""


class WriterLife:
    """Closes a writer once: by close(), close_in_background() or abandon().

    A forked child process has a copy of its parent's writer. That copy must not write, because the
    rows belong to the parent. A store that was deleted in the meantime is not created again.
    """

    def __init__(self, files: Files, background: BackgroundWriter, writer: FinalCommit) -> None:
        self.files = files
        self._background, self._writer = background, writer
        self._process = os.getpid()
        self.is_closing = self.is_closed = self._deleted = False
        self._close_is_running = False  # a call of close() has begun

    @property
    def is_own_process(self) -> bool:
        """True in the process that created the writer, False in a forked child."""
        return self._process == os.getpid()

    @property
    def is_deleted(self) -> bool:
        """True if the files of the store were deleted."""
        return self._deleted or not self.files.exists()

    def is_open(self) -> bool:
        """Return whether this process may add rows: the store is neither closed nor deleted."""
        return self.is_own_process and not self.is_closed and self.files.exists()

    def check_open(self) -> None:
        """Raise StoreClosed if this process must not, or cannot, write any more."""
        if not self.is_own_process:
            raise StoreClosed(
                f"process {self._process} writes {self.files}, and a store has one writer; after a "
                "fork, capture with a disk_path of its own"
            )
        if self.is_deleted:
            raise StoreClosed(f"{self.files} was deleted while states were captured into it")
        if self.is_closed:
            raise StoreClosed(f"{self.files} is closed; open it with mode='a' to go on")

    def is_deleted_without_loss(self) -> bool:
        """Return whether the store was deleted. Raises StoreClosed if that loses rows."""
        if self.is_deleted and self._writer.uncommitted_rows():
            raise StoreClosed(f"{self.files} was deleted while states were captured into it")
        return self.is_deleted

    def what_is_kept(self) -> str:
        """Return what the store keeps of what was captured, for an error that loses the rest."""
        committed, captured = self._writer.inputs()
        if not committed:
            return f"{self.files} has nothing of it"
        what = f"the first {committed:,} of {captured:,} inputs" if captured > committed else "what"
        return f"{self.files} keeps {what} that it had committed; mode='a' goes on with it"

    def close(self, *, at_exit: bool = False, finished: bool = True) -> None:
        """Commit the remaining rows and release the lock.

        If that fails, nothing is discarded and close() can be called again. With ``at_exit`` the
        writer ends in any case. ``finished``: nothing has ended the capture early. At the exit of
        the program that is not known.
        """
        if not self.is_own_process or self.is_closed:
            return
        try:
            if self.is_closing:
                # _drain_and_commit queues more jobs, so wait until all are done. A writer thread
                # runs these jobs itself and must not wait for them.
                while not self.is_closed and not self._background.is_writer_thread():
                    self._background.wait()
                return
            self._close_is_running = True
            if at_exit or not self.is_deleted_without_loss():
                self._final_commit(ends=finished and not at_exit)
        except BaseException:
            self._close_is_running = False
            self._writer.reject_batches(False)
            if at_exit:
                self._background.cancel()
                self._end()
            raise
        self._end()

    def _final_commit(self, *, ends: bool) -> None:
        if not self.files.exists():
            return
        self._writer.settle()
        self._writer.reject_batches(True)  # no batch of another thread may follow the last commit
        self._writer.submit_commit(ends=ends)
        self._background.submit(self._writer.delete_replaced, exclusive=True)
        self._background.wait()

    def close_in_background(self) -> None:
        """Close without waiting. A finalizer calls this, perhaps in one of the writer's threads.

        The program's end may be closing the writer already when the garbage collector gets here.
        """
        if self.is_own_process and not (self.is_closed or self._close_is_running):
            self.is_closing = True
            self._background.try_again()  # the cause of an error may be gone
            self._background.submit(self._drain_and_commit, exclusive=True)

    def _drain_and_commit(self) -> None:
        if self.files.exists():
            self._writer.settle()
            self._writer.submit_commit(ends=False)  # after the chunks that settle() has queued
            self._background.submit(self._writer.delete_replaced, exclusive=True)
        self._background.submit(self._end, exclusive=True)

    def abandon(self) -> None:
        """Discard what is not committed: the store was deleted and must not be written again."""
        self._deleted = True
        self.stop()

    def stop(self) -> None:
        """Close without a commit."""
        if self.is_own_process:  # the threads do not exist in a forked child
            self._background.cancel()
        self._end()

    def _end(self) -> None:
        with deferred_interrupts():  # an interrupt in between would leave the lock held for good
            self._background.end()
            self.files.release()
            self.is_closed = True
