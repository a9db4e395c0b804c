"""Layers whose code is of another framework: what it does with the neurons, Keras cannot tell."""

import keras
import numpy as np
import pytest
from keras import layers

import tensorstate_gpu as ts
from tensorstate_gpu.errors import GuessedAxisWarning
from tests.bridges.keras3.cases.models import BACKEND

CHOSEN = ["foreign", "relu"]


def of_saved_model(folder, shape, *parts):
    saved = keras.Sequential([keras.Input(shape), *parts])
    saved.export(folder / "saved", verbose=False)
    return layers.TFSMLayer(folder / "saved", name="foreign")


def of_jax(shape, units, turn):
    import jax.numpy as jnp

    weights = np.random.default_rng(0).normal(size=(shape[-1], units)).astype("float32")

    def code(params, inputs):
        made = inputs @ params
        return jnp.swapaxes(made, 1, 2) if turn else made

    return layers.JaxLayer(code, params=jnp.asarray(weights), name="foreign")


def of_torch(shape, units, turn):
    import torch

    class Turned(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.dense = torch.nn.Linear(shape[-1], units)

        def forward(self, x):
            made = self.dense(x)
            return made.transpose(1, 2) if turn else made

    made = (None, units, *shape[:-1]) if turn else (None, *shape[:-1], units)
    return layers.TorchModuleWrapper(Turned(), name="foreign", output_shape=made)


@pytest.fixture
def foreign(tmp_path):
    """Make a layer with weights for so many neurons; ``turn``: as axis 1, before the positions."""

    def make(shape, units, turn):
        if BACKEND == "tensorflow":
            turned = [layers.Permute((2, 1))] if turn else []
            return of_saved_model(tmp_path, shape, layers.Dense(units), *turned)
        return {"jax": of_jax, "torch": of_torch}[BACKEND](shape, units, turn)

    return make


class InCode(keras.Model):
    def __init__(self, foreign):
        super().__init__()
        self.foreign, self.relu = foreign, layers.ReLU(name="relu")

    def call(self, x):
        return self.relu(self.foreign(x))


def in_graph(shape, foreign):
    inputs = keras.Input(shape)
    known = layers.Dense(shape[-1], name="dense")(inputs)
    return keras.Model(inputs, layers.ReLU(name="relu")(foreign(known)))


# the shape of the inputs, and the units: those that could be followed by their size alone, too
@pytest.mark.each_process
@pytest.mark.parametrize(("shape", "units"), [((6, 4), 5), ((6, 6), 6)])
def test_the_axis_is_a_guess(foreign, shape, units):
    model = in_graph(shape, foreign(shape, units, turn=True))
    x = np.ones((2, *shape), "float32")
    with (
        pytest.warns(GuessedAxisWarning, match="for foreign_states, relu_states: neuron_axis"),
        ts.capture(model, CHOSEN) as run,
    ):
        model.predict(x, verbose=0)
    assert [(point.axis, point.axis_origin) for point in run.values()] == [(2, "guess")] * 2
    with ts.capture(model, CHOSEN, neuron_axis=1) as run:
        model.predict(x, verbose=0)
    assert [point.neurons for point in run.values()] == [units] * 2


def test_it_is_in_the_code_of_a_model(foreign):
    model = InCode(foreign((6, 4), 5, turn=True))
    model(np.ones((2, 6, 4), "float32"))
    with (
        pytest.warns(GuessedAxisWarning, match="for foreign_states, relu_states"),
        ts.capture(model, CHOSEN) as run,
    ):
        model.predict(np.ones((2, 6, 4), "float32"), verbose=0)
    assert [point.axis_origin for point in run.values()] == ["guess"] * 2


class Block(layers.Layer):
    """A layer of the user's: what it adds to its inputs may have neurons along another axis."""

    def __init__(self, foreign):
        super().__init__(name="block")
        self.foreign = foreign

    def call(self, x):
        return x + self.foreign(x)


def test_it_is_in_the_code_of_a_layer(foreign):
    inputs = keras.Input((6, 6))
    outputs = Block(foreign((6, 6), 6, turn=True))(layers.Dense(6)(inputs))
    with pytest.warns(GuessedAxisWarning, match="for block_states"):
        ts.build_efficiency_model(keras.Model(inputs, outputs), "Block")


@pytest.mark.each_process
def test_one_axis_alone_is_no_guess(foreign):
    """Beside that of the inputs. In a graph it is told before any batch comes."""
    model = in_graph((4,), foreign((4,), 5, turn=False))
    with ts.capture(model, CHOSEN) as run:
        model.predict(np.ones((2, 4), "float32"), verbose=0)
    known = [(point.axis, point.axis_origin, point.neurons) for point in run.values()]
    assert known == [(1, "flow", 5)] * 2


def test_layers_with_an_axis_of_their_own_stay_known(foreign):
    inputs = keras.Input((6, 4))
    turned = foreign((6, 4), 5, turn=True)(inputs)
    model = keras.Model(inputs, layers.ReLU(name="relu")(layers.Dense(7, name="dense")(turned)))
    with ts.capture(model, ["dense", "relu"]) as run:
        model.predict(np.ones((2, 6, 4), "float32"), verbose=0)
    assert [point.axis_origin for point in run.values()] == ["layer", "flow"]
