"""Where the neurons of a layer are: by its own options, or by the layers that feed it."""

import keras
import numpy as np
import pytest
from keras import layers

import tensorstate_gpu as ts
from tensorstate_gpu.errors import GuessedAxisWarning
from tests.bridges.keras3.cases.models import BACKEND

FIRST = "channels_first"


def conv(filters=5, data_format=FIRST, **options):
    return layers.Conv2D(filters, 1, data_format=data_format, **options)


def nested(x):
    inside = keras.Input((5, 6, 7))
    outputs = layers.ReLU()(layers.Activation("tanh")(inside))
    return keras.Model(inside, outputs, name="inside")(conv()(x))


def added(x):
    x = conv()(x)
    return layers.Add()([x, layers.Dropout(0.5)(x)])


# what the last layer, a ReLU, is fed with; its neuron axis
FED = {
    "convolution": (lambda x: conv()(x), 1),
    "through a norm": (lambda x: layers.BatchNormalization(axis=1)(conv()(x)), 1),
    "through a sum": (added, 1),
    "through a join": (lambda x: layers.Concatenate(axis=1)([conv()(x), conv()(x)]), 1),
    "through an operation": (lambda x: keras.ops.add(keras.ops.tanh(conv()(x)), 1.0), 1),
    "permuted": (lambda x: layers.Permute((2, 3, 1))(conv()(x)), 3),
    "dense": (lambda x: layers.Dense(9)(conv()(x)), 3),
    "channels last": (lambda x: conv(5, "channels_last")(x), 3),
    "nested": (nested, 1),
    "over time": (
        lambda x: layers.TimeDistributed(layers.Conv1D(5, 1, data_format=FIRST))(x),
        2,
    ),
}


@pytest.mark.skipif(BACKEND != "torch", reason="other backends have no such layers")
def test_modules_of_pytorch():
    """Their channels come first. Keras has no graph of a model with them that could be followed."""
    from torch import nn

    parts = {
        "conv": nn.Conv2d(4, 5, 1),
        "norm": nn.BatchNorm2d(5),
        "block": nn.Sequential(nn.ReLU(), nn.Flatten(2)),
        "dense": nn.Linear(42, 3),
    }
    wrapped = [layers.TorchModuleWrapper(part, name=name) for name, part in parts.items()]
    model = keras.Sequential([keras.Input((4, 6, 7)), *wrapped])
    with (
        pytest.warns(GuessedAxisWarning, match="for block_states: neuron_axis"),
        ts.capture(model, "*") as run,
    ):
        model.predict(np.ones((2, 4, 6, 7)), verbose=0)
    axes = [(point.axis, point.axis_origin) for point in run.values()]
    assert axes == [(1, "layer"), (1, "layer"), (2, "guess"), (2, "layer")]
    assert [point.neurons for point in run.values()] == [5, 5, 42, 3]


def test_a_dropout_of_another_format_leaves_neurons_where_they_are():
    inputs = keras.Input((4, 6, 7))
    outputs = layers.SpatialDropout2D(0.1, name="drop", data_format="channels_last")(conv()(inputs))
    (point,) = ts.build_efficiency_model(keras.Model(inputs, outputs), "drop").efficiency_layers
    assert (point.neuron_axis, point.axis_origin) == (1, "flow")


@pytest.mark.parametrize("kind", FED)
def test_the_axis_is_followed(kind):
    feed, axis = FED[kind]
    inputs = keras.Input((4, 6, 7))
    outputs = layers.ReLU(name="relu")(feed(inputs))
    model = keras.Model(inputs, outputs)
    captured = ts.build_efficiency_model(model, "relu")
    (point,) = captured.efficiency_layers
    assert (point.neuron_axis, point.axis_origin) == (axis, "flow")
    if BACKEND != "tensorflow":  # which has no such convolutions on CPUs
        output = keras.ops.convert_to_numpy(captured(np.ones((2, 4, 6, 7), "float32")))
        assert (point.neurons, point.axis) == (output.shape[axis], axis)
        assert point.attributes()["axis_origin"] == "flow"


