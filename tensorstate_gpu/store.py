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
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.codecs import Crc32cCodec, ZstdCodec

from tensorstate_gpu._locks import ForkSafeLock
from tensorstate_gpu.memory_rows import CHUNK_BYTES, RowKeeper

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
                raise _deleted(self.path)
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


class StoredRows(RowKeeper):
    """The rows of one capture point on disk; written in whole chunks."""

    def __init__(self, array: Any, folder: Path) -> None:
        attributes = array.attrs.asdict()
        self.name: str = attributes["name"]
        self.position: int = attributes["position"]
        self.neurons: int = attributes["neurons"]
        self.neuron_axis: int | None = attributes.get("neuron_axis")
        self._array = array
        self._folder = folder.absolute()
        self._writer: int | None = os.getpid()
        self._published: int = attributes["rows"]
        _check_shape(array, self.neurons, self._published)
        super().__init__(array.shape[1], array.chunks[0], self._published)

    def append(self, packed: NDArray[np.uint8]) -> None:
        """Keep a copy of the rows; a chunk is written when it is full."""
        if self._writer is None:
            raise _deleted(self._folder.parent)
        if self._writer != os.getpid():
            raise RuntimeError(
                f"{self.name}: process {self._writer} writes {self._folder}, and a store has one "
                "writer; after a fork, capture with a disk_path of its own"
            )
        if self not in _buffered:
            # What is buffered when this object or the program ends still belongs to the capture.
            weakref.finalize(self, _write_last, self._array, self.__dict__).atexit = False
            _buffered.add(self)
        super().append(packed)

    def _write(self, chunks: Sequence[NDArray[np.uint8]]) -> None:
        _publish(self._array, self.__dict__, chunks)

    def flush(self) -> None:
        """Write and publish the rows in the buffer; a part of a chunk is written again later."""
        if self._writer == os.getpid():  # a forked child has a copy: the parent writes it
            _write_tail(self._array, self.__dict__)

    def discard(self) -> None:
        """Forget the buffered rows, and take no others: the array is deleted."""
        self._filled, self._writer = 0, None

    def chunks(self) -> Iterator[NDArray[np.uint8]]:
        base, last = self._base, self._buffer[: self._filled].copy()
        on_disk = (self._read(i, base) for i in range(0, base, self._chunk_rows))
        return chain(on_disk, [last] if len(last) else [])

    def _read(self, start: int, base: int) -> NDArray[np.uint8]:
        """The rows of the chunk that begins at ``start``, up to ``base``."""
        file = self._folder / "c" / str(start // self._chunk_rows) / "0"
        if not file.exists():  # zarr would give zeros
            raise ValueError(f"{self.name}: {file} is missing, with captured states in it")
        try:
            rows: NDArray[np.uint8] = self._array[start : min(start + self._chunk_rows, base)]
        except Exception as error:  # codecs raise errors of every kind
            raise ValueError(f"{self.name}: {file} is damaged: {error}") from error
        return rows


def _check_shape(array: Any, neurons: Any, rows: Any) -> None:
    """ValueError when an array's attributes do not describe it."""
    fits = (
        type(neurons) is int
        and type(rows) is int
        and array.dtype == np.uint8
        and array.shape[1:] == ((neurons + 7) // 8,) == array.chunks[1:]
        and 0 <= rows <= array.shape[0]
    )
    if not fits:
        raise ValueError(
            f"{array.name}: {array.dtype} of shape {array.shape} cannot hold {rows} states of "
            f"{neurons} neurons"
        )


def _deleted(folder: Path) -> RuntimeError:
    return RuntimeError(f"{folder} was deleted while states were captured into it")


def _publish(array: Any, state: dict[str, Any], chunks: Sequence[NDArray[np.uint8]]) -> None:
    """Write chunks from the last whole one on, then say that their rows are there."""
    if not (state["_folder"].parent / "zarr.json").exists():
        raise _deleted(state["_folder"].parent)  # rows written there now could not be opened
    start = state["_base"]
    stop = start + sum(map(len, chunks))
    array.resize((stop, array.shape[1]))
    for chunk in chunks:
        array[start : start + len(chunk)] = chunk
        start += len(chunk)
    array.attrs["rows"] = stop
    state["_published"] = stop


def _write_tail(array: Any, state: dict[str, Any]) -> None:
    if state["_base"] + state["_filled"] > state["_published"]:
        _publish(array, state, [state["_buffer"][: state["_filled"]]])


def _write_last(array: Any, state: dict[str, Any]) -> None:
    # A forked child has a copy of the buffer: the rows are its parent's to write. And a folder that
    # was deleted meanwhile stays deleted.
    if state["_writer"] == os.getpid() and state["_folder"].exists():
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
