"""Layers that other layers call in their code, as those of KerasHub do."""

import keras
import numpy as np
import pytest
from keras import layers, ops

import tensorstate_gpu as ts

X = np.random.default_rng(0).normal(size=(6, 5, 4)).astype("float32")


def array(tensor):
    return keras.ops.convert_to_numpy(tensor).copy()


class Mlp(layers.Layer):
    """Calls one Dropout on many features, and on few."""

    def __init__(self):
        super().__init__(name="mlp")
        self.up, self.down = layers.Dense(9, name="up"), layers.Dense(4, name="down")
        self.drop = layers.Dropout(0.1, name="drop")

    def call(self, x):
        return self.drop(self.down(self.drop(self.up(x))))


@pytest.mark.each_process
@pytest.mark.parametrize("keep", ["states", "counts"])
def test_a_layer_that_code_calls_with_other_neurons(keep):
    inputs = keras.Input((5, 4))
    model = keras.Model(inputs, Mlp()(inputs))
    wide = ts.compress_states(array(model.get_layer("mlp").up(X)))
    expected = array(model(X))
    with ts.capture(model, "*drop", keep=keep) as run:
        with pytest.warns(
            ts.errors.SkippedLayersWarning, match="here with 4 neurons.*calls with 9"
        ):
            given = model.predict(X, batch_size=6, verbose=0)
        model.predict(X, batch_size=6, verbose=0)  # which warns no more
    np.testing.assert_allclose(given, expected, atol=1e-5)
    assert run["mlp/drop"].histogram() == ts.count_states(np.concatenate([wide, wide]), 9)


class Built(layers.Layer):
    """Builds its layers with the number of features, and one of them with no shape at all."""

    def __init__(self):
        super().__init__(name="built")
        self.dense, self.drop = layers.Dense(3, name="dense"), layers.Dropout(0.1, name="drop")

    def build(self, shape):
        self.dense.build([shape[-1]])
        self.drop.build([])

    def call(self, x):
        return self.drop(self.dense(x))


def test_layers_that_were_built_with_their_features_alone():
    inputs = keras.Input((5, 4))
    model = keras.Model(inputs, Built()(inputs))
    rows = ts.compress_states(array(model(X)))
    with ts.capture(model, ["*dense", "*drop"]) as run:
        model.predict(X, batch_size=6, verbose=0)
    for point in run.values():
        assert (point.axis % 3, point.instance_count) == (2, 6)
        np.testing.assert_array_equal(point.raw_states, rows)
