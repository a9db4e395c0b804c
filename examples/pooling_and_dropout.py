"""Compare global average pooling with a dense head, each with and without dropout."""

import keras
import matplotlib.pyplot as plt
from data import mnist
from keras import layers

import tensorstate_gpu as ts

(train_images, train_labels), (test_images, test_labels) = mnist()


def network(pooling: bool, dropout: bool) -> keras.Model:
    inputs = keras.Input((28, 28, 1))
    x = layers.Conv2D(16, 5, strides=2, activation="relu", name="conv_1")(inputs)
    x = layers.Conv2D(32, 5, strides=2, activation="relu", name="conv_2")(x)
    x = layers.Conv2D(64, 3, activation="relu", name="conv_3")(x)
    if pooling:
        x = layers.GlobalAveragePooling2D()(x)
    else:
        x = layers.Dense(32, activation="relu", name="hidden")(layers.Flatten()(x))
    x = layers.Dropout(0.5)(x) if dropout else x
    return keras.Model(inputs, layers.Dense(10, name="pred")(x))


print(f"{'head':<10}{'dropout':<9}{'accuracy':>9}{'efficiency':>12}{'aIQ':>8}   by layer")
shares = {}
for pooling in (True, False):
    for dropout in (False, True):
        keras.utils.set_random_seed(0)
        model = network(pooling, dropout)
        model.compile(
            "adam",
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            metrics=["accuracy"],
        )
        model.fit(train_images, train_labels, epochs=6, batch_size=100, verbose=0)
        captured = ts.build_efficiency_model(model, ["Conv2D", "Dense"])
        _, accuracy = captured.evaluate(test_images, test_labels, batch_size=100, verbose=0)
        efficiency = ts.network_efficiency(captured)
        by_layer = "  ".join(
            f"{point.name.removesuffix('_states')} {point.efficiency():.1%}"
            for point in captured.efficiency_layers
        )
        head, dropped = "pooling" if pooling else "dense", "yes" if dropout else "no"
        quality = ts.aIQ(efficiency, accuracy, 2)
        shares[f"{head}, dropout: {dropped}"] = accuracy, efficiency, quality
        print(
            f"{head:<10}{dropped:<9}{accuracy:>9.1%}{efficiency:>12.1%}{quality:>8.1%}   {by_layer}"
        )

_, ax = plt.subplots(figsize=(7, 3.5), layout="constrained")
for place, name in enumerate(("accuracy", "efficiency", "aIQ")):
    ends = [100 * each[place] for each in shares.values()]
    ax.plot(ends, list(shares), "sod"[place], markersize=8, label=name)
ax.set(xlabel="%", xlim=(0, 101))
ax.grid(axis="y", color="#dddddd")
ax.invert_yaxis()
ax.legend(frameon=False)
ax.figure.savefig("pooling_and_dropout.png", dpi=80)
