"""Folder: a store in a local folder. Replaces files atomically; allows one writer at a time."""

import contextlib
import os
import time
from collections.abc import Sequence
from io import FileIO
from pathlib import Path

from tensorstate_gpu._process.fork_safe_lock import ForkSafeLock
from tensorstate_gpu._process.new_files import note_unwritten, show_target_in
from tensorstate_gpu.errors import StoreInUse
from tensorstate_gpu.store.documents import KEY
from tensorstate_gpu.store.folder_lock import FolderLock, taken_over
from tensorstate_gpu.store.keys import why_not_on_windows

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

# The suffix of incomplete files. If a writer is killed, the next one deletes its incomplete files.
PARTIAL_SUFFIX = ".tensorstate-partial"

# How many files are written at once; benchmarks/studies/store_throughput.py shows the gain.
# More with fsync, because the disk merges concurrent fsyncs.
WRITER_THREADS, DURABLE_WRITER_THREADS = 2, 4
Buffer = bytes | memoryview

_IS_WINDOWS = os.name == "nt"
# Windows replaces no file that another program has open. Ours read a record within milliseconds.
_WAITS = (0.01, 0.03, 0.1, 0.3, 1.0)


def _write_all(file: FileIO, part: Buffer) -> None:
    view = memoryview(part)
    while len(view):  # a nearly full disk may write only a part
        view = view[file.write(view) :]


class FileSystemCalls:
    """All calls that change the disk. Tests replace them to let calls fail or get lost."""

    def write(self, path: Path, parts: Sequence[Buffer]) -> None:
        with open(path, "wb", buffering=0) as file:
            for part in parts:
                _write_all(file, part)

    def fsync(self, path: Path) -> None:
        # Windows syncs only what is open for writing; a folder can't be, and is not synced there.
        descriptor = os.open(path, os.O_RDWR if path.is_file() else os.O_RDONLY)
        try:
            # On macOS fsync() leaves the data in the drive's cache.
            if hasattr(fcntl, "F_FULLFSYNC") and path.is_file():
                fcntl.fcntl(descriptor, fcntl.F_FULLFSYNC)
            else:
                os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def replace(self, source: Path, target: Path) -> None:
        for seconds in _WAITS if _IS_WINDOWS else ():
            with contextlib.suppress(PermissionError):  # a program reads the old file just now
                os.replace(source, target)
                return
            time.sleep(seconds)
        os.replace(source, target)

    def mkdir(self, path: Path) -> None:
        path.mkdir(exist_ok=True)

    def unlink(self, path: Path) -> None:
        path.unlink(missing_ok=True)

    def rmdir(self, path: Path) -> None:
        path.rmdir()


def _folders_in(path: Path) -> list[str]:
    """Return all folders below a path, from the inside out."""
    return [folder for folder, _, _ in os.walk(path, topdown=False)][:-1]


def _has_entries(folder: Path) -> bool:
    """Return whether a folder is not empty; reads the first names only, of which there are many."""
    with os.scandir(folder) as entries:
        return next(entries, None) is not None


