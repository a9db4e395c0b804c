"""Capture a subclassed Keras model: the calls of its layers are wrapped during the capture."""

import keras
import matplotlib.pyplot as plt
from data import cifar10
from keras import layers

import tensorstate_gpu as ts

(train_images, train_labels), (test_images, test_labels) = cifar10()
keras.utils.set_random_seed(0)


class Classifier(keras.Model):
    """Two convolutions, batch normalisation, dropout, a dense layer."""

    def __init__(self):
        super().__init__()
        self.conv_1 = layers.Conv2D(16, 3, strides=2, activation="relu", name="conv_1")
        self.norm = layers.BatchNormalization(name="norm")
        self.conv_2 = layers.Conv2D(32, 3, strides=2, activation="relu", name="conv_2")
        self.flatten, self.dropout = layers.Flatten(), layers.Dropout(0.3)
        self.pred = layers.Dense(10, name="pred")

    def call(self, x, training=False):
        x = self.conv_2(self.norm(self.conv_1(x), training=training))
        return self.pred(self.dropout(self.flatten(x), training=training))


model = Classifier()
model.compile(
    "adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=["accuracy"]
)
history = model.fit(train_images, train_labels, epochs=5, batch_size=64, verbose=0).history
print(f"5 epochs: loss {history['loss'][-1]:.3f}, {history['accuracy'][-1]:.1%} right")

with ts.capture(model, ["Conv2D", "norm", "pred"]) as run:
    _, accuracy = model.evaluate(test_images, test_labels, batch_size=64, verbose=0)
print(run.report(accuracy))

print("states of the last layer, by class:")
by_class = run["pred_states"].counts_by(test_labels)
for label, counts in by_class.items():
    print(f"  {label}: {len(counts):3} distinct, entropy {counts.entropy():.2f} bits")

_, ax = plt.subplots(figsize=(7, 3.5), layout="constrained")
ax.bar([str(label) for label in by_class], [counts.entropy() for counts in by_class.values()])
ax.set(xlabel="class", ylabel="entropy of the last layer's states in bits")
ax.figure.savefig("subclassed_cifar10.png", dpi=80)
