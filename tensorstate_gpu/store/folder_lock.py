"""FolderLock: allows one writer of a folder at a time, also among processes."""

import errno
import os
import weakref
from pathlib import Path

from tensorstate_gpu._warnings import warn_user
from tensorstate_gpu.errors import StoreInUse

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

# What file systems answer that have no locks: Lustre that is mounted without flock, NFS without its
# lock service, and some that stand for a bucket.
_NO_LOCKS = {errno.ENOSYS, errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP}


class FolderLock:
    """A lock of the operating system on a folder: it ends with its process, however that ends."""

    def __init__(self) -> None:
        self._descriptor: int | None = None
        self.is_certain = False  # whether there can be no second writer

    def acquire(self, folder: Path) -> None:
        """Lock an existing folder. Raises StoreInUse if another writer has it.

        Where the file system has no locks, a warning says so.
        """
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
        except OSError as error:
            os.close(descriptor)
            if error.errno not in _NO_LOCKS:
                error.filename = str(folder)
                raise
            warn_user(
                f"the file system of {folder} has no locks ({error.strerror}): make sure that only "
                "one writer at a time opens this store. If another one does, this one ends with an "
                "error at its next write"
            )
            return
        self._descriptor, self.is_certain = descriptor, True
        _acquired.add(self)

    def release(self) -> None:
        """Unlock the folder, if it is locked."""
        descriptor, self._descriptor, self.is_certain = self._descriptor, None, False
        if descriptor is not None:
            os.close(descriptor)


def taken_over(place: object) -> StoreInUse:
    """Return the error of a writer that finds that another one has come."""
    return StoreInUse(
        f"another writer has opened {place}, or deleted it: this one writes no more. What it has "
        "not committed is not in the store. A store has one writer at a time"
    )


# A lock lasts until all copies of its file descriptor are closed, so forked children close theirs.
_acquired: "weakref.WeakSet[FolderLock]" = weakref.WeakSet()


def _release_all() -> None:
    for lock in list(_acquired):
        lock.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_release_all)
