"""Which layers are chosen: all, by default, the model itself, and after an earlier call."""

import keras
import numpy as np
import pytest
from keras import layers

import tensorstate_gpu as ts
from tests.bridges.keras3.cases.models import compiled, convolutional

SEQUENCES = np.random.default_rng(0).normal(size=(4, 5, 6)).astype("float32")


def names(points):
    return [point.name for point in points]


def with_layers_that_work_as_a_whole():
    x = keras.Input((5, 6))
    parts = [
        layers.LSTM(4, name="lstm")(x),
        layers.Bidirectional(layers.GRU(3, return_sequences=True), name="both")(x),
        layers.TimeDistributed(layers.Dense(3), name="each")(x),
        layers.MultiHeadAttention(2, 3, name="attention")(x, x),
        keras.Sequential([keras.Input((5, 6)), layers.Dense(2, name="deep")], name="inner")(x),
    ]
    return keras.Model(x, parts)


EVERY = ["lstm", "both", "each", "attention", "inner", "inner/deep"]


@pytest.mark.each_process
def test_all_layers_are_those_that_can_be_taken_apart():
    model = with_layers_that_work_as_a_whole()
    with ts.capture(model, "*") as run:
        model.predict(SEQUENCES, verbose=0)
    assert {*run} == {f"{name}_states" for name in EVERY}
    assert all(point.state_count for point in run.values())
    captured = ts.build_efficiency_model(model, "*")
    captured.predict(SEQUENCES, verbose=0)
    assert {*names(captured.efficiency_layers)} == {*run}
    for point in captured.efficiency_layers:
        assert point.histogram() == run[point.name].histogram()


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.lstm, self.inner = layers.LSTM(4, name="lstm"), convolutional()
        self.block = Block(name="block")

    def call(self, x):
        return self.block(self.lstm(x))


class Block(layers.Layer):
    def __init__(self, **keywords):
        super().__init__(**keywords)
        self.dense = layers.Dense(3, name="dense")

    def call(self, x):
        return self.dense(x)


def test_all_layers_of_a_subclassed_model():
    model = Subclassed()
    with ts.capture(model, "*", exclude="*functional*") as run:
        model(SEQUENCES)
    assert [*run] == ["lstm_states", "block_states", "block/dense_states"]


@pytest.mark.parametrize("build", [True, False])
def test_layers_with_kernels_are_the_default(build):
    model = with_layers_that_work_as_a_whole()
    expected = {f"{name}_states" for name in EVERY if name != "inner"}
    if build:
        assert {*names(ts.build_efficiency_model(model).efficiency_layers)} == expected
    else:
        with ts.capture(model) as run:
            assert {*run} == expected


@pytest.mark.each_process
@pytest.mark.parametrize("build", [True, False])
def test_the_model_itself(images, build):
    model = compiled(convolutional())
    choices = ("Functional", model, model.name) if build else (model,)
    for choice in choices:
        if build:
            captured = ts.build_efficiency_model(model, choice)
            outputs = captured.predict(images, verbose=0)
            (point,) = captured.efficiency_layers
        else:
            with ts.capture(model, choice) as run:
                outputs = model.predict(images, verbose=0)
            (point,) = run.values()
        np.testing.assert_array_equal(point.raw_states, ts.compress_states(outputs))


def test_the_inputs_of_a_model_itself(images):
    first, second = keras.Input((8, 8, 2), name="first"), keras.Input((3,), name="second")
    inner = convolutional()
    joined = keras.layers.Add(name="joined")([inner(first), second])
    model = keras.Model([first, second], keras.layers.Dense(2, name="last")(joined))
    others = np.ones((len(images), 3), "float32")
    captured = ts.build_efficiency_model(model, [model, "last"], method="both")
    outputs = captured.predict([images, others], verbose=0)
    run = ts.Run(captured.efficiency_layers)
    assert len(run) == 4
    states = run[f"{model.name}_pre_states"].raw_states
    np.testing.assert_array_equal(states, ts.compress_states(images))
    np.testing.assert_array_equal(outputs, model.predict([images, others], verbose=0))
    bare = ts.remove_state_layers(captured)
    assert names(bare.layers) == names(model.layers)


def test_a_second_call_decides_alone(images):
    first = ts.build_efficiency_model(compiled(convolutional()), ["conv", "relu"])
    conv, relu = first.efficiency_layers
    second = ts.build_efficiency_model(first, ["relu", "dense"])
    assert names(second.efficiency_layers) == ["relu_states", "dense_states"]
    assert second.efficiency_layers[0] is relu
    second.predict(images, verbose=0)
    assert [conv.instance_count, relu.instance_count] == [0, 50]
    first.predict(images, verbose=0)
    assert [conv.instance_count, relu.instance_count] == [50, 100]


def test_a_second_call_for_a_model_and_one_inside_it():
    model = with_layers_that_work_as_a_whole()
    first = ts.build_efficiency_model(model, ["inner/deep", "lstm"])
    second = ts.build_efficiency_model(first, ["inner", first])
    assert names(second.efficiency_layers) == ["inner_states", f"{model.name}_states"]
    second.predict(SEQUENCES, verbose=0)
    assert [point.instance_count for point in second.efficiency_layers] == [4, 4]
    assert [point.instance_count for point in first.efficiency_layers] == [0, 0]


def test_a_second_call_for_a_subclassed_model():
    model = Subclassed()
    model(SEQUENCES)
    ts.build_efficiency_model(model, "lstm")
    (lstm,) = model.efficiency_layers
    ts.build_efficiency_model(model, "block")
    model(SEQUENCES)
    assert names(model.efficiency_layers) == ["block_states"]
    assert [lstm.instance_count, model.efficiency_layers[0].instance_count] == [0, 4]


def test_names_that_match_nothing(images):
    model = compiled(convolutional())
    with pytest.warns(ts.errors.UnmatchedNameWarning, match=r"'dens' is .*; is it 'dense'\?"):
        captured = ts.build_efficiency_model(model, ["conv", "dens"])
    assert names(captured.efficiency_layers) == ["conv_states"]
    with pytest.warns(ts.errors.UnmatchedNameWarning, match="matches no layer"):
        captured = ts.build_efficiency_model(model, "LSTM", missing="warn")
    assert captured.efficiency_layers == []
    captured.predict(images, verbose=0)


def test_indices_are_no_states():
    model = keras.Sequential(
        [keras.Input((5,)), layers.Embedding(9, 4, name="words"), layers.Dense(3, name="dense")]
    )
    ids = np.arange(10).reshape(2, 5) % 9
    warns = pytest.warns(ts.errors.SkippedLayersWarning, match=r": words_pre_states$")
    with warns, ts.capture(model, method="both") as run:
        model.predict(ids, verbose=0)
    with warns:
        captured = ts.build_efficiency_model(model, method="both")
    captured.predict(ids, verbose=0)
    for found in (list(run), names(captured.efficiency_layers)):
        assert sorted(found) == ["dense_pre_states", "dense_states", "words_states"]
    with pytest.raises(ts.errors.NotCapturable, match="words_pre_states: the inputs of embeddings"):
        ts.build_efficiency_model(model, "words", method="before")
