"""Keras: a callback adds the efficiency of layers to the logs of fit(), on any backend."""

import os

os.environ.setdefault("KERAS_BACKEND", "torch")

import keras
import matplotlib.pyplot as plt
from data import mnist
from keras import layers

from tensorstate_gpu.training import StateEfficiency

train, test = mnist(8)
keras.utils.set_random_seed(0)
model = keras.Sequential(
    [
        keras.Input(train[0].shape[1:]),
        layers.Conv2D(8, 3, activation="relu", name="conv"),
        layers.Flatten(),
        layers.Dense(24, activation="relu", name="hidden"),
        layers.Dense(10, name="pred"),
    ]
)
model.compile(
    "adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=["accuracy"]
)
history = model.fit(
    *train,
    validation_data=test,
    batch_size=32,
    epochs=6,
    verbose=0,
    callbacks=[
        StateEfficiency(["conv", "hidden"]),  # before those that read its numbers
        keras.callbacks.CSVLogger("training.csv"),
    ],
).history
names = ("val_accuracy", "efficiency", "val_efficiency", "val_efficiency/hidden")
for epoch, numbers in enumerate(zip(*(history[name] for name in names), strict=True), 1):
    shown = (f"{name} {number:.1%}" for name, number in zip(names, numbers, strict=True))
    print(f"epoch {epoch}: {', '.join(shown)}")

_, ax = plt.subplots(figsize=(7, 3.5), layout="constrained")
for name, style in zip(names, ("s:", "o--", "^-", "v-."), strict=True):
    ax.plot(range(1, 7), [100 * number for number in history[name]], style, label=name)
ax.set(xlabel="epoch", ylabel="%", ylim=(0, 101))
ax.legend(frameon=False)
ax.figure.savefig("keras_callback.png", dpi=80)
