"""Checking a store: every file that its last commit lists, and those that no commit lists."""

import dataclasses
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import NamedTuple, cast

import google_crc32c

from tensorstate_gpu._process.progress import Progress
from tensorstate_gpu.errors import DamagedStore
from tensorstate_gpu.store.chunks import Document
from tensorstate_gpu.store.columns import ArrayReader, chunk_key
from tensorstate_gpu.store.files import Files
from tensorstate_gpu.store.keys import LABELS, label_key, state_key
from tensorstate_gpu.store.record import KEY, Committed, Record, check_document

# For files that come from far away; what is read here is quicker than that.
_READERS = 4
_CHECKSUM_BYTES = 4


@dataclasses.dataclass(frozen=True, slots=True)
class Verification:
    """What Store.verify() found.

    ``chunks``, ``bytes``: the chunks that could be read, and what they take where they lie.
    ``rows``: those committed, of all layers. ``problems``: a line for each file that a commit lists
    and that is missing or damaged. ``orphans``: the files that no commit lists, left by a writer
    that was killed, in use by one that captures, or put there by others; None where files cannot be
    listed.
    """

    __module__ = "tensorstate_gpu.store"

    chunks: int
    bytes: int
    rows: int
    problems: list[str]
    orphans: list[str] | None

    @property
    def good(self) -> bool:
        """Whether all that was committed is there, and whole."""
        return not self.problems


def verify(
    files: Files, read_record: Callable[[], Record], progress: Progress | None = None
) -> Verification:
    """Read and check what is committed; see Store.verify()."""
    record = read_record()
    arrays = committed_arrays(files, record)
    total = sum(len(array.committed.checksums) for array in arrays)
    problems = [*_labels_beyond(files, record), *_group_problems(files, record)]
    chunks = size = done = 0
    for array in arrays:
        read, found = _check_document(array, read_record)
        problems += found
        for checked in _in_parallel(partial(_check, read), len(array.committed.checksums)):
            done += 1
            chunks, size = chunks + (checked.problem is None), size + checked.bytes
            problems += [] if checked.problem is None else [checked.problem]
            if progress is not None:
                progress(done, total)
    rows = sum(layer.states.rows for layer in record.layers.values() if layer is not None)
    return Verification(chunks, size, rows, problems, _orphans(files, record, read_record))


class Checked(NamedTuple):
    """One chunk: what it takes, or what is wrong with it."""

    bytes: int
    problem: str | None


class CommittedArray:
    """An array that a commit lists; each of its files is checked when it is read."""

    def __init__(
        self, files: Files, key: str, committed: Committed, inner: tuple[int, ...]
    ) -> None:
        self.key, self.committed = key, committed
        self._files, self._inner = files, inner
        self._noted = _Noted(files)
        self._reader = ArrayReader(cast(Files, self._noted), key, committed, inner)

    @property
    def document_key(self) -> str:
        return f"{self.key}/{KEY}"

    def chunk_key(self, index: int) -> str:
        return chunk_key(self.key, index, 1 + len(self._inner))

    def file_keys(self) -> list[str]:
        """All of its files that are committed."""
        chunks = range(len(self.committed.checksums))
        return [self.document_key, *map(self.chunk_key, chunks)]

    def document(self) -> Document:
        """Its zarr.json; ValueError when it is missing, damaged or another array's."""
        self._reader.codec()
        return self._reader.document()

    def chunk(self, index: int) -> bytes:
        """A chunk as it lies there; ValueError when it is missing or not what was committed."""
        try:
            self._reader.chunk(index)
        finally:
            data = self._noted.taken(self.chunk_key(index))
        return data

    def chunk_alone(self, index: int) -> bytes:
        """A chunk that is whole, where zarr.json cannot say what it is to hold."""
        # The checksum is the last codec of all arrays of a store.
        name = f"{self._files}/{self.chunk_key(index)}"
        try:
            data = self._files.read(self.chunk_key(index))
        except FileNotFoundError as error:
            raise DamagedStore(f"{name} is missing, with captured states in it") from error
        values, found = data[:-_CHECKSUM_BYTES], data[-_CHECKSUM_BYTES:]
        if google_crc32c.value(values).to_bytes(_CHECKSUM_BYTES, "little") != found:
            raise DamagedStore(f"{name} is damaged: its checksum does not fit")
        return data

    def rows_beyond(self, shown: int, record: Record) -> list[str]:
        """The problem, if any, of showing zarr clients so many rows."""
        others = {
            other.key: other.committed.rows for other in committed_arrays(self._files, record)
        }
        committed = others.get(self.key, 0)
        if shown <= committed:
            return []
        name = f"{self._files}/{self.document_key}"
        return [f"{name} shows {shown} rows, {committed} are committed"]


