"""Files: where a store keeps its files (a local folder, memory, an object store)."""

import os
import re
from pathlib import Path
from typing import Any, Protocol
from urllib.request import url2pathname

from tensorstate_gpu.errors import NoStore, StoreInUse
from tensorstate_gpu.store.folder import Buffer, Folder


class Files(Protocol):
    """Files by key. Each is written completely or not at all. ``str()`` returns the location.

    Copies and pickles of it read the same files, and do not have the write lock.

    ``writer_threads``: how many files should be written at the same time.
    """

    writer_threads: int

    def read(self, key: str) -> bytes:
        """Return the content of a file. Raises FileNotFoundError if it does not exist."""

    def write(self, key: str, *parts: Buffer) -> None:
        """Create or replace a file; its content is the concatenation of the parts."""

    def delete(self, key: str) -> None:
        """Delete a file if it exists."""

    def list_sizes(self, under: str = "") -> dict[str, int]:
        """Return the sizes of all files, or of those below a key, sorted by key."""

    def list_folders(self) -> list[str]:
        """Return the names of the folders at the top."""

    def ignores_case(self) -> bool:
        """Return whether names that differ in capital letters only are those of one file."""

    def check_key(self, key: str) -> None:
        """Raise ValueError if no files can be below this key: the system refuses such a name."""

    def has_content(self) -> bool:
        """Return whether there are any files. Incomplete files of a killed writer do not count."""

    def exists(self) -> bool:
        """Return whether the claimed files still exist, and were not replaced by others."""

    def sync(self) -> None:
        """Make everything written and deleted so far survive a power cut."""

    def claim(self) -> None:
        """Acquire the write lock. Raises ValueError if another writer has it."""

    def release(self) -> None:
        """Release the write lock."""

    def delete_created_folders(self) -> None:
        """Delete the folders that claim() has created, as far as nothing but folders is in them."""


class Memory:
    """Files in the memory of this process (``memory://name``), for tests and notebooks."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._files: dict[str, bytes] = {}
        self._claimed = False
        self.writer_threads = 1

    def __str__(self) -> str:
        return f"memory://{self._name}"

    def __reduce__(self) -> tuple[Any, ...]:
        return _memory_of_this_process, (self._name,)

    def read(self, key: str) -> bytes:
        if key not in self._files:
            raise FileNotFoundError(f"{self} has no {key}")
        return self._files[key]

    def write(self, key: str, *parts: Buffer) -> None:
        self._files[key] = b"".join(parts)

    def delete(self, key: str) -> None:
        self._files.pop(key, None)

    def list_sizes(self, under: str = "") -> dict[str, int]:
        found = {key: len(data) for key, data in self._files.copy().items()}
        keys = sorted(key for key in found if not under or key.startswith(under + "/"))
        return {key: found[key] for key in keys}

    def list_folders(self) -> list[str]:
        return sorted({key.partition("/")[0] for key in self._files.copy() if "/" in key})

    def ignores_case(self) -> bool:
        return False

    def check_key(self, key: str) -> None:
        """Nothing to check: any name is a key."""

    def has_content(self) -> bool:
        return bool(self._files)

    def exists(self) -> bool:
        return True

    def sync(self) -> None:
        """Nothing to do: memory survives nothing."""

    def claim(self) -> None:
        if self._claimed:
            raise StoreInUse(f"{self} is being written already; a store has one writer at a time")
        self._claimed = True

    def release(self) -> None:
        self._claimed = False

    def delete_created_folders(self) -> None:
        """Nothing to do: there are no folders."""


_memories: dict[str, Memory] = {}


def _memory_of_this_process(name: str) -> Memory:
    if name not in _memories:
        raise NoStore(f"memory://{name} is in the memory of the process that pickled it")
    return _memories[name]


def names_in_memory() -> list[str]:
    """Return the names of the stores in the memory of this process."""
    return [name for name, files in _memories.items() if files.has_content()]


_url_scheme = re.compile("(abfss?|adl|azure|az|file|gs|https?|memory|s3a?):/")


def files_at(path: Any, *, durable: bool = False) -> Files:
    """Return the files at a local folder (``~`` is the home folder), a URL or an obstore store.

    URLs are ``file://``, ``memory://`` or those of object stores. Raises TypeError or ValueError
    for anything else.
    """
    if any(base.__module__.startswith("obstore") for base in type(path).__mro__):
        from tensorstate_gpu.store.bucket import Bucket

        return Bucket(path)
    if not isinstance(path, (str, os.PathLike)) or not isinstance(os.fspath(path), str):
        raise TypeError(
            f"a store's path must be a str, a path or an obstore store, got {type(path).__name__}"
        )
    text = os.fspath(path)
    if not isinstance(path, str) and _url_scheme.match(text):
        raise ValueError(
            f"a store's URL must be a str: as a path, {text} has lost a slash and names a folder"
        )
    if text.startswith("memory://"):
        name = text.removeprefix("memory://")
        return _memories.setdefault(name, Memory(name))
    if "://" in text and not text.startswith("file://"):
        from tensorstate_gpu.store.bucket import Bucket

        return Bucket.from_url(text)
    text = _folder_of(text) if text.startswith("file://") else os.path.expanduser(text)
    if not text:
        raise ValueError("a store's path must not be empty")
    if "\0" in text:
        raise ValueError(f"a store's path must not hold a zero character, got {text!r}")
    # Absolute, because the program may change its working directory.
    return Folder(Path(os.path.abspath(text)), durable=durable)


def real_place(place: str) -> str:
    """Return the location of files without links, so that the same folder has one."""
    return os.path.realpath(place) if os.path.exists(place) else place


def _folder_of(url: str) -> str:
    host, slash, below = url.removeprefix("file://").partition("/")
    if host not in ("", "localhost") or not slash:
        raise ValueError(f"a store's file URL must be file:///and/a/path, got {url}")
    return url2pathname(slash + below)  # reverses Path.as_uri()
