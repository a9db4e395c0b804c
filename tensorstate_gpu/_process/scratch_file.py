"""ScratchFile: a temporary file without a name, which the system deletes when the process ends."""

import os
import tempfile
import weakref

import numpy as np
from numpy.typing import NDArray

from tensorstate_gpu._process.fork_safe_lock import ForkSafeLock


class ScratchFile:
    """Arrays on disk, for as long as this object lives. Several threads may read.

    It is in ``tempfile.gettempdir()``. Raises OSError if it cannot be created or written. After a
    fork, both processes may read what was written before.
    """

    def __init__(self) -> None:
        # Without a name from the start on Linux, and unlinked at once on other systems: a process
        # that is killed leaves nothing.
        self._file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115
        weakref.finalize(self, self._file.close)  # the garbage collector would warn
        self._size = 0
        self._lock = ForkSafeLock()

    def append(self, values: NDArray[np.generic]) -> int:
        """Write a contiguous array. Return where it begins, for read()."""
        start = self._size
        try:
            self._write(start, values.data.cast("B"))
        except OSError as error:
            error.filename = error.filename or tempfile.gettempdir()  # the file has no name
            error.add_note(
                "counting continues in temporary files where memory is short: TMPDIR names the "
                "folder for them, set_memory_limit() how much memory there is"
            )
            raise
        self._size = start + values.nbytes
        return start

    def _write(self, start: int, rest: memoryview) -> None:
        self._file.seek(start)
        while len(rest):  # a nearly full disk may write only a part
            rest = rest[self._file.write(rest) :]

    def read(self, start: int, values: NDArray[np.generic]) -> None:
        """Fill a contiguous array with what was written at ``start``."""
        rest = values.data.cast("B")
        while len(rest):
            count = self._read_some(start, rest)
            if not count:
                raise OSError(f"a temporary file ends at byte {start}")
            start, rest = start + count, rest[count:]

    def _read_some(self, start: int, buffer: memoryview) -> int:
        if hasattr(os, "preadv"):
            return os.preadv(self._file.fileno(), [buffer], start)
        with self._lock:  # Windows has one position for all threads
            self._file.seek(start)
            return self._file.readinto(buffer)
