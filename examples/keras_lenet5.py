"""LeNet-5 in Keras, on any backend: train, capture states, print efficiencies and aIQ.

Run it with: KERAS_BACKEND=tensorflow (or jax, or torch) python examples/keras_lenet5.py
"""

import time

import keras
import numpy as np
from data import mnist
from keras import layers

import tensorstate_gpu as ts
from tensorstate_gpu import reporting

(train_images, train_labels), (test_images, test_labels) = mnist()
keras.utils.set_random_seed(0)

# ---- the model: three convolutions with batch normalisation, two of them pooled, one dense layer -
regularizer = keras.regularizers.L2(0.0005)
options = {
    "activation": "elu",
    "kernel_initializer": "he_normal",
    "kernel_regularizer": regularizer,
    "bias_regularizer": regularizer,
}


def unit(x, neurons, size, number):
    x = layers.Conv2D(neurons, size, name=f"conv_{number}", **options)(x)
    return layers.BatchNormalization(epsilon=1e-5, momentum=0.9)(x)


inputs = keras.Input((28, 28, 1), name="input")
x = layers.MaxPooling2D(2, name="maxp_1")(unit(inputs, 20, 5, 1))
x = layers.MaxPooling2D(2, name="maxp_2")(unit(x, 50, 5, 2))
x = layers.Flatten(name="flatten")(unit(x, 100, 4, 3))
model = keras.Model(inputs, layers.Dense(10, name="pred")(x))

# ---- training: stops when test accuracy has not improved for three epochs ------------------------
model.compile(
    optimizer=keras.optimizers.SGD(0.001, momentum=0.9, nesterov=True),
    loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    metrics=["accuracy"],
)
stop = keras.callbacks.EarlyStopping(
    monitor="val_accuracy", mode="max", patience=3, restore_best_weights=True
)
history = model.fit(
    train_images,
    train_labels,
    epochs=6,
    validation_data=(test_images, test_labels),
    batch_size=200,
    callbacks=[stop],
    verbose=0,
)
epochs, right = len(history.epoch), max(history.history["val_accuracy"])
print(f"{epochs} epochs, the best of them with {right:.1%} of the test images right")

# ---- efficiency ----------------------------------------------------------------------------------
efficiency_model = ts.build_efficiency_model(model, attach_to=["Conv2D"], method="after")

start = time.perf_counter()
predictions = efficiency_model.predict(test_images, batch_size=200, verbose=0)
print(f"captured in {time.perf_counter() - start:.3f} s on {keras.backend.backend()}")

for layer in efficiency_model.efficiency_layers:
    print(f"{layer.name}: {layer.state_count:,} states, efficiency {layer.efficiency():.1%}")

network_efficiency = ts.network_efficiency(efficiency_model)
accuracy = np.mean(predictions.argmax(axis=1) == test_labels)
print(f"network efficiency {network_efficiency:.1%}, accuracy {accuracy:.1%}")
print(f"aIQ {ts.aIQ(network_efficiency, accuracy, 2):.1%}")
report = ts.report(efficiency_model, accuracy)
print(report)
reporting.plot_efficiency(report).figure.savefig("keras_lenet5.png", dpi=80)
