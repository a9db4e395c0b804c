"""Two dense layers (128 and 256 neurons) on digits; capture their inputs and outputs."""

import keras
from data import mnist
from keras import layers

import tensorstate_gpu as ts
from tensorstate_gpu import reporting

(train_images, train_labels), (test_images, test_labels) = mnist()
keras.utils.set_random_seed(0)

model = keras.Sequential(
    [
        keras.Input((28, 28, 1)),
        layers.Flatten(),
        layers.Dense(128, activation="relu", name="first"),
        layers.Dense(256, activation="relu", name="second"),
        layers.Dense(10, name="pred"),
    ]
)
model.compile(
    "adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=["accuracy"]
)
history = model.fit(train_images, train_labels, epochs=5, batch_size=64, verbose=0).history
print(f"5 epochs: loss {history['loss'][-1]:.3f}, {history['accuracy'][-1]:.1%} right")

captured = ts.build_efficiency_model(model, ["first", "second"], method="both")
_, accuracy = captured.evaluate(test_images, test_labels, verbose=0)
report = ts.report(captured, accuracy)
print(report)
reporting.plot_firing_rates(report).figure.savefig("two_layer_network.png", dpi=80)
