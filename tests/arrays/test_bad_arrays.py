"""Invalid arguments of the array functions raise before any work, with the argument's name."""

import math

import numpy as np
import pytest
import torch

import tensorstate_gpu as ts
from tests.support.foreign_arrays import DLPackArray

GOOD = np.ones((4, 10), np.float32)
PACKED = np.array([[3, 1], [0, 0], [3, 1]], np.uint8)
SWAPPED = GOOD.dtype.newbyteorder()
NO_ARRAYS = [
    np.ones((4, 10), np.complex64),
    np.ones((4, 10), np.complex128),
    np.ones((4, 10), object),
    np.full((4, 10), "1"),
    np.full((4, 10), b"1"),
    np.zeros((4, 10), "datetime64[s]"),
    np.zeros((4, 10), [("a", "f4")]),
    np.ones((4, 10), np.longdouble),
    GOOD.astype(SWAPPED),
    GOOD.tolist(),
    "abc",
    None,
    1.0,
    np.ndarray,
    torch.Tensor,
    torch.ones(4, 10, dtype=torch.complex64),
    torch.ones(4, 10).to_sparse(),
    torch.ones(4, 10, device="meta"),
    DLPackArray(np.ones((4, 10), np.complex64), "complex64"),
    DLPackArray(GOOD, "float32", lanes=2),
]


def kind_of(value):
    return f"{type(value).__name__}-{getattr(value, 'dtype', '')}"


@pytest.mark.parametrize("states", NO_ARRAYS, ids=kind_of)
def test_arguments_that_are_not_arrays_of_real_numbers(states):
    with pytest.raises(TypeError, match="states"):
        ts.compress_states(states)
    for function in (ts.popcount, ts.sort_states, ts.count_states):
        with pytest.raises(TypeError, match="states"):
            function(states)
    with pytest.raises(TypeError, match="states"):
        ts.decompress_states(states, 10)


@pytest.mark.parametrize("wrap", [np.asarray, torch.from_numpy], ids=["numpy", "torch"])
@pytest.mark.parametrize("shape", [(), (0,), (10,), (3, 0), (0, 0)])
def test_wrong_shapes(shape, wrap):
    with pytest.raises(ValueError, match="states"):
        ts.compress_states(wrap(np.ones(shape, np.float32)))


@pytest.mark.parametrize("axis", [2, -3, 100, -100, 10**30])
def test_neuron_axis_out_of_range(axis):
    with pytest.raises(ValueError, match="neuron_axis"):
        ts.compress_states(GOOD, neuron_axis=axis)


@pytest.mark.parametrize("axis", [1.0, "1", None, (1,), 1j])
def test_neuron_axis_must_be_an_integer(axis):
    with pytest.raises(TypeError, match="neuron_axis"):
        ts.compress_states(GOOD, neuron_axis=axis)


@pytest.mark.parametrize(
    "threshold",
    [math.nan, np.float32(math.nan), [math.nan] * 10, [0.0] * 9 + [math.nan], [], [0.0] * 9,
     [0.0] * 11, np.zeros(11), np.zeros(0), torch.zeros(4)],
    ids=kind_of,
)  # fmt: skip
@pytest.mark.parametrize("element", [np.float32, np.float64, np.int8, np.bool_])
def test_invalid_thresholds(threshold, element):
    with pytest.raises(ValueError, match="threshold"):
        ts.compress_states(GOOD.astype(element), threshold=threshold)


@pytest.mark.parametrize(
    "threshold",
    ["0", b"0", None, 1j, ["0"] * 10, [None] * 10, np.zeros(10, complex), {0.0}, object(), len],
    ids=kind_of,
)
def test_thresholds_must_be_real_numbers(threshold):
    with pytest.raises(TypeError, match="threshold"):
        ts.compress_states(GOOD, threshold=threshold)


@pytest.mark.parametrize("threshold", [np.zeros((1, 10)), np.zeros((10, 1)), [[0.0] * 10]])
def test_thresholds_of_two_axes(threshold):
    with pytest.raises((TypeError, ValueError), match="threshold"):
        ts.compress_states(GOOD, threshold=threshold)


@pytest.mark.parametrize("element", ["float8_e4m3fnuz", "float8_e5m2fnuz"])
def test_negative_thresholds_of_formats_without_negative_zero(element):
    bits = np.ones((4, 10), np.uint8)
    with pytest.raises(ValueError, match="threshold"):
        ts.compress_states(DLPackArray(bits, element), threshold=-1)


@pytest.mark.parametrize("dtype", ["int8", "bool", "uint16", "float32", "int64"])
def test_packed_states_must_be_uint8(dtype):
    for packed in (PACKED.astype(dtype), torch.from_numpy(PACKED.astype(dtype))):
        functions = [ts.popcount, ts.count_states]
        for function in functions if dtype == "bool" else [*functions, ts.sort_states]:
            with pytest.raises(TypeError, match=r"states.*uint8"):
                function(packed)
        with pytest.raises(TypeError, match=r"states.*uint8"):
            ts.decompress_states(packed, 10)


