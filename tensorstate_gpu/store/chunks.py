"""How chunks are encoded: by zarr's own codecs, so that any zarr client reads them."""

import json
from collections.abc import Sequence
from typing import Any

import google_crc32c
import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.codecs import Crc32cCodec
from zarr.core.buffer import Buffer, default_buffer_prototype
from zarr.storage import MemoryStore

from tensorstate_gpu._process.locks import ForkSafeLock

Document = dict[str, Any]  # a zarr.json

_CRC_BYTES = 4
_PLAIN = [{"name": "bytes"}, {"name": "crc32c"}]


def new_document(
    dtype: Any, chunk_shape: tuple[int, ...], compressor: Any, dimension_names: Sequence[str]
) -> Document:
    """The zarr.json of an array without rows.

    ``compressor``: a zarr codec, or None: packed states of wide layers hardly shrink, and writing
    is then as fast as the disk. A checksum is added in any case: CRC-32C, which hardware computes.
    """
    kept: dict[str, Buffer] = {}
    zarr.create_array(
        MemoryStore(kept),
        shape=(0, *chunk_shape[1:]),
        chunks=chunk_shape,
        dtype=dtype,
        compressors=[*([] if compressor is None else [compressor]), Crc32cCodec()],
        dimension_names=dimension_names,
    )
    document: Document = json.loads(kept["zarr.json"].to_bytes())
    return document


class UnreadableDocument(ValueError):
    """A zarr.json that zarr does not understand, or of another array than was meant."""


class ChunkCodec:
    """Values to the bytes of one chunk and back, as an array's zarr.json says.

    Made of a zarr array in memory that has exactly one chunk. UnreadableDocument for a document
    that is not one of chunks of ``chunk_shape``.
    """

    def __init__(self, document: Document, chunk_shape: tuple[int, ...]) -> None:
        _check_shapes(document, chunk_shape)
        try:
            alone = json.dumps({**document, "shape": chunk_shape}).encode()
            self._kept = {"zarr.json": _buffer(alone)}
            array = zarr.open_array(MemoryStore(self._kept), mode="r+")
            # An all-zero chunk is a real one: a missing chunk must not pass for it.
            self._array: Any = array.with_config({"write_empty_chunks": True})
        except Exception as error:  # zarr raises errors of every kind
            raise UnreadableDocument(f"zarr cannot read it: {error}") from error
        self._chunk_rows = chunk_shape[0]
        # Bytes with their CRC-32C: what zarr makes of them in four copies, at 1 GB/s.
        self._plain = len(chunk_shape) == 2 and document["codecs"] == _PLAIN
        self._key = "/".join(["c", *("0" for _ in chunk_shape)])
        self._lock = ForkSafeLock()

    def encode(self, values: NDArray[Any]) -> tuple[list[Any], int]:
        """One chunk, as buffers to be written one after the other, and the checksum of its values.

        Where ``values`` are fewer than it holds, zeros or empty strings follow.
        """
        found = checksum(values)
        if not self._plain:
            return [self._encode_by_zarr(values)], found
        padding = bytes((self._chunk_rows - len(values)) * self._array.chunks[1])
        return [
            np.ascontiguousarray(values).ravel().data,
            padding,
            google_crc32c.extend(found, padding).to_bytes(_CRC_BYTES, "little"),
        ], found

    def decode(self, data: bytes) -> tuple[NDArray[Any], int]:
        """The values of one chunk and their checksum; ValueError where the bytes are damaged."""
        if not self._plain:
            values = self._decode_by_zarr(data)
            return values, checksum(values)
        values = np.frombuffer(data[:0] if len(data) < _CRC_BYTES else data, np.uint8)
        values = values[: max(0, len(data) - _CRC_BYTES)]
        found = checksum(values)
        if data[len(values) :] != found.to_bytes(_CRC_BYTES, "little"):
            raise ValueError("its checksum does not fit")
        if len(values) != self._chunk_rows * self._array.chunks[1]:
            raise ValueError(f"{len(values)} bytes")
        return values.reshape(self._array.chunks), found

    def _encode_by_zarr(self, values: NDArray[Any]) -> bytes:
        with self._lock:
            if len(values) < self._chunk_rows:
                self._array[len(values) :] = "" if self._array.dtype.kind in "TO" else 0
            self._array[: len(values)] = values
            return self._kept.pop(self._key).to_bytes()

    def _decode_by_zarr(self, data: bytes) -> NDArray[Any]:
        with self._lock:
            self._kept[self._key] = _buffer(data)
            try:
                values: NDArray[Any] = self._array[:]
            except Exception as error:  # codecs raise errors of every kind
                raise ValueError(str(error)) from error
            finally:
                del self._kept[self._key]
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
    """CRC-32C of values, following that of those before them; strings end with a zero byte each."""
    if values.dtype.kind in "TUO":
        data: Any = b"".join(str(text).encode() + b"\0" for text in values)
    else:
        data = np.ascontiguousarray(values).view(np.uint8).ravel()
    return int(google_crc32c.extend(before, data))
