"""Histograms of a fixed size inside transformations, in loops, and over devices."""

import functools
import operator

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, PartitionSpec

import tensorstate_gpu as ts

# Rows, neurons: none, one, words that are full or not, more than one word.
SHAPES = [(0, 5), (1, 8), (400, 5), (400, 20), (300, 32), (300, 100)]


def rows_of(rows, neurons, seed=0):
    rng = np.random.default_rng(seed)
    active = rng.random((max(rows // 5, 1), neurons)) < 0.3
    return np.packbits(active[rng.integers(0, len(active), rows)], axis=1, bitorder="little")


def counted(packed, neurons):
    return ts.count_states(packed, neurons) if len(packed) else ts.StateCounts.empty(neurons)


@functools.partial(jax.jit, static_argnames=("neurons", "size", "fill_value"))
def inside(packed, neurons, size, fill_value=0):
    return ts.count_states(packed, neurons, size=size, fill_value=fill_value)


@pytest.mark.parametrize(("rows", "neurons"), SHAPES)
def test_counts_are_those_of_state_counts(rows, neurons):
    packed = rows_of(rows, neurons)
    expected = counted(packed, neurons)
    found = inside(packed, neurons, 100)
    assert found.to_counts() == expected
    assert (int(found.total), int(found.distinct)) == (rows, len(expected))
    assert not found.overflow
    entropy = found.entropy()
    assert np.isnan(entropy) if not rows else float(entropy) == pytest.approx(expected.entropy())


def test_the_convention_of_jnp_unique():
    packed = rows_of(300, 20)
    states, numbers = jnp.unique(packed, axis=0, return_counts=True, size=100, fill_value=7)
    found = inside(packed, 20, 100, 7)
    known = int(found.distinct)
    assert {row.tobytes() for row in np.asarray(states[:known])} == {
        row.tobytes() for row in np.asarray(found.packed[:known])
    }
    np.testing.assert_array_equal(found.packed[known:], states[known:])
    np.testing.assert_array_equal(found.counts[known:], numbers[known:])


def test_too_many_states_are_said():
    packed = rows_of(300, 20)
    expected = counted(packed, 20)
    found = inside(packed, 20, 10)
    assert found.overflow
    assert int(found.distinct) == len(expected)
    np.testing.assert_array_equal(found.packed, expected.packed[:10])
    np.testing.assert_array_equal(found.counts, expected.counts[:10])
    assert np.isnan(found.entropy())
    with pytest.raises(OverflowError, match=f"{len(expected)} distinct states or more, size=10"):
        found.to_counts()
    # What was lost stays lost, also where the merged states would have room.
    nothing = ts.PaddedCounts.empty(10, 20)
    assert nothing.merge(found).overflow
    assert found.merge(nothing).overflow
    roomy = ts.PaddedCounts.empty(100, 20).merge(found)
    assert roomy.overflow
    assert roomy.merge(roomy).overflow


def test_more_states_than_integers_hold_are_said():
    most = ts.PaddedCounts(
        jnp.array([[1]], jnp.uint8), jnp.array([2**31 - 1]), jnp.array(1), jnp.array(2**31 - 1), 8
    )
    assert not most.overflow
    assert most.merge(inside(np.array([[1]], np.uint8), 8, 1)).overflow


def test_batches_carried_by_a_scan():
    batches = rows_of(300, 12).reshape(6, 50, 2)

    @jax.jit
    def scanned(batches):
        def step(counts, batch):
            return counts.merge(ts.count_states(batch, 12, size=64)), counts.total

        return jax.lax.scan(step, ts.PaddedCounts.empty(64, 12), batches)

    counts, totals = scanned(batches)
    assert counts.to_counts() == counted(batches.reshape(-1, 2), 12)
    assert totals.tolist() == [0, 50, 100, 150, 200, 250]


def test_an_ensemble_by_vmap():
    batches = rows_of(300, 12).reshape(3, 100, 2)
    counts = jax.jit(jax.vmap(lambda rows: ts.count_states(rows, 12, size=64)))(batches)
    assert counts.size == 64
    assert counts.overflow.tolist() == [False] * 3
    for i, rows in enumerate(batches):
        each = jax.tree.map(operator.itemgetter(i), counts)
        assert each.to_counts() == counted(rows, 12)
        assert float(counts.entropy()[i]) == pytest.approx(counted(rows, 12).entropy())


def test_merging_over_devices():
    packed = rows_of(400, 12)
    mesh = Mesh(np.array(jax.devices()), ("data",))

    @functools.partial(
        jax.shard_map,
        mesh=mesh,
        in_specs=PartitionSpec("data"),
        out_specs=PartitionSpec(),
        check_vma=False,
    )
    def over_devices(rows):
        return ts.count_states(rows, 12, size=128).merge_over("data")

    assert jax.jit(over_devices)(packed).to_counts() == counted(packed, 12)


def test_counting_beside_a_gradient():
    w = jax.random.normal(jax.random.key(1), (4, 9))
    x = jax.random.normal(jax.random.key(0), (30, 4))

    @jax.checkpoint
    def loss(w):
        hidden = jnp.tanh(x @ w)
        return hidden.sum(), ts.count_states(ts.compress_states(hidden), 9, size=64)

    (_, counts), gradient = jax.jit(jax.value_and_grad(loss, has_aux=True))(w)
    assert gradient.shape == w.shape
    assert counts.to_counts() == ts.count_states(ts.compress_states(x @ w), 9)


def test_bad_arguments():
    packed = rows_of(10, 12)
    for wrong in (0, -1):
        with pytest.raises(ValueError, match="size must be greater than 0"):
            ts.count_states(packed, size=wrong)
    for large in (2**31, 10**30):
        with pytest.raises(ValueError, match="size must be at most 2,147,483,647"):
            ts.count_states(packed, size=large)
    with pytest.raises(TypeError, match="size must be an integer"):
        ts.count_states(packed, size=1.5)
    with pytest.raises(ValueError, match="fill_value must be from 0 to 255, got 256"):
        ts.count_states(packed, size=1, fill_value=256)
    with pytest.raises(TypeError, match="fill_value needs size="):
        ts.count_states(packed, fill_value=1)
    with pytest.raises(ValueError, match="neurons=17 needs rows of 3 bytes"):
        ts.count_states(packed, 17, size=3)
    with pytest.raises(TypeError, match="must be packed"):
        ts.count_states(packed * 1.0, size=3)
    one, other = inside(packed, 12, 5), inside(packed, 16, 5)
    with pytest.raises(ValueError, match="cannot merge counts of 16 neurons with 12"):
        one.merge(other)


def test_state_counts_are_a_leaf_that_loses_nothing():
    counts = ts.count_states(rows_of(30, 12), 12)
    assert jax.tree.leaves(counts) == [counts]
    assert jax.tree.map(operator.add, {"a": counts}, {"a": counts}) == {"a": counts + counts}
