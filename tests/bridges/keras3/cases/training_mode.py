"""when=: states of training alone, or of evaluation alone, also where fit() does both."""

import keras
import numpy as np
import pytest
from keras import layers

import tensorstate_gpu as ts
from tests.bridges.keras3.cases.models import compiled, convolutional

X = np.random.default_rng(0).standard_normal((12, 8, 8, 2)).astype("float32")
Y = np.zeros((12, 3), "float32")


def fit(model):
    model.fit(X[:8], Y[:8], batch_size=4, epochs=2, validation_data=(X[8:], Y[8:]), verbose=0)


@pytest.mark.parametrize("in_place", [True, False])
@pytest.mark.parametrize(("when", "inputs"), [("train", 16), ("eval", 8), (None, 24)])
def test_fit_with_validation(when, inputs, in_place):
    model = compiled(convolutional())
    if in_place:
        with ts.capture(model, ["conv", "relu", "dense"], when=when) as run:
            fit(model)
    else:
        captured = ts.build_efficiency_model(model, ["conv", "relu", "dense"], when=when)
        fit(captured)
        run = ts.Run(captured.efficiency_layers)
    assert run.instance_count == inputs


def test_predictions_are_no_training():
    model = compiled(convolutional())
    with ts.capture(model, "conv", when="train") as run:
        model.predict(X, verbose=0)
        model(X)
        model(X[:3], training=True)
    assert run.instance_count == 3


def test_a_frozen_part_is_in_the_mode_of_the_model():
    base = convolutional()
    inputs = keras.Input((8, 8, 2))
    model = keras.Model(inputs, layers.Dense(3, name="head")(base(inputs, training=False)))
    with ts.capture(model, ["*conv", "head"], when="train") as run:
        fit(compiled(model))
    assert run.instance_count == 16


class WithoutMode(keras.Model):
    def __init__(self):
        super().__init__()
        self.dense = layers.Dense(3, name="dense")

    def call(self, x):
        return self.dense(x)


def test_what_is_not_available_is_refused():
    model = convolutional()
    message = "when= as a function is not for Keras"
    for attach in (ts.build_efficiency_model, enter):
        with pytest.raises(ts.errors.NotCapturable, match=message):
            attach(model, "conv", when=lambda model: True)
    with pytest.raises(ts.errors.NotCapturable, match=message):
        ts.StateCapture("by_hand", when=lambda model: True)
    for attach in (ts.build_efficiency_model, enter):
        with pytest.raises(ts.errors.NotCapturable, match="batch_axis=1 is not for Keras"):
            attach(model, "conv", batch_axis=1)
    with pytest.raises(ts.errors.NotCapturable, match="batch_axis=1 is not for Keras"):
        ts.StateCapture("by_hand", batch_axis=1)
    subclassed = WithoutMode()
    subclassed(np.ones((2, 4)))
    with pytest.raises(ts.errors.NotCapturable, match="not available for WithoutMode"):
        enter(subclassed, "dense", when="train")


def enter(*args, **options):
    ts.capture(*args, **options).__enter__()
