"""Packed rows of one capture point on disk, in order: the twin of memory_rows.py.

Rows are written first, then published by the array's attribute ``rows``; a reader looks no further.
"""

import os
import threading
import weakref
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tensorstate_gpu.memory_rows import RowKeeper


class StoredRows(RowKeeper):
    """The rows of one capture point on disk; written in whole chunks."""

    outlives_process = True

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
            raise deleted(self._folder.parent)
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


def deleted(folder: Path) -> RuntimeError:
    return RuntimeError(f"{folder} was deleted while states were captured into it")


def _publish(array: Any, state: dict[str, Any], chunks: Sequence[NDArray[np.uint8]]) -> None:
    """Write chunks from the last whole one on, then say that their rows are there."""
    if not (state["_folder"].parent / "zarr.json").exists():
        raise deleted(state["_folder"].parent)  # rows written there now could not be opened
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
