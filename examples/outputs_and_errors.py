"""What a convolutional network looks like inside: weights, outputs, errors, confusion matrix.

Two convolutions and a dense layer, as in the tutorials of TensorFlow's Layers API, learn digits in
Keras. The pictures that such tutorials end with are beside the efficiency of the layers.
"""

import keras
import matplotlib.pyplot as plt
import numpy as np
from data import digits
from keras import layers

import tensorstate_gpu as ts

(train_images, train_labels), (test_images, test_labels) = digits(16)
keras.utils.set_random_seed(0)

model = keras.Sequential(
    [
        keras.Input((16, 16, 1)),
        layers.Conv2D(16, 5, padding="same", activation="relu", name="conv_1"),
        layers.MaxPooling2D(),
        layers.Conv2D(36, 5, padding="same", activation="relu", name="conv_2"),
        layers.MaxPooling2D(),
        layers.Flatten(),
        layers.Dense(128, activation="relu", name="dense"),
        layers.Dense(10, name="logits"),
    ]
)
model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
model.fit(train_images, train_labels, epochs=4, batch_size=64, verbose=0)

with ts.capture(model, exclude="logits") as run:
    predicted = model.predict(test_images, verbose=0).argmax(1)
wrong = np.flatnonzero(predicted != test_labels)
print(run.report((predicted == test_labels).mean()))

confusion = np.zeros((10, 10), int)
np.add.at(confusion, (test_labels, predicted), 1)
print(f"\nconfusion matrix: rows are digits, columns what {len(wrong)} errors took them for")
print(confusion)

# ---- pictures ------------------------------------------------------------------------------------
until_conv_1 = keras.Model(model.inputs, model.get_layer("conv_1").output)
outputs = until_conv_1.predict(test_images[:1], verbose=0)[0]  # (16, 16, 16): channels last
weights = model.get_layer("conv_1").kernel.numpy()[:, :, 0]  # (5, 5, 16)


def tiled(pictures, pad):
    """Sixteen pictures, stacked along the last axis, as one of four rows."""
    framed = np.pad(pictures, ((0, 1), (0, 1), (0, 0)), constant_values=pad)
    height, width, _ = framed.shape
    tiles = framed.reshape(height, width, 4, 4).transpose(2, 0, 3, 1)
    return tiles.reshape(4 * height, 4 * width)


figure, ((a, b), (c, d)) = plt.subplots(2, 2, figsize=(7, 7), layout="constrained")
limit = abs(weights).max()
a.imshow(tiled(weights, np.nan), cmap="RdBu_r", vmin=-limit, vmax=limit)
a.set_title("weights of conv_1")
b.imshow(tiled(outputs, np.nan), cmap="viridis")
b.set_title(f"its outputs for a {test_labels[0]}")
errors = np.full((16, 16, 16), np.nan)
shown = wrong[:16]
errors[..., : len(shown)] = test_images[shown, ..., 0].transpose(1, 2, 0)
c.imshow(tiled(errors, np.nan), cmap="gray_r")
c.set_title("errors: " + ", ".join(f"{test_labels[i]} as {predicted[i]}" for i in shown[:4]) + "…")
for ax in (a, b, c):
    ax.set_axis_off()
d.imshow(np.log1p(confusion), cmap="Blues", vmax=8)
for (row, column), number in np.ndenumerate(confusion):
    d.text(column, row, number or "", ha="center", va="center", size=8)
d.set(title="confusion matrix", xlabel="predicted", ylabel="digit")
d.set(xticks=range(10), yticks=range(10))
figure.savefig("outputs_and_errors.png", dpi=80)
