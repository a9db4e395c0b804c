"""A frozen ResNet-50 with a new head: capture layers inside the nested base model.

ImageNet weights are used if Keras has downloaded them before, random weights otherwise.
"""

import keras
from data import DOWNLOADED, cats_vs_dogs
from keras import layers

import tensorstate_gpu as ts

(train_images, train_labels), (test_images, test_labels) = cats_vs_dogs(side=64)
keras.utils.set_random_seed(0)

models = DOWNLOADED.parent / "models"
known = (models / "resnet50_weights_tf_dim_ordering_tf_kernels_notop.h5").exists()
base = keras.applications.ResNet50(
    weights="imagenet" if known else None, include_top=False, input_shape=(64, 64, 3)
)
base.trainable = False
inputs = keras.Input((64, 64, 3))
x = layers.GlobalAveragePooling2D()(base(inputs, training=False))
model = keras.Model(inputs, layers.Dense(2, name="head")(x))
model.compile(
    keras.optimizers.Adam(1e-3),
    keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    metrics=["accuracy"],
)
model.fit(train_images[:200], train_labels[:200], epochs=2, batch_size=50, verbose=2)

# Capture the last block of the base, chosen by layer paths, and the head.
captured = ts.build_efficiency_model(model, ["resnet50/conv5_block3_?_conv", "head"], keep="counts")
_, accuracy = captured.evaluate(test_images[:100], test_labels[:100], batch_size=50, verbose=0)
print(ts.report(captured, accuracy))
