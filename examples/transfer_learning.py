"""Transfer learning: what a base has learned, kept frozen, fine-tuned, or thrown away.

With ImageNet weights that Keras has downloaded before, the base is a ResNet-50, and the task cats
and dogs. Otherwise a small base learns the digits 0 to 4 here, and the task is the digits 5 to 9,
with 100 images to learn from. All three ways end at about the same accuracy, the first two sooner.
What tells them apart is the efficiency of the base, whose layers are captured inside of the nested
model: one that has learned from few images alone uses less of its capacity.
"""

import keras
import matplotlib.pyplot as plt
import numpy as np
from data import DOWNLOADED, Split, cats_vs_dogs, digits
from keras import layers

import tensorstate_gpu as ts

WEIGHTS = DOWNLOADED.parent / "models/resnet50_weights_tf_dim_ordering_tf_kernels_notop.h5"
KINDS = ("frozen", "fine-tuned", "from scratch")
EPOCHS = 8


def compiled(model: keras.Model, rate: float = 1e-2) -> keras.Model:
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(rate), loss, metrics=["accuracy"])
    return model


def small_base(train: Split) -> keras.Model:
    """Return a convolutional network, without its head, that has learned to tell digits."""
    base = keras.Sequential(
        [
            keras.Input((16, 16, 1)),
            layers.Conv2D(8, 3, activation="relu", name="conv_1"),
            layers.MaxPooling2D(),
            layers.Conv2D(16, 3, activation="relu", name="conv_2"),
        ],
        name="base",
    )
    whole = compiled(keras.Sequential([base, layers.Flatten(), layers.Dense(10)]))
    whole.fit(*train, epochs=10, batch_size=50, verbose=0)
    return base


def of_digits(split: Split, wanted: range) -> Split:
    chosen = np.isin(split[1], wanted)
    return split[0][chosen], split[1][chosen]


def transferred(base: keras.Model, kind: str) -> keras.Model:
    """Return a copy of the base with a new head."""
    keras.utils.set_random_seed(1)
    base_copy = keras.models.clone_model(base)  # with new weights
    if kind != "from scratch":
        base_copy.set_weights(base.get_weights())
    base_copy.trainable = kind != "frozen"
    inputs = keras.Input(base.input_shape[1:])
    features = layers.Flatten()(base_copy(inputs, training=False))
    return compiled(keras.Model(inputs, layers.Dense(10, name="head")(features)), 2e-3)


keras.utils.set_random_seed(0)
if WEIGHTS.exists():
    train, test = cats_vs_dogs(side=64)
    base = keras.applications.ResNet50(include_top=False, input_shape=(64, 64, 3))
    attach_to = "resnet50/conv5_block3_?_conv"
else:
    every = digits(side=16)
    base = small_base(of_digits(every[0], range(5)))
    train, test = (of_digits(split, range(5, 10)) for split in every)
    attach_to = "base/conv_?"

_, (left, right) = plt.subplots(1, 2, figsize=(9, 3.5), layout="constrained")
for kind, style in zip(KINDS, ("o-", "s--", "^:"), strict=True):
    # Counts by 32 groups of inputs: from what differs between them, the ranges of the table.
    how = {"keep": "counts", "groups": 32}
    captured = ts.build_efficiency_model(transferred(base, kind), attach_to, **how)
    accuracies, efficiencies = [], []
    for _ in range(EPOCHS):
        captured.fit(train[0][:100], train[1][:100], batch_size=20, verbose=0)
        ts.reset_efficiency_model(captured)
        accuracies.append(100 * captured.evaluate(*test, batch_size=50, verbose=0)[1])
        efficiencies.append(100 * ts.network_efficiency(captured))
    print(f"\n{kind}:\n{ts.report(captured, accuracies[-1] / 100)}")
    left.plot(range(1, EPOCHS + 1), accuracies, style, label=kind)
    right.plot(range(1, EPOCHS + 1), efficiencies, style)
left.set(xlabel="epoch", ylabel="accuracy on the new task in %", ylim=(0, 101))
right.set(xlabel="epoch", ylabel="efficiency of the base in %")
left.legend(frameon=False)
left.figure.savefig("transfer_learning.png", dpi=80)
