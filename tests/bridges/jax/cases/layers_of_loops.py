"""tap(index=): the layers that one function runs, as in a scan, have a capture point each."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import tensorstate_gpu as ts

X = jnp.asarray(np.random.default_rng(0).normal(size=(5, 9)), jnp.float32)
WEIGHTS = jnp.asarray(np.random.default_rng(1).normal(size=(3, 9, 9)), jnp.float32)


def layer(run):
    def step(carry, numbered):
        index, weights = numbered
        return ts.tap(jnp.tanh(carry @ weights), "layer", run, index=index), None

    return step


def by_scan(run, x):
    return jax.lax.scan(layer(run), x, (jnp.arange(3), WEIGHTS))[0]


def by_loop(run, x):
    for index in range(3):
        x, _ = layer(run)(x, (index, WEIGHTS[index]))
    return x


def expected_rows():
    x, rows = X, []
    for weights in WEIGHTS:
        x = jnp.tanh(x @ weights)
        rows.append(ts.compress_states(np.asarray(x)))
    return rows


@pytest.mark.parametrize("transformation", [lambda function: function, jax.jit])
@pytest.mark.parametrize("way", [by_scan, by_loop])
def test_each_layer_has_a_capture_point(way, transformation):
    run = ts.Run()
    transformation(lambda x: way(run, x))(X)
    assert [layer.layer for layer in run.report().layers] == [f"layer[{k}]" for k in range(3)]
    for point, expected in zip(run.values(), expected_rows(), strict=True):
        np.testing.assert_array_equal(point.raw_states, expected)


def test_names_are_there_as_soon_as_the_call_is_made():
    run = ts.Run()
    jax.jit(lambda x: by_scan(run, x))(X)
    assert run["layer[2]"].state_count == 5


def test_gradients_and_examples():
    run = ts.Run()
    example = jax.grad(lambda x: by_scan(run, x).sum())
    jax.jit(jax.vmap(example))(X)
    for point, expected in zip(run.values(), expected_rows(), strict=True):
        np.testing.assert_array_equal(point.raw_states, expected)


def test_layers_of_a_vmap():
    run = ts.Run()
    jax.vmap(lambda index, x: ts.tap(x, "x", run, index=index))(jnp.arange(2), X[:2])
    assert {name: point.state_count for name, point in run.items()} == {"x[0]": 1, "x[1]": 1}


def test_layers_have_the_options_of_the_point_of_that_name():
    run = ts.Run([ts.CapturePoint("layer", keep="counts", threshold=0.5)])
    jax.jit(lambda x: by_scan(run, x))(X)
    points = run.efficiency_layers[1:]
    assert [(point.keep, point.threshold) for point in points] == [("counts", 0.5)] * 3