def test_where_an_axis_is_known_from():
    inputs = keras.Input((6, 7, 4))
    x = layers.Reshape((42, 4))(layers.Dense(4, name="dense")(inputs))
    x = layers.ReLU(name="relu")(layers.ReLU(name="given")(inputs) + layers.Reshape((6, 7, 4))(x))
    model = keras.Model(inputs, x)
    run = ts.build_efficiency_model(model, "*", exclude="reshape*")
    assert {point.name: point.axis_origin for point in run.efficiency_layers} == {
        "dense_states": "layer",
        "given_states": "rule",  # of an input, but features are last in all of this model
        "relu_states": "flow",
    }
    (given,) = ts.build_efficiency_model(model, "relu", neuron_axis={"re*": 1}).efficiency_layers
    assert (given.neuron_axis, given.axis_origin) == (1, "given")


def test_a_guess_is_told():
    inputs = keras.Input((4, 6, 7))
    x = layers.Reshape((42, 5))(conv(name="conv")(inputs))
    model = keras.Model(inputs, layers.ReLU(name="relu")(x))
    with pytest.warns(GuessedAxisWarning, match=r"a guess for relu_states:"):
        captured = ts.build_efficiency_model(model, ["conv", "relu"])
    assert [p.axis_origin for p in captured.efficiency_layers] == ["layer", "guess"]


def test_an_unknown_layer_in_neuron_axis():
    inputs = keras.Input((4,))
    model = keras.Model(inputs, layers.Dense(3, name="d")(inputs))
    with pytest.raises(ValueError, match="no layer that is captured has the name 'e'"):
        ts.build_efficiency_model(model, "d", neuron_axis={"e": 1})


class Own(layers.Layer):
    """A layer of the user's that says how its channels lie, and has no weights."""

    def __init__(self, data_format, turn=None, **options):
        super().__init__(**options)
        self.data_format, self.turn = data_format, turn

    def call(self, x):
        return x if self.turn is None else keras.ops.transpose(x, self.turn)


def first_by_turning(layer):
    return lambda x: layer(layers.Permute((3, 1, 2))(layers.Dense(5)(x)))


def last_by_dense(layer):
    return lambda x: layer(layers.Dense(5)(x))


# layers of other formats than what feeds them, (inputs, 4, 6, 7); the axis of what they make
OTHER_FORMATS = {
    "padding": (first_by_turning(layers.ZeroPadding2D(1)), 1),
    "cropping": (first_by_turning(layers.Cropping2D(1)), 1),
    "repeating": (first_by_turning(layers.UpSampling2D(2)), 1),
    "pooling": (first_by_turning(layers.MaxPooling2D(2)), 1),
    "pooled neurons": (last_by_dense(layers.AveragePooling2D(2, data_format=FIRST)), 3),
    "over time": (
        first_by_turning(layers.TimeDistributed(layers.ZeroPadding1D(1, data_format=FIRST))),
        1,
    ),
    "one's own": (last_by_dense(Own(FIRST)), 3),
    "that turns": (last_by_dense(Own("channels_last", (0, 3, 1, 2))), 1),
}


@pytest.mark.parametrize("way", OTHER_FORMATS)
def test_neurons_stay_where_they_are_fed(way):
    """A layer without weights may treat another axis as channels: it makes no neurons."""
    if way == "pooled neurons" and BACKEND == "tensorflow":
        pytest.skip("TensorFlow pools channels_first on a GPU only")
    make, axis = OTHER_FORMATS[way]
    inputs = keras.Input((4, 6, 7))
    layer = make(inputs)._keras_history.operation
    layer.name = "last"
    model = keras.Model(inputs, layer.output)
    x = np.random.default_rng(0).normal(size=(3, 4, 6, 7)).astype("float32")
    with ts.capture(model, "*last") as run:
        output = keras.ops.convert_to_numpy(model(x))
    point = run["last_states"]
    assert point.axis == axis
    np.testing.assert_array_equal(point.raw_states, ts.compress_states(output, neuron_axis=axis))


@pytest.mark.parametrize(
    ("data_format", "axis", "origin"),
    [("NCHW", 1, "layer"), ("NHWC", -1, "layer"), ("csv", -1, "rule"), (FIRST, 1, "layer")],
)
def test_formats_by_other_names(data_format, axis, origin):
    inputs = keras.Input((4, 6, 7))
    model = keras.Model(inputs, Own(data_format, name="own")(inputs))
    point = ts.build_efficiency_model(model, "own").efficiency_layers[0]
    model.predict(np.ones((2, 4, 6, 7), np.float32), verbose=0)
    assert (point.axis_origin, point.axis_of(4) % 4) == (origin, axis % 4)
