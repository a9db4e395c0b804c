"""decompress, popcount, sort and count against the oracle."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import tensorstate_gpu as ts
from tensorstate_gpu import testing as oracle
from tensorstate_gpu.testing import packed_states
from tests.support.foreign_arrays import DLPackArray, Wrapped

WIDTHS = [1, 2, 3, 7, 8, 9, 15, 16, 17, 33, 64, 100]


def rows_of(width, rows, distinct, seed=0):
    """Return packed states, at most ``distinct`` different ones: skewed, and including 0."""
    rng = np.random.default_rng(seed)
    pool = rng.integers(0, 256, (distinct, width), np.uint8)
    pool[:: max(distinct // 3, 1)] = 0
    if distinct > 8:
        pool[1:4, : width - 1] = pool[4, : width - 1]  # they differ only in the last byte
        pool[5:8, 1:] = pool[4, 1:]  # and these in the first
    return pool[(distinct * rng.random(rows) ** 3).astype(np.int64)]


def assert_counts(counts, packed):
    distinct, numbers = oracle.count(packed)
    assert np.array_equal(counts.packed, distinct)
    assert np.array_equal(counts.counts, numbers)
    assert counts.total == len(packed)


@given(packed_states())
def test_random_arrays(drawn):
    packed, neurons = drawn
    before = packed.copy()
    unpacked = ts.decompress_states(packed, neurons)
    assert unpacked.dtype == np.bool_
    assert np.array_equal(unpacked, oracle.decompress(packed, neurons))
    assert np.array_equal(ts.compress_states(unpacked), packed)
    assert np.array_equal(ts.popcount(packed), oracle.popcount(packed))
    edges, index = ts.sort_states(packed)
    expected_edges, expected_index = oracle.sort(packed)
    assert np.array_equal(edges, expected_edges)
    assert np.array_equal(index, expected_index)
    assert_counts(ts.count_states(packed, neurons), packed)
    assert np.array_equal(packed, before)


@given(packed_states(), st.data())
def test_sorting_the_first_rows(drawn, data):
    packed, _ = drawn
    count = data.draw(st.integers(0, len(packed)))
    edges, index = ts.sort_states(packed, count)
    assert edges.dtype == index.dtype == np.int64
    assert edges[0] == 0
    assert edges[-1] == count
    expected_edges, expected_index = oracle.sort(packed, count)
    assert np.array_equal(edges, expected_edges)
    assert np.array_equal(index, expected_index)


@pytest.mark.parametrize("as_array", [np.asarray, torch.as_tensor])
def test_sorting_unpacked_states(as_array):
    states = np.random.default_rng(0).integers(0, 2, (500, 11)).astype(bool)
    expected = ts.sort_states(ts.compress_states(states))
    for found, packed in zip(ts.sort_states(as_array(states)), expected, strict=True):
        np.testing.assert_array_equal(found, packed)
    with pytest.raises(TypeError, match=r"packed \(uint8\), got bool: compress_states\(\) packs"):
        ts.count_states(as_array(states), 11)


def test_every_width():
    for neurons in range(1, 301):
        bits = np.random.default_rng(neurons).random((9, neurons)) < 0.5
        packed = np.packbits(bits, axis=1, bitorder="little")
        assert np.array_equal(ts.decompress_states(packed, neurons), bits)
        popcount = ts.popcount(packed)
        assert popcount.dtype == np.int32
        assert np.array_equal(popcount, bits.sum(axis=1))


@pytest.mark.parametrize("shape", [(3, 100_000), (70_001, 64), (70_001, 61), (500, 9_999)])
def test_unpacking_large_arrays(shape):
    bits = np.random.default_rng(0).random(shape) < 0.5
    packed = np.packbits(bits, axis=1, bitorder="little")
    assert np.array_equal(ts.decompress_states(packed, shape[1]), bits)
    assert np.array_equal(ts.popcount(packed), bits.sum(axis=1))


@pytest.mark.parametrize("distinct", [1, 2, 300, 60_000])
@pytest.mark.parametrize("width", WIDTHS)
def test_counting_and_sorting_many_rows(width, distinct):
    packed = rows_of(width, 40_000, distinct)
    assert_counts(ts.count_states(packed), packed)
    edges, index = ts.sort_states(packed)
    expected_edges, expected_index = oracle.sort(packed)
    assert np.array_equal(edges, expected_edges)
    assert np.array_equal(index, expected_index)


@pytest.mark.parametrize("width", [3, 8, 12])
def test_counting_across_threads(width):
    # Enough rows for one table per thread; some states occur in one thread only.
    for rows in (rows_of(width, 600_000, 5000), rows_of(width, 300_000, 300_000, 1)):
        void = np.ascontiguousarray(rows).view(f"V{width}")[:, 0]
        ids, numbers = np.unique(void, return_counts=True)
        expected = dict(zip(ids.tolist(), numbers.tolist(), strict=True))
        counts = ts.count_states(rows)
        assert dict(zip(counts.state_ids(), counts.counts.tolist(), strict=True)) == expected
        numbers = [int.from_bytes(state, "little") for state in counts.state_ids()]
        assert all(a < b for a, b in itertools.pairwise(numbers))


@pytest.mark.parametrize("width", [1, 4, 8, 9, 40])
def test_all_distinct_rows(width):
    rows = min(256**width, 100_000)
    integers = np.random.default_rng(0).permutation(rows).astype("<u8")
    packed = np.zeros((rows, width), np.uint8)
    packed[:, -min(width, 8) :] = integers.view(np.uint8).reshape(-1, 8)[:, : min(width, 8)]
    counts = ts.count_states(packed)
    assert np.array_equal(counts.counts, np.ones(rows))
    assert np.array_equal(counts.packed, packed[np.argsort(integers)])


def test_states_that_collide_in_part():
    # Every single-bit state of a wide layer: a hash that skipped a byte would merge some.
    packed = np.packbits(np.eye(1000, dtype=bool), axis=1, bitorder="little")
    counts = ts.count_states(np.concatenate([packed[::-1], packed]), neurons=1000)
    assert np.array_equal(counts.packed, packed)
    assert np.array_equal(counts.counts, np.full(1000, 2))


@pytest.mark.parametrize("width", [1, 5, 8, 20])
def test_no_rows(width):
    nothing = np.empty((0, width), np.uint8)
    assert ts.decompress_states(nothing, 8 * width).shape == (0, 8 * width)
    assert ts.popcount(nothing).shape == (0,)
    edges, index = ts.sort_states(nothing)
    assert edges.tolist() == [0]
    assert index.shape == (0,)
    assert index.dtype == edges.dtype == np.int64
    counts = ts.count_states(nothing)
    assert counts == ts.StateCounts.empty(8 * width)
    assert ts.sort_states(np.ones((3, width), np.uint8), 0)[0].tolist() == [0]


def test_torch_in_torch_out():
    packed = rows_of(5, 1000, 50)
    tensor = torch.from_numpy(packed)
    unpacked, popcount = ts.decompress_states(tensor, 37), ts.popcount(tensor)
    edges, index = ts.sort_states(tensor, 900)
    results = (unpacked, popcount, edges, index)
    assert {type(r) for r in results} == {torch.Tensor}
    assert [r.dtype for r in results] == [torch.bool, torch.int32, torch.int64, torch.int64]
    assert np.array_equal(unpacked, oracle.decompress(packed, 37))
    assert np.array_equal(popcount, oracle.popcount(packed))
    assert np.array_equal(edges, oracle.sort(packed, 900)[0])
    assert np.array_equal(index, oracle.sort(packed, 900)[1])
    assert ts.count_states(tensor) == ts.count_states(packed)
    # Strided tensors: every other row, bytes with gaps, one row repeated.
    for view in (tensor[::2, 1:4], tensor.T.contiguous().T, tensor[:1].expand(7, 5)):
        assert_counts(ts.count_states(view), view.numpy())
        assert np.array_equal(ts.popcount(view), oracle.popcount(view.numpy()))
    unpacked.zero_()
    assert torch.equal(tensor, torch.from_numpy(packed))


def test_other_array_types():
    packed = rows_of(5, 100, 20)
    assert type(ts.popcount(Wrapped(packed))) is Wrapped
    bare = DLPackArray(packed, "uint8")
    assert np.array_equal(ts.decompress_states(bare, 40), oracle.decompress(packed, 40))
    assert_counts(ts.count_states(bare), packed)


@pytest.mark.parametrize("width", [3, 16])
def test_a_mapped_file_is_counted_in_parts(width, tmp_path, monkeypatch):
    """Counting all of it at once would take memory for all of its rows, to sort them."""
    monkeypatch.setattr("tensorstate_gpu._states.sort_and_count._STREAMED_BYTES", 1000)
    monkeypatch.setattr("tensorstate_gpu.cpu_fallback.count", None)
    rows = np.random.default_rng(0).integers(0, 3, (5001, width), np.uint8)
    rows.tofile(tmp_path / "rows")
    mapped = np.memmap(tmp_path / "rows", np.uint8, "r", shape=rows.shape)
    packed, counts = oracle.count(rows)
    assert ts.count_states(mapped) == ts.StateCounts(packed, counts, 8 * width)
    packed, counts = oracle.count(rows[7:2000:3])
    assert ts.count_states(mapped[7:2000:3]) == ts.StateCounts(packed, counts, 8 * width)


@pytest.mark.parametrize("of", [ts.count_states, ts.neurons.firing_rates, ts.neurons.cofiring])
def test_rows_that_look_unpacked_are_told(of):
    unpacked = np.random.default_rng(0).integers(0, 2, (50, 20)).astype(np.uint8)
    with pytest.warns(UserWarning, match=r"rows of 160 neurons.* 20 neurons.*compress_states\(\)"):
        of(unpacked)
    of(ts.compress_states(unpacked))
    of(ts.compress_states(unpacked), 20)
    of(unpacked, 160)  # who says so knows it
    of(np.zeros((50, 20), np.uint8))  # no neuron fires, in either case
    of(unpacked[:, :3])  # packed rows of so few bytes may well be like that
    with pytest.raises(ValueError, match=r"neurons=20.*compress_states\(\) packs one number"):
        of(unpacked, 20)
