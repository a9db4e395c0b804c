"""JAX arrays inside and outside transformations, and histograms in pytrees."""

import itertools
import operator
from concurrent.futures import ThreadPoolExecutor

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import tensorstate_gpu as ts
from tensorstate_gpu import testing as oracle
from tensorstate_gpu._arrays.elements import ELEMENT_TYPES
from tensorstate_gpu.bridges import jax_host_calls
from tests.support.samples import thinned

NAMES = ["float32", "float16", "bfloat16", "float8_e4m3fn", "float8_e5m2", "int8", "uint16", "bool"]


X = jnp.ones(3)
TRANSFORMATIONS = {"jit": jax.jit, "vmap": jax.vmap, "grad": lambda f: jax.grad(lambda x: f(x)[0])}


@pytest.mark.parametrize("transformation", TRANSFORMATIONS)
def test_it_is_known_whether_operations_run_now(transformation):
    """If not, eager passes would share one clock: threads that run them side by side, too."""
    seen = []

    def pass_():
        def watched(x):
            seen.append(jax_host_calls.in_transformation())
            return x

        watched(X)
        TRANSFORMATIONS[transformation](watched)(X)

    pass_()
    with ThreadPoolExecutor(1) as pool:
        pool.submit(pass_).result()
    assert seen == [False, True] * 2


def numbers(name, shape=(6, 11, 4)):
    """Every kind of bit pattern, as a JAX array, and the bits themselves."""
    rng = np.random.default_rng(0)
    size = ELEMENT_TYPES[name].size
    bits = rng.integers(0, 256, (*shape, size), np.uint8).view(f"u{size}")[..., 0]
    if name == "bool":
        bits %= 2
        return jnp.asarray(bits.astype(np.bool_)), bits
    special = oracle.special_bits(name)[: bits[0].size]
    bits.reshape(-1)[: len(special)] = special
    return jax.lax.bitcast_convert_type(jnp.asarray(bits), jnp.dtype(name)), bits


# ---- array functions ---------------------------------------------------------------------------


# Each is compiled, for half a second. Every seventh: each type, and each axis with each threshold.
COMPRESSED = list(itertools.product(NAMES, [0, 1, -1], [0.0, -1.0, 0.3, float("inf")]))


@pytest.mark.parametrize(("name", "axis", "threshold"), thinned(COMPRESSED, COMPRESSED[::7]))
def test_compress_is_the_same_inside_jit(name, axis, threshold):
    x, bits = numbers(name)
    expected = oracle.compress(bits, axis, threshold, element=name)
    outside = ts.compress_states(x, neuron_axis=axis, threshold=threshold)
    inside = jax.jit(lambda x: ts.compress_states(x, neuron_axis=axis, threshold=threshold))(x)
    assert isinstance(outside, jax.Array)
    assert isinstance(inside, jax.Array)
    np.testing.assert_array_equal(outside, expected)
    np.testing.assert_array_equal(inside, expected)


def test_any_number_of_neurons_is_packed_inside_jit():
    bools = np.random.default_rng(0).integers(0, 2, (9, 101)).astype(np.bool_)
    for rows in (bools, bools[:0]):
        arrays = [rows[:, :neurons] for neurons in (1, 16, 17, 20, 24, 33, 64, 65, 96, 101)]
        packed = jax.jit(lambda *arrays: [*map(ts.compress_states, arrays)])(*arrays)
        for ours, array in zip(packed, arrays, strict=True):
            np.testing.assert_array_equal(ours, ts.compress_states(array))


def test_one_threshold_for_each_neuron():
    x, bits = numbers("float32")
    thresholds = np.linspace(-1, 1, 11).tolist()
    inside = jax.jit(lambda x: ts.compress_states(x, neuron_axis=1, threshold=thresholds))(x)
    np.testing.assert_array_equal(inside, oracle.compress(bits, 1, thresholds, element="float32"))


@pytest.mark.parametrize("neurons", [1, 8, 20, 64, 65])
def test_decompress_and_popcount_inside_jit(neurons):
    bools = np.random.default_rng(0).integers(0, 2, (9, neurons)).astype(np.bool_)
    packed = jnp.asarray(np.packbits(bools, axis=1, bitorder="little"))
    np.testing.assert_array_equal(
        jax.jit(lambda p: ts.decompress_states(p, neurons))(packed), bools
    )
    ones = jax.jit(ts.popcount)(packed)
    assert ones.dtype == jnp.int32
    np.testing.assert_array_equal(ones, bools.sum(axis=1))


