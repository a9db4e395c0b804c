"""The convolutional network of TensorFlow's CIFAR-10 tutorial, which many know from Colab.

It uses CIFAR-10 if Keras has downloaded it before. Otherwise it uses scikit-learn's digits as
images of the same shape, 32 x 32 in three channels, so that it runs offline; its accuracy is then
that of digits.
"""

import keras
from data import cifar10
from keras import layers

import tensorstate_gpu as ts
from tensorstate_gpu import reporting

(train_images, train_labels), (test_images, test_labels) = cifar10()
source = "CIFAR-10" if len(train_labels) == 50_000 else "digits in the shape of CIFAR-10"
print(f"{len(train_labels):,} images to learn from: {source}")
keras.utils.set_random_seed(0)

model = keras.Sequential(
    [
        keras.Input((32, 32, 3)),
        layers.Conv2D(32, 3, activation="relu", name="conv_1"),
        layers.MaxPooling2D(),
        layers.Conv2D(64, 3, activation="relu", name="conv_2"),
        layers.MaxPooling2D(),
        layers.Conv2D(64, 3, activation="relu", name="conv_3"),
        layers.Flatten(),
        layers.Dense(64, activation="relu", name="dense"),
        layers.Dense(10, name="logits"),
    ]
)
model.compile(
    "adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=["accuracy"]
)
model.fit(train_images, train_labels, epochs=5, batch_size=64, verbose=0)

captured = ts.build_efficiency_model(model, exclude="logits")
_, accuracy = captured.evaluate(test_images, test_labels, batch_size=64, verbose=0)
report = ts.report(captured, accuracy)
print(report)
reporting.plot_efficiency(report).figure.savefig("colab_cifar10.png", dpi=80)
