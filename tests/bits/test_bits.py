"""Packed states as arrays of bits: against NumPy on unpacked states; the array type stays."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import tensorstate_gpu as ts
from tensorstate_gpu import bits
from tensorstate_gpu.bits import distances
from tensorstate_gpu.testing import packed_states

SHAPES = [(1, 1), (50, 20), (300, 64), (77, 100), (130, 520), (40, 4200)]


def firing(states, count, seed=0):
    return np.random.default_rng(seed).random((states, count)) < 0.4


def pack(active):
    return np.packbits(active, axis=1, bitorder="little")


AS = {"numpy": np.asarray, "torch": torch.from_numpy}


@pytest.fixture(params=AS)
def as_array(request):
    return AS[request.param]


def assert_same(found, expected, like):
    assert isinstance(found, type(like))
    np.testing.assert_array_equal(np.asarray(found), expected)


@pytest.mark.parametrize("shape", SHAPES)
def test_distances(as_array, shape):
    one, other = firing(*shape), firing(33, shape[1], 1)
    left, right = as_array(pack(one)), as_array(pack(other))
    expected = (one[:, None] != other).sum(axis=2)
    found = bits.hamming_distances(left, right)
    assert_same(found, expected, left)
    assert np.asarray(found).dtype == np.int32
    index, nearest = bits.nearest_states(left, right)
    assert_same(index, expected.argmin(axis=1), left)
    assert_same(nearest, expected.min(axis=1), left)
    limit = int(np.median(expected))
    assert_same(bits.states_within(left, right, limit), np.argwhere(expected <= limit), left)


def test_distances_in_tiles(monkeypatch):
    monkeypatch.setattr(distances, "_TILE_BYTES", 4 * 20 * 7)
    one, other = firing(100, 30), firing(20, 30, 1)
    expected = (one[:, None] != other).sum(axis=2)
    index, nearest = bits.nearest_states(pack(one), pack(other))
    assert index.tolist() == expected.argmin(axis=1).tolist()
    assert nearest.tolist() == expected.min(axis=1).tolist()
    pairs = bits.states_within(pack(one), pack(other), 12)
    assert pairs.tolist() == np.argwhere(expected <= 12).tolist()


def test_distances_of_no_states():
    none, some = np.zeros((0, 2), np.uint8), np.zeros((3, 2), np.uint8)
    assert bits.hamming_distances(none, some).shape == (0, 3)
    assert bits.hamming_distances(some, none).shape == (3, 0)
    assert bits.states_within(some, none, 5).shape == (0, 2)
    assert bits.nearest_states(none, some)[0].shape == (0,)
    with pytest.raises(ValueError, match="among is empty"):
        bits.nearest_states(some, none)


@given(packed_states(), st.data())
def test_sets_of_states(drawn, data):
    packed, neurons = drawn
    found, counts, inverse = bits.unique(packed)
    expected = ts.count_states(packed, neurons)
    assert np.array_equal(found, expected.packed)
    assert np.array_equal(counts, expected.counts)
    assert np.array_equal(found[inverse], packed)
    among = packed[data.draw(st.integers(0, len(packed))) :]
    known = {row.tobytes() for row in among}
    assert bits.isin(packed, among).tolist() == [row.tobytes() in known for row in packed]


def test_sets_have_the_type_of_their_states(as_array):
    states = as_array(pack(firing(50, 12)))
    found = bits.unique(states)
    assert_same(found.packed[found.inverse], np.asarray(states), states)
    assert_same(
        bits.isin(states, states[:1]), (np.asarray(states) == np.asarray(states)[0]).all(1), states
    )


@given(packed_states(), st.data())
def test_bit_by_bit(drawn, data):
    packed, neurons = drawn
    active = ts.decompress_states(packed, neurons)
    shift = data.draw(st.integers(0, 5))
    other, others = np.roll(packed, shift, axis=0), np.roll(active, shift, axis=0)
    for function, expected in (
        (bits.bitwise_and, active & others),
        (bits.bitwise_or, active | others),
        (bits.bitwise_xor, active ^ others),
    ):
        assert np.array_equal(function(packed, other), pack(expected))
    assert np.array_equal(bits.bitwise_not(packed, neurons), pack(~active))
    if len(packed):
        assert np.array_equal(bits.bitwise_and(packed, packed[:1]), pack(active & active[:1]))
        assert np.array_equal(bits.bitwise_and(packed[:1], packed), pack(active & active[:1]))


@given(packed_states(), st.data())
def test_any_range_of_neurons(drawn, data):
    packed, neurons = drawn
    active = ts.decompress_states(packed, neurons)
    start = data.draw(st.integers(0, neurons - 1))
    stop = data.draw(st.integers(start + 1, neurons))
    assert np.array_equal(bits.slice_neurons(packed, start, stop), pack(active[:, start:stop]))


@given(packed_states(), st.data())
def test_joined_ranges_are_the_states(drawn, data):
    packed, neurons = drawn
    inner = data.draw(st.sets(st.integers(1, neurons - 1), max_size=5)) if neurons > 1 else set()
    edges = [0, *sorted(inner), neurons]
    ranges = list(itertools.pairwise(edges))
    parts = [bits.slice_neurons(packed, *each) for each in ranges]
    counts = [stop - start for start, stop in ranges]
    assert np.array_equal(bits.concatenate_neurons(parts, counts), packed)


def test_joining_leaves_out_other_bits(as_array):
    parts = [as_array(np.array([[255]], np.uint8)), as_array(np.array([[0, 255]], np.uint8))]
    found = bits.concatenate_neurons(parts, [3, 9])
    assert_same(found, [[0b00000111, 0b1000]], parts[0])


@given(packed_states())
def test_popcount_by_neuron(drawn):
    packed, neurons = drawn
    found = ts.popcount(packed, axis=0)
    assert found.dtype == np.int64
    assert found[:neurons].tolist() == ts.decompress_states(packed, neurons).sum(axis=0).tolist()
    assert not found[neurons:].any()


def test_popcount_has_two_axes():
    packed = pack(firing(9, 12))
    assert np.array_equal(ts.popcount(packed, axis=-1), ts.popcount(packed))
    assert np.array_equal(ts.popcount(packed, axis=-2), ts.popcount(packed, axis=0))
    with pytest.raises(ValueError, match="axis must be 0 or 1, got 2"):
        ts.popcount(packed, axis=2)
    with pytest.raises(TypeError, match="axis must be an integer"):
        ts.popcount(packed, axis=True)


PAIRS = [bits.hamming_distances, bits.bitwise_and, bits.bitwise_or, bits.bitwise_xor, bits.isin]
PAIRS += [bits.nearest_states, lambda one, other: bits.states_within(one, other, 1)]


@pytest.mark.parametrize("function", PAIRS)
def test_bad_pairs(function):
    packed = np.zeros((3, 2), np.uint8)
    with pytest.raises(ValueError, match="rows have 2 and 1 bytes"):
        function(packed, packed[:, :1])
    with pytest.raises(TypeError, match=r"(other|reference|among) must be packed"):
        function(packed, packed.astype(float))
    with pytest.raises(ValueError, match="must have shape"):
        function(packed[0], packed)
    with pytest.raises(TypeError, match=r"(other|reference|among) must be an array"):
        function(packed, "states")


def test_bad_arguments():
    packed = np.zeros((3, 2), np.uint8)
    with pytest.raises(ValueError, match="one has 3 states, other has 2"):
        bits.bitwise_and(packed, packed[:2])
    with pytest.raises(ValueError, match=r"needs rows of 3 bytes, got rows of 2$"):
        bits.bitwise_not(packed, 17)
    with pytest.raises(ValueError, match=r"got rows of 17: compress_states\(\) packs one number"):
        ts.count_states(np.ones((3, 17), np.uint8), neurons=17)
    for start, stop in ((0, 0), (5, 4), (-1, 3), (0, 17)):
        with pytest.raises(ValueError, match="must be within the 16 bits"):
            bits.slice_neurons(packed, start, stop)
    with pytest.raises(TypeError, match="start must be an integer"):
        bits.slice_neurons(packed, 0.5, 3)
    with pytest.raises(TypeError, match="neurons must be a number for each part, got 3"):
        bits.concatenate_neurons([np.zeros((1, 1), np.uint8)], 3)
    with pytest.raises(ValueError, match="equally many, at least one, got 0 and 0"):
        bits.concatenate_neurons([], [])
    with pytest.raises(ValueError, match="got 2 and 1"):
        bits.concatenate_neurons([packed, packed], [16])
    with pytest.raises(ValueError, match="parts have 3, 2 states"):
        bits.concatenate_neurons([packed, packed[:2]], [16, 16])
    with pytest.raises(TypeError, match=r"parts\[1\] must be packed"):
        bits.concatenate_neurons([packed, packed * 1.0], [16, 16])
    with pytest.raises(TypeError, match="distance must be an integer"):
        bits.states_within(packed, packed, 1.5)
