"""Where neurons are behind what moves axes in the graph of a functional model, if that is known."""

import keras
import numpy as np
import pytest
from keras import layers, ops

import tensorstate_gpu as ts
from tensorstate_gpu.bridges.keras3.graph_axes import LOST, reshaped
from tensorstate_gpu.errors import GuessedAxisWarning
from tests.bridges.keras3.cases.models import BACKEND
from tests.bridges.keras3.cases.neuron_axes import FIRST, conv


class Turned(layers.Layer):
    def call(self, x):
        return ops.transpose(x, (0, 2, 1))


def turned_in_a_nested_model(x):
    inside = keras.Input((5, 6))
    deeper = keras.Model(inside, layers.ReLU(name="relu")(inside), name="deeper")
    outside = keras.Input((6, 5))
    return keras.Model(outside, deeper(ops.transpose(outside, (0, 2, 1))), name="nested")(x)


def long(x):
    """Many branches: following each of them apart would take for ever."""
    for _ in range(60):
        x = layers.Add()([x, layers.Multiply()([x, ops.sigmoid(x)])])
    return ops.swapaxes(x, 1, 2)


# what is between a Dense with 5 neurons, of shape (inputs, 6, 5), and a ReLU; the ReLU's axis
MOVED = {
    "transposed": (lambda x: ops.transpose(x, (0, 2, 1)), 1),
    "swapped": (lambda x: ops.swapaxes(x, 1, 2), 1),
    "moved": (lambda x: ops.moveaxis(x, -1, 1), 1),
    "in a Lambda": (lambda x: layers.Lambda(lambda y: ops.transpose(y, (0, 2, 1)))(x), 1),
    "in a layer of one's own": (lambda x: Turned()(x), 1),
    "twice": (lambda x: layers.Permute((2, 1))(ops.swapaxes(x, 1, 2)), 2),
    "one more axis": (lambda x: ops.expand_dims(x, -1), 2),
    "one axis less": (lambda x: ops.squeeze(ops.expand_dims(x, -1), -1), 2),
    "of one position": (lambda x: x[:, 0], 1),
    "repeated": (lambda x: layers.RepeatVector(3)(x[:, 0]), 2),
    "an axis of one entry": (lambda x: layers.Reshape((6, 5, 1))(x), 2),
    "positions joined": (lambda x: layers.Reshape((2, 3, 5))(x), 3),
    "all joined": (lambda x: layers.Reshape((30, 1))(x), 1),
    "averaged": (lambda x: ops.mean(x, axis=1, keepdims=True), 2),
    "weighted by scores": (lambda x: ops.matmul(ops.softmax(scores(x)), x), 2),
    "normalised": (lambda x: layers.LayerNormalization()(ops.swapaxes(x, 1, 2)), 1),
    "nested": (turned_in_a_nested_model, 1),
    "long": (long, 1),
}


def scores(x):
    return ops.matmul(x, ops.transpose(x, (0, 2, 1)))


def model_of(move):
    inputs = keras.Input((6, 4))
    x = move(layers.Dense(5, name="dense")(inputs))
    return keras.Model(inputs, layers.ReLU(name="last")(x))


@pytest.mark.parametrize("way", MOVED)
def test_neurons_are_followed(way):
    move, axis = MOVED[way]
    model = model_of(move)
    x = np.random.default_rng(0).normal(size=(3, 6, 4)).astype("float32")
    with ts.capture(model, "*last") as run:
        output = keras.ops.convert_to_numpy(model(x))
    point = run["last_states"]
    assert (point.axis, point.axis_origin) == (axis, "flow")
    np.testing.assert_array_equal(point.raw_states, ts.compress_states(output, neuron_axis=axis))


def test_neurons_are_followed_into_nested_models():
    model = model_of(turned_in_a_nested_model)
    run = ts.build_efficiency_model(model, "nested/deeper/relu")
    (point,) = run.efficiency_layers
    assert (point.neuron_axis, point.axis_origin) == (1, "flow")


LOST_NEURONS = {
    "scores": scores,
    "in parts": lambda x: layers.Reshape((15, 2))(x),
    "averaged": lambda x: ops.mean(x, axis=-1, keepdims=True),
    "in a Lambda": lambda x: layers.Lambda(lambda y: ops.reshape(y, (-1, 15, 2)))(x),
}


