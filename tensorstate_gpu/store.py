"""Packed states on disk: one zarr v3 group per run, one array (rows, bytes) per capture point.

The layout is readable by any zarr v3 client. The group's attribute ``tensorstate`` holds the format
number; an array's attributes hold its layer's name, neurons, neuron axis, threshold and ``rows``,
the rows that are really there: rows are written first, then published by that attribute, and a
reader looks no further. A process that is killed keeps what was published; rows still in the
buffer (at most one chunk per layer) are lost then.
"""

import os
import threading
import weakref
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import zarr
from numpy.typing import NDArray

from tensorstate_gpu.memory_rows import CHUNK_BYTES

FORMAT = 1


def escape(name: str) -> str:
    """A layer's name as a zarr node name: no slash, no leading dot or underscore."""
    escaped = quote(name, safe=" ()+,-=@[]")
    taken = escaped[0] in "._" or escaped == "zarr.json"
    return f"%{ord(escaped[0]):02X}{escaped[1:]}" if taken else escaped


class Store:
    """The packed states of one run on disk."""

    def __init__(self, path: Path, group: zarr.Group) -> None:
        self.path = path
        self._group = group
        self._lock = threading.RLock()
        self._reserved: set[str] = set()
        self._arrays: dict[str, StoredRows] = {}

    @classmethod
    def create(cls, path: Any) -> "Store":
        """A new store; ValueError when anything is there already. Nothing is ever overwritten."""
        folder = Path(os.path.abspath(path))  # the program may change its working directory
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
        folder = Path(path)
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
            except KeyError as error:
                raise ValueError(f"{folder} holds {key!r}, which is no capture") from error
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
                del self._group[escape(name)]

    def flush(self) -> None:
        """Publish all rows that are still buffered."""
        for rows in self._arrays.values():
            rows.flush()


class StoredRows:
    """The rows of one capture point on disk; written in whole chunks."""

    def __init__(self, array: Any, folder: Path) -> None:
        self._array = array
        self._folder = folder.absolute()
        self._process = os.getpid()
        attributes = array.attrs.asdict()
        self.name: str = attributes["name"]
        self.position: int = attributes["position"]
        self.neurons: int = attributes["neurons"]
        self.neuron_axis: int | None = attributes.get("neuron_axis")
        self._published: int = attributes["rows"]
        self._chunk_rows: int = array.chunks[0]
        # Whole chunks lie before _base; the buffer holds what follows, published or not.
        self._base = self._published
        self._buffer = np.empty((0, array.shape[1]), np.uint8)
        self._filled = 0

    @property
    def rows(self) -> int:
        return int(self._base + self._filled)

    def append(self, packed: NDArray[np.uint8]) -> None:
        """Keep a copy of the rows; a chunk is written when it is full."""
        if self._process != os.getpid():
            raise RuntimeError(
                f"{self.name}: process {self._process} writes {self._folder}, and a store has one "
                "writer; after a fork, capture with a disk_path of its own"
            )
        if not len(self._buffer):
            self._buffer = np.empty((self._chunk_rows, packed.shape[1]), np.uint8)
            # What is buffered when this object or the program ends still belongs to the capture.
            weakref.finalize(self, _write_last, self._array, self.__dict__).atexit = False
            _buffered.add(self)
        done = 0
        while done < len(packed):
            count = min(len(packed) - done, self._chunk_rows - self._filled)
            self._buffer[self._filled : self._filled + count] = packed[done : done + count]
            self._filled += count
            done += count
            if self._filled == self._chunk_rows:
                self.flush()
                self._base, self._filled = self._base + self._filled, 0

    def flush(self) -> None:
        """Write and publish the rows in the buffer; a part of a chunk is written again later."""
        if self._process == os.getpid():  # a forked child has a copy: the parent writes it
            _write_tail(self._array, self.__dict__)

    def discard(self) -> None:
        """Forget the buffered rows: the array is about to be deleted."""
        self._filled = 0

    def chunks(self) -> Iterator[NDArray[np.uint8]]:
        """All rows, in order: (rows, bytes)."""
        # What is there at the call; rows appended while the caller iterates are not seen.
        base, last = self._base, self._buffer[: self._filled].copy()
        starts = range(0, base, self._chunk_rows)
        on_disk = (self._array[i : min(i + self._chunk_rows, base)] for i in starts)
        return chain(on_disk, [last] if len(last) else [])


def _write_tail(array: Any, state: dict[str, Any]) -> None:
    base, filled = state["_base"], state["_filled"]
    if base + filled > state["_published"]:
        array.resize((base + filled, array.shape[1]))
        array[base : base + filled] = state["_buffer"][:filled]
        array.attrs["rows"] = base + filled
        state["_published"] = base + filled


def _write_last(array: Any, state: dict[str, Any]) -> None:
    # A forked child has a copy of the buffer: the rows are its parent's to write. And a folder that
    # was deleted meanwhile stays deleted.
    if state["_process"] == os.getpid() and state["_folder"].exists():
        _write_tail(array, state)


_buffered: "weakref.WeakSet[StoredRows]" = weakref.WeakSet()


def _flush_all() -> None:
    problems = []
    for rows in list(_buffered):
        try:
            _write_last(rows._array, rows.__dict__)
        except Exception as error:  # the other layers are written all the same
            problems.append(error)
    if problems:
        raise ExceptionGroup("captured states could not be written", problems)


# zarr writes through an executor, which ends before atexit functions run; this hook of the standard
# library's own executors runs in time.
threading._register_atexit(_flush_all)  # type: ignore[attr-defined]

_shared: "weakref.WeakValueDictionary[str, Store]" = weakref.WeakValueDictionary()
_shared_lock = threading.Lock()


def shared_store(path: Any) -> Store:
    """The store that the capture points of this process write at a path; created at first use."""
    key = os.path.abspath(path)
    with _shared_lock:
        store = _shared.get(key)
        if store is None:
            store = _shared[key] = Store.create(path)
        return store
