"""A frozen base with a new head: captures layers inside the nested base model, on its new task.

With ImageNet weights that Keras has downloaded before, the base is a ResNet-50, and the task cats
and dogs. Otherwise a small base learns the digits 0 to 4 here, and the task is the digits 5 to 9:
what the base has learned serves there, too, so the new head needs few images and few epochs.
"""

import keras
import numpy as np
from data import DOWNLOADED, Split, cats_vs_dogs, digits
from keras import layers

import tensorstate_gpu as ts

keras.utils.set_random_seed(0)
WEIGHTS = DOWNLOADED.parent / "models/resnet50_weights_tf_dim_ordering_tf_kernels_notop.h5"


def compiled(model: keras.Model) -> keras.Model:
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(1e-2), loss, metrics=["accuracy"])
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


if WEIGHTS.exists():
    train, test = cats_vs_dogs(side=64)
    base = keras.applications.ResNet50(include_top=False, input_shape=(64, 64, 3))
    attach_to = ["resnet50/conv5_block3_?_conv", "head"]
else:
    every = digits(side=16)
    base = small_base(of_digits(every[0], range(5)))
    train, test = (of_digits(split, range(5, 10)) for split in every)
    attach_to = ["base/conv_?", "head"]

base.trainable = False
inputs = keras.Input(base.input_shape[1:])
features = layers.Flatten()(base(inputs, training=False))
model = compiled(keras.Model(inputs, layers.Dense(10, name="head")(features)))
captured = ts.build_efficiency_model(model, attach_to, keep="counts")

# An epoch at a time: the base stays as it is, and so do its efficiencies; the head learns.
for epoch in range(3):
    captured.fit(train[0][:200], train[1][:200], batch_size=20, verbose=0)
    ts.reset_efficiency_model(captured)
    _, accuracy = captured.evaluate(*test, batch_size=50, verbose=0)
    print(f"\nafter epoch {epoch + 1}:\n{ts.report(captured, accuracy)}")
