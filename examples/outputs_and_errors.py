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
from tensorstate_gpu import reporting

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
print(run.report((predicted == test_labels).mean()))

confusion = np.zeros((10, 10), int)
np.add.at(confusion, (test_labels, predicted), 1)
print("\nconfusion matrix: rows are digits, columns what they were taken for")
print(confusion)

# ---- pictures ------------------------------------------------------------------------------------
until_conv_1 = keras.Model(model.inputs, model.get_layer("conv_1").output)
outputs = until_conv_1.predict(test_images[:1], verbose=0)[0]  # (16, 16, 16): channels last
weights = model.get_layer("conv_1").kernel.numpy()[:, :, 0]  # (5, 5, 16)

figure, ((a, b), (c, d)) = plt.subplots(2, 2, figsize=(7, 7), layout="constrained")
reporting.plot_weights(weights.transpose(2, 0, 1), a).set_title("weights of conv_1")
reporting.plot_outputs(outputs.transpose(2, 0, 1), b).set_title(f"outputs for a {test_labels[0]}")
reporting.plot_errors(test_images[..., 0], test_labels, predicted, c)
reporting.plot_confusion_matrix(test_labels, predicted, d).set_title("confusion matrix")
figure.savefig("outputs_and_errors.png", dpi=80)
