"""compress_states against the oracle: formats, thresholds, layouts, widths, array types."""

import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import tensorstate_gpu as ts
from tensorstate_gpu import testing as oracle
from tensorstate_gpu.testing import ELEMENTS, FLOATS, INTEGERS, LAYOUTS
from tests.support.foreign_arrays import DLPackArray, Wrapped, as_torch

INF = math.inf
NUMPY_ELEMENTS = ("float16", "float32", "float64", *INTEGERS, "bool")
SMALL_FLOATS = [name for name, (size, *_) in FLOATS.items() if size <= 2]
THRESHOLDS = [0, 0.0, -0.0, 0.5, -0.5, 1e-40, -1e-40, -1e-8, 3, -3, 1e300, -1e300, INF, -INF]
THRESHOLDS += [5e-324, -5e-324, 65504, 65504.5, 2**70, -(2**70), 10**400, -(10**400)]
THRESHOLDS += [448, 57344, 3.3e38, -1.17e-38, 2**53 + 1, Fraction(1, 3), Fraction(2**61 + 1, 2)]


def random_bits(element, shape, seed=0):
    """Return numbers of which half are special values and half have random bits."""
    rng = np.random.default_rng(seed)
    width = oracle.special_bits(element)[-1].bit_length() if element != "bool" else 8
    special = rng.choice(np.array(oracle.special_bits(element), f"uint{width}"), shape)
    if element == "bool":
        return special
    anything = np.frombuffer(rng.bytes(special.nbytes), special.dtype).reshape(shape)
    return np.where(rng.random(shape) < 0.5, special, anything)


def given_as(bits, element):
    """Return the array as users have it: with NumPy's own dtype if there is one."""
    return bits.view(element) if element in NUMPY_ELEMENTS else DLPackArray(bits, element)


def check(array, bits, element, neuron_axis=-1, threshold=0.0):
    if element.endswith("fnuz") and np.ndim(threshold) == 0 and threshold < 0:
        # In these formats the pattern of -0.0 is NaN, among the negative numbers.
        with pytest.raises(ValueError, match="threshold"):
            ts.compress_states(array, neuron_axis=neuron_axis, threshold=threshold)
        return
    packed = ts.compress_states(array, neuron_axis=neuron_axis, threshold=threshold)
    expected = oracle.compress(bits, neuron_axis, threshold, element)
    assert packed.dtype == np.uint8
    assert packed.shape == expected.shape
    assert np.array_equal(packed, expected)


@pytest.mark.parametrize("threshold", THRESHOLDS, ids=lambda t: str(t)[:12])
@pytest.mark.parametrize("element", SMALL_FLOATS)
def test_every_bit_pattern(element, threshold):
    size = FLOATS[element][0]
    bits = np.arange(256**size, dtype=f"uint{8 * size}").reshape(-1, 64)
    check(given_as(bits, element), bits, element, threshold=threshold)
    check(given_as(bits, element), bits, element, 0, threshold)


@pytest.mark.parametrize("element", ["float16", "bfloat16", "float8_e4m3fn", "float8_e5m2"])
def test_the_oracle_decodes_each_pattern_like_torch(element):
    size = FLOATS[element][0]
    bits = np.arange(256**size, dtype=f"uint{8 * size}")
    values = as_torch(bits, element).double().numpy()
    assert np.array_equal(oracle._decode(bits, element), values, equal_nan=True)
    for threshold in (0.0, 0.5, -0.5, 1e-8):
        assert np.array_equal(oracle._fires(bits, element, threshold), values > threshold)


@pytest.mark.parametrize("threshold", THRESHOLDS, ids=lambda t: str(t)[:12])
@pytest.mark.parametrize("element", ELEMENTS)
def test_special_values_and_thresholds(element, threshold):
    bits = random_bits(element, (37, 65))
    check(given_as(bits, element), bits, element, threshold=threshold)
    check(given_as(bits, element), bits, element, 0, threshold)


@pytest.mark.parametrize("element", ["float16", "float32", "float64"])
def test_thresholds_between_and_at_the_numbers(element):
    kind = np.dtype(element).type
    numbers = [0.0, 1.0, -1.0, 0.1, float(np.finfo(kind).max), float(np.finfo(kind).tiny)]
    for number in map(kind, numbers):
        with np.errstate(over="ignore", under="ignore"):
            below, above = np.nextafter(number, kind(-INF)), np.nextafter(number, kind(INF))
        x = np.array([[below, number, above]])
        for threshold in (float(number), math.nextafter(float(number), -INF)):
            exact = [Fraction(float(v)) > Fraction(threshold) if v < INF else True for v in x[0]]
            expected = np.packbits([exact], axis=1, bitorder="little")
            assert np.array_equal(ts.compress_states(x, threshold=threshold), expected)


