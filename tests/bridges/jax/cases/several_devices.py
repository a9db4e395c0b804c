"""Arrays whose parts are on several devices, and arrays on another device than the first."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

import tensorstate_gpu as ts

DEVICES = jax.devices()
ROWS = NamedSharding(Mesh(np.array(DEVICES), ("devices",)), PartitionSpec("devices"))
X = np.random.default_rng(0).normal(size=(16, 9)).astype("float32")
PACKED = ts.compress_states(X)
PLACES = {"in parts": ROWS, "on the second device": DEVICES[1]}


@pytest.mark.parametrize("place", PLACES)
def test_array_functions_work_where_the_array_is(place):
    x = jax.device_put(X, PLACES[place])
    packed = ts.compress_states(x)
    results = {
        "packed": (packed, PACKED),
        "unpacked": (ts.decompress_states(packed, 9), X > 0),
        "fire": (ts.popcount(packed), (X > 0).sum(axis=1)),
    }
    for result, expected in results.values():
        np.testing.assert_array_equal(result, expected)
        assert result.devices() == x.devices()


@pytest.mark.parametrize("place", PLACES)
def test_counting_brings_the_parts_together(place):
    packed = jax.device_put(PACKED, PLACES[place])
    assert ts.count_states(packed, neurons=9) == ts.count_states(PACKED, neurons=9)
    for ours, expected in zip(ts.sort_states(packed), ts.sort_states(PACKED), strict=True):
        np.testing.assert_array_equal(ours, expected)


@pytest.mark.filterwarnings("ignore:.*rematerialization")
@pytest.mark.parametrize("transformation", [lambda function: function, jax.jit, jax.vmap])
@pytest.mark.parametrize("place", PLACES)
def test_tap_records_rows_in_order(request, place, transformation):
    if (place, transformation) == ("in parts", jax.jit) and jax.__version_info__ < (0, 10):
        refused = pytest.mark.xfail(raises=jax.errors.JaxRuntimeError, strict=True)
        request.applymarker(refused)
    run = ts.Run()
    x = jax.device_put(X, PLACES[place])
    tapped = transformation(lambda x: ts.tap(x, "x", run))(x)
    np.testing.assert_array_equal(run["x"].raw_states, PACKED)
    assert tapped.devices() == x.devices()


def mapped(run):
    def each(x):
        return ts.tap(x, "x", run) + 1

    in_parts = PartitionSpec("devices")
    return jax.jit(jax.shard_map(each, mesh=ROWS.mesh, in_specs=in_parts, out_specs=in_parts))


def test_inside_shard_map_rows_have_no_order():
    with pytest.raises(RuntimeError, match=r"x: inside shard_map.*in no particular order: return"):
        mapped(ts.Run())(X)


def test_inside_shard_map_states_are_counted():
    run = ts.Run([ts.CapturePoint("x", keep="counts")])
    np.testing.assert_array_equal(mapped(run)(X), X + 1)
    assert run["x"].histogram() == ts.count_states(PACKED, neurons=9)


@pytest.mark.parametrize("loops", [False, True])
def test_inside_shard_map_what_all_devices_have_is_counted_once(loops):
    """Of a mesh of two axes: along the one all have the same, along the other a part each."""
    run = ts.Run([ts.CapturePoint("x", keep="counts")])
    mesh = Mesh(np.array(DEVICES).reshape(2, -1), ("parts", "copies"))

    def each(x):
        if not loops:
            return ts.tap(x, "x", run) + 1
        y = jax.lax.scan(
            lambda x, _: (jax.vmap(lambda v: ts.tap(v, "x", run))(x), None), x, None, 3
        )
        return y[0] + 1

    in_parts = PartitionSpec("parts")
    mapped = jax.jit(jax.shard_map(each, mesh=mesh, in_specs=in_parts, out_specs=in_parts))
    np.testing.assert_array_equal(mapped(X), X + 1)
    times = 3 if loops else 1
    assert run["x"].histogram() == ts.count_states(np.tile(PACKED, (times, 1)), neurons=9)
    assert run["x"].instance_count == times * len(X)


def test_inside_pmap_rows_have_no_order():
    with pytest.raises(RuntimeError, match="in no particular order"):
        jax.pmap(lambda x: ts.tap(x, "x", ts.Run()))(jnp.ones((len(DEVICES), 2, 3)))
