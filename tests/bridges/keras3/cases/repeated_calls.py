"""Calls that a framework makes more often than the model uses what they give: captured once."""

import keras
import numpy as np
import pytest
from keras import layers

import tensorstate_gpu as ts
from tests.bridges.keras3.cases.models import BACKEND
from tests.support.samples import thinned

RNG = np.random.default_rng(0)
SEQUENCES = RNG.normal(size=(4, 6, 3)).astype("float32")
X = RNG.normal(size=(20, 4)).astype("float32")
Y = RNG.normal(size=(20, 3)).astype("float32")


def array(tensor):
    return keras.ops.convert_to_numpy(tensor).copy()


def recurrent(cell, **options):
    inputs = keras.Input((6, 3))
    loop = layers.RNN(cell, return_sequences=True, name="loop", **options)
    return keras.Model(inputs, loop(inputs))


@pytest.mark.each_process
@pytest.mark.parametrize("unroll", [False, pytest.param(True, marks=pytest.mark.long)])
@pytest.mark.parametrize(
    "kind",
    thinned([layers.SimpleRNNCell, layers.LSTMCell, layers.GRUCell], [layers.SimpleRNNCell]),
)
def test_cells_are_captured_once_for_each_step(kind, unroll):
    model = recurrent(kind(5, name="cell"), unroll=unroll)
    model.compile("sgd", "mse")
    steps = np.ascontiguousarray(array(model(SEQUENCES)).swapaxes(0, 1))
    with ts.capture(model, "*cell") as run:
        model(SEQUENCES)
        model.predict(SEQUENCES, verbose=0)
        point = run.efficiency_layers[0]
        np.testing.assert_array_equal(point.raw_states, ts.compress_states(np.stack(2 * [steps])))
        model.fit(SEQUENCES, np.ones((4, 6, 5)), verbose=0)
    assert point.state_count == 3 * 4 * 6


@pytest.mark.long
@pytest.mark.parametrize("eagerly", [False, True])
def test_stacked_and_masked_and_reversed_cells(eagerly):
    cells = [layers.LSTMCell(5, name="one"), layers.GRUCell(7, dropout=0.5, name="two")]
    inputs = keras.Input((6, 3))
    loop = layers.RNN(cells, return_sequences=True, name="loop")
    model = keras.Model(inputs, layers.Bidirectional(loop)(layers.Masking()(inputs)))
    model.compile("sgd", "mse", run_eagerly=eagerly)
    with ts.capture(model, ["*one", "*two"]) as run:
        model.predict(SEQUENCES, verbose=0)
        model.fit(SEQUENCES, np.ones((4, 6, 14)), verbose=0)
    assert [point.state_count for point in run.efficiency_layers] == 4 * [2 * 4 * 6]


def test_a_loop_in_the_cell_of_a_loop():
    class Outer(layers.Layer):
        state_size = output_size = 3

        def __init__(self):
            super().__init__(name="outer")
            self.inner = layers.RNN(layers.SimpleRNNCell(3, name="deep"), name="inner")

        def build(self, shape):
            self.inner.build((shape[0], 1, shape[1]))

        def call(self, x, states):
            given = self.inner(keras.ops.stack([x, x], 1), initial_state=states)
            return given, [given]

    model = recurrent(Outer())
    with ts.capture(model, "*deep") as run:
        model(SEQUENCES)
    assert run.efficiency_layers[0].state_count == 4 * 6 * 2


@pytest.mark.skipif(BACKEND != "tensorflow", reason="a function of TensorFlow's")
def test_cells_in_functions_of_ones_own():
    import tensorflow as tf

    model = recurrent(layers.LSTMCell(5, name="cell"))
    with ts.capture(model, "*cell") as run:
        tf.function(model)(tf.constant(SEQUENCES))
        tf.function(lambda x: model(x, training=True))(tf.constant(SEQUENCES))
    assert run.efficiency_layers[0].state_count == 2 * 4 * 6


class Repeated(layers.Layer):
    def __init__(self):
        super().__init__(name="repeated")
        self.inner = layers.Dense(8, name="deep")

    def build(self, shape):
        self.inner.build(shape)
        self.function = keras.remat(self.inner)

    def compute_output_shape(self, shape):
        return (*shape[:-1], 8)

    def call(self, x):
        return self.function(x)


@pytest.mark.skipif(BACKEND == "jax", reason="it allows no callbacks there")
@pytest.mark.parametrize("eagerly", [False, True])
def test_rematerialised_calls_are_captured_once(eagerly):
    inputs = keras.Input((4,))
    model = keras.Model(inputs, layers.Dense(3, name="d")(Repeated()(inputs)))
    assert_captured_once(model, ["*deep", "d"], eagerly)


# On TensorFlow Keras itself cannot run layers in a scope that are called with training=.
@pytest.mark.parametrize(
    ("mode", "make"),
    [
        ("full", lambda: layers.LayerNormalization(name="h")),
        ("activations", lambda: layers.Dense(8, activation="relu", name="h")),
    ],
)
@pytest.mark.each_process
@pytest.mark.parametrize("eagerly", [False, True])
def test_layers_of_a_remat_scope(eagerly, mode, make):
    inputs = keras.Input((4,))
    with keras.RematScope(mode=mode):
        hidden = make()
    model = keras.Model(inputs, layers.Dense(3, name="d")(hidden(inputs)))
    if BACKEND == "jax":
        with pytest.raises(ValueError, match=r"h was made in a keras.RematScope"):
            ts.build_efficiency_model(model, ["h", "d"])
    else:
        assert_captured_once(model, ["h", "d"], eagerly)


def assert_captured_once(model, attach_to, eagerly):
    model.compile("sgd", "mse", run_eagerly=eagerly)
    with ts.capture(model, attach_to) as run:
        model.fit(X, Y, batch_size=5, epochs=2, verbose=0)
        model.predict(X, verbose=0)
    assert [point.state_count for point in run.efficiency_layers] == [60, 60]
