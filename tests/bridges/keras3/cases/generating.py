"""Models that generate, as those of KerasHub: by a compiled function that they keep."""

import keras
import numpy as np
import pytest
from keras import layers, ops

import tensorstate_gpu as ts

BACKEND = keras.backend.backend()
X = np.random.default_rng(0).normal(size=(5, 4)).astype("float32")


class Generating(keras.Model):
    """Runs one of its layers for each token; ``generate_function`` is made where it is None."""

    def __init__(self):
        super().__init__()
        self.dense, self.generate_function = layers.Dense(4, name="dense"), None
        self.traced = 0

    def call(self, x):
        return self.dense(x)

    def generate_step(self, x):
        self.traced += 1
        return ops.while_loop(lambda i, x: i < 3, lambda i, x: (i + 1, self.dense(x)), (0, x))[1]

    def make_generate_function(self):
        if self.generate_function is None:
            self.generate_function = compiled(self.generate_step)
        return self.generate_function

    def generate(self, x):
        return self.make_generate_function()(ops.convert_to_tensor(x))


def compiled(function):
    if BACKEND == "jax":
        import jax

        return jax.jit(function)
    if BACKEND == "tensorflow":
        import tensorflow as tf

        return tf.function(function)
    return function


@pytest.mark.each_process
def test_what_has_generated_before_is_captured():
    model = Generating()
    model(X)
    model.generate(X)
    for _ in range(2):
        with ts.capture(model, "dense") as run:
            model.generate(X)
            model.generate(X)
        assert run["dense_states"].state_count == 2 * 3 * 5
    before = model.traced
    model.generate(X)
    assert model.traced == before + 1  # without what a capture has put into it
    assert run["dense_states"].state_count == 2 * 3 * 5


class Named(keras.Model):
    """Has a method that is called like what KerasHub makes."""

    def __init__(self):
        super().__init__()
        self.dense = layers.Dense(4, name="dense")

    def call(self, x):
        return self.generate_function(x)

    def generate_function(self, x):
        return self.dense(x)


def test_a_method_of_that_name_stays():
    model = Named()
    model(X)
    with ts.capture(model, "dense") as run:
        model(X)
    model(X)
    assert run["dense_states"].state_count == 5
