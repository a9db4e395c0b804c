"""Layers that other layers call in their code, as those of KerasHub do."""

import keras
import numpy as np
import pytest
from keras import layers, ops

import tensorstate_gpu as ts

X = np.random.default_rng(0).normal(size=(6, 5, 4)).astype("float32")


def array(tensor):
    return keras.ops.convert_to_numpy(tensor).copy()


class Mlp(layers.Layer):
    """Calls one Dropout on many features, and on few."""

    def __init__(self):
        super().__init__(name="mlp")
        self.up, self.down = layers.Dense(9, name="up"), layers.Dense(4, name="down")
        self.drop = layers.Dropout(0.1, name="drop")

    def call(self, x):
        return self.drop(self.down(self.drop(self.up(x))))


@pytest.mark.each_process
@pytest.mark.parametrize("keep", ["states", "counts"])
def test_merged_calls_with_other_neurons(keep):
    inputs = keras.Input((5, 4))
    model = keras.Model(inputs, Mlp()(inputs))
    wide = ts.compress_states(array(model.get_layer("mlp").up(X)))
    expected = array(model(X))
    with ts.capture(model, "*drop", keep=keep, merge_calls=True) as run:
        with pytest.warns(
            ts.errors.SkippedLayersWarning, match="here with 4 neurons.*calls with 9"
        ):
            given = model.predict(X, batch_size=6, verbose=0)
        model.predict(X, batch_size=4, verbose=0)  # which warns no more
    np.testing.assert_allclose(given, expected, atol=1e-5)
    assert run["mlp/drop"].histogram() == ts.count_states(np.concatenate([wide, wide]), 9)


class Built(layers.Layer):
    """Builds its layers with the number of features, with no axes, and with no shape."""

    def __init__(self):
        super().__init__(name="built")
        self.dense, self.drop = layers.Dense(3, name="dense"), layers.Dropout(0.1, name="drop")
        self.act = layers.ReLU(name="act")

    def build(self, shape):
        self.dense.build([shape[-1]])
        self.drop.build([])
        self.act.build(None)

    def call(self, x):
        return self.drop(self.act(self.dense(x)))


def test_layers_that_were_built_with_their_features_alone():
    inputs = keras.Input((5, 4))
    model = keras.Model(inputs, Built()(inputs))
    rows = ts.compress_states(array(model(X)))
    with ts.capture(model, ["*dense", "*drop", "*act"]) as run:
        model.predict(X, batch_size=6, verbose=0)
    for point in run.values():
        assert (point.axis % 3, point.instance_count) == (2, 6)
        np.testing.assert_array_equal(point.raw_states, rows)


class Experts(layers.Layer):
    """Experts along axis 0, and the layer that they are given to."""

    def __init__(self, count):
        super().__init__(name="experts")
        self.count = count

    def build(self, shape):
        self.matrix = self.add_weight(shape=(self.count, shape[-1], 3), name="matrix")
        self.built = True

    def call(self, x):
        return ops.einsum("btc,ecd->ebtd", x, self.matrix)


class Mixture(layers.Layer):
    def __init__(self, count):
        super().__init__(name="mixture")
        self.experts, self.out = Experts(count), layers.Dense(3, name="out")

    def call(self, x):
        return self.out(ops.sum(self.experts(x), 0))


class OfAGraph(keras.Model):
    """A functional model of a class of its own."""

    def __init__(self, layer):
        inputs = keras.Input((5, 4))
        super().__init__(inputs, layer(inputs), name="of_a_graph")


@pytest.mark.each_process
@pytest.mark.parametrize("is_nested", [False, True])
def test_experts_that_happen_to_be_as_many_as_inputs(is_nested):
    model = OfAGraph(Mixture(6))
    if is_nested:
        inputs = keras.Input((5, 4))
        model = keras.Model(inputs, layers.ReLU()(model(inputs)))
    with ts.capture(model, ["*experts", "*out"]) as run:
        model.predict(X, batch_size=6, verbose=0)
    experts, out = run.values()
    assert (experts.state_count, out.state_count, out.instance_count) == (6 * 6 * 5, 6 * 5, 6)
    assert out.histogram([2]).total == 5
    with pytest.raises(ts.errors.InputsUnknown, match="axis 0 does not count the inputs"):
        experts.histogram([2])


class Shared(layers.Layer):
    def __init__(self):
        super().__init__(name="shared")
        self.inner = layers.Dense(4, name="inner")

    def call(self, x):
        return self.inner(x)


class Penalised(layers.Layer):
    def __init__(self):
        super().__init__(name="penalised")
        self.inner = layers.Dense(4, activity_regularizer="l2", name="inner")

    def call(self, x):
        self.add_loss(ops.mean(x))
        return self.inner(x)


def test_capturing_keeps_the_losses_of_the_last_call():
    """A step of a training may begin to capture between a call and its losses."""
    inputs = keras.Input((5, 4))
    model = keras.Model(inputs, Penalised()(inputs))
    model(X)
    losses = [float(array(loss)) for loss in model.losses]
    with ts.capture(model, "*inner"):
        assert [float(array(loss)) for loss in model.losses] == losses
    assert len(losses) == 2


def test_each_call_in_the_graph_of_a_model_of_a_class_of_its_own():
    shared, one = Shared(), layers.Dense(4, name="one")
    model = OfAGraph(
        lambda x: layers.add([one(x), one(shared(ops.transpose(shared(x), (0, 1, 2))))])
    )
    with ts.capture(model, ["one", "*inner"]) as run:
        model.predict(X, batch_size=6, verbose=0)
    assert {point.state_count for point in run.values()} == {30}
    names = {"one_states", "one:2_states", "shared/inner_states", "shared/inner:2_states"}
    assert {point.name for point in run.values()} == names
    first = run["shared/inner_states"]
    np.testing.assert_array_equal(first.raw_states, ts.compress_states(array(shared(X))))
