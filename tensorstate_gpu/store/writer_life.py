"""The life of a writer: whether it may still write, and how it ends."""

import os
from typing import Protocol

from tensorstate_gpu._process.interrupts import finished_before_interrupt
from tensorstate_gpu.errors import StoreClosed
from tensorstate_gpu.store.background_writer import BackgroundWriter
from tensorstate_gpu.store.files import Files


class LastCommit(Protocol):
    """What a writer does at its end; RunWriter is one."""

    def rows_to_commit(self) -> int:
        """Rows taken since the last commit."""

    def bring_all(self) -> None:
        """Keep all that is on its way from a device."""

    def submit_commit(self) -> None:
        """Have all batches so far committed by the writer's threads."""

    def refuse_batches(self, refuse: bool) -> None:
        """Take no more batches; or take them again."""


class WriterLife:
    """Ends a writer once: by close(), close_soon() or abandon().

    A forked child has a copy of its parent's writer, which must not write: the rows are its
    parent's. And what was deleted meanwhile stays deleted.
    """

    def __init__(self, files: Files, background: BackgroundWriter, writer: LastCommit) -> None:
        self.files = files
        self._background, self._writer = background, writer
        self._process = os.getpid()
        self.closing = self._closed = self._deleted = False

    @property
    def is_ours(self) -> bool:
        """Whether this process made it."""
        return self._process == os.getpid()

    @property
    def is_deleted(self) -> bool:
        """Whether its files are gone."""
        return self._deleted or not self.files.exists()

    def is_open(self) -> bool:
        """Whether it takes rows from this process: it was not closed, nor its files deleted."""
        return self.is_ours and not self._closed and self.files.exists()

    def check_open(self) -> None:
        """StoreClosed where this process must not write, or no longer can."""
        if not self.is_ours:
            raise StoreClosed(
                f"process {self._process} writes {self.files}, and a store has one writer; after a "
                "fork, capture with a disk_path of its own"
            )
        if self.is_deleted:
            raise StoreClosed(f"{self.files} was deleted while states were captured into it")
        if self._closed:
            raise StoreClosed(f"{self.files} is closed; open it with mode='a' to go on")

    def is_lost(self) -> bool:
        """Whether the store was deleted; StoreClosed when rows are lost by that."""
        if self.is_deleted and self._writer.rows_to_commit():
            raise StoreClosed(f"{self.files} was deleted while states were captured into it")
        return self.is_deleted

    def close(self, *, finally_: bool = False) -> None:
        """Commit what is left, and let others write.

        When that fails nothing is given up, and close() can be called again; unless ``finally_``.
        """
        if not self.is_ours or self._closed:
            return
        try:
            if self.closing:
                # _bring_last submits what comes behind it. Our own threads do it, and never wait.
                while not self._closed and not self._background.is_in_its_thread():
                    self._background.wait()
                return
            if finally_ or not self.is_lost():
                self._commit_last()
        except BaseException:
            self._writer.refuse_batches(False)
            if finally_:
                self._background.give_up()
                self._end()
            raise
        self._end()

    def _commit_last(self) -> None:
        if not self.files.exists():
            return
        self._writer.bring_all()
        self._writer.refuse_batches(True)  # those of other threads come before this commit, or not
        self._writer.submit_commit()
        self._background.wait()

    def close_soon(self) -> None:
        """Close without waiting: for a finalizer, which may run in a thread that we wait for."""
        if self.is_ours and not self._closed:
            self.closing = True
            self._background.submit(self._bring_last, alone=True)

    def _bring_last(self) -> None:
        if self.files.exists():
            self._writer.bring_all()
            self._writer.submit_commit()  # behind the chunks that came just now
        self._background.submit(self._end, alone=True)

    def abandon(self) -> None:
        """Take no more rows: the store was deleted, and is not to be filled again with these."""
        self._deleted = True
        if self.is_ours:  # a forked child has none of these threads
            self._background.give_up()
        self._end()

    def _end(self) -> None:
        with finished_before_interrupt():  # half ended, it could not be closed any more
            self._background.end()
            self.files.release()
            self._closed = True
