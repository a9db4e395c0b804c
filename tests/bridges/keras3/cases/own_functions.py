"""Functions of TensorFlow in the code of layers, which keep what they have traced."""

from contextlib import nullcontext

import keras
import numpy as np
import pytest
from keras import layers

import tensorstate_gpu as ts
from tensorstate_gpu.bridges.keras3 import own_functions
from tests.bridges.keras3.cases.models import BACKEND

pytestmark = pytest.mark.skipif(BACKEND != "tensorflow", reason="is about tf.function")
X = np.random.default_rng(0).normal(size=(7, 4)).astype("float32")
Y = X[:, :3]


def with_functions():
    """A model with a method that is a tf.function, and with a layer that has one."""
    import tensorflow as tf

    class Inner(layers.Layer):
        def __init__(self):
            super().__init__(name="inner")
            self.dense = layers.Dense(4, name="dense")
            self.dense.build((None, 4))
            self.function = tf.function(lambda x: self.dense(x))

        def call(self, x):
            return self.function(x)

    class Model(keras.Model):
        def __init__(self):
            super().__init__()
            self.inner, self.last = Inner(), layers.Dense(3, name="last")

        @tf.function
        def end(self, x):
            return self.last(x)

        def call(self, x, training=None):
            return self.end(self.inner(x))

    model = Model()
    model.compile("sgd", "mse")
    return model


WAYS = {
    "predict": lambda model: model.predict(X, batch_size=3, verbose=0),
    "fit": lambda model: model.fit(X, Y, batch_size=3, shuffle=False, verbose=0),
    "evaluate": lambda model: model.evaluate(X, Y, batch_size=3, verbose=0),
    "train_on_batch": lambda model: model.train_on_batch(X, Y),
    "called": lambda model: model(X),
}


def counts(run):
    return {point.name: point.state_count for point in run.values()}


@pytest.mark.parametrize("is_built", [False, True])
@pytest.mark.parametrize("way", WAYS)
def test_functions_are_traced_for_the_capture(way, is_built):
    """Keras builds a model by what it would keep, and without captures."""
    model = with_functions()
    if is_built:
        WAYS[way](model)
    for _ in range(2):
        with ts.capture(model, ["inner/dense", "last"]) as run:
            WAYS[way](model)
        WAYS[way](model)
        assert counts(run) == {"inner/dense_states": 7, "last_states": 7}


def test_passes_that_are_not_captured():
    model = with_functions()
    with ts.capture(model, ["inner/dense", "last"], when="train") as run:
        model.fit(X, Y, batch_size=3, shuffle=False, verbose=0, validation_data=(X, Y))
    assert counts(run) == {"inner/dense_states": 7, "last_states": 7}


def test_rows_are_those_of_the_layer():
    model = with_functions()
    model.predict(X, batch_size=3, verbose=0)
    with ts.capture(model, "last") as run:
        output = model.predict(X, batch_size=3, verbose=0)
    np.testing.assert_array_equal(run["last_states"].raw_states, ts.compress_states(output))


def test_a_model_runs_where_functions_cannot_be_made_to_trace(monkeypatch):
    """As with a TensorFlow that keeps traces elsewhere: what captures nothing says so."""
    model = with_functions()
    output = model.predict(X, verbose=0)
    monkeypatch.setattr(own_functions, "_functions_of", lambda layer: [object()])
    with ts.capture(model, "last") as run:
        np.testing.assert_array_equal(model.predict(X, verbose=0), output)
    with pytest.raises(ts.errors.NothingCaptured):
        run["last_states"].entropy()


def test_a_model_trains_as_without_captures():
    trained = []
    for captures in (False, True):
        keras.utils.set_random_seed(0)
        model = with_functions()
        model(X)
        with ts.capture(model, "last") if captures else nullcontext():
            WAYS["fit"](model)
        trained.append(model.get_weights())
    for bare, captured in zip(*trained, strict=True):
        np.testing.assert_array_equal(bare, captured)


@pytest.mark.parametrize("when", ["train", "eval"])
@pytest.mark.parametrize("first", [True, False])
def test_a_trace_of_passes_that_are_captured_is_not_taken_for_others(first, when):
    model = with_functions()
    model(X)
    with ts.capture(model, ["inner/dense", "last"], when=when) as run:
        for training in (first, not first, first):
            model(X, training=training)
    states = 14 if first == (when == "train") else 7
    assert counts(run) == {"inner/dense_states": states, "last_states": states}
