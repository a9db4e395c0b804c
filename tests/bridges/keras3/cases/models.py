"""Models that the cases capture, and what is to be found in them."""

import keras
from keras import layers

import tensorstate_gpu as ts

BACKEND = keras.backend.backend()


def convolutional(policy=None):
    inputs = keras.Input((8, 8, 2))
    y = layers.Conv2D(5, 3, name="conv")(inputs)
    y = layers.BatchNormalization(name="norm")(y)
    y = layers.ReLU(name="relu")(y)
    y = layers.Flatten(name="flat")(y)
    y = layers.Dropout(0.3, seed=1)(y)
    return keras.Model(inputs, layers.Dense(3, name="dense")(y))


def compiled(model, **options):
    model.compile(keras.optimizers.SGD(0.01), "mse", **options)
    return model


def outputs_of(model, paths, x):
    """What each of some layers gives for x: by one model, which is compiled once."""
    outputs = {}
    for path in paths:
        layer = model
        for name in path.split("/"):
            layer = layer.get_layer(name)
        outputs[path] = layer.output
    return keras.Model(model.inputs, outputs).predict(x, batch_size=16, verbose=0)


def output_of(model, path, x):
    return outputs_of(model, [path], x)[path]


def rows_of(model, path, x, axis=-1):
    return ts.compress_states(output_of(model, path, x), neuron_axis=axis)
