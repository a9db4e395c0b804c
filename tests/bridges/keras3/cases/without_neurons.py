"""Layers whose tensors have no axis of neurons: "*" and patterns leave them out, and say so."""

import keras
import numpy as np
import pytest
from keras import layers, ops

import tensorstate_gpu as ts

X = np.random.default_rng(0).normal(size=(6, 4)).astype("float32")


def array(tensor):
    return keras.ops.convert_to_numpy(tensor).copy()


def total(x):
    return ops.sum(x)


def no_axes(shape):
    return ()


def mean(x):
    return ops.mean(x, axis=-1)


def without_last(shape):
    return shape[:-1]


def functional():
    inputs = keras.Input((4,))
    hidden = layers.Dense(3, name="dense")(inputs)
    number = layers.Lambda(total, no_axes, name="number")(hidden)
    each = layers.Lambda(mean, without_last, name="each")(hidden)
    return keras.Model(inputs, [number, each])


def in_place(model, *arguments, **options):
    with ts.capture(model, *arguments, **options) as run:
        model(X)
    return run


def rebuilt(model, *arguments, **options):
    captured = ts.build_efficiency_model(model, *arguments, **options)
    captured(X)
    return ts.Run(captured.efficiency_layers)


@pytest.mark.each_process
@pytest.mark.parametrize("attach", [in_place, rebuilt])
def test_patterns_leave_out_what_the_graph_tells(attach):
    model = functional()
    told = r"number_states \(.*shape \(\)\), each_states \(.*shape \(None,\)\)"
    with pytest.warns(ts.errors.SkippedLayersWarning, match=told):
        run = attach(model, "*")
    assert [*run] == ["dense_states"]
    rows = ts.compress_states(array(model.get_layer("dense")(X)))
    np.testing.assert_array_equal(run["dense"].raw_states, rows)


def test_attaching_again():
    with pytest.warns(ts.errors.SkippedLayersWarning):
        once = ts.build_efficiency_model(functional(), "*")
    with pytest.warns(ts.errors.SkippedLayersWarning):
        again = ts.build_efficiency_model(once, "*")
    assert [point.name for point in again.efficiency_layers] == ["dense_states"]


@pytest.mark.parametrize("attach", [in_place, rebuilt])
@pytest.mark.parametrize("name", ["number", "each"])
def test_such_a_layer_alone_is_an_error(attach, name, tmp_path):
    with pytest.raises(TypeError, match=rf"{name}_states: states need an axis of instances"):
        attach(functional(), name, storage_path=tmp_path / "run")
    attach(functional(), "dense", storage_path=tmp_path / "run")


class InCode(keras.Model):
    """What its layers return is not known before it runs: one value of each input, at last."""

    def __init__(self):
        super().__init__()
        self.dense, self.drop = layers.Dense(3, name="dense"), layers.Dropout(0.1, name="drop")

    def call(self, x):
        return self.drop(ops.mean(self.drop(self.dense(x)), -1))


@pytest.mark.each_process
@pytest.mark.parametrize("merge_calls", [False, True])
@pytest.mark.parametrize("eagerly", [False, True])
def test_a_pass_does_not_fail_for_a_call_without_neurons(eagerly, merge_calls):
    model = InCode()
    model.compile(run_eagerly=eagerly)
    expected = array(model(X))
    with ts.capture(model, "*", merge_calls=merge_calls) as run:
        with pytest.warns(ts.errors.SkippedLayersWarning, match=r"drop_states.*shape \(") as told:
            given = model.predict(X, batch_size=4, verbose=0)
        model.predict(X, batch_size=4, verbose=0)
    np.testing.assert_allclose(given, expected, atol=1e-6)
    assert [each.category for each in told].count(ts.errors.SkippedLayersWarning) == 1
    assert [*run] == ["dense_states", "drop_states"]
    rows = ts.compress_states(array(model.dense(X)))
    np.testing.assert_array_equal(run["drop"].raw_states, np.concatenate([rows, rows]))