class Folder:
    """The files of a store in a local folder, by keys such as ``conv_1/c/0/0``.

    ``durable``: fsync each file before it gets its name; sync() fsyncs the folders.
    """

    system = FileSystemCalls()

    def __init__(self, path: Path, *, durable: bool = False) -> None:
        self.path = path
        self._durable = durable
        self.writer_threads = DURABLE_WRITER_THREADS if durable else WRITER_THREADS
        self._folders = ForkSafeLock()  # held while folders are created and deleted
        self._unsynced: dict[Path, None] = {}
        self._lock = FolderLock()
        self._created: list[Path] = []  # by claim(), from the inside out
        self._inode: int | None = None  # of the claimed folder
        # Where no lock keeps others out: the record, and another one whose writing has failed.
        self._own_records: list[bytes] = []

    def __str__(self) -> str:
        return str(self.path)

    def __reduce__(self) -> tuple[type["Folder"], tuple[Path]]:
        return Folder, (self.path,)  # without the lock: copies read

    def read(self, key: str) -> bytes:
        """Return the content of a file. Raises FileNotFoundError if there is none, or a folder."""
        try:
            return (self.path / key).read_bytes()
        except (NotADirectoryError, IsADirectoryError) as error:
            raise FileNotFoundError(str(error)) from error

    def write(self, key: str, *parts: Buffer) -> None:
        """Write a complete file, or leave the existing one unchanged."""
        if not self.exists():
            raise FileNotFoundError(f"{self.path} was deleted while states were captured into it")
        self._require_owner()
        file = self.path / key
        partial = file.with_name(file.name + PARTIAL_SUFFIX)
        with self._folders:
            self._create_folder(file.parent)
        is_record = key == KEY and self._inode is not None and not self._lock.is_certain
        if is_record and self._own_records:  # it may be in its place although an error says no
            self._own_records[1:] = [b"".join(parts)]
        try:
            self.system.write(partial, parts)
            if self._durable:
                self.system.fsync(partial)
            self.system.replace(partial, file)
        except BaseException as error:
            if isinstance(error, OSError):
                show_target_in(error, partial, file)
            with contextlib.suppress(OSError):
                self.system.unlink(partial)
            raise
        self._unsynced[file.parent] = None
        if is_record:
            self._own_records = [b"".join(parts)]

    def _require_owner(self) -> None:
        """Raise StoreInUse if another writer has written the record since this one did.

        A lock rules that out. Without one, two that write within the same moment are not found.
        """
        if not self._own_records:
            return
        try:
            found = self.read(KEY)
        except FileNotFoundError:
            raise taken_over(self) from None
        if found not in self._own_records:
            raise taken_over(self)
        self._own_records.sort(key=lambda own: own != found)  # it stays until a write replaces it

    def delete(self, key: str) -> None:
        """Delete a file, and the folders above it that become empty."""
        self._require_owner()
        file = self.path / key
        self.system.unlink(file)
        self._unsynced[file.parent] = None
        with self._folders:
            for folder in file.parents:
                if folder == self.path or not folder.is_dir() or _has_entries(folder):
                    return
                self.system.rmdir(folder)
                self._unsynced.pop(folder, None)
                self._unsynced[folder.parent] = None

    def list_sizes(self, under: str = "") -> dict[str, int]:
        """Return the sizes of all files, or of those below a key, sorted by key."""
        top = self.path / under
        files = (Path(folder) / name for folder, _, names in os.walk(top) for name in names)
        found = {}
        for file in sorted(files):
            with contextlib.suppress(FileNotFoundError):  # deleted in the meantime
                found[file.relative_to(self.path).as_posix()] = file.stat().st_size
        return found

    def list_folders(self) -> list[str]:
        """Return the names of the folders at the top."""
        try:
            return sorted(each.name for each in self.path.iterdir() if each.is_dir())
        except (FileNotFoundError, NotADirectoryError):
            return []

    def ignores_case(self) -> bool:
        """Return whether names that differ in capital letters only are those of one file.

        So it is on Windows, and on most disks of macOS. Known once there is a record.
        """
        return (self.path / KEY.upper()).exists()

    def check_key(self, key: str) -> None:
        if _IS_WINDOWS and (reason := why_not_on_windows(key)) is not None:
            raise ValueError(
                f"{self}: Windows cannot have a folder {key!r}: {reason}; exclude= the layer, "
                "rename it, or capture into an object store"
            )

    def has_content(self) -> bool:
        """Return whether the path is a file, or a folder that contains a complete file."""
        if not self.path.is_dir():
            return self.path.exists()
        walked = os.walk(self.path)
        return any(not name.endswith(PARTIAL_SUFFIX) for _, _, names in walked for name in names)

    def exists(self) -> bool:
        """Return whether the claimed folder is still at its path."""
        try:
            return self._inode is None or os.stat(self.path).st_ino == self._inode
        except (FileNotFoundError, NotADirectoryError):
            return False

    def sync(self) -> None:
        """Make all names written, replaced and deleted so far survive a power cut."""
        if self._durable and os.name == "posix":  # Windows cannot fsync a folder
            for folder in [folder for folder in self._unsynced if folder.is_dir()]:
                self.system.fsync(folder)
        self._unsynced.clear()

    def claim(self) -> None:
        """Acquire the write lock, until release() or the end of the process.

        Raises ValueError if another writer has it.
        """
        self._create_root()
        try:
            self._inode = os.stat(self.path).st_ino
            self._lock.acquire(self.path)
            self._delete_partial_files()
        except StoreInUse:  # then the folder is that of the other writer
            raise
        except BaseException:
            self.release()
            self.delete_created_folders()
            raise

    def _delete_partial_files(self) -> None:
        """Delete incomplete files of a writer that was killed."""
        for key in self.list_sizes():
            if key.endswith(PARTIAL_SUFFIX):
                self.delete(key)

    def release(self) -> None:
        """Release the write lock."""
        self._own_records = []
        self._lock.release()

    def delete_created_folders(self) -> None:
        """Delete the folders that claim() has created, as far as nothing but folders is in them."""
        if self.path in self._created:
            self._created[:0] = map(Path, _folders_in(self.path))
        for folder in self._created:
            with contextlib.suppress(OSError):
                self.system.rmdir(folder)
        self._created.clear()

    def _create_root(self) -> None:
        missing = [folder for folder in (self.path, *self.path.parents) if not folder.is_dir()]
        if missing and missing[-1].exists():
            raise ValueError(f"{missing[-1]} is no folder: there is no room for {self.path}")
        for folder in missing:
            if folder.is_symlink():
                raise ValueError(f"{folder} is a link to {folder.readlink()}, which is not there")
        try:
            for folder in reversed(missing):
                self.system.mkdir(folder)
                self._created.insert(0, folder)
                self._unsynced[folder.parent] = None
        except OSError as error:
            note_unwritten(error)
            self.delete_created_folders()
            raise

    def _create_folder(self, folder: Path) -> None:
        """Create a folder inside the store. A deleted store folder is not created again."""
        if folder == self.path or folder.is_dir():
            return
        self._create_folder(folder.parent)
        self.system.mkdir(folder)
        self._unsynced[folder.parent] = None
