"""Where the files of a store lie: in a folder, in this process's memory, in an object store."""

import os
import re
from pathlib import Path
from typing import Any, Protocol
from urllib.request import url2pathname

from tensorstate_gpu.errors import StoreInUse
from tensorstate_gpu.store.folder import Buffer, Folder


class Files(Protocol):
    """Files by key; each is written whole or not at all. ``str()`` says where they lie.

    ``writers``: how many files it pays to write at once.
    """

    writers: int

    def read(self, key: str) -> bytes:
        """The content of a file; FileNotFoundError where there is none."""

    def write(self, key: str, *parts: Buffer) -> None:
        """Write or replace a file by these bytes, one after the other."""

    def delete(self, key: str) -> None:
        """Delete a file, if it is there."""

    def sizes(self, under: str = "") -> dict[str, int]:
        """All files, or those under one key, in order, with their bytes."""

    def is_taken(self) -> bool:
        """Whether there is anything, but for what a killed writer left half written."""

    def exists(self) -> bool:
        """Whether they are still those that were claimed, and not deleted meanwhile."""

    def sync(self) -> None:
        """What was written and deleted so far survives a power cut."""

    def claim(self) -> None:
        """Be the only writer; ValueError where there is one."""

    def release(self) -> None:
        """Let others write."""


class Memory:
    """Files in this process's memory, for tests and notebooks; ``memory://name`` in a Store."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._files: dict[str, bytes] = {}
        self._claimed = False
        self.writers = 1

    def __str__(self) -> str:
        return f"memory://{self._name}"

    def read(self, key: str) -> bytes:
        if key not in self._files:
            raise FileNotFoundError(f"{self} has no {key}")
        return self._files[key]

    def write(self, key: str, *parts: Buffer) -> None:
        self._files[key] = b"".join(parts)

    def delete(self, key: str) -> None:
        self._files.pop(key, None)

    def sizes(self, under: str = "") -> dict[str, int]:
        found = {key: len(data) for key, data in self._files.copy().items()}
        keys = sorted(key for key in found if not under or key.startswith(under + "/"))
        return {key: found[key] for key in keys}

    def is_taken(self) -> bool:
        return bool(self._files)

    def exists(self) -> bool:
        return True

    def sync(self) -> None:
        """Nothing to do: memory does not survive anything."""

    def claim(self) -> None:
        if self._claimed:
            raise StoreInUse(f"{self} is being written already; a store has one writer at a time")
        self._claimed = True

    def release(self) -> None:
        self._claimed = False


_memories: dict[str, Memory] = {}
_url_in_a_path = re.compile("(abfss?|adl|azure|az|file|gs|https?|memory|s3a?):/")


def files_at(path: Any, *, durable: bool = False) -> Files:
    """The files at a folder, a ``file://``, ``memory://`` or object-store URL, or an obstore store.

    TypeError or ValueError for what is none of these.
    """
    if any(base.__module__.startswith("obstore") for base in type(path).__mro__):
        from tensorstate_gpu.store.bucket import Bucket

        return Bucket(path)
    if not isinstance(path, (str, os.PathLike)) or not isinstance(os.fspath(path), str):
        raise TypeError(
            f"a store's path must be a str, a path or an obstore store, got {type(path).__name__}"
        )
    text = os.fspath(path)
    if not isinstance(path, str) and _url_in_a_path.match(text):
        raise ValueError(
            f"a store's URL must be a str: as a path, {text} has lost a slash and names a folder"
        )
    if text.startswith("memory://"):
        name = text.removeprefix("memory://")
        return _memories.setdefault(name, Memory(name))
    if "://" in text and not text.startswith("file://"):
        from tensorstate_gpu.store.bucket import Bucket

        return Bucket.from_url(text)
    if text.startswith("file://"):
        text = _folder_of(text)
    if not text:
        raise ValueError("a store's path must not be empty")
    if "\0" in text:
        raise ValueError(f"a store's path must not hold a zero character, got {text!r}")
    # From the root, since programs change their working directory.
    return Folder(Path(os.path.abspath(text)), durable=durable)


def _folder_of(url: str) -> str:
    host, slash, below = url.removeprefix("file://").partition("/")
    if host not in ("", "localhost") or not slash:
        raise ValueError(f"a store's file URL must be file:///and/a/path, got {url}")
    return url2pathname(slash + below)  # as Path.as_uri() wrote it
