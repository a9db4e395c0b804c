"""``firing=``: the same bits from plain Python, Numba and Numba-CUDA."""

import itertools
import math
import os
import subprocess
import sys
import textwrap

import numba
import numpy as np
import pytest
import torch

import tensorstate_gpu as ts
from tensorstate_gpu import testing
from tensorstate_gpu._arrays.elements import ELEMENT_TYPES
from tensorstate_gpu._arrays.firing_function import values
from tests.support.samples import sweep, thinned


def by_python(array, function):
    """Pack rows of the last axis by calling the function on plain Python numbers."""
    numbers = np.asarray(array).reshape(-1, np.asarray(array).shape[-1]).tolist()
    return np.packbits([[function(x) for x in row] for row in numbers], axis=1, bitorder="little")


def far_from_zero(x):
    return abs(x) > 0.1


FUNCTIONS = {
    "far from zero": far_from_zero,
    "a band": lambda x: 0.25 < x <= 2,
    "a polynomial": lambda x: x * x - 0.1 > x + 0.3 * x,
    "not zero": lambda x: x != 0,
    "branches": lambda x: x > 1 if x > 0 else x < -2,
    "square root": lambda x: math.sqrt(abs(x)) > 0.7,
}


NAMES = ["float32", "float64", "float16", "int8", "int64", "uint32", "bool"]
# Each function, and each type of numbers. Numba compiles for a second in each of these tests.
SAMPLE = [*zip(NAMES, FUNCTIONS, strict=False), ("bool", "far from zero")]


@pytest.mark.parametrize(
    ("name", "function"), thinned(list(itertools.product(NAMES, FUNCTIONS)), SAMPLE)
)
def test_as_plain_python(name, function):
    function = FUNCTIONS[function]
    rng = np.random.default_rng(0)
    x = rng.normal(size=(30, 19)) * 3
    x = x > 0 if name == "bool" else abs(x).astype(name) if name[0] == "u" else x.astype(name)
    packed = ts.compress_states(x, firing=function)
    np.testing.assert_array_equal(packed, by_python(x, function))


@pytest.mark.parametrize("name", ["float16", "bfloat16", *(n for n in ELEMENT_TYPES if "8_" in n)])
def test_every_number_of_small_formats(name):
    """Compare with the oracle, which decodes in another way."""
    element = ELEMENT_TYPES[name]
    bits = np.arange(1 << 8 * element.size, dtype=f"u{element.size}")
    np.testing.assert_array_equal(values(element), testing._decode(bits, name))


def test_special_numbers_of_float32():
    bits = np.array([testing.special_bits("float32")], np.uint32)
    x = bits.view(np.float32)
    functions = (lambda x: x > 0, lambda x: x == x, lambda x: x < 0, lambda x: 1 / x > 0)
    for function in (*functions, lambda x: x > 1e-45):  # the smallest subnormal is greater
        packed = ts.compress_states(x, firing=function)
        with np.errstate(all="ignore"):
            expected = [function(np.float64(number)) for number in x[0]]
        np.testing.assert_array_equal(packed, np.packbits([expected], axis=1, bitorder="little"))


def test_integers_stay_exact():
    """Float64 has 53 bits. Numba converts a uint64 that is combined with another integer to it."""
    x = np.array([[0, 1, 2**53, 2**53 + 1, -(2**63), 2**63 - 1]])
    for function in (lambda x: x > 2**53, lambda x: x % 2 == 1, lambda x: x < 0):
        np.testing.assert_array_equal(
            ts.compress_states(x, firing=function), by_python(x, function)
        )
    x = np.array([[0, 1, 2**53 + 1, 2**63, 2**64 - 1]], np.uint64)
    for function in (lambda x: x > 1, lambda x: x > 2**62, lambda x: x < 0):
        np.testing.assert_array_equal(
            ts.compress_states(x, firing=function), by_python(x, function)
        )


def test_functions_that_numba_has_compiled():
    x = np.random.default_rng(0).normal(size=(30, 19))
    expected = ts.compress_states(x, firing=far_from_zero)
    packed = ts.compress_states(x, firing=numba.njit(far_from_zero))
    np.testing.assert_array_equal(packed, expected)


def test_flush_to_zero_changes_nothing():
    x = np.array([[1e-40, -1e-40, 0.0, 1.0]], np.float32)
    expected = ts.compress_states(x, firing=lambda x: x != 0).tolist()
    assert expected == [[0b1011]]
    if not torch.set_flush_denormal(True):
        pytest.fail("this processor cannot flush to zero")
    try:
        assert ts.compress_states(x, firing=lambda x: x != 0).tolist() == expected
    finally:
        torch.set_flush_denormal(False)


@pytest.mark.parametrize("axis", [0, 1, 2, 3, -1])
def test_any_axis_and_strides(axis):
    x = np.random.default_rng(0).normal(size=(4, 9, 6, 10)).astype(np.float32)[::-1, :, ::2]
    for array in (x, np.moveaxis(x, 2, 0), np.broadcast_to(x[:1], x.shape)):
        packed = ts.compress_states(array, neuron_axis=axis, firing=far_from_zero)
        expected = ts.compress_states(
            abs(array), neuron_axis=axis, threshold=np.float32(0.1).item()
        )
        np.testing.assert_array_equal(packed, expected)


