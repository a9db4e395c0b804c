"""Stores of counts: a histogram as a zarr v3 group, with the checksums of a store of states.

``states`` is an array (distinct, bytes) in order, ``counts`` how often each occurred, in the
smallest unsigned type that holds them. Both have chunks of the same rows, whose first rows are
``fences``. The record, an attribute of the group, is written last: without it there are no counts.
"""

import base64
import dataclasses
import json
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tensorstate_gpu._arrays.layout import row_bytes
from tensorstate_gpu._process.interrupts import deferred_interrupts
from tensorstate_gpu._process.new_files import new_folder
from tensorstate_gpu._states.sorted_runs import Histogram, narrowest, order_key
from tensorstate_gpu._states.stored_counts import StoredCounts, runs_of
from tensorstate_gpu._states.tallies import Tally
from tensorstate_gpu._version import __version__
from tensorstate_gpu.errors import NoStore, UnknownFormat
from tensorstate_gpu.store.buffer_pool import BufferPool
from tensorstate_gpu.store.columns import ArrayReader, Column
from tensorstate_gpu.store.commit_record import (
    KEY,
    ArrayRecord,
    check_document,
    group_document,
)
from tensorstate_gpu.store.files import Files, files_at
from tensorstate_gpu.store.folder import Folder

FORMAT = 1
ATTRIBUTE = "tensorstate_counts"
# Rows of a chunk, of which the first stays in memory; see also sorted_runs.
_CHUNK_BYTES, _LEAST_CHUNK_ROWS = 1 << 20, 128


@dataclasses.dataclass(frozen=True, slots=True)
class CountsRecord:
    """What a store of counts contains. ``most``: no count is greater."""

    neurons: int
    most: int
    tally: Tally
    arrays: dict[str, ArrayRecord]

    def to_bytes(self) -> bytes:
        occurrences, states = (_encoded(part) for part in self.tally.arrays())
        about = {
            "format": FORMAT,
            "version": __version__,
            "neurons": self.neurons,
            "most": self.most,
            "occurrences": occurrences,
            "states_by_occurrence": states,
            "arrays": {name: array.to_json() for name, array in self.arrays.items()},
        }
        return group_document({ATTRIBUTE: about})

    @classmethod
    def from_bytes(cls, data: bytes, where: str) -> "CountsRecord":
        """Parse a record. Raises ValueError if it is none, of another format, or damaged."""
        try:
            about = json.loads(data)["attributes"][ATTRIBUTE]
        except (ValueError, KeyError, TypeError) as error:
            raise NoStore(f"{where} holds no counts") from error
        if about.get("format") != FORMAT:
            raise UnknownFormat(
                f"{where} has counts of format {about.get('format')}, this version reads {FORMAT}; "
                f"they were written by tensorstate_gpu {about.get('version')}"
            )
        check_document(data, f"{where}/{KEY}")
        tally = Tally.of(_decoded(about["occurrences"]), _decoded(about["states_by_occurrence"]))
        arrays = {name: ArrayRecord.from_json(each) for name, each in about["arrays"].items()}
        return cls(about["neurons"], about["most"], tally, arrays)


def _encoded(numbers: NDArray[np.int64]) -> str:
    return base64.b64encode(numbers.astype("<i8").tobytes()).decode()


def _decoded(text: str) -> NDArray[np.int64]:
    return np.frombuffer(base64.b64decode(text), "<i8").astype(np.int64)


