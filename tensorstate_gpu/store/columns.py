"""Arrays of a store: read chunk by chunk, or growing."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tensorstate_gpu._layers.chunked_buffer import ChunkedBuffer
from tensorstate_gpu._process.locks import ForkSafeLock
from tensorstate_gpu.errors import DamagedStore
from tensorstate_gpu.store.background_writer import Submit
from tensorstate_gpu.store.buffer_pool import BufferPool
from tensorstate_gpu.store.chunks import (
    ChunkCodec,
    Document,
    UnreadableDocument,
    checksum,
    new_document,
)
from tensorstate_gpu.store.files import Files
from tensorstate_gpu.store.record import KEY, Committed, check_document, sealed

# A capture that is committed before it fills a chunk gets chunks of this size or more: a chunk is
# written whole, so that larger ones would be mostly padding.
SMALLEST_CHUNK_BYTES = 1 << 18


def chunk_key(key: str, index: int, dimensions: int) -> str:
    """The file of a chunk, as zarr's default chunk keys name it."""
    return "/".join([key, "c", str(index), *["0"] * (dimensions - 1)])


class ArrayReader:
    """The committed values of one array; each chunk is checked when it is read.

    ``inner``: the shape of one value: (bytes,) of a row, () of a label.
    """

    def __init__(
        self, files: Files, key: str, committed: Committed, inner: tuple[int, ...]
    ) -> None:
        self._files, self._key, self._committed = files, key, committed
        self._chunk_shape = (committed.chunk_rows, *inner)
        self.rows = committed.rows
        self._codec: ChunkCodec | None = None
        self._lock = ForkSafeLock()

    def document(self) -> Document:
        """The array's zarr.json; ValueError where it is missing or damaged."""
        name = f"{self._files}/{self._key}/{KEY}"
        try:
            data = self._files.read(f"{self._key}/{KEY}")
        except FileNotFoundError as error:
            raise DamagedStore(f"{name} is missing, with captured states in its array") from error
        return check_document(data, name)

    def codec(self) -> ChunkCodec:
        """How its chunks are encoded; ValueError where zarr.json does not fit the commit."""
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
        """The committed values of one chunk; ValueError, with its file, when they are not whole."""
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
        """Chunks in order; the next one is read while the caller works on one."""
        indices = range(len(self._committed.checksums))[first:last]
        if len(indices) < 2:
            yield from map(self.chunk, indices)
            return
        with ThreadPoolExecutor(1, "tensorstate reader") as reader:
            following = reader.submit(self.chunk, indices[0])
            for index in indices[1:]:
                ready, following = following, reader.submit(self.chunk, index)
                yield ready.result()
            yield following.result()

    def between(self, start: int, stop: int) -> list[NDArray[Any]]:
        """The values [start, stop), in pieces."""
        size = self._committed.chunk_rows
        first = start // size
        ends = ((start - i * size, stop - i * size) for i in range(first, -(-stop // size)))
        pieces = zip(self.chunks(first, max(first, -(-stop // size))), ends, strict=True)
        return [piece[max(begin, 0) : end] for piece, (begin, end) in pieces]


class Cut(NamedTuple):
    """A moment of a growing array: its rows so far, and those after the last whole chunk."""

    rows: int
    tail: NDArray[Any]


class Column(ChunkedBuffer):
    """A growing array. Whole chunks are written once, by jobs; the tail only by commits.

    ``submit``: has a job done in the background. Methods that say so are called by such jobs, which
    may be several at once; the others by those who capture.
    """

    def __init__(
        self,
        files: Files,
        key: str,
        empty: NDArray[Any],
        submit: Submit,
        pool: BufferPool,
        dimension_names: Sequence[str],
        compressor: Any,
        chunk_bytes: int,
    ) -> None:
        row_bytes = max(1, empty.itemsize * int(np.prod(empty.shape[1:])))
        super().__init__(empty, max(1, chunk_bytes // row_bytes))
        self.key = key
        self._files, self._submit, self._pool = files, submit, pool
        self._smallest = max(1, min(chunk_bytes, SMALLEST_CHUNK_BYTES) // row_bytes)
        self._dimension_names, self._compressor = dimension_names, compressor
        self._codec: ChunkCodec | None = None
        self._document: Document = {}
        self._checksums: dict[int, int] = {}  # of the whole chunks that are written
        self._tail: tuple[int, ...] = ()  # the checksum of the tail that was written last
        self._creating = ForkSafeLock()
        self._settled_chunk_rows = False
        self._published: tuple[int, dict[str, Any]] | None = None

    def resume(self, committed: Committed) -> None:
        """Go on where an array ends that is committed already."""
        if not committed.rows:
            return
        reader = ArrayReader(self._files, self.key, committed, self._buffer.shape[1:])
        self._codec, self._document = reader.codec(), reader.document()
        self._chunk_rows, self._settled_chunk_rows = committed.chunk_rows, True
        whole = committed.rows // committed.chunk_rows
        self._base = whole * committed.chunk_rows
        self._checksums = dict(enumerate(committed.checksums[:whole]))
        if whole < len(committed.checksums):
            self.append(reader.chunk(whole))

    def _write(self, chunks: Sequence[NDArray[Any]]) -> None:
        first = self._base // self._chunk_rows
        self._settled_chunk_rows = True
        for index, chunk in enumerate([chunks[0], *map(np.copy, chunks[1:])], first):
            self._submit(partial(self._write_whole, index, chunk), chunk.nbytes)

    def _whole(self) -> NDArray[Any]:
        if self._buffer.dtype.kind in "TO":
            return super()._whole()
        return self._pool.array((self._chunk_rows, *self._buffer.shape[1:]), self._buffer.dtype)

    def cut(self) -> Cut:
        """The column as it is now, for a commit."""
        if not self._settled_chunk_rows:
            self._chunk_rows = min(self._chunk_rows, max(self._smallest, self._filled + 1))
            self._settled_chunk_rows = True
        return Cut(self.rows, self._buffer[: self._filled].copy())

    def rewind(self, rows: int) -> None:
        """Forget what came after so many rows, once the jobs up to now are done."""
        whole = rows // self._chunk_rows
        if whole * self._chunk_rows < self._base:  # a chunk that was full, and is written
            committed = Committed(
                (whole + 1) * self._chunk_rows,
                self._chunk_rows,
                self._checksums_of(whole + 1),
            )
            inner = self._buffer.shape[1:]
            self._buffer = ArrayReader(self._files, self.key, committed, inner).chunk(whole).copy()
            self._base = whole * self._chunk_rows
            for index in range(whole, len(self._checksums)):
                del self._checksums[index]
        self._filled = rows - self._base

    def chunks(self, cut: Cut) -> Iterator[NDArray[Any]]:
        """The values before a cut, once the jobs up to it are done."""
        whole = cut.rows // self._chunk_rows
        if not self._checksums.keys() >= {*range(whole)}:
            raise RuntimeError(f"{self._files}/{self.key}: rows are read before they are written")
        committed = Committed(whole * self._chunk_rows, self._chunk_rows, self._checksums_of(whole))
        yield from ArrayReader(self._files, self.key, committed, self._buffer.shape[1:]).chunks()
        if len(cut.tail):
            yield cut.tail

    # ---- called by jobs ------------------------------------------------------------------------

    def _write_whole(self, index: int, values: NDArray[Any]) -> None:
        self._checksums[index] = self._write_chunk(index, values)
        self._pool.give_back(values)

    def write_tail(self, cut: Cut) -> None:
        """Write what a commit needs beyond the whole chunks."""
        whole = cut.rows // self._chunk_rows
        self._tail = (self._write_chunk(whole, cut.tail),) if len(cut.tail) else ()

    def committed(self, cut: Cut) -> Committed:
        """What a commit is to list, once the whole chunks and this tail are written."""
        whole = cut.rows // self._chunk_rows
        return Committed(cut.rows, self._chunk_rows, self._checksums_of(whole) + self._tail)

    def _checksums_of(self, chunks: int) -> tuple[int, ...]:
        return tuple(self._checksums[index] for index in range(chunks))

    def _write_chunk(self, index: int, values: NDArray[Any]) -> int:
        """Write a chunk; the checksum of its values."""
        with self._creating:
            codec = self._codec or self._create()
        key = chunk_key(self.key, index, values.ndim)
        parts, found = codec.encode(values)
        self._files.write(key, *parts)
        return found

    def _create(self) -> ChunkCodec:
        self._published = None
        for left_over in self._files.sizes(self.key):  # of a capture that was never committed
            self._files.delete(left_over)
        shape = (self._chunk_rows, *self._buffer.shape[1:])
        self._document = new_document(
            self._buffer.dtype, shape, self._compressor, self._dimension_names
        )
        self.publish(0, {})
        self._codec = ChunkCodec(self._document, shape)
        return self._codec

    def publish(self, rows: int, attributes: dict[str, Any]) -> None:
        """Tell zarr clients how many rows are committed."""
        if self._document and (rows, attributes) != self._published:
            shape = [rows, *self._document["shape"][1:]]
            document = {**self._document, "shape": shape, "attributes": attributes}
            self._files.write(f"{self.key}/{KEY}", sealed(document))
            self._published = rows, attributes
