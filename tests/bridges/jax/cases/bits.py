"""Bits inside transformations, and of arrays on several devices."""

import jax
import numpy as np
import pytest

import tensorstate_gpu as ts
from tensorstate_gpu import bits
from tests.bridges.jax.cases.several_devices import PLACES
from tests.support.samples import thinned

RNG = np.random.default_rng(0)
ONE = RNG.integers(0, 4, (16, 3), np.uint8) * 41
OTHER = np.concatenate((ONE[:3], RNG.integers(0, 256, (5, 3), np.uint8)))
OF_ANY_SHAPE = {
    "distances": lambda one, other: bits.hamming_distances(one, other),
    "index of nearest": lambda one, other: bits.nearest_states(one, other)[0],
    "nearest": lambda one, other: bits.nearest_states(one, other)[1],
    "isin": lambda one, other: bits.isin(one, other),
    "and": lambda one, other: bits.bitwise_and(one, other[:1]),
    "not": lambda one, _: bits.bitwise_not(one, 22),
    "slice": lambda one, _: bits.slice_neurons(one, 5, 18),
    "joined": lambda one, other: bits.concatenate_neurons([one[:8], other], [21, 24]),
    "by neuron": lambda one, _: ts.popcount(one, axis=0),
}
OUTSIDE = {
    "unique": lambda one, _: bits.unique(one).inverse,
    "within": lambda one, other: bits.states_within(one, other, 9),
}


@pytest.mark.parametrize("name", OF_ANY_SHAPE)
def test_inside_jit(name):
    call = OF_ANY_SHAPE[name]
    found = jax.jit(call)(ONE, OTHER)
    assert isinstance(found, jax.Array)
    np.testing.assert_array_equal(found, call(ONE, OTHER))


@pytest.mark.parametrize("name", OUTSIDE)
def test_not_inside_jit(name):
    with pytest.raises(TypeError, match="inside a JAX transformation the number of"):
        jax.jit(OUTSIDE[name])(ONE, OTHER)


EVERYWHERE = [(name, place) for name in OF_ANY_SHAPE | OUTSIDE for place in PLACES]


# JAX compiles each operation for each place.
@pytest.mark.parametrize(("name", "place"), thinned(EVERYWHERE, EVERYWHERE[::6]))
def test_on_several_devices(name, place):
    call = (OF_ANY_SHAPE | OUTSIDE)[name]
    one, other = jax.device_put(ONE, PLACES[place]), jax.device_put(OTHER, PLACES[place])
    found = call(one, other)
    assert isinstance(found, jax.Array)
    np.testing.assert_array_equal(found, call(ONE, OTHER))


def test_vmap_over_arrays_of_states():
    pairs = np.stack((ONE[:8], ONE[8:])), np.stack((OTHER, OTHER[::-1]))
    found = jax.jit(jax.vmap(bits.hamming_distances))(*pairs)
    for each, one, other in zip(found, *pairs, strict=True):
        np.testing.assert_array_equal(each, bits.hamming_distances(one, other))