class KeptRun:
    """The histogram of a store of counts as a sorted run; its blocks are the chunks."""

    def __init__(self, files: Files, record: CountsRecord) -> None:
        self._made_of = files, record
        width = row_bytes(record.neurons)
        shapes: dict[str, tuple[int, ...]] = {"states": (width,), "counts": (), "fences": (width,)}
        self._readers = {
            name: ArrayReader(files, name, record.arrays[name], shape)
            for name, shape in shapes.items()
        }
        self._width, self.most = width, record.most
        self.fences = [order_key(row) for part in self._readers["fences"].chunks() for row in part]
        states = record.arrays["states"]
        starts = range(0, states.rows, states.chunk_rows)
        self.sizes = [min(states.chunk_rows, states.rows - start) for start in starts]

    def __reduce__(self) -> tuple[type["KeptRun"], tuple[Files, CountsRecord]]:
        return KeptRun, self._made_of  # another process reads the same files

    def read(self, first: int, last: int) -> Histogram:
        chunks = range(first, last)
        rows = [self._readers["states"].chunk(index) for index in chunks]
        # Each to int64: together with an array of uint64 they would become floats.
        counts = [self._readers["counts"].chunk(index).astype(np.int64) for index in chunks]
        none = np.empty((0, self._width), np.uint8), np.empty(0, np.int64)
        return np.concatenate([none[0], *rows]), np.concatenate([none[1], *counts])


def open_counts(path: Any) -> StoredCounts:
    """Return the counts that ``count_states(..., to=path)`` or ``StoredCounts.save`` has written.

    Parameters
    ----------
    path : str, path or obstore store
        As for `Store`.

    Returns
    -------
    StoredCounts
        It reads from there: keep the store as long as it is used.

    Raises
    ------
    TypeError, ValueError
        For a path that is none; NoStore, UnknownFormat or DamagedStore, which are ValueErrors.
    """
    files = files_at(path)
    try:
        data = files.read(KEY)
    except (FileNotFoundError, IsADirectoryError) as error:
        raise NoStore(f"{files} holds no counts") from error
    record = CountsRecord.from_bytes(data, str(files))
    return StoredCounts([KeptRun(files, record)], record.neurons, record.tally)


def write_counts(path: Any, counts: StoredCounts) -> StoredCounts:
    """Write counts to a new store; see StoredCounts.save()."""
    files = files_at(path)
    if isinstance(files, Folder):
        with new_folder(files.path) as partial:
            _write(Folder(partial), counts)
        return open_counts(path)
    if files.has_content():
        raise ValueError(f"{files} exists; it is not overwritten")
    try:
        _write(files, counts)
    except BaseException:
        for key in files.list_sizes():
            files.delete(key)
        raise
    return open_counts(path)


def _write(files: Files, counts: StoredCounts) -> None:
    width = row_bytes(counts.neurons)
    chunk_rows = max(_LEAST_CHUNK_ROWS, _CHUNK_BYTES // width)
    dtype = narrowest(sum(run.most for run in runs_of(counts)))
    states = _column(files, "states", np.empty((0, width), np.uint8), chunk_rows)
    numbers = _column(files, "counts", np.empty(0, dtype), chunk_rows)
    fences = _column(files, "fences", np.empty((0, width), np.uint8), chunk_rows)
    tally, most = Tally(), 0
    for piece in counts.pieces():
        fences.append(piece.packed[-states.rows % chunk_rows :: chunk_rows])
        states.append(piece.packed)
        numbers.append(piece.counts.astype(dtype))
        tally.add(piece.counts)
        most = max(most, int(piece.counts.max()))
    arrays = {column.key: _finished(column) for column in (states, numbers, fences)}
    files.write(KEY, CountsRecord(counts.neurons, most, tally, arrays).to_bytes())
    files.sync()


def _column(files: Files, key: str, empty: NDArray[Any], chunk_rows: int) -> Column:
    chunk_bytes = chunk_rows * empty.itemsize * int(np.prod(empty.shape[1:]))
    dimensions = ("state", "byte")[: empty.ndim] if key != "fences" else ("fence", "byte")
    return Column(
        files, key, empty, _at_once, BufferPool(chunk_bytes), dimensions, None, chunk_bytes
    )


def _at_once(work: Callable[[], None], size: int = 0, *, exclusive: bool = False) -> None:
    work()


def _finished(column: Column) -> ArrayRecord:
    """Write the last chunk of a column and its shape. Return its entry in the record."""
    snapshot = column.snapshot()
    with deferred_interrupts():
        column.write_partial_chunk(snapshot)
        column.update_metadata(snapshot.rows, {})
    return column.commit_entry(snapshot)
