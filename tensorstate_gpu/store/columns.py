"""Arrays of a store: ArrayReader reads committed chunks, Column is an array that grows."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tensorstate_gpu._layers.chunked_buffer import ChunkedBuffer, copied
from tensorstate_gpu._process.fork_safe_lock import ForkSafeLock
from tensorstate_gpu.errors import DamagedStore
from tensorstate_gpu.store.array_record import ArrayRecord
from tensorstate_gpu.store.background_writer import SubmitJob
from tensorstate_gpu.store.buffer_pool import BufferPool
from tensorstate_gpu.store.chunks import (
    ChunkCodec,
    Document,
    UnreadableDocument,
    checksum,
    new_document,
)
from tensorstate_gpu.store.documents import KEY, check_document, with_checksum
from tensorstate_gpu.store.files import Files

# The minimum size of a chunk. A capture that is committed before it fills a chunk gets smaller
# chunks, because a chunk is padded to its full size when it is written.
SMALLEST_CHUNK_BYTES = 1 << 18


def chunk_key(key: str, index: int, dimensions: int) -> str:
    """Return the file of a chunk, named like zarr's default chunk keys."""
    return "/".join([key, "c", str(index), *["0"] * (dimensions - 1)])


class ArrayReader:
    """Reads the committed values of one array, and checks each chunk that it reads.

    ``value_shape``: the shape of one value: (bytes,) for a row, () for a label.
    """

    def __init__(
        self, files: Files, key: str, committed: ArrayRecord, value_shape: tuple[int, ...]
    ) -> None:
        self._files, self._key, self._committed = files, key, committed
        self._chunk_shape = (committed.chunk_rows, *value_shape)
        self.rows = committed.rows
        self._codec: ChunkCodec | None = None
        self._lock = ForkSafeLock()

    def document(self) -> Document:
        """Read the array's zarr.json. Raises ValueError if it is missing or damaged."""
        name = f"{self._files}/{self._key}/{KEY}"
        try:
            data = self._files.read(f"{self._key}/{KEY}")
        except FileNotFoundError as error:
            raise DamagedStore(f"{name} is missing, with captured states in its array") from error
        return check_document(data, name)

    def codec(self) -> ChunkCodec:
        """Return the codec of the chunks. Raises ValueError if zarr.json does not match."""
        with self._lock:
            if self._codec is None:
                try:
                    self._codec = ChunkCodec(self.document(), self._chunk_shape)
                except UnreadableDocument as error:
                    raise DamagedStore(
                        f"{self._files}/{self._key}/{KEY} is damaged: {error}"
                    ) from error
            return self._codec

    def chunk(self, index: int) -> NDArray[Any]:
        """Read the committed values of one chunk.

        Raises ValueError, with the name of the file, if it is missing or not what was committed.
        """
        codec = self.codec()
        key = chunk_key(self._key, index, len(self._chunk_shape))
        try:
            values, found = codec.decode(self._files.read(key))
        except FileNotFoundError as error:
            raise DamagedStore(
                f"{self._files}/{key} is missing, with captured states in it"
            ) from error
        except ValueError as error:
            raise DamagedStore(f"{self._files}/{key} is damaged: {error}") from error
        rows = self._committed.rows - index * self._committed.chunk_rows
        if rows < self._committed.chunk_rows:
            values = values[:rows]
            found = checksum(values)
        if found != self._committed.checksums[index]:
            raise DamagedStore(f"{self._files}/{key} is damaged: it is not what was committed")
        values.flags.writeable = False
        return values

    def chunks(self, first: int = 0, last: int | None = None) -> Iterator[NDArray[Any]]:
        """Read chunks in order. A thread reads the next chunk while the caller works on one."""
        indices = range(len(self._committed.checksums))[first:last]
        if len(indices) < 2:
            yield from map(self.chunk, indices)
            return
        reader = ThreadPoolExecutor(1, "tensorstate reader")
        try:
            following = reader.submit(self.chunk, indices[0])
            for index in indices[1:]:
                ready, following = following, reader.submit(self.chunk, index)
                yield ready.result()
            yield following.result()
        finally:
            # Without waiting: the garbage collector may close this generator at any point, also
            # where its thread holds a lock of zarr's that the read needs to end.
            reader.shutdown(wait=False, cancel_futures=True)

    def read(self, start: int, stop: int) -> Iterator[NDArray[Any]]:
        """Read the values [start, stop), in arrays of a chunk or less."""
        size = self._committed.chunk_rows
        first = start // size
        ends = ((start - i * size, stop - i * size) for i in range(first, -(-stop // size)))
        pieces = zip(self.chunks(first, max(first, -(-stop // size))), ends, strict=True)
        return (piece[max(begin, 0) : end] for piece, (begin, end) in pieces)


class ColumnSnapshot(NamedTuple):
    """A growing array at one point in time: its number of rows, and its last, partial chunk."""

    rows: int
    partial_chunk: NDArray[Any]


class Column(ChunkedBuffer):
    """A growing array. Jobs write each full chunk once; commits write the last, partial chunk.

    ``submit`` queues a job for the background threads. Jobs may run concurrently; they call the
    methods in the last section of this class. The capturing thread calls the others.
    """

    def __init__(
        self,
        files: Files,
        key: str,
        empty: NDArray[Any],
        submit: SubmitJob,
        pool: BufferPool,
        dimension_names: Sequence[str],
        compressor: Any,
        chunk_bytes: int,
    ) -> None:
        row_bytes = max(1, empty.itemsize * int(np.prod(empty.shape[1:])))
        super().__init__(empty, max(1, chunk_bytes // row_bytes))
        self.key = key
        self._files, self._submit, self._pool = files, submit, pool
        self._min_chunk_rows = max(1, min(chunk_bytes, SMALLEST_CHUNK_BYTES) // row_bytes)
        self._dimension_names, self._compressor = dimension_names, compressor
        self._codec: ChunkCodec | None = None
        self._document: Document = {}
        self._checksums: dict[int, int] = {}  # of the full chunks that are written
        # Of the partial chunk that was written last; empty if there was none.
        self._partial_checksum: tuple[int, ...] = ()
        self._create_lock = ForkSafeLock()
        self._chunk_rows_fixed = False
        self._written_metadata: tuple[int, dict[str, Any]] | None = None

    def resume(self, committed: ArrayRecord) -> None:
        """Continue after the committed rows."""
        if not committed.rows:
            return
        reader = ArrayReader(self._files, self.key, committed, self._buffer.shape[1:])
        self._codec, self._document = reader.codec(), reader.document()
        self._chunk_rows, self._chunk_rows_fixed = committed.chunk_rows, True
        full_chunks = committed.rows // committed.chunk_rows
        self._base = full_chunks * committed.chunk_rows
        self._checksums = dict(enumerate(committed.checksums[:full_chunks]))
        if full_chunks < len(committed.checksums):
            self.append(reader.chunk(full_chunks))

    def _write_chunks(self, first: NDArray[Any], others: NDArray[Any]) -> None:
        number = self._base // self._chunk_rows
        self._chunk_rows_fixed = True
        for index, chunk in enumerate([first, *map(copied, self._split(others))], number):
            self._submit(partial(self._write_full_chunk, index, chunk), chunk.nbytes)

    def _new_full_buffer(self) -> NDArray[Any]:
        if self._buffer.dtype.kind in "TO":
            return super()._new_full_buffer()
        return self._pool.allocate((self._chunk_rows, *self._buffer.shape[1:]), self._buffer.dtype)

    def snapshot(self) -> ColumnSnapshot:
        """Return the current state of the column, for a commit."""
        if not self._chunk_rows_fixed:
            self._chunk_rows = min(self._chunk_rows, max(self._min_chunk_rows, self._filled + 1))
            self._chunk_rows_fixed = True
        return ColumnSnapshot(self.rows, self._buffer[: self._filled].copy())

    def rewind(self, rows: int) -> None:
        """Discard the rows after the first ``rows``. All jobs must be done."""
        full_chunks = rows // self._chunk_rows
        if full_chunks * self._chunk_rows < self._base:  # the row is in a chunk that was written
            committed = ArrayRecord(
                (full_chunks + 1) * self._chunk_rows,
                self._chunk_rows,
                self._full_chunk_checksums(full_chunks + 1),
            )
            value_shape = self._buffer.shape[1:]
            self._buffer = (
                ArrayReader(self._files, self.key, committed, value_shape).chunk(full_chunks).copy()
            )
            self._base = full_chunks * self._chunk_rows
            for index in range(full_chunks, len(self._checksums)):
                del self._checksums[index]
        self._filled = rows - self._base
        self._written_metadata = None  # a record of fewer rows has changed it
        if not rows:  # and has deleted the array
            self._codec = None

    def chunks(self, snapshot: ColumnSnapshot) -> Iterator[NDArray[Any]]:
        """Read the values up to a snapshot. The jobs that wrote them must be done."""
        full_chunks = snapshot.rows // self._chunk_rows
        if not self._checksums.keys() >= {*range(full_chunks)}:
            raise RuntimeError(f"{self._files}/{self.key}: rows are read before they are written")
        committed = ArrayRecord(
            full_chunks * self._chunk_rows,
            self._chunk_rows,
            self._full_chunk_checksums(full_chunks),
        )
        yield from ArrayReader(self._files, self.key, committed, self._buffer.shape[1:]).chunks()
        if len(snapshot.partial_chunk):
            yield snapshot.partial_chunk

    # ---- called by background jobs -------------------------------------------------------------

    def _write_full_chunk(self, index: int, values: NDArray[Any]) -> None:
        self._checksums[index] = self._write_chunk(index, values)
        self._pool.release(values)

    def write_partial_chunk(self, snapshot: ColumnSnapshot) -> None:
        """Write the last, partial chunk of a snapshot."""
        full_chunks = snapshot.rows // self._chunk_rows
        self._partial_checksum = (
            (self._write_chunk(full_chunks, snapshot.partial_chunk),)
            if len(snapshot.partial_chunk)
            else ()
        )

    def commit_entry(self, snapshot: ColumnSnapshot) -> ArrayRecord:
        """Return the entry for the commit record, after all chunks of the snapshot were written."""
        full_chunks = snapshot.rows // self._chunk_rows
        return ArrayRecord(
            snapshot.rows,
            self._chunk_rows,
            self._full_chunk_checksums(full_chunks) + self._partial_checksum,
        )

    def _full_chunk_checksums(self, chunks: int) -> tuple[int, ...]:
        return tuple(self._checksums[index] for index in range(chunks))

    def _write_chunk(self, index: int, values: NDArray[Any]) -> int:
        """Write a chunk and return the checksum of its values."""
        with self._create_lock:
            codec = self._codec or self._create()
        key = chunk_key(self.key, index, values.ndim)
        parts, crc = codec.encode(values)
        self._files.write(key, *parts)
        return crc

    def _create(self) -> ChunkCodec:
        self._written_metadata = None
        for left_over in self._files.list_sizes(self.key):  # from a capture without a commit
            self._files.delete(left_over)
        shape = (self._chunk_rows, *self._buffer.shape[1:])
        self._document = new_document(
            self._buffer.dtype, shape, self._compressor, self._dimension_names
        )
        self.update_metadata(0, {})
        self._codec = ChunkCodec(self._document, shape)
        return self._codec

    def update_metadata(self, rows: int, attributes: dict[str, Any]) -> None:
        """Write the committed number of rows to zarr.json, for zarr clients."""
        with self._create_lock:  # a job may create the array, where none of its rows is committed
            if self._document and (rows, attributes) != self._written_metadata:
                shape = [rows, *self._document["shape"][1:]]
                document = {**self._document, "shape": shape, "attributes": attributes}
                self._files.write(f"{self.key}/{KEY}", with_checksum(document))
                self._written_metadata = rows, attributes
