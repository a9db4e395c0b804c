"""The truth about models of Keras, which a study of neuron axes compares with, on a small one."""

import keras
import pytest
from keras import layers

from benchmarks.studies.neuron_axes.keras_models import axes_of
from tests.bridges.keras3.cases.models import BACKEND


@pytest.mark.skipif(BACKEND != "tensorflow", reason="the study is of models on TensorFlow")
def test_the_truth_about_a_model_of_keras():
    images = keras.Input((8, 12, 3))
    x = layers.Rescaling(0.5, name="scale")(images)
    x = layers.Conv2D(6, 3, activation="relu", name="conv")(x)
    x = layers.BatchNormalization(name="norm")(layers.DepthwiseConv2D(3, name="depthwise")(x))
    x = layers.Add(name="add")([x, layers.SeparableConv2D(6, 1, name="separable")(x)])
    x = layers.Permute((3, 1, 2), name="first")(x)
    x = layers.ReLU(name="relu")(x)
    model = keras.Model(images, layers.Dense(5, name="dense")(layers.Flatten(name="flat")(x)))
    truths, taken, _ = axes_of(model)
    found = {t.layer: (t.verdict, [*t.axes], taken[t.layer].axis) for t in truths}
    assert found.pop("scale")[0] == "untouched"
    known_last = ("conv", "depthwise", "norm", "separable", "add")
    assert found == {
        **{name: ("known", [3], 3) for name in known_last},
        **{name: ("known", [1], 1) for name in ("first", "relu", "flat", "dense")},
    }
