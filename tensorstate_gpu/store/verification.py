"""Checks a store: all files that the last commit lists, and files that no commit lists."""

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import NamedTuple, cast

import google_crc32c

from tensorstate_gpu._arguments import function
from tensorstate_gpu._process.progress import ProgressCallback, running_total
from tensorstate_gpu.errors import DamagedStore
from tensorstate_gpu.store.array_record import ArrayRecord
from tensorstate_gpu.store.chunks import Document
from tensorstate_gpu.store.columns import ArrayReader, chunk_key
from tensorstate_gpu.store.commit_record import LayerRecord, Record
from tensorstate_gpu.store.counts_entry import RunRecord
from tensorstate_gpu.store.documents import KEY, check_document
from tensorstate_gpu.store.files import Files
from tensorstate_gpu.store.kept_runs import array_key, run_arrays
from tensorstate_gpu.store.keys import ledger_key, note_key, run_key, state_key
from tensorstate_gpu.store.ledger_array import COLUMNS, read_batches

# Threads that read chunks: hides the latency of an object store. Local files need fewer.
_READERS = 4
_CHECKSUM_BYTES = 4


@dataclasses.dataclass(frozen=True, slots=True)
class Verification:
    """The result of Store.verify().

    ``chunks``, ``bytes``: the number of intact chunks, and the size of their files.
    ``rows``: the number of committed rows, over all layers.
    ``problems``: one line for each missing or damaged file that the last commit lists.
    ``orphans``: files that no commit lists, or None if files cannot be listed. A writer that was
    killed leaves such files; others belong to a running capture, or are not part of the store.
    """

    __module__ = "tensorstate_gpu.store"

    chunks: int
    bytes: int
    rows: int
    problems: list[str]
    orphans: list[str] | None

    @property
    def good(self) -> bool:
        """True if everything that was committed is present and intact."""
        return not self.problems


def verify(
    files: Files, read_record: Callable[[], Record], progress: ProgressCallback | None = None
) -> Verification:
    """Read and check everything that is committed; see Store.verify()."""
    function(progress, "progress")  # before anything is read
    record = read_record()
    found = [*_excess_note_problems(files, record), *_group_problems(files, record)]
    arrays = committed_arrays(files, record)
    checked = check_arrays(arrays, lambda: committed_arrays(files, read_record()), progress)
    problems = found + checked.problems
    problems += [] if problems else _ledger_problems(files, record)
    rows = sum(layer.rows for layer in record.layers.values() if layer is not None)
    listed = partial(_keys_of_commits, files, record, read_record)
    return Verification(checked.chunks, checked.bytes, rows, problems, orphans(files, listed))


class CheckedArrays(NamedTuple):
    """How many chunks of arrays are intact, the size of their files, and what is wrong."""

    chunks: int
    bytes: int
    problems: list[str]


def check_arrays(
    arrays: Sequence["CommittedArray"],
    read_arrays: Callable[[], Iterable["CommittedArray"]],
    progress: ProgressCallback | None,
) -> CheckedArrays:
    """Read and check all files of arrays.

    ``read_arrays`` returns what is committed by now. ``progress`` is called with the chunks checked
    so far, and all of them.
    """
    on_chunk = running_total(progress, sum(len(array.committed.checksums) for array in arrays))
    chunks, size, problems = 0, 0, []
    for array in arrays:
        read, found = _check_document(array, read_arrays)
        problems += found
        for checked in _check_in_parallel(partial(_check, read), len(array.committed.checksums)):
            chunks, size = chunks + (checked.problem is None), size + checked.bytes
            problems += [] if checked.problem is None else [checked.problem]
            if on_chunk is not None:
                on_chunk(1)
    return CheckedArrays(chunks, size, problems)


class ChunkResult(NamedTuple):
    """The result for one chunk: the size of its file, or the problem with it."""

    bytes: int
    problem: str | None


class CommittedArray:
    """An array that a commit lists; each file is checked when it is read."""

    def __init__(
        self, files: Files, key: str, committed: ArrayRecord, value_shape: tuple[int, ...]
    ) -> None:
        self.key, self.committed = key, committed
        self._files, self._inner = files, value_shape
        self._cached_reads = _CachedReads(files)
        self._reader = ArrayReader(cast(Files, self._cached_reads), key, committed, value_shape)

    @property
    def document_key(self) -> str:
        return f"{self.key}/{KEY}"

    def chunk_key(self, index: int) -> str:
        return chunk_key(self.key, index, 1 + len(self._inner))

    def file_keys(self) -> list[str]:
        """Return the keys of all committed files of the array."""
        chunks = range(len(self.committed.checksums))
        return [self.document_key, *map(self.chunk_key, chunks)]

    def document(self) -> Document:
        """Read zarr.json. Raises ValueError if it is missing, damaged or another array's."""
        self._reader.codec()
        return self._reader.document()

    def chunk(self, index: int) -> bytes:
        """Read the bytes of a chunk. Raises ValueError if they are not what was committed."""
        try:
            self._reader.chunk(index)
        finally:
            data = self._cached_reads.pop(self.chunk_key(index))
        return data

    def chunk_without_metadata(self, index: int) -> bytes:
        """Read the bytes of a chunk whose zarr.json is damaged, and check only its own checksum."""
        # In all arrays of a store, the last codec is the checksum.
        name = f"{self._files}/{self.chunk_key(index)}"
        try:
            data = self._files.read(self.chunk_key(index))
        except FileNotFoundError as error:
            raise DamagedStore(f"{name} is missing, with captured states in it") from error
        values, found = data[:-_CHECKSUM_BYTES], data[-_CHECKSUM_BYTES:]
        if google_crc32c.value(values).to_bytes(_CHECKSUM_BYTES, "little") != found:
            raise DamagedStore(f"{name} is damaged: its checksum does not fit")
        return data

    def excess_rows_problems(
        self, array_rows: int, committed: Iterable["CommittedArray"]
    ) -> list[str]:
        """Return a problem if zarr clients see more rows than are committed, or an empty list."""
        rows = next((each.committed.rows for each in committed if each.key == self.key), 0)
        if array_rows <= rows:
            return []
        name = f"{self._files}/{self.document_key}"
        return [f"{name} shows {array_rows} rows, {rows} are committed"]


