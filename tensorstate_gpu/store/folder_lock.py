"""FolderLock: allows one writer of a folder at a time, also among processes."""

import os
import weakref
from pathlib import Path

from tensorstate_gpu.errors import StoreInUse

try:
    import fcntl
except ImportError:  # Windows: the user must make sure that there is only one writer
    fcntl = None  # type: ignore[assignment]


class FolderLock:
    """A lock of the operating system on a folder: it ends with its process, however that ends."""

    def __init__(self) -> None:
        self._descriptor: int | None = None

    def acquire(self, folder: Path) -> None:
        """Lock an existing folder. Raises StoreInUse if another writer has it."""
        if fcntl is None:
            return
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(descriptor)
            raise StoreInUse(
                f"{folder} is being written already, by another process or another Store, which "
                "may still be open in this one: close() it, or open it in a `with` block. "
                "A store has one writer at a time"
            ) from error
        self._descriptor = descriptor
        _acquired.add(self)

    def release(self) -> None:
        """Unlock the folder, if it is locked."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)


# A lock lasts until all copies of its file descriptor are closed, so forked children close theirs.
_acquired: "weakref.WeakSet[FolderLock]" = weakref.WeakSet()


def _release_all() -> None:
    for lock in list(_acquired):
        lock.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_release_all)
