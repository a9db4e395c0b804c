"""torch.compile: functions in the code of layers, and around a model."""

import keras
import numpy as np
import pytest
from keras import layers

import tensorstate_gpu as ts
from tests.bridges.keras3.cases.models import BACKEND

pytestmark = [
    pytest.mark.each_process,
    pytest.mark.skipif(BACKEND != "torch", reason="is about torch.compile"),
]
X = np.random.default_rng(0).normal(size=(7, 4)).astype("float32")


def model_with_a_function():
    import torch

    class Inner(layers.Layer):
        def __init__(self):
            super().__init__(name="inner")
            self.relu = layers.ReLU(name="relu")
            self.function = torch.compile(lambda x: self.relu(x * 2), backend="eager")

        def call(self, x):
            return self.function(x)

    return keras.Sequential([keras.Input((4,)), Inner(), layers.Dense(3, name="last")])


@pytest.mark.parametrize("is_traced_before", [False, True])
def test_a_capture_breaks_the_graph(is_traced_before):
    model = model_with_a_function()
    if is_traced_before:
        model.predict(X, batch_size=3, verbose=0)
    for _ in range(2):
        with ts.capture(model, ["inner/relu", "last"]) as run:
            model.predict(X, batch_size=3, verbose=0)
            model(X)
        model.predict(X, batch_size=3, verbose=0)
        assert [point.state_count for point in run.values()] == [14, 14]
    packed = ts.compress_states(X)
    np.testing.assert_array_equal(run["inner/relu_states"].raw_states, np.concatenate([packed] * 2))


TAKE = {
    "capture": lambda model: ts.capture(model).__enter__(),
    "attach": ts.build_efficiency_model,
    "monitor": ts.StateMonitor,
}


@pytest.mark.parametrize("take", TAKE)
def test_a_compiled_model_is_refused(take):
    """It is a module of PyTorch in which no layer can be seen; capturing the model itself works."""
    import torch

    model = keras.Sequential([keras.Input((4,)), layers.Dense(3, name="dense")])
    compiled = torch.compile(model, backend="eager")
    with pytest.raises(TypeError, match="compiled a Keras model: pass that"):
        TAKE[take](compiled)
    with ts.capture(model, "dense") as run:
        output = compiled(torch.from_numpy(X)).detach()
    np.testing.assert_array_equal(run["dense"].raw_states, ts.compress_states(output))
