"""Calls inside jax.checkpoint, as by keras.remat on JAX: left out, and the model runs on."""

import keras
import numpy as np
import pytest
from keras import layers

import tensorstate_gpu as ts
from tensorstate_gpu.bridges.keras3.layers import StateCapture
from tests.bridges.keras3.cases.models import BACKEND

pytestmark = [
    pytest.mark.each_process,
    pytest.mark.skipif(BACKEND != "jax", reason="others capture what keras.remat repeats"),
]
RNG = np.random.default_rng(0)
X = RNG.normal(size=(20, 4)).astype("float32")
Y = RNG.normal(size=(20, 3)).astype("float32")
INSIDE = r"outer/inner_states: calls of the layer inside jax\.checkpoint .* not captured"


class InCheckpoint(layers.Layer):
    """Calls a layer inside a function of a call, or one that ``stays``, with what JAX traced.

    What stays keeps the weights of that time: Keras itself cannot train such a layer.
    """

    def __init__(self, stays):
        super().__init__(name="outer")
        self.inner, self.stays = layers.Dense(4, activation="relu", name="inner"), stays

    def build(self, shape):
        import jax

        self.inner.build(shape)
        self.function = jax.checkpoint(lambda x: self.inner(x))

    def call(self, x):
        return (self.function if self.stays else keras.remat(lambda x: self.inner(x)))(x)


def in_a_graph(stays):
    inputs = keras.Input((4,))
    return keras.Model(inputs, layers.Dense(3, name="d")(InCheckpoint(stays)(inputs)))


class InCode(keras.Model):
    def __init__(self, stays):
        super().__init__()
        self.outer, self.d = InCheckpoint(stays), layers.Dense(3, name="d")

    def call(self, x):
        return self.d(self.outer(x))


def new_model(make, stays, eagerly):
    keras.utils.set_random_seed(0)
    model = make(stays)
    model(X)  # what stays is traced without captures
    model.compile("sgd", "mse", run_eagerly=eagerly)
    return model


def predict(model):
    return model.predict(X, batch_size=10, verbose=0)


def fit(model):
    model.fit(X, Y, batch_size=10, shuffle=False, verbose=0)
    return keras.ops.convert_to_numpy(model(X))


@pytest.mark.parametrize(
    ("make", "stays", "way", "eagerly"),
    [
        (in_a_graph, False, fit, False),
        (in_a_graph, True, predict, False),
        (InCode, False, fit, True),
        (InCode, True, predict, False),
        (InCode, True, predict, True),
    ],
)
def test_a_pass_does_not_fail(make, stays, way, eagerly):
    """Otherwise predict() and fit() would leave the model without its weights."""
    bare = new_model(make, stays, eagerly)
    model = new_model(make, stays, eagerly)
    with ts.capture(model, ["*inner", "outer", "d"]) as run:
        with pytest.warns(ts.errors.SkippedLayersWarning, match=INSIDE) as told:
            given = way(model)
        np.testing.assert_allclose(given, way(bare), atol=1e-5)
        way(model)
    assert [each.category for each in told].count(ts.errors.SkippedLayersWarning) == 1
    states = 2 * (len(X) if way is predict else 2 * len(X))
    assert {point.name: point.state_count for point in run.values()} == {
        "outer/inner_states": 0,
        "outer_states": states,
        "d_states": states,
    }


def test_each_graph_traces_what_stays():
    """With what another graph has traced, JAX would raise an error."""
    model = new_model(in_a_graph, True, False)
    with ts.capture(model, "d") as run:
        model.predict(X, batch_size=20, verbose=0)
        model.evaluate(X, Y, batch_size=20, verbose=0)
    assert run["d"].state_count == 40


def test_a_model_that_is_called_there():
    import jax

    model = in_a_graph(stays=False)
    expected = np.asarray(model(X))
    with ts.capture(model, "d") as run:
        with pytest.warns(ts.errors.SkippedLayersWarning, match="inside jax.checkpoint"):
            given = jax.checkpoint(lambda x: model(x))(X)
        model(X)
    np.testing.assert_allclose(given, expected, atol=1e-5)
    assert run["d"].histogram([19]).total == 1
    assert run["d"].instance_count == 20


def test_a_layer_that_is_placed_there_by_hand():
    inner = keras.Sequential([keras.Input((4,)), layers.Dense(4), StateCapture("seen")])
    inputs = keras.Input((4,))
    code = layers.Lambda(lambda x: keras.remat(inner)(x), lambda shape: shape)
    model = keras.Model(inputs, code(inputs))
    with pytest.warns(ts.errors.SkippedLayersWarning, match="seen: calls of the layer inside jax"):
        model.predict(X, verbose=0)
    assert model(X).shape == (20, 4)