@pytest.mark.parametrize("element", ELEMENTS)
def test_every_width(element):
    for neurons in range(1, 301):
        bits = random_bits(element, (9, neurons), neurons)
        check(given_as(bits, element), bits, element)
        across = random_bits(element, (2, neurons, 7), neurons)
        check(given_as(across, element), across, element, 1)


@pytest.mark.parametrize("element", ["float32", "bfloat16", "float64", "uint8"])
@pytest.mark.parametrize("shape", [(3, 100_000), (3, 99_999, 2), (2, 99_993, 17)])
def test_a_hundred_thousand_neurons(element, shape):
    bits = random_bits(element, shape)
    check(given_as(bits, element), bits, element, 1)


@pytest.mark.parametrize("rows", [1, 2, 63, 64, 65, 1000, 100_003])
@pytest.mark.parametrize("element", ["float32", "float16", "float64", "int8"])
def test_many_rows(element, rows):
    bits = random_bits(element, (rows, 21))
    check(given_as(bits, element), bits, element)
    check(given_as(bits.T, element), bits.T, element, 0)


@pytest.mark.parametrize("element", ["float32", "float16", "float64", "int8", "uint8"])
def test_many_rows_of_every_width(element):
    """Rows without gaps: 64 of them are as many words of bits as a row has neurons."""
    threshold = -1.0 if element == "uint8" else 0.0  # each number fires
    for neurons in (*range(1, 74), 120, 128, 1000, 1001):
        bits = random_bits(element, (64 * 2 + neurons % 64, neurons), neurons)
        check(given_as(bits, element), bits, element, threshold=threshold)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("element", ELEMENTS)
def test_every_format_in_every_layout(element, layout):
    values = random_bits(element, (3, 37, 5, 11), 5)
    for seed in range(6):
        bits = LAYOUTS[layout](values, seed)
        for axis in range(-4, 4):
            check(given_as(bits, element), bits, element, axis)


def check_random_array(data):
    drawn = data.draw(oracle.activations())
    lowest = 0.0 if drawn.element.endswith("fnuz") else None
    number = st.sampled_from([0, 0.0, 0.5, 1e-40, INF, 2**64]) | st.floats(lowest, allow_nan=False)
    neurons = drawn.bits.shape[drawn.neuron_axis]
    per_neuron = st.lists(number, min_size=neurons, max_size=neurons)
    threshold = data.draw(st.just(0.0) | number | per_neuron)
    before = drawn.bits.copy()
    arguments = drawn.bits, drawn.element, drawn.neuron_axis, threshold
    check(DLPackArray(drawn.bits, drawn.element), *arguments)
    if drawn.element in NUMPY_ELEMENTS:
        check(drawn.array, *arguments)
    assert np.array_equal(drawn.bits, before)


@given(st.data())
@settings(max_examples=120)
def test_random_arrays(data):
    check_random_array(data)


@pytest.mark.long
@given(st.data())
@settings(max_examples=1000)
def test_more_random_arrays(data):
    check_random_array(data)


@pytest.mark.parametrize("element", ELEMENTS)
def test_one_threshold_per_neuron(element):
    bits = random_bits(element, (5, 33, 7), 3)
    lowest = 0 if element.endswith("fnuz") else -2
    threshold = [0.0, 0.5, 1, 100.25, INF, 1e-40, lowest, 1e300, lowest / 3, 7, 2**65] * 3
    check(given_as(bits, element), bits, element, 1, threshold)
    check(given_as(bits, element), bits, element, 1, tuple(threshold))
    floats = np.array(threshold, np.float64)
    check(given_as(bits, element), bits, element, 1, floats)
    expected = oracle.compress(bits, 1, floats, element)
    of_tensor = ts.compress_states(
        given_as(bits, element), neuron_axis=1, threshold=torch.from_numpy(floats)
    )
    assert np.array_equal(of_tensor, expected)


def test_thresholds_of_other_number_types():
    x = np.array([[0.25, 0.5, 0.75]])
    for half in (0.5, np.float32(0.5), np.float16(0.5), np.array(0.5), Fraction(1, 2)):
        assert ts.compress_states(x, threshold=half).tolist() == [[4]]
    assert ts.compress_states(x, threshold=np.int8(0)).tolist() == [[7]]
    # The float64 called 0.1 is above a tenth: rounding the threshold first would hide it.
    assert ts.compress_states(np.array([[0.1]]), threshold=Fraction(1, 10)).tolist() == [[1]]