@pytest.mark.parametrize("way", LOST_NEURONS)
def test_lost_neurons_are_a_guess(way):
    with pytest.warns(GuessedAxisWarning, match="a guess for last_states"):
        ts.build_efficiency_model(model_of(LOST_NEURONS[way]), "last")


def test_a_layer_with_weights_makes_neurons_of_its_own():
    class Mixed(layers.Layer):
        def build(self, shape):
            self.kernel = self.add_weight(shape=(shape[-1], 7))

        def call(self, x):
            return ops.matmul(x, self.kernel)

    (point,) = ts.build_efficiency_model(model_of(lambda x: Mixed()(x)), "last").efficiency_layers
    assert (point.neuron_axis, point.axis_origin) == (2, "flow")


class Wide(layers.Layer):
    """Has seven neurons, or as many as it is given."""

    def __init__(self, neurons=7):
        super().__init__(name="own")
        self.dense, self.norm = layers.Dense(neurons), layers.LayerNormalization()

    def call(self, x):
        return ops.relu(self.norm(self.dense(x)))

    def compute_output_shape(self, shape):
        return (*shape[:-1], self.dense.units)


class Squeezed(layers.Layer):
    """Scales channels that come first by what a dense layer makes of their means."""

    def __init__(self):
        super().__init__(name="own")
        self.dense = layers.Dense(5)

    def call(self, x):
        return x * self.dense(ops.mean(x, axis=2))[:, :, None]


class Positions(layers.Layer):
    """Adds weights to each position of channels that come first."""

    def __init__(self):
        super().__init__(name="own")

    def build(self, shape):
        self.added = self.add_weight(shape=(1, *shape[2:]))

    def call(self, x):
        return x + self.added


# what is between a Dense with 5 neurons, of shape (inputs, 6, 5), and a ReLU; the ReLU's axis
OWN_LAYERS = {
    "turned": (lambda x: layers.Permute((2, 1))(Wide()(x)), 1),
    "one more axis": (lambda x: ops.expand_dims(Wide()(x), 1), 3),
    "one more axis at the end": (lambda x: ops.expand_dims(Wide()(x), -1), 2),
    "tokens mixed": (lambda x: Wide(6)(layers.Permute((2, 1))(x)), 2),
    "channels scaled": (lambda x: Squeezed()(layers.Permute((2, 1))(x)), 1),
    "positions added": (lambda x: Positions()(layers.Permute((2, 1))(x)), 1),
    "positions of an image added": (
        lambda x: Positions()(layers.Reshape((5, 2, 3))(layers.Permute((2, 1))(x))),
        1,
    ),
}


@pytest.mark.parametrize("way", OWN_LAYERS)
def test_neurons_behind_layers_of_ones_own(way):
    move, axis = OWN_LAYERS[way]
    (point,) = ts.build_efficiency_model(model_of(move), "last").efficiency_layers
    assert (point.neuron_axis, point.axis_origin) == (axis, "flow")


@pytest.mark.parametrize("kind", [Squeezed, Turned])
def test_a_layer_of_ones_own_keeps_its_attributes(kind):
    """Its code runs with other sizes, to find the neurons behind it."""

    class Noting(kind):
        calls = 0

        def call(self, x):
            self.calls, self.latest = self.calls + 1, x.shape
            return super().call(x)

    layer = Noting()
    model = model_of(lambda x: layer(layers.Permute((2, 1))(x)))
    before = layer.calls, layer.latest
    with ts.capture(model, "last"):
        assert (layer.calls, layer.latest) == before


@pytest.mark.parametrize("way", ["turned", "one more axis", "one more axis at the end"])
def test_neurons_behind_layers_of_ones_own_that_come_first(way):
    move, axis = OWN_LAYERS[way]
    inputs = keras.Input((6, 5))
    model = keras.Model(inputs, layers.ReLU(name="last")(move(inputs)))
    (point,) = ts.build_efficiency_model(model, "last").efficiency_layers
    assert (point.neuron_axis, point.axis_origin) == (axis, "flow")