@pytest.mark.parametrize("shape", [(), (3,), (3, 2, 1), (3, 0), (0, 0)])
def test_packed_states_must_have_two_axes(shape):
    packed = np.zeros(shape, np.uint8)
    for function in (ts.popcount, ts.sort_states, ts.count_states):
        with pytest.raises(ValueError, match="states"):
            function(packed)
    with pytest.raises(ValueError, match="states"):
        ts.decompress_states(packed, 10)


@pytest.mark.parametrize("neurons", [0, -1, 8, 17, 1, 10**30])
def test_neurons_that_do_not_fit(neurons):
    with pytest.raises(ValueError, match="num_neurons"):
        ts.decompress_states(PACKED, neurons)
    with pytest.raises(ValueError, match="neurons"):
        ts.count_states(PACKED, neurons)


@pytest.mark.parametrize("neurons", [True, 10.0, "10", np.float64(10), [10]])
def test_neurons_must_be_integers(neurons):
    with pytest.raises(TypeError, match="num_neurons"):
        ts.decompress_states(PACKED, neurons)
    with pytest.raises(TypeError, match="neurons"):
        ts.count_states(PACKED, neurons)
    with pytest.raises(TypeError, match="neurons"):
        ts.StateCounts(PACKED[:1], [1], neurons)
    with pytest.raises(TypeError, match="neurons"):
        ts.StateCounts.empty(neurons)


@pytest.mark.parametrize("neurons", [0, -1, -8])
def test_state_counts_of_no_neurons(neurons):
    with pytest.raises(ValueError, match="neurons"):
        ts.StateCounts(np.empty((0, 0), np.uint8), np.empty(0, np.int64), neurons)
    with pytest.raises(ValueError, match="neurons"):
        ts.StateCounts.empty(neurons)


@pytest.mark.parametrize("count", [-1, 4, 10**30])
def test_state_count_out_of_range(count):
    with pytest.raises(ValueError, match="state_count"):
        ts.sort_states(PACKED, count)


@pytest.mark.parametrize("count", [2.0, True, "2"])
def test_state_count_must_be_an_integer(count):
    with pytest.raises(TypeError, match="state_count"):
        ts.sort_states(PACKED, count)


def test_bits_beyond_the_neurons():
    packed = np.array([[0, 0], [0, 4]], np.uint8)
    assert ts.count_states(packed, 11).neurons == 11
    for neurons in (9, 10):
        with pytest.raises(ValueError, match=rf"bits.* {neurons}"):
            ts.count_states(packed, neurons)


@pytest.mark.parametrize(
    ("packed", "counts"),
    [
        ([[1], [0]], [1, 1]),
        ([[0], [0]], [1, 1]),
        ([[0, 1], [1, 0]], [1, 1]),
        ([[0], [1]], [1, 0]),
        ([[0], [1]], [1, -1]),
        ([[0], [1]], [1]),
        ([[0], [1]], [[1, 1]]),
        ([[0], [8]], [1, 1]),
        ([[0, 0]], [1]),
        ([0], [1]),
        ([[0]], [2**63]),
    ],
)
def test_state_counts_of_invalid_arrays(packed, counts):
    with pytest.raises(ValueError, match=r"packed|counts|bits"):
        ts.StateCounts(np.array(packed, np.uint8), np.array(counts), 3)


def test_merging_different_neurons():
    # 3 and 5 neurons fill the same number of bytes, and are still different layers.
    for a, b in ((3, 5), (3, 20)):
        for merge in (ts.StateCounts.merge, ts.StateCounts.__add__):
            with pytest.raises(ValueError, match=rf"{b}.*{a}|{a}.*{b}"):
                merge(ts.StateCounts.empty(a), ts.StateCounts.empty(b))


@pytest.mark.parametrize("other", [3, None, "counts", [1]])
def test_merging_other_objects_raises(other):
    with pytest.raises(TypeError):
        ts.StateCounts.empty(3) + other
    with pytest.raises(TypeError, match="other"):
        ts.StateCounts.empty(3).merge(other)


def test_nothing_is_changed_by_an_error():
    packed, states = PACKED.copy(), GOOD.copy()
    for call in (
        lambda: ts.decompress_states(packed, 99),
        lambda: ts.sort_states(packed, 99),
        lambda: ts.count_states(packed, 9_000),
        lambda: ts.compress_states(states, neuron_axis=7),
    ):
        with pytest.raises(ValueError, match=r".+"):
            call()
    assert np.array_equal(packed, PACKED)
    assert np.array_equal(states, GOOD)


def test_masked_arrays_raise_everywhere():
    masked = np.ma.array([1, 2, 3], mask=[False, True, False])
    table = np.ma.array([masked, masked])
    rows = np.ma.array([[1], [2]], mask=[[False], [True]], dtype=np.uint8)
    for call in (
        lambda: ts.entropy(masked),
        lambda: ts.information.estimate(table),
        lambda: ts.information.mutual_information(table),
        lambda: ts.information.mutual_information({"a": [1, 2, 3], "b": masked}),
        lambda: ts.information.estimate_mutual_information({"a": table, "b": table}),
        lambda: ts.StateCounts(rows, [1, 1], 8),
        lambda: ts.StateCounts(rows.data, masked[:2], 8),
        lambda: ts.count_states(rows),
    ):
        with pytest.raises(TypeError, match="is a masked array, whose mask would be ignored"):
            call()
