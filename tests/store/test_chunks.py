"""Chunks: what we encode is what zarr would, and what zarr encodes is what we read."""

import numpy as np
import pytest
from zarr.codecs import BloscCodec, ZstdCodec

from tensorstate_gpu.store.chunks import ChunkCodec, checksum, new_document
from tests.support.ids import plain

CASES = [
    ("uint8", (100, 3), None),
    ("uint8", (1, 1), None),
    ("uint8", (100, 3), ZstdCodec(level=1)),
    ("uint8", (100, 3), BloscCodec(cname="lz4")),
    ("int64", (100,), None),
    ("int64", (100,), ZstdCodec(level=1)),
    (np.dtypes.StringDType(), (100,), ZstdCodec(level=1)),
]


def codec_of(dtype, shape, compressor):
    names = ("state", "byte")[: len(shape)]
    return ChunkCodec(new_document(dtype, shape, compressor, names), shape)


def some_values(dtype, shape, count):
    numbers = np.random.default_rng(0).integers(-5, 250, (count, *shape[1:]))
    if dtype == "uint8":
        return numbers.astype(np.uint8)
    return numbers if dtype == "int64" else np.array([f"ü{n}" for n in numbers], dtype)


@pytest.mark.parametrize(("dtype", "shape", "compressor"), CASES, ids=plain)
@pytest.mark.parametrize("part", [0, 0.5, 1])
def test_there_and_back(dtype, shape, compressor, part):
    codec = codec_of(dtype, shape, compressor)
    values = some_values(dtype, shape, int(part * shape[0]))
    parts, found = codec.encode(values)
    whole = b"".join(parts)
    assert found == checksum(values)
    assert whole == codec._encode_by_zarr(values)
    again, checked = codec.decode(whole)
    assert again.shape == shape
    assert checked == checksum(again)
    np.testing.assert_array_equal(again[: len(values)], values)
    np.testing.assert_array_equal(again, codec._decode_by_zarr(whole))
    assert not any(bool(value) for value in again[len(values) :].ravel().tolist())


@pytest.mark.parametrize(("dtype", "shape", "compressor"), CASES, ids=plain)
def test_damaged_bytes_are_refused(dtype, shape, compressor):
    codec = codec_of(dtype, shape, compressor)
    whole = b"".join(codec.encode(some_values(dtype, shape, shape[0]))[0])
    flipped = bytes([whole[0] ^ 1]) + whole[1:]
    for damaged in (b"", whole[:3], whole[:-1], whole[:-5], whole + b"0", flipped):
        with pytest.raises(ValueError):  # noqa: PT011 zarr's own words
            codec.decode(damaged)
        np.testing.assert_array_equal(codec.decode(whole)[0], codec._decode_by_zarr(whole))


def test_a_checksum_goes_on_where_another_ended():
    values = some_values("uint8", (100, 3), 100)
    assert checksum(values[40:], checksum(values[:40])) == checksum(values)
