"""ChunkCodec: encodes chunks with zarr's own codecs, so that any zarr client can read them."""

import contextlib
import json
import os
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import google_crc32c
import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.codecs import Crc32cCodec
from zarr.core.buffer import Buffer, default_buffer_prototype
from zarr.storage import MemoryStore, StorePath

from tensorstate_gpu._process.fork_safe_lock import ForkSafeLock

Document = dict[str, Any]  # a zarr.json

_CRC_BYTES = 4
_RAW_CODECS = [{"name": "bytes"}, {"name": "crc32c"}]


def new_document(
    dtype: Any, chunk_shape: tuple[int, ...], compressor: Any, dimension_names: Sequence[str]
) -> Document:
    """Return the zarr.json of an array without rows.

    ``compressor``: a zarr codec or None. Packed states of wide layers hardly compress, and without
    a codec writing is as fast as the disk. A CRC-32C, which hardware computes, is always added.
    """
    try:
        text = _known_document(np.dtype(dtype), chunk_shape, compressor)
    except TypeError:  # a codec without a hash
        text = _document_by_zarr(np.dtype(dtype), chunk_shape, compressor)
    return {**json.loads(text), "dimension_names": list(dimension_names)}


def _document_by_zarr(dtype: np.dtype[Any], chunk_shape: tuple[int, ...], compressor: Any) -> bytes:
    memory: dict[str, Buffer] = {}
    zarr.create_array(
        MemoryStore(memory),
        shape=(0, *chunk_shape[1:]),
        chunks=chunk_shape,
        dtype=dtype,
        compressors=[*([] if compressor is None else [compressor]), Crc32cCodec()],
    )
    return memory["zarr.json"].to_bytes()


# zarr creates arrays in a thread of its own, which a loaded machine makes slow (1 ms). Thousands of
# layers have few shapes.
_known_document = lru_cache(maxsize=256)(_document_by_zarr)


def start_threads() -> None:
    """Start the threads with which zarr encodes, once for each process.

    Python 3.12 starts none when a program ends, which is when a store may write its first chunk.
    """
    if _started_in[-1:] != [os.getpid()]:
        # Only chunks that are compressed beside each other start several threads.
        shape, chunk = _WARM_UP, (1, _WARM_UP[1])
        array = zarr.create_array(MemoryStore(), shape=shape, chunks=chunk, dtype="u1")
        with contextlib.suppress(RuntimeError):  # it is ending already
            array[:] = np.arange(np.prod(shape), dtype=np.uint32).astype(np.uint8).reshape(shape)
        _started_in[:] = [os.getpid()]


_WARM_UP = (32, 1 << 14)  # chunks, and bytes of each
_started_in: list[int] = []


class UnreadableDocument(ValueError):
    """A zarr.json that zarr cannot read, or that belongs to an array of another shape."""


class ChunkCodec:
    """Converts values to the bytes of one chunk and back, as an array's zarr.json specifies.

    It uses a zarr array in memory that consists of one chunk. Raises UnreadableDocument if the
    document does not describe chunks of ``chunk_shape``.
    """

    def __init__(self, document: Document, chunk_shape: tuple[int, ...]) -> None:
        _check_shapes(document, chunk_shape)
        try:
            one_chunk = json.loads(json.dumps({**document, "shape": chunk_shape}))
            self._memory: dict[str, Buffer] = {}
            # Not by open_array(), which waits for a thread of zarr's.
            array = zarr.Array.from_dict(StorePath(MemoryStore(self._memory)), one_chunk)
            # Write chunks of zeros too: a missing chunk must not be mistaken for one.
            self._array: Any = array.with_config({"write_empty_chunks": True})
        except Exception as error:  # zarr raises errors of every kind
            raise UnreadableDocument(f"zarr cannot read it: {error}") from error
        self._chunk_rows = chunk_shape[0]
        # Plain bytes with a CRC-32C are encoded here: zarr copies them four times (1 GB/s).
        self._is_raw = len(chunk_shape) == 2 and document["codecs"] == _RAW_CODECS
        self._key = "/".join(["c", *("0" for _ in chunk_shape)])
        self._lock = ForkSafeLock()

    def encode(self, values: NDArray[Any]) -> tuple[list[Any], int]:
        """Return one chunk as a list of buffers, and the checksum of its values.

        The caller writes the buffers one after the other. A chunk with too few ``values`` is padded
        with zeros or empty strings.
        """
        crc = checksum(values)
        if not self._is_raw:
            return [self._encode_by_zarr(values)], crc
        padding = bytes((self._chunk_rows - len(values)) * self._array.chunks[1])
        return [
            np.ascontiguousarray(values).ravel().data,
            padding,
            google_crc32c.extend(crc, padding).to_bytes(_CRC_BYTES, "little"),
        ], crc

    def decode(self, data: bytes) -> tuple[NDArray[Any], int]:
        """Return the values of one chunk and their checksum. Raises ValueError if damaged."""
        if not self._is_raw:
            values = self._decode_by_zarr(data)
            return values, checksum(values)
        values = np.frombuffer(data[:0] if len(data) < _CRC_BYTES else data, np.uint8)
        values = values[: max(0, len(data) - _CRC_BYTES)]
        crc = checksum(values)
        if data[len(values) :] != crc.to_bytes(_CRC_BYTES, "little"):
            raise ValueError("its checksum does not fit")
        if len(values) != self._chunk_rows * self._array.chunks[1]:
            raise ValueError(f"{len(values)} bytes")
        return values.reshape(self._array.chunks), crc

    def _encode_by_zarr(self, values: NDArray[Any]) -> bytes:
        with self._lock:
            if len(values) < self._chunk_rows:
                self._array[len(values) :] = "" if self._array.dtype.kind in "TO" else 0
            self._array[: len(values)] = values
            return self._memory.pop(self._key).to_bytes()

    def _decode_by_zarr(self, data: bytes) -> NDArray[Any]:
        with self._lock:
            self._memory[self._key] = _buffer(data)
            try:
                values: NDArray[Any] = self._array[:]
            except Exception as error:  # codecs raise errors of every kind
                raise ValueError(str(error)) from error
            finally:
                del self._memory[self._key]
        return values


def _check_shapes(document: Document, chunk_shape: tuple[int, ...]) -> None:
    shape = document.get("shape")
    if not isinstance(shape, list) or not all(type(size) is int for size in shape):
        raise UnreadableDocument(f"a shape of {shape!r}")
    try:
        found = tuple(document["chunk_grid"]["configuration"]["chunk_shape"])
    except (KeyError, TypeError) as error:
        raise UnreadableDocument(f"no chunk shape: {error!r}") from error
    if found != chunk_shape or tuple(shape[1:]) != chunk_shape[1:]:
        raise UnreadableDocument(
            f"chunks of {found} in {tuple(shape)}, committed are chunks of {chunk_shape}"
        )


def _buffer(data: bytes) -> Buffer:
    return default_buffer_prototype().buffer.from_bytes(data)


def checksum(values: NDArray[Any], before: int = 0) -> int:
    """Return the CRC-32C of values, continued from ``before``. A zero byte ends each string."""
    if values.dtype.kind in "TUO":
        data: Any = b"".join(str(text).encode() + b"\0" for text in values)
    else:
        data = np.ascontiguousarray(values).view(np.uint8).ravel()
    return int(google_crc32c.extend(before, data))
