"""A store in a local folder: files replaced whole, fsynced where asked, one writer at a time."""

import contextlib
import os
import weakref
from collections.abc import Sequence
from io import FileIO
from pathlib import Path

from tensorstate_gpu._process.locks import ForkSafeLock
from tensorstate_gpu.errors import StoreInUse

try:
    import fcntl
except ImportError:  # Windows: there one writer is the user's duty
    fcntl = None  # type: ignore[assignment]

# Of a file that is not whole yet: deleted by the next writer, when this one was killed.
PARTIAL = ".tensorstate-partial"

# How many files are written at once; benchmarks/studies/store_throughput.py shows the gain. The
# disk joins fsyncs that wait at the same time.
WRITERS, DURABLE_WRITERS = 2, 4
Buffer = bytes | memoryview


def _write_all(file: FileIO, part: Buffer) -> None:
    view = memoryview(part)
    while len(view):  # a disk that is nearly full takes only a part
        view = view[file.write(view) :]


class System:
    """The calls that change a disk, in one place: tests stop, fail or forget each of them."""

    def write(self, path: Path, parts: Sequence[Buffer]) -> None:
        with open(path, "wb", buffering=0) as file:
            for part in parts:
                _write_all(file, part)

    def fsync(self, path: Path) -> None:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            # On macOS fsync() leaves the data in the drive's cache.
            if hasattr(fcntl, "F_FULLFSYNC") and path.is_file():
                fcntl.fcntl(descriptor, fcntl.F_FULLFSYNC)
            else:
                os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def replace(self, source: Path, target: Path) -> None:
        os.replace(source, target)

    def mkdir(self, path: Path) -> None:
        path.mkdir(exist_ok=True)

    def unlink(self, path: Path) -> None:
        path.unlink(missing_ok=True)

    def rmdir(self, path: Path) -> None:
        path.rmdir()


class Folder:
    """The files of a store, by keys such as ``conv_1/c/0/0``, in a folder.

    ``durable``: each file is fsynced before it takes its name, and sync() fsyncs the folders.
    """

    system = System()

    def __init__(self, path: Path, *, durable: bool = False) -> None:
        self.path = path
        self._durable = durable
        self.writers = DURABLE_WRITERS if durable else WRITERS
        self._folders = ForkSafeLock()  # held while folders come and go
        self._unsynced: dict[Path, None] = {}
        self._lock: int | None = None
        self._inode: int | None = None  # of the folder that was claimed

    def __str__(self) -> str:
        return str(self.path)

    def read(self, key: str) -> bytes:
        """The content of a file; FileNotFoundError where there is none."""
        try:
            return (self.path / key).read_bytes()
        except NotADirectoryError as error:
            raise FileNotFoundError(str(error)) from error

    def write(self, key: str, *parts: Buffer) -> None:
        """Write a file whole, or leave what is there."""
        if not self.exists():
            raise FileNotFoundError(f"{self.path} was deleted while states were captured into it")
        file = self.path / key
        partial = file.with_name(file.name + PARTIAL)
        with self._folders:
            self._make(file.parent)
        try:
            self.system.write(partial, parts)
            if self._durable:
                self.system.fsync(partial)
            self.system.replace(partial, file)
        except BaseException:
            with contextlib.suppress(OSError):
                self.system.unlink(partial)
            raise
        self._unsynced[file.parent] = None

    def delete(self, key: str) -> None:
        """Delete a file, and the folders above it that are empty then."""
        file = self.path / key
        self.system.unlink(file)
        self._unsynced[file.parent] = None
        with self._folders:
            for folder in file.parents:
                if folder == self.path or not folder.is_dir() or any(folder.iterdir()):
                    return
                self.system.rmdir(folder)
                self._unsynced.pop(folder, None)
                self._unsynced[folder.parent] = None

    def sizes(self, under: str = "") -> dict[str, int]:
        """All files, or those under one key, in order, with their bytes."""
        top = self.path / under
        files = (Path(folder) / name for folder, _, names in os.walk(top) for name in names)
        found = {}
        for file in sorted(files):
            with contextlib.suppress(FileNotFoundError):  # deleted meanwhile
                found[file.relative_to(self.path).as_posix()] = file.stat().st_size
        return found

    def is_taken(self) -> bool:
        """Whether there is a file, or a folder with any in it that is not half written."""
        if not self.path.is_dir():
            return self.path.exists()
        walked = os.walk(self.path)
        return any(not name.endswith(PARTIAL) for _, _, names in walked for name in names)

    def exists(self) -> bool:
        """Whether the folder that was claimed is still at its path."""
        try:
            return self._inode is None or os.stat(self.path).st_ino == self._inode
        except (FileNotFoundError, NotADirectoryError):
            return False

    def sync(self) -> None:
        """Names written, replaced and deleted so far survive a power cut."""
        if self._durable and os.name == "posix":  # Windows cannot fsync a folder
            for folder in [folder for folder in self._unsynced if folder.is_dir()]:
                self.system.fsync(folder)
        self._unsynced.clear()

    def claim(self) -> None:
        """Be the only writer, until release() or the end of this process; ValueError if not."""
        self._make_root()
        self._inode = os.stat(self.path).st_ino
        if fcntl is not None:
            self._take_lock()
        try:
            self._clear()
        except BaseException:
            self.release()
            raise

    def _take_lock(self) -> None:
        descriptor = os.open(self.path, os.O_RDONLY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(descriptor)
            raise StoreInUse(
                f"{self.path} is being written already, by another process or another Store; "
                "a store has one writer at a time"
            ) from error
        self._lock = descriptor
        _claimed.add(self)

    def _clear(self) -> None:
        """Delete what a writer that was killed left half written."""
        for key in self.sizes():
            if key.endswith(PARTIAL):
                self.delete(key)

    def release(self) -> None:
        """Let others write."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _make_root(self) -> None:
        missing = [folder for folder in (self.path, *self.path.parents) if not folder.is_dir()]
        if missing and missing[-1].exists():
            raise ValueError(f"{missing[-1]} is no folder: there is no room for {self.path}")
        try:
            for folder in reversed(missing):
                self.system.mkdir(folder)
                self._unsynced[folder.parent] = None
        except OSError:
            for folder in missing:
                with contextlib.suppress(OSError):
                    self.system.rmdir(folder)
            raise

    def _make(self, folder: Path) -> None:
        """Folders below the store's own, which stays deleted when somebody deletes it."""
        if folder == self.path or folder.is_dir():
            return
        self._make(folder.parent)
        self.system.mkdir(folder)
        self._unsynced[folder.parent] = None


# A lock ends when the last copy of its file descriptor is closed: a forked child must not hold one.
_claimed: "weakref.WeakSet[Folder]" = weakref.WeakSet()


def _release_all() -> None:
    for folder in list(_claimed):
        folder.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_release_all)