class _CachedReads:
    """Files whose content is kept after a read, until pop() returns it once more."""

    def __init__(self, files: Files) -> None:
        self._files = files
        self._read: dict[str, bytes] = {}

    def __str__(self) -> str:
        return str(self._files)

    def read(self, key: str) -> bytes:
        self._read[key] = data = self._files.read(key)
        return data

    def pop(self, key: str) -> bytes:
        return self._read.pop(key, b"")


def committed_arrays(files: Files, record: Record) -> list[CommittedArray]:
    """Return the arrays with committed values: each layer's states, notes and ledger."""
    arrays = []
    for name, layer in record.layers.items():
        if layer is not None and layer.states.rows:
            shape = (layer.row_bytes,)
            arrays.append(CommittedArray(files, state_key(name), layer.states, shape))
        for what, notes in ({} if layer is None else layer.notes).items():
            if notes is not None and notes.rows:
                arrays.append(CommittedArray(files, note_key(what, name), notes, ()))
        if layer is not None and layer.ledger is not None and layer.ledger.rows:
            shape = (len(COLUMNS),)
            arrays.append(CommittedArray(files, ledger_key(name), layer.ledger, shape))
        if layer is not None and layer.counts is not None:
            arrays += _arrays_of_runs(files, name, layer, layer.counts.runs)
    return arrays


def _arrays_of_runs(
    files: Files, name: str, layer: LayerRecord, runs: Sequence[RunRecord]
) -> Iterator[CommittedArray]:
    for run in runs:
        under = run_key(name, run.number)
        for array, shape in run_arrays(layer.run_bytes(run)).items():
            yield CommittedArray(files, array_key(under, array), run.arrays[array], shape)


def committed_keys(files: Files, record: Record) -> list[str]:
    """Return the keys of all files that a commit lists."""
    return [
        KEY,
        *(f"{group}/{KEY}" for group in record.groups),
        *(key for array in committed_arrays(files, record) for key in array.file_keys()),
    ]


def _excess_note_problems(files: Files, record: Record) -> Iterator[str]:
    for name, layer in record.layers.items():
        for what, notes in ({} if layer is None else layer.notes).items():
            if layer is not None and notes is not None and notes.rows > layer.instances:
                yield (
                    f"{files}/{KEY} lists {notes.rows} {what} of {name!r}, "
                    f"and {layer.instances} instances"
                )


def _group_problems(files: Files, record: Record) -> Iterator[str]:
    """Check the inner groups. The run's group holds the record, which was read before."""
    for group in record.groups:
        name = f"{files}/{group}/{KEY}"
        try:
            check_document(files.read(f"{group}/{KEY}"), name)
        except FileNotFoundError:
            yield f"{name} is missing, with captured states in its group"
        except (OSError, ValueError) as error:
            yield str(error)


def _ledger_problems(files: Files, record: Record) -> Iterator[str]:
    for name, layer in record.layers.items():
        try:
            if layer is not None:
                read_batches(files, name, layer)
        except (OSError, ValueError) as error:
            yield str(error)


def _check_document(
    array: CommittedArray, read_arrays: Callable[[], Iterable[CommittedArray]]
) -> tuple[Callable[[int], bytes], list[str]]:
    """Return a function that reads a chunk of the array, and the problems of its zarr.json."""
    try:
        array_rows = array.document()["shape"][0]
    except (OSError, ValueError) as error:
        return array.chunk_without_metadata, [str(error)]
    if array_rows <= array.committed.rows:  # fewer if a writer was killed after its commit
        return array.chunk, []
    # Compare with the newest record: the array may have grown in the meantime.
    return array.chunk, array.excess_rows_problems(array_rows, read_arrays())


def _check(read: Callable[[int], bytes], index: int) -> ChunkResult:
    try:
        return ChunkResult(len(read(index)), None)
    except (OSError, ValueError) as error:
        return ChunkResult(0, str(error))


def _check_in_parallel(check: Callable[[int], ChunkResult], count: int) -> Iterator[ChunkResult]:
    readers = ThreadPoolExecutor(_READERS, "tensorstate verify")
    try:
        yield from readers.map(check, range(count))
    finally:  # without waiting, as in ArrayReader.chunks
        readers.shutdown(wait=False, cancel_futures=True)


def orphans(files: Files, read_keys: Callable[[], Iterable[str]]) -> list[str] | None:
    """Return the keys of files that are not among those read afterwards; None if none are known.

    So a file that a writer has committed in the meantime is not an orphan.
    """
    try:
        files_present = files.list_sizes()
    except OSError:
        return None
    listed = set(read_keys())
    return [key for key in files_present if key not in listed]


def _keys_of_commits(
    files: Files, record: Record, read_record: Callable[[], Record]
) -> Iterator[str]:
    yield from committed_keys(files, record)
    yield from committed_keys(files, read_record())
