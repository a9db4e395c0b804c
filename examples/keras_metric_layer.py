"""Keras: a layer that measures inside ``fit``, and a callback of one's own that reads its states.

Two ways to watch a layer while it learns. A metric layer computes in the graph: here the mean share
of activations above 0, which Keras shows among the metrics. Entropy is no mean over batches: it
needs all states of an epoch. A capture point counts them in the same ``fit``, and a callback reads
it after each epoch.
"""

import os

os.environ.setdefault("KERAS_BACKEND", "torch")

import keras
import matplotlib.pyplot as plt
from data import mnist
from keras import layers

import tensorstate_gpu as ts


class FiringRate(layers.Layer):
    """Passes activations on unchanged, and adds the share of those above 0 to the metrics."""

    def __init__(self, **options):
        super().__init__(**options)
        self.rate = keras.metrics.Mean(name=self.name)

    def call(self, x):
        self.rate.update_state(keras.ops.cast(x > 0, "float32"))
        return x


class ReadStates(keras.callbacks.Callback):
    """After each epoch, adds the efficiency of a capture point to the logs, and empties it."""

    def __init__(self, point):
        super().__init__()
        self.point = point

    def on_epoch_end(self, epoch, logs=None):
        logs["efficiency"] = self.point.efficiency()
        self.point.reset_states()


train, _ = mnist(8)
keras.utils.set_random_seed(0)
model = keras.Sequential(
    [
        keras.Input(train[0].shape[1:]),
        layers.Flatten(),
        layers.Dense(24, activation="relu", name="hidden"),
        FiringRate(name="firing_rate"),
        layers.Dense(10, name="pred"),
    ]
)
captured = ts.build_efficiency_model(model, "hidden", keep="counts")
captured.compile(
    "adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=["accuracy"]
)
callback = ReadStates(captured.efficiency_layers[0])
history = captured.fit(*train, batch_size=32, epochs=8, verbose=0, callbacks=[callback]).history

names = ("accuracy", "firing_rate", "efficiency")
print("epoch" + "".join(f"{name:>13}" for name in names))
for epoch, numbers in enumerate(zip(*(history[name] for name in names), strict=True), 1):
    print(f"{epoch:5}" + "".join(f"{number:13.1%}" for number in numbers))

_, ax = plt.subplots(figsize=(7, 3.5), layout="constrained")
for name, style in zip(names, ("s:", "o--", "^-"), strict=True):
    ax.plot(range(1, 9), [100 * number for number in history[name]], style, label=name)
ax.set(xlabel="epoch", ylabel="%", ylim=(0, 101))
ax.legend(frameon=False)
ax.figure.savefig("keras_metric_layer.png", dpi=80)
