"""The truth about models of Keras, on a small one, in a process of its own as in the study."""

import json
import subprocess
import sys

PROGRAM = """
import json, os
os.environ["KERAS_BACKEND"], os.environ["TF_CPP_MIN_LOG_LEVEL"] = "tensorflow", "3"
import keras
from benchmarks.studies.neuron_axes.keras_models import axes_of

layers = keras.layers
images = keras.Input((8, 12, 3))
x = layers.Conv2D(6, 3, activation="relu", name="conv")(layers.Rescaling(0.5, name="scale")(images))
x = layers.BatchNormalization(name="norm")(layers.DepthwiseConv2D(3, name="depthwise")(x))
x = layers.Add(name="add")([x, layers.SeparableConv2D(6, 1, name="separable")(x)])
x = layers.Permute((3, 1, 2), name="first")(x)
x = layers.ReLU(name="relu")(x)
model = keras.Model(images, layers.Dense(5, name="dense")(layers.Flatten(name="flat")(x)))
truths, taken, _ = axes_of(model)
print(json.dumps({t.layer: (t.verdict, t.axes, taken[t.layer].axis) for t in truths}))
"""


def test_the_truth_about_a_model_of_keras():
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found.pop("scale")[0] == "untouched"
    known_last = ("conv", "depthwise", "norm", "separable", "add")
    assert found == {
        **{name: ["known", [3], 3] for name in known_last},
        **{name: ["known", [1], 1] for name in ("first", "relu", "flat", "dense")},
    }