def test_a_layer_that_keeps_sizes_tells_nothing_of_neurons():
    """As one that normalises images whose channels come first."""
    inputs = keras.Input((6, 5))
    x = layers.Permute((2, 1))(layers.Normalization(axis=1, mean=0, variance=1)(inputs))
    model = keras.Model(inputs, layers.ReLU(name="last")(x))
    (point,) = ts.build_efficiency_model(model, "last").efficiency_layers
    assert (point.neuron_axis, point.axis_origin) == (None, "rule")


# layers, their inputs' shape, and the neuron axes of their inputs and outputs
OWN = {
    "features first": (lambda: layers.EinsumDense("btc,cd->bdt", (5, 6)), (6, 4), 2, 1),
    "tokens mixed": (lambda: layers.EinsumDense("btc,ts->bsc", (9, 4)), (6, 4), 1, 1),
    "heads": (lambda: layers.EinsumDense("...c,chd->...hd", (2, 5)), (6, 4), 2, 3),
}
OWN_OF_IMAGES = {
    "a convolution over time": (
        lambda: layers.ConvLSTM1D(5, 3, data_format=FIRST, return_sequences=True),
        *((4, 3, 6), 2, 2),
    ),
    "its last step": (lambda: layers.ConvLSTM1D(5, 3, data_format=FIRST), (4, 3, 6), 2, 1),
    "in two directions": (
        lambda: layers.Bidirectional(layers.ConvLSTM1D(5, 3, data_format=FIRST), "sum"),
        *((4, 3, 6), 2, 1),
    ),
    "normalised weights": (lambda: layers.SpectralNormalization(conv()), (4, 6, 7), 1, 1),
    "a model over time": (
        lambda: layers.TimeDistributed(keras.Sequential([conv(), layers.ReLU()])),
        *((2, 4, 6, 7), 4, 2),  # a guess before it
    ),
}


@pytest.mark.parametrize("kind", OWN)
def test_axes_of_equations(kind):
    check_own_axes(*OWN[kind])


@pytest.mark.each_process
@pytest.mark.skipif(BACKEND == "tensorflow", reason="it has no such convolutions on CPUs")
@pytest.mark.parametrize("kind", OWN_OF_IMAGES)
def test_axes_of_channels_that_come_first(kind):
    check_own_axes(*OWN_OF_IMAGES[kind])


def check_own_axes(make, shape, before, after):
    inputs = keras.Input(shape)
    layer = make()
    layer.name = "layer"
    model = keras.Model(inputs, layer(layers.Identity()(inputs)))
    with ts.capture(model, "layer", method="both") as run:
        model.predict(np.ones((2, *shape)), verbose=0)
    assert [point.axis for point in run.values()] == [before, after]


@pytest.mark.parametrize("axis", [[1, 2, 3], 1, -1])
def test_a_norm_leaves_neurons_where_they_are(axis):
    inputs = keras.Input((4, 6, 7))
    for kind in (layers.LayerNormalization, layers.RMSNormalization):
        model = keras.Model(inputs, kind(axis=axis, name="norm")(conv()(inputs)))
        (point,) = ts.build_efficiency_model(model, "norm").efficiency_layers
        assert (point.neuron_axis, point.axis_origin) == (1, "flow")


def test_what_a_flatten_takes():
    inputs = keras.Input((4, 6, 7))
    model = keras.Model(inputs, layers.Flatten(name="flat")(conv()(inputs)))
    points = ts.build_efficiency_model(model, "flat", method="both").efficiency_layers
    assert [point.neuron_axis for point in points] == [1, -1]


def test_reshapes_as_numpy_makes_them():
    rng = np.random.default_rng(0)
    for _ in range(300):
        before = [int(size) for size in rng.choice([1, 2, 3, 4, 6], size=rng.integers(1, 4))]
        axis, rest, after = int(rng.integers(len(before))), int(np.prod(before)), []
        while rest > 1:
            size = int(rng.choice([n for n in range(2, rest + 1) if rest % n == 0]))
            after, rest = [*after, size], rest // size
        if before[axis] == 1:
            continue
        sizes = [-1 if place == axis else 1 for place in range(len(before))]
        numbers = np.broadcast_to(np.arange(before[axis]).reshape(sizes), before).reshape(1, *after)
        places = [n for n in range(1, numbers.ndim) if np.diff(numbers, axis=n).any()]
        expected = places[0] if len(places) == 1 else LOST
        assert reshaped((None, *before), (None, *after), axis + 1) is expected