def test_capture_by_a_function():
    model = torch.nn.Sequential(torch.nn.Conv2d(1, 5, 3), torch.nn.Tanh(), torch.nn.Linear(6, 4))
    x = torch.randn(3, 1, 8, 8)
    for keep in ("states", "counts"):
        with ts.capture(model, ["Conv2d", "Linear"], firing=far_from_zero, keep=keep) as run:
            y = model(x)
        expected = ts.compress_states(y.detach(), firing=far_from_zero)
        point = run["2_post_states"]
        assert point.histogram() == ts.count_states(expected, neurons=4)
        assert point.attributes()["firing"] == "far_from_zero"


BAD = {
    "no function": (3, {}, "firing must be a plain Python function of one number, .* got int"),
    "a builtin": (abs, {}, "got builtin_function_or_method"),
    "a class": (float, {}, "got type"),
    "two numbers": (lambda x, y: x > y, {}, "firing: Numba cannot compile .* for a float"),
    "not for Numba": (lambda x: print(x).real, {}, "Numba cannot compile"),
    "no bool": (lambda x: x + 1, {}, "firing must return a bool, .* returns float64"),
    "a threshold too": (far_from_zero, {"threshold": 1.0}, "threshold or firing, not both"),
}


@pytest.mark.parametrize("what", BAD)
def test_invalid_functions_raise_before_anything_is_captured(what):
    function, options, message = BAD[what]
    model = torch.nn.Sequential(torch.nn.Linear(3, 2))
    for call in (
        lambda: ts.compress_states(np.zeros((2, 3)), firing=function, **options),
        lambda: ts.CapturePoint("layer", firing=function, **options),
        lambda: ts.build_efficiency_model(model, "Linear", firing=function, **options),
    ):
        with pytest.raises((TypeError, ValueError), match=message):
            call()
    assert not model[0]._forward_hooks


# Runs the CUDA backend's kernel in Numba's simulator, on NumPy arrays.
SIMULATED = """
    import sys
    import numpy as np
    from numba import cuda
    from numba.cuda.simulator.cudadrv.devicearray import FakeCUDAArray as Lent
    from tensorstate_gpu import cuda as backend, cpu_fallback
    from tensorstate_gpu._arrays.dlpack import borrow
    from tensorstate_gpu._arrays.layout import plan
    from tensorstate_gpu.cuda import device, numba_device

    device.library, device.empty, device.view = lambda: np, np.empty, lambda t: t.numpy()
    numba_device.kernel = cuda.jit
    numba_device.run = lambda kernel, blocks, *arrays: kernel[4 * blocks, 64](*map(Lent, arrays))

    def far_from_zero(x):
        return abs(x) > 0.1

    rng = np.random.default_rng(0)
    compared = 0
    for name in sys.argv[1:]:
        for shape, axis in (((3, 20), -1), ((2, 11, 2, 3), 1), ((2, 3, 4, 3, 2), 2)):
            x = rng.normal(size=shape) * 3
            x = x > 0 if name == "bool" else abs(x).astype(name)
            for array in (x, x[::-1, ::2]):
                tensor = borrow(array, "x")
                layout = plan(tensor.shape, tensor.strides, tensor.element.size, axis)
                packed = backend.compress_by_function(tensor, layout, far_from_zero)
                expected = cpu_fallback.compress_by_function(tensor, layout, far_from_zero)
                assert np.array_equal(packed, expected), (name, shape)
                compared += packed.size
    print("compared", compared)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="numba-cuda is installed for tests on Linux")
@pytest.mark.slow
@sweep
def test_the_cuda_kernel_in_numbas_simulator(every):
    names = ["float32", "float64", "int8", "bool"] if every else []
    names += ["float16", "uint16"]
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(SIMULATED), *names],
        env=os.environ | {"NUMBA_ENABLE_CUDASIM": "1"},
        capture_output=True,
        text=True,
        timeout=1200,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert int(done.stdout.split()[1]) > 80 * len(names)


# Compiles the kernel for a GPU, which needs no GPU, with and without disable_fma().
COMPILED = """
    from contextlib import nullcontext
    from types import SimpleNamespace
    from numba import cuda, types
    from numba.cuda import dispatcher
    from tensorstate_gpu._arrays.elements import ELEMENT_TYPES
    from tensorstate_gpu.cuda import numba_device, pack_by_function

    dispatcher.get_current_device = lambda: SimpleNamespace(compute_capability=(9, 0))
    numba_device.kernel = lambda function: function
    kernel = pack_by_function._kernel(ELEMENT_TYPES["float32"], lambda x: x * x - 0.1 > x + 0.3 * x)
    arrays = [types.Array(types.uint32, 3, "A"), types.Array(types.float64, 1, "C")]
    arrays.append(types.Array(types.uint8, 2, "C"))
    for promise in (numba_device.disable_fma(), nullcontext()):
        with promise:
            code, _ = cuda.compile_ptx(kernel, tuple(arrays), cc=(9, 0))
        print(code, end="the next")
"""


@pytest.mark.skipif(sys.platform != "linux", reason="NVVM is installed for tests on Linux")
def test_the_cuda_kernel_rounds_each_operation():
    """Like a CPU. Without disable_fma(), NVVM fuses multiplications and additions."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(COMPILED)],
        capture_output=True,
        text=True,
        timeout=1200,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    promised, usual, _ = done.stdout.split("the next")
    assert "mul.rn.f64" in promised
    assert "fma" not in promised
    assert "fma" in usual
    assert ".ftz" not in promised + usual
