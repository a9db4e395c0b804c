"""A custom tf.function training loop that logs metrics and efficiencies to TensorBoard.

View the results with: tensorboard --logdir logs
"""

import os
import sys

os.environ["KERAS_BACKEND"] = "tensorflow"

import keras
import matplotlib.pyplot as plt
import tensorflow as tf
from data import mnist
from keras import layers

import tensorstate_gpu as ts

(train_images, train_labels), (test_images, test_labels) = mnist()
keras.utils.set_random_seed(0)
train = tf.data.Dataset.from_tensor_slices((train_images, train_labels)).shuffle(2000, seed=0)
train, test = train.batch(64), tf.data.Dataset.from_tensor_slices((test_images, test_labels))
test = test.batch(64)

model = keras.Sequential(
    [
        keras.Input((28, 28, 1)),
        layers.Conv2D(20, 5, strides=2, activation="relu", name="conv"),
        layers.Flatten(),
        layers.Dense(64, activation="relu", name="hidden"),
        layers.Dense(10, name="pred"),
    ]
)
captured = ts.build_efficiency_model(model, ["Conv2D", "hidden"], keep="counts", groups=32)
optimizer = keras.optimizers.Adam()
loss_function = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
loss_metric, accuracy_metric = tf.keras.metrics.Mean(), tf.keras.metrics.SparseCategoricalAccuracy()


@tf.function
def train_step(images, labels):
    with tf.GradientTape() as tape:
        loss = loss_function(labels, model(images, training=True))
    gradients = tape.gradient(loss, model.trainable_variables)
    optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
    loss_metric.update_state(loss)


@tf.function
def test_step(images, labels):  # the model with capture layers shares its weights
    accuracy_metric.update_state(labels, captured(images, training=False))


writer = tf.summary.create_file_writer(sys.argv[1] if len(sys.argv) > 1 else "logs")
by_layer = []
for epoch in range(4):
    for images, labels in train:
        train_step(images, labels)
    ts.reset_efficiency_model(captured)
    for images, labels in test:
        test_step(images, labels)
    accuracy = float(accuracy_metric.result())
    with writer.as_default(step=epoch):
        tf.summary.scalar("loss", loss_metric.result())
        tf.summary.scalar("accuracy", accuracy)
        tf.summary.scalar("efficiency/network", ts.network_efficiency(captured))
        for point in captured.efficiency_layers:
            tf.summary.scalar(f"efficiency/{point.name}", point.efficiency())
    by_layer.append([100 * point.efficiency() for point in captured.efficiency_layers])
    print(
        f"epoch {epoch + 1}: efficiency {ts.network_efficiency(captured):.1%}, {accuracy:.1%} right"
    )
    loss_metric.reset_state()
    accuracy_metric.reset_state()
writer.flush()
print(ts.report(captured, accuracy))

_, ax = plt.subplots(figsize=(7, 3.5), layout="constrained")
for point, efficiency, style in zip(
    captured.efficiency_layers, zip(*by_layer, strict=True), ("o-", "s--"), strict=True
):
    ax.plot(range(1, 5), efficiency, style, label=point.name)
ax.set(xlabel="epoch", ylabel="efficiency in %")
ax.legend(frameon=False)
ax.figure.savefig("tensorflow_training_loop.png", dpi=80)
