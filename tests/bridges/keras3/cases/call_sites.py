"""Layers that a model calls several times: each place in its graph has a capture point."""

import itertools

import keras
import numpy as np
import pytest
from keras import layers

import tensorstate_gpu as ts
from tests.support.samples import thinned

RNG = np.random.default_rng(0)
X, Y = (RNG.normal(size=(20, 4)).astype("float32") for _ in range(2))


def array(tensor):
    return keras.ops.convert_to_numpy(tensor).copy()


def twice():
    """A model of two inputs, with a dense layer and an activation that it calls twice each."""
    shared, relu = layers.Dense(4, name="shared"), layers.ReLU(name="relu")
    one, other = keras.Input((4,)), keras.Input((4,))
    outputs = layers.add([relu(shared(one)), relu(shared(other))])
    model = keras.Model([one, other], outputs)
    model.compile("sgd", "mse")
    return model, shared


def rebuilt(model, attach_to, **options):
    captured = ts.build_efficiency_model(model, attach_to, **options)
    return captured, ts.Run(captured.efficiency_layers)


def wrapped(model, attach_to, **options):
    """Attach to a model that cannot be rebuilt, because it is a subclass."""
    outer = Outer(model)
    outer.compile("sgd", "mse")
    outer([X[:1], Y[:1]])
    captured = ts.build_efficiency_model(outer, attach_to, **options)
    return captured, ts.Run(captured.efficiency_layers)


class Outer(keras.Model):
    def __init__(self, model):
        super().__init__()
        self.inner = model

    def call(self, inputs):
        return self.inner(inputs)


WAYS = pytest.mark.parametrize("way", [rebuilt, wrapped])
RUNS = [*itertools.product([rebuilt, wrapped], ["call", "predict", "fit"])]
SAMPLE = [(wrapped, "call"), (wrapped, "predict"), (rebuilt, "fit")]


@pytest.mark.each_process
@pytest.mark.parametrize(("way", "run_with"), thinned(RUNS, SAMPLE))
def test_each_call_in_a_graph_has_a_capture_point(way, run_with):
    model, shared = twice()
    expected = [ts.compress_states(array(shared(part))) for part in (X, Y)]
    captured, run = way(model, ["*shared", "*relu"])
    names = [name.split("/")[-1] for name in run]
    assert names == ["shared_states", "shared:2_states", "relu_states", "relu:2_states"]
    for _ in range(2):
        if run_with == "call":
            captured([X, Y])
        elif run_with == "predict":
            captured.predict([X, Y], batch_size=20, verbose=0)
        else:
            captured.fit([X, Y], 0 * X, batch_size=20, shuffle=False, verbose=0)
    points = run.efficiency_layers
    assert [point.state_count for point in points] == 4 * [40]
    for point, rows in zip(points, expected, strict=False):
        np.testing.assert_array_equal(point.raw_states[:20], rows)
    assert [point.call_of for point in points] == [None, points[0].name, None, points[2].name]


def test_a_capture_in_place():
    model, shared = twice()
    with ts.capture(model, "shared", method="both") as run:
        model.predict([X, Y], batch_size=7, verbose=0)
        shared(X)  # called alone, which counts as a first call
    assert [*run] == [
        *("shared_pre_states", "shared:2_pre_states", "shared_states", "shared:2_states"),
    ]
    assert [point.instance_count for point in run.values()] == [40, 20, 40, 20]
    for point, expected in zip(run.values(), (X, Y, shared(X), shared(Y)), strict=True):
        np.testing.assert_array_equal(point.raw_states[:20], ts.compress_states(array(expected)))


@WAYS
def test_merged_calls_share_a_capture_point(way):
    model, shared = twice()
    rows = np.concatenate([ts.compress_states(array(shared(part))) for part in (X, Y)])
    captured, run = way(model, "*shared", merge_calls=True)
    captured([X, Y])
    assert [name.split("/")[-1] for name in run] == ["shared_states"]
    assert run.efficiency_layers[0].histogram() == ts.count_states(rows, 4)


@pytest.mark.parametrize("in_place", [False, True])
def test_a_layer_inside_and_outside_of_a_nested_model(in_place):
    """First the calls of the graphs, each nested one once; then those that its passes add."""
    shared = layers.Dense(4, name="shared")
    inner_inputs = keras.Input((4,))
    inner = keras.Model(inner_inputs, shared(inner_inputs), name="inner")
    inputs = keras.Input((4,))
    model = keras.Model(inputs, inner(inner(shared(inputs))))
    if in_place:
        with ts.capture(model, ["inner/shared"]) as run:
            model(X)
    else:
        captured, _ = rebuilt(model, ["inner/shared"])
        captured(X)
        run = ts.Run(captured.efficiency_layers)
    x = X
    for number, point in zip(["", ":2", ":3"], run.values(), strict=True):
        x = array(shared(x))
        np.testing.assert_array_equal(point.raw_states, ts.compress_states(x))
        assert run[f"inner/shared{number}_states"] is run[f"shared{number}_states"] is point


def test_cells_of_layers_that_are_called_twice():
    cell = layers.SimpleRNNCell(3, name="cell")
    loop = layers.RNN(cell, return_sequences=True, name="loop")
    inputs = keras.Input((6, 3))
    model = keras.Model(inputs, loop(loop(inputs)))
    with ts.capture(model, "*cell") as run:
        model.predict(RNG.normal(size=(4, 6, 3)).astype("float32"), verbose=0)
    assert [*run] == ["loop/cell_states", "loop/cell:2_states"]
    assert [point.state_count for point in run.values()] == [24, 24]


def test_copies_and_files_have_the_capture_points_of_all_calls(tmp_path):
    model, _ = twice()
    captured, run = rebuilt(model, "relu", storage_path=tmp_path / "run")
    captured([X, Y])
    run.close()
    store = ts.Store(tmp_path / "run")
    assert [layer.call_of for layer in store.efficiency_layers] == [None, "relu_states"]
    assert str(store.report()) == str(run.report())
    captured.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    loaded([X, Y])
    assert [p.name for p in loaded.efficiency_layers] == ["relu_states", "relu:2_states"]
    assert [p.state_count for p in loaded.efficiency_layers] == [20, 20]
    assert not hasattr(ts.remove_state_layers(captured), "efficiency_layers")