class _Noted:
    """Files that are read by another, and then once more by us, without asking for them twice."""

    def __init__(self, files: Files) -> None:
        self._files = files
        self._read: dict[str, bytes] = {}

    def __str__(self) -> str:
        return str(self._files)

    def read(self, key: str) -> bytes:
        self._read[key] = data = self._files.read(key)
        return data

    def taken(self, key: str) -> bytes:
        return self._read.pop(key, b"")


def committed_arrays(files: Files, record: Record) -> list[CommittedArray]:
    """The arrays with committed values: each layer's states, then its labels."""
    arrays = []
    for name, layer in record.layers.items():
        if layer is not None and layer.states.rows:
            shape = (layer.row_bytes,)
            arrays.append(CommittedArray(files, state_key(name), layer.states, shape))
        if layer is not None and layer.labels is not None and layer.labels.rows:
            arrays.append(CommittedArray(files, label_key(name), layer.labels, ()))
    return arrays


def committed_keys(files: Files, record: Record) -> list[str]:
    """All files that a commit lists."""
    groups = [KEY, f"{LABELS}/{KEY}"] if record.has_labels else [KEY]
    return [
        *groups,
        *(key for array in committed_arrays(files, record) for key in array.file_keys()),
    ]


def _labels_beyond(files: Files, record: Record) -> Iterator[str]:
    for name, layer in record.layers.items():
        if layer is None or layer.labels is None or layer.labels.rows <= layer.instances:
            continue
        yield (
            f"{files}/{KEY} lists {layer.labels.rows} labels of {name!r}, "
            f"and {layer.instances} instances"
        )


def _group_problems(files: Files, record: Record) -> Iterator[str]:
    """The group of the labels; that of the run is the record, which was read already."""
    if not record.has_labels:
        return
    name = f"{files}/{LABELS}/{KEY}"
    try:
        check_document(files.read(f"{LABELS}/{KEY}"), name)
    except FileNotFoundError:
        yield f"{name} is missing, with captured states in its group"
    except (OSError, ValueError) as error:
        yield str(error)


def _check_document(
    array: CommittedArray, read_record: Callable[[], Record]
) -> tuple[Callable[[int], bytes], list[str]]:
    """How the chunks of an array can be read, and what is wrong with its zarr.json."""
    try:
        shown = array.document()["shape"][0]
    except (OSError, ValueError) as error:
        return array.chunk_alone, [str(error)]
    if shown <= array.committed.rows:  # fewer, where a writer was killed after its commit
        return array.chunk, []
    return array.chunk, array.rows_beyond(shown, read_record())  # it may have grown meanwhile


def _check(read: Callable[[int], bytes], index: int) -> Checked:
    try:
        return Checked(len(read(index)), None)
    except (OSError, ValueError) as error:
        return Checked(0, str(error))


def _in_parallel(check: Callable[[int], Checked], count: int) -> Iterator[Checked]:
    with ThreadPoolExecutor(_READERS, "tensorstate verify") as readers:
        try:
            yield from readers.map(check, range(count))
        except BaseException:  # Ctrl-C: those that were not begun are given up
            readers.shutdown(wait=False, cancel_futures=True)
            raise


def _orphans(files: Files, record: Record, read_record: Callable[[], Record]) -> list[str] | None:
    try:
        there = files.sizes()
    except OSError:
        return None
    # What a writer has committed while we read is no orphan.
    listed = {*committed_keys(files, record), *committed_keys(files, read_record())}
    return [key for key in there if key not in listed]