def test_inside_other_transformations():
    x = jnp.asarray(np.random.default_rng(0).normal(size=(4, 5, 12)), jnp.float32)
    expected = np.stack([ts.compress_states(np.asarray(each)) for each in x])
    np.testing.assert_array_equal(jax.vmap(ts.compress_states)(x), expected)
    _, scanned = jax.lax.scan(lambda carry, each: (carry, ts.compress_states(each)), 0, x)
    np.testing.assert_array_equal(scanned, expected)

    def loss(w):
        packed = ts.compress_states(x[0] * w)
        return (x[0] * w).sum() + packed.astype(jnp.float32).sum()

    for function in (loss, jax.checkpoint(loss), jax.jit(loss)):
        np.testing.assert_allclose(jax.grad(function)(1.5), x[0].sum(), rtol=1e-4)


BAD = {
    "one axis": (lambda x: ts.compress_states(x[0]), ValueError, "at least 2 axes"),
    "no such axis": (lambda x: ts.compress_states(x, neuron_axis=2), ValueError, "neuron_axis"),
    "NaN": (lambda x: ts.compress_states(x, threshold=float("nan")), ValueError, "NaN"),
    "complex": (lambda x: ts.compress_states(x + 1j), TypeError, "complex64; accepted are"),
    "a function": (lambda x: ts.compress_states(x, firing=bool), TypeError, "firing"),
    "floats unpacked": (lambda x: ts.decompress_states(x, 8), TypeError, "must be packed"),
    "counting": (lambda x: ts.count_states(ts.compress_states(x)), TypeError, "count them outside"),
    "a traced name": (lambda x: ts.tap(x, x[0, 0], ts.Run()), TypeError, "name must be a str, got"),
    "another order": (lambda x: ts.tap("x", x, ts.Run()), TypeError, "name must be a str, got"),
    "yet another": (lambda x: ts.tap(x, ts.Run(), "x"), TypeError, r"tap\(x, name, run\)"),
    "a text": (lambda _: ts.tap("x", "x", ts.Run()), TypeError, "x must be an array, got str"),
    "a dict": (lambda x: ts.tap({"x": x}, "x", ts.Run()), TypeError, "tap the arrays in it"),
    "no axis": (lambda x: ts.tap(x[0, 0], "x", ts.Run()), ValueError, "an axis of neurons"),
    "no run": (lambda x: ts.tap(x, "x", None), TypeError, "run must be a Run, got NoneType"),
    "no number": (lambda x: ts.tap(x, "x", ts.Run(), threshold="a"), TypeError, "threshold"),
}


@pytest.mark.parametrize("what", BAD)
def test_bad_input_is_refused_while_tracing(what):
    call, kind, message = BAD[what]
    with pytest.raises(kind, match=message):
        jax.jit(call)(jnp.ones((2, 3)))


def test_another_number_of_neurons_is_refused_while_tracing():
    run = ts.Run()
    ts.tap(jnp.ones((2, 3)), "x", run)
    with pytest.raises(ValueError, match="x: a batch has 4 neurons, earlier ones 3"):
        jax.jit(lambda x: ts.tap(x, "x", run))(jnp.ones((2, 4)))


def test_calls_that_are_switched_off():
    run = ts.Run()
    function = jax.jit(lambda x: ts.tap(x, "x", run))
    for rows, next_on in ((1, False), (2, True), (4, True)):
        function(jnp.ones((rows, 3)))
        run["x"].capture_on = next_on  # holds for the calls after it
    assert run["x"].state_count == 5


# ---- histograms -------------------------------------------------------------------------------


def test_counts_are_leaves_of_pytrees():
    counts = ts.StateCounts(np.array([[1], [2]], np.uint8), np.array([2**40 + 3, 5]), 8)
    assert jax.tree.leaves({"a": counts}) == [counts]
    twice = jax.tree.map(operator.add, {"a": counts}, {"a": counts})
    assert twice == {"a": counts + counts}
    assert jax.tree.reduce(operator.add, [counts, counts, counts]).total == 3 * counts.total


def test_transformations_take_no_counts():
    counts = ts.count_states(np.zeros((4, 2), np.uint8))
    with pytest.raises(TypeError, match="StateCounts"):
        jax.jit(lambda counts: counts)(counts)
    assert jax.jit(lambda x: x * counts.neurons)(2) == 2 * counts.neurons  # as a constant
