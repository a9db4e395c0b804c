"""Packed states on disk: one zarr v3 group per run, one array (rows, bytes) per capture point.

The layout is readable by any zarr v3 client. The group's attribute ``tensorstate`` holds the format
number; an array's attributes hold its layer's name, neurons, neuron axis, threshold and ``rows``,
the rows that are really there: rows are written first, then published by that attribute, and a
reader looks no further. A process that is killed keeps what was published; rows still in the
buffer (at most one chunk per layer) are lost then.
"""

import os
import weakref
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import zarr
from zarr.codecs import Crc32cCodec, ZstdCodec

from tensorstate_gpu._locks import ForkSafeLock
from tensorstate_gpu.memory_rows import CHUNK_BYTES
from tensorstate_gpu.stored_rows import StoredRows, deleted

FORMAT = 1
_LONGEST_NAME = 255  # bytes of a file name on Linux, macOS and Windows


def local_folder(path: Any) -> Path:
    """A path from the root, since programs change their working directory; no URLs."""
    if not isinstance(path, (str, os.PathLike)):
        raise TypeError(f"a store's path must be a str or a path, got {type(path).__name__}")
    text = os.fspath(path)
    if not isinstance(text, str) or "://" in text:
        raise ValueError(f"states are stored in local folders, got {text!r}")
    return Path(os.path.abspath(text))


def escape(name: str) -> str:
    """A layer's name as a zarr node name: no slash, no leading dot or underscore.

    ValueError for one that is too long for a folder.
    """
    escaped = quote(name, safe=" ()+,-=@[]")
    if escaped[0] in "._" or escaped == "zarr.json":
        escaped = f"%{ord(escaped[0]):02X}{escaped[1:]}"
    if len(escaped) > _LONGEST_NAME:
        raise ValueError(
            f"a layer on disk has a name of at most {_LONGEST_NAME} bytes, got {len(escaped)}: "
            f"{escaped[:40]}..."
        )
    return escaped


class Store:
    """The packed states of one run on disk."""

    def __init__(self, path: Path, group: zarr.Group) -> None:
        self.path = path
        self._group = group
        self._lock = ForkSafeLock()
        self._reserved: set[str] = set()
        self._abandoned = False
        self._arrays: dict[str, StoredRows] = {}

    @classmethod
    def create(cls, path: Any) -> "Store":
        """A new store; ValueError when anything is there already. Nothing is ever overwritten."""
        folder = local_folder(path)
        if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
            raise ValueError(f"{folder} exists and is not empty; it is not overwritten")
        from tensorstate_gpu import __version__

        group = zarr.open_group(folder, mode="w-", zarr_format=3)
        group.attrs["tensorstate"] = {
            "format": FORMAT,
            "version": __version__,
            "started": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        return cls(folder, group)

    @classmethod
    def open(cls, path: Any) -> "Store":
        """Read a store; ValueError when there is none at the path."""
        folder = local_folder(path)
        try:
            group = zarr.open_group(folder, mode="r", zarr_format=3)
            about = group.attrs["tensorstate"]
        except (FileNotFoundError, KeyError, ValueError) as error:
            raise ValueError(f"{folder} holds no captured states") from error
        if not isinstance(about, dict) or about.get("format") != FORMAT:
            raise ValueError(f"{folder} has another format than {FORMAT}: {about}")
        store = cls(folder, group)
        for key, array in sorted(group.arrays()):
            try:
                rows = StoredRows(array, folder / key)
            except (KeyError, ValueError) as error:
                raise ValueError(f"{folder} holds {key!r}, which is no capture: {error}") from error
            store._arrays[rows.name] = rows
        return store

    @property
    def names(self) -> list[str]:
        """The layers, in the order in which they were added."""
        return sorted(self._arrays, key=lambda name: self._arrays[name].position)

    def __getitem__(self, name: str) -> "StoredRows":
        return self._arrays[name]

    def reserve(self, name: str) -> None:
        """Claim a name; ValueError when it is taken."""
        with self._lock:
            if name in self._reserved or name in self._arrays:
                raise ValueError(f"{self.path} already has states of {name!r}")
            self._reserved.add(name)

    def add(self, name: str, neurons: int, attributes: dict[str, Any]) -> "StoredRows":
        """A new, empty array for a capture point whose name was reserved."""
        row_bytes = (neurons + 7) // 8
        with self._lock:
            if self._abandoned:
                raise deleted(self.path)
            array = self._group.create_array(
                escape(name),
                shape=(0, row_bytes),
                chunks=(max(1, CHUNK_BYTES // row_bytes), row_bytes),
                dtype="uint8",
                attributes={
                    "name": name,
                    "position": 1
                    + max((rows.position for rows in self._arrays.values()), default=-1),
                    "neurons": neurons,
                    "rows": 0,
                    **attributes,
                },
                compressors=[ZstdCodec(level=0), Crc32cCodec()],
                # An all-zero chunk is a real one: a missing chunk must not pass for it.
                config={"write_empty_chunks": True},
            )
            self._arrays[name] = StoredRows(array, self.path / escape(name))
            return self._arrays[name]

    def remove(self, name: str) -> None:
        """Delete a capture point's rows, and free its name."""
        with self._lock:
            self._reserved.discard(name)
            rows = self._arrays.pop(name, None)
            if rows is not None:
                rows.discard()
                if not self._abandoned:
                    del self._group[escape(name)]

    def give_up(self, name: str) -> None:
        """As remove; a store in which nobody has a name any more goes too, for another try."""
        with self._lock:
            self.remove(name)
            if not self._reserved and not self._arrays:
                (self.path / "zarr.json").unlink(missing_ok=True)

    def abandon(self) -> None:
        """Take no more rows: the folder was deleted, and is not to be filled again with these."""
        self._abandoned = True
        for rows in self._arrays.values():
            rows.discard()

    def flush(self) -> None:
        """Publish all rows that are still buffered."""
        for rows in self._arrays.values():
            rows.flush()


_shared: "weakref.WeakValueDictionary[Path, Store]" = weakref.WeakValueDictionary()
_shared_lock = ForkSafeLock()


def shared_store(path: Any, name: str) -> Store:
    """The store that this process writes at a path, created at first use, with ``name`` reserved.

    TypeError or ValueError when the path or the name cannot be used; nothing is created then.
    """
    folder = local_folder(path)
    escape(name)
    with _shared_lock:
        store = _shared.get(folder)
        if store is not None and not (folder / "zarr.json").exists():
            store.abandon()
            store = None
        if store is None:
            store = _shared[folder] = Store.create(folder)
        store.reserve(name)
        return store
