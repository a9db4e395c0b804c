"""Passes of a model: layers that ran in some of them only are named."""

import keras
import numpy as np
import pytest
from keras import layers, ops

import tensorstate_gpu as ts
from tests.bridges.keras3.cases.models import compiled, convolutional

X = np.random.default_rng(0).standard_normal((8, 4)).astype("float32")


class Auxiliary(keras.Model):
    """A layer that runs in training only, and one that the data may choose."""

    def __init__(self):
        super().__init__()
        self.always = layers.Dense(4, name="always")
        self.training_only = layers.Dense(4, name="training_only")
        self.chosen = layers.Dense(4, name="chosen")
        self.chosen.build((None, 4))

    def call(self, x, training=False):
        large = ops.max(x) > 100
        x = self.always(x)
        if training:
            x = self.training_only(x)
        return ops.cond(large, lambda: self.chosen(x), lambda: x + 0)


def built():
    model = compiled(Auxiliary())
    model(X, training=True)
    return model


def passes_of(run):
    return {name.removesuffix("_states"): point.passes for name, point in run.items()}


@pytest.mark.each_process
def test_layers_that_run_in_some_passes():
    model = built()
    with ts.capture(model, ["always", "training_only"]) as run:
        model.fit(X, X, batch_size=4, verbose=0)
        model.predict(X, batch_size=3, verbose=0)
    model.predict(X, verbose=0)
    assert passes_of(run) == {"always": (5, 5), "training_only": (2, 5)}
    assert run.instance_count == 16
    assert "training_only_states 2 of 5 passes" in " ".join(str(run.report()).split())


@pytest.mark.each_process
@pytest.mark.skipif(keras.backend.backend() != "jax", reason="only JAX compiles by itself")
def test_a_compiled_function_whose_inputs_are_constants():
    import jax

    model = keras.Sequential([keras.Input((4,)), layers.Dense(3, name="dense")])
    values = [variable.value for variable in model.trainable_variables]
    step = jax.jit(lambda values: model.stateless_call(values, [], X)[0])
    with ts.capture(model, "dense", method="both") as run:
        for _ in range(3):
            step(values)
    for point in run.values():
        assert (point.passes, point.instance_count) == ((3, 3), 24)


def test_a_branch_that_the_data_choose():
    model = built()
    with ts.capture(model, ["always", "chosen"]) as run:
        for factor in (1, 1e6, 1):
            model.predict(X * factor, verbose=0)
    assert passes_of(run) == {"always": (3, 3), "chosen": (1, 3)}


def test_the_passes_of_one_mode():
    model = built()
    with ts.capture(model, ["always", "training_only"], when="train") as run:
        model.fit(X, X, batch_size=4, validation_data=(X, X), verbose=0)
    assert passes_of(run) == {"always": (2, 2), "training_only": (2, 2)}


def test_passes_of_a_store_that_is_resumed(tmp_path):
    for _ in range(2):
        model, store = built(), ts.Store(tmp_path / "run", "a")
        with store, ts.capture(model, ["always", "training_only"], storage_path=store):
            model.fit(X, X, batch_size=4, verbose=0)
            model.predict(X, verbose=0)
    found = ts.Store(tmp_path / "run")
    assert [found[f"{name}_states"].passes for name in ("always", "training_only")] == [
        (6, 6),
        (4, 6),
    ]


def test_functional_models_and_their_copies():
    model = compiled(convolutional())
    images = np.zeros((6, 8, 8, 2), "float32")
    captured = ts.build_efficiency_model(model, ["conv", "dense"])
    captured.predict(images, batch_size=2, verbose=0)
    captured.fit(images, np.zeros((6, 3)), batch_size=3, verbose=0)
    assert [point.passes for point in captured.efficiency_layers] == [(5, 5)] * 2
    again = ts.build_efficiency_model(captured, ["conv", "relu"])
    again.predict(images, verbose=0)
    assert [point.passes for point in again.efficiency_layers] == [(6, 6), (1, 1)]
    ts.reset_efficiency_model(again)
    again.predict(images, verbose=0)
    assert [point.passes for point in again.efficiency_layers] == [(1, 1)] * 2
    copied = keras.models.clone_model(again)
    copied.predict(images, verbose=0)
    assert [point.passes for point in copied.efficiency_layers] == [(1, 1)] * 2


def test_captures_that_overlap_end_in_any_order():
    model = convolutional()
    images = np.zeros((6, 8, 8, 2), "float32")
    before = model.call, model.get_layer("conv").call
    first, second = ts.capture(model, "conv"), ts.capture(model, ["conv", model])
    one = first.__enter__()
    other = second.__enter__()
    model.predict(images, verbose=0)
    first.__exit__(None, None, None)
    model.predict(images, verbose=0)
    second.__exit__(None, None, None)
    model.predict(images, verbose=0)
    assert one.instance_count == 6
    assert {point.passes for point in one.values()} == {(1, 1)}
    assert other.instance_count == 12
    assert (model.call, model.get_layer("conv").call) == before