@pytest.mark.parametrize("shape", [(0, 5), (0, 64), (3, 0, 4), (0, 0, 9), (2, 3, 0, 16)])
@pytest.mark.parametrize("element", ["float32", "bfloat16", "bool"])
def test_no_states(element, shape):
    bits = np.zeros(shape, oracle.compress(np.zeros((1, 1))).dtype if element == "bool" else (
        "uint16" if element == "bfloat16" else "uint32"
    ))  # fmt: skip
    packed = ts.compress_states(given_as(bits, element))
    assert packed.shape == (0, (shape[-1] + 7) // 8)
    assert packed.dtype == np.uint8


@pytest.mark.parametrize("element", [e for e in ELEMENTS if hasattr(torch, e)])
def test_torch_in_torch_out(element):
    bits = random_bits(element, (4, 19, 6, 5))
    expected = torch.from_numpy(oracle.compress(bits, 1, element=element))
    x = as_torch(bits, element)
    channels_last = x.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)
    for tensor in (x, channels_last):
        packed = ts.compress_states(tensor, neuron_axis=1)
        assert type(packed) is torch.Tensor
        assert packed.dtype == torch.uint8
        assert packed.device == tensor.device
        assert torch.equal(packed, expected)
    part = ts.compress_states(x[1:, 2:17:3, ::2], neuron_axis=1)
    assert np.array_equal(part, oracle.compress(bits[1:, 2:17:3, ::2], 1, element=element))
    wide = x[:1].expand(4, 19, 6, 5)
    assert torch.equal(ts.compress_states(wide, neuron_axis=1)[30:60], expected[:30])


def test_torch_tensors_of_every_kind():
    x = torch.randn(6, 9, requires_grad=True)
    expected = torch.from_numpy(np.packbits(x.detach().numpy() > 0, axis=1, bitorder="little"))
    for tensor in (x, x * 1, torch.nn.Parameter(x), x.detach()):
        packed = ts.compress_states(tensor)
        assert torch.equal(packed, expected)
        assert not packed.requires_grad
    with torch.inference_mode():
        assert torch.equal(ts.compress_states(x + 0), expected)
    packed = ts.compress_states(x)
    packed.zero_()  # the result is writable, and shares no memory
    assert torch.equal(ts.compress_states(x), expected)
    empty = ts.compress_states(torch.empty(0, 9))
    assert empty.shape == (0, 2)
    assert type(empty) is torch.Tensor


@pytest.mark.parametrize("threshold", [0.0, 1.5e-40, -1.5e-40, 5e-324, -5e-324])
@pytest.mark.parametrize("element", [name for name in FLOATS if not name.endswith("fnuz")])
def test_flush_to_zero_changes_nothing(element, threshold):
    bits = random_bits(element, (50, 70))
    expected = oracle.compress(bits, threshold=threshold, element=element)
    per_neuron = [threshold * 1.25] * 70  # a new threshold, which is not cached
    expected_too = oracle.compress(bits, threshold=per_neuron, element=element)
    array, subnormal = given_as(bits, element), np.array([1e-310])
    assert torch.set_flush_denormal(True)
    try:
        assert not (subnormal > 0)[0]  # flush-to-zero is on
        packed = ts.compress_states(array, threshold=threshold)
        packed_too = ts.compress_states(array, threshold=per_neuron)
    finally:
        torch.set_flush_denormal(False)
    assert np.array_equal(packed, expected)
    assert np.array_equal(packed_too, expected_too)


def test_other_array_types():
    x = random_bits("float32", (8, 10)).view(np.float32)
    expected = oracle.compress(x)
    wrapped = ts.compress_states(Wrapped(x))
    assert type(wrapped) is Wrapped
    assert np.array_equal(wrapped.array, expected)
    # For a type without from_dlpack the result is a NumPy array.
    assert type(ts.compress_states(DLPackArray(x, "float32"))) is np.ndarray


def test_nothing_around_the_array_is_read_or_written():
    inside = random_bits("float32", (20, 13))
    expected = oracle.compress(inside, element="float32")
    for canary in (0x00, 0x3F):  # the bytes around the array fire, or do not
        around = np.full((24, 17), canary * 0x01010101, np.uint32)
        around[2:-2, 2:-2] = inside
        before = around.copy()
        view = around[2:-2, 2:-2].view(np.float32)
        assert np.array_equal(ts.compress_states(view), expected)
        assert np.array_equal(ts.compress_states(view.T, neuron_axis=0), expected)
        assert np.array_equal(around, before)
