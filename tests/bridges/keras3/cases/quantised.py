"""Layers that are quantised, before or while they are captured."""

import keras
import numpy as np
import pytest
from keras import layers

import tensorstate_gpu as ts
from tests.bridges.keras3.cases.models import rows_of

pytestmark = pytest.mark.filterwarnings("ignore:Layer InputLayer does not have a `quantize` method")


def test_quantised_layers():
    inputs = keras.Input((6,))
    hidden = layers.Dense(5, "relu", name="hidden")(inputs)
    model = keras.Model(inputs, layers.Activation("tanh", name="act")(hidden))
    model.quantize("int8")
    x = np.random.default_rng(0).normal(size=(20, 6)).astype("float32")
    bare = model.predict(x, verbose=0)
    with ts.capture(model, ["hidden", "act"]) as run:
        for _ in range(2):
            np.testing.assert_array_equal(model.predict(x, verbose=0), bare)
    for name, point in run.items():
        rows = rows_of(model, name.removesuffix("_states"), x)
        np.testing.assert_array_equal(point.raw_states, np.tile(rows, (2, 1)))
        assert point.passes == (2, 2)
    model.predict(x, verbose=0)
    assert run["hidden"].state_count == 40
    assert "quantized_call" not in vars(model.get_layer("hidden"))


@pytest.mark.each_process
def test_layers_that_are_quantised_while_they_are_captured():
    model = keras.Sequential([keras.Input((6,)), layers.Dense(5, "relu", name="hidden")])
    x = np.random.default_rng(0).normal(size=(20, 6)).astype("float32")
    rows = rows_of(model, "hidden", x)
    with ts.capture(model, "hidden") as run:
        model.predict(x, verbose=0)
        model.quantize("int8")
        model.predict(x, verbose=0)
    rows = np.concatenate([rows, rows_of(model, "hidden", x)])
    np.testing.assert_array_equal(run["hidden"].raw_states, rows)
    assert run["hidden"].passes == (2, 2)
    assert {"call", "quantized_call"}.isdisjoint(vars(model.get_layer("hidden")))


class Rounding(layers.Dense):
    """One whose quantised call is its own call, of other numbers."""

    def quantized_call(self, x, **options):
        return self.call(keras.ops.round(8 * x) / 8, **options)

    def quantize(self, mode, **options):
        self._dtype_policy = keras.dtype_policies.get(f"{mode}_from_float32")


@pytest.mark.each_process
def test_a_quantised_call_that_calls_the_other_one_is_captured_once():
    model = keras.Sequential([keras.Input((6,)), Rounding(5, "relu", name="hidden")])
    model.quantize("int8")
    assert model.get_layer("hidden").quantization_mode == "int8"
    x = np.random.default_rng(0).normal(size=(20, 6)).astype("float32")
    rows = rows_of(model, "hidden", x)
    with ts.capture(model, "hidden") as run:
        model.predict(x, verbose=0)
    np.testing.assert_array_equal(run["hidden"].raw_states, rows)
