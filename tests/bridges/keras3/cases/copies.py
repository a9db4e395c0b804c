"""Copies, files and weights of captured models."""

import copy
import pickle
import subprocess
import sys
from contextlib import nullcontext

import keras
import numpy as np
import pytest
from keras import layers

import tensorstate_gpu as ts
from tensorstate_gpu.bridges.keras3.layers import StateCapture
from tests.bridges.keras3.cases.models import BACKEND, compiled

X = np.random.default_rng(0).normal(size=(20, 4)).astype("float32")


def array(tensor):
    return keras.ops.convert_to_numpy(tensor).copy()


def branches():
    """Layers of one shape, whose depth, and so Keras's order, a capture layer changes."""
    inputs = keras.Input((4,))
    b, a = layers.Dense(4, name="b")(inputs), layers.Dense(4, "tanh", name="a")(inputs)
    inside = keras.Input((4,))
    d, c = layers.Dense(4, name="d")(inside), layers.Dense(4, "tanh", name="c")(inside)
    nested = keras.Model(inside, layers.Subtract()([d, c]), name="inner")
    one, other = (
        keras.Sequential([keras.Input((4,)), layers.Dense(4, name="e")], name=name)
        for name in ("one", "other")
    )
    return keras.Model(inputs, other(one(nested(layers.Subtract()([b, a])))))


ATTACH_TO = ["a", "*/c", "one/e"]
NAMES = ["a_states", "inner/c_states", "one/e_states"]


def through_file(path):
    def saved_and_loaded(model):
        model.save(path)
        return keras.models.load_model(path, compile=False)

    return saved_and_loaded


WAYS = {
    "deepcopy": copy.deepcopy,
    "pickle": lambda model: pickle.loads(pickle.dumps(model)),
    "clone_model": keras.models.clone_model,
}


@pytest.mark.parametrize("way", [*WAYS, ".keras", ".h5"])
def test_copies_have_capture_points_of_their_own(way, tmp_path):
    make_copy = WAYS.get(way) or through_file(tmp_path / f"model{way}")
    model = compiled(branches())
    captured = ts.build_efficiency_model(model, ATTACH_TO, method="both", threshold=0.1)
    expected = array(captured(X))
    twin = make_copy(captured)
    points = captured.efficiency_layers
    assert [point.name for point in twin.efficiency_layers] == [point.name for point in points]
    assert [point.state_count for point in twin.efficiency_layers] == 6 * [0]
    assert {point.threshold for point in twin.efficiency_layers} == {0.1}
    twin.set_weights(captured.get_weights())
    np.testing.assert_array_equal(array(twin(X)), expected)
    for point, other in zip(twin.efficiency_layers, points, strict=True):
        np.testing.assert_array_equal(point.raw_states, other.raw_states)
    bare = ts.remove_state_layers(twin)
    bare(X)
    assert [layer.name for layer in bare.layers][1:] == [layer.name for layer in model.layers][1:]
    assert {point.state_count for point in points} == {20}


def towers():
    """A block that is called for two inputs, where only a pass shows both; one layer in a graph."""
    inputs, one, other = (keras.Input((4,)) for _ in range(3))
    relu, shared = layers.ReLU(name="relu"), layers.Dense(4, name="shared")
    tower = keras.Model(inputs, relu(layers.Dense(4, name="dense")(inputs)), name="tower")
    both = layers.Subtract()([tower(one), tower(other)])
    return keras.Model([one, other], shared(shared(both)))


def points_after(model, *inputs):
    model.predict([*inputs] if inputs[1:] else inputs[0], batch_size=8, verbose=0)
    return {point.name: point for point in model.efficiency_layers}


@pytest.mark.parametrize("merge_calls", [False, True])
@pytest.mark.parametrize("way", [*WAYS, ".keras"])
def test_copies_number_the_calls_that_a_pass_shows(way, merge_calls, tmp_path):
    make_copy = WAYS.get(way) or through_file(tmp_path / f"model{way}")
    chosen = ["tower/relu", "shared"]
    captured = ts.build_efficiency_model(towers(), chosen, merge_calls=merge_calls)
    twin = make_copy(captured)  # before the original has shown its calls
    twin.set_weights(captured.get_weights())
    again = make_copy(twin)
    again.set_weights(captured.get_weights())
    expected = points_after(captured, X, -X)
    assert ("tower/relu:2_states" in expected) != merge_calls
    for model in (twin, again):
        found = points_after(model, X, -X)
        assert [*found] == [*expected]
        for name, point in found.items():
            np.testing.assert_array_equal(point.raw_states, expected[name].raw_states)
            facts = point.call_of, point.facts().passes, point.axis_origin
            of_original = expected[name]
            assert facts == (
                of_original.call_of,
                of_original.facts().passes,
                of_original.axis_origin,
            )


@pytest.mark.parametrize("way", [*WAYS, ".keras"])
def test_copies_know_whether_axis_0_counts_the_inputs(way, tmp_path):
    inputs = keras.Input((4,))
    turned = layers.ReLU(name="relu")(keras.ops.flip(inputs, 0))
    captured = ts.build_efficiency_model(keras.Model(inputs, turned), "relu")
    make_copy = WAYS.get(way) or through_file(tmp_path / f"model{way}")
    (point,) = points_after(make_copy(captured), X).values()
    with pytest.raises(ts.errors.InputsUnknown):
        point.counts_by(np.arange(len(X)))


@pytest.mark.parametrize("way", [*WAYS, ".keras"])
def test_layers_that_were_placed_by_hand_stay_so_in_copies(way, tmp_path):
    """Attaching again removes what is not chosen any more, but never those."""
    inputs = keras.Input((4,))
    hidden = StateCapture("by_hand")(layers.Dense(3, name="a")(inputs))
    model = keras.Model(inputs, layers.Dense(3, name="b")(hidden))
    captured = ts.build_efficiency_model(model, "a")
    twin = (WAYS.get(way) or through_file(tmp_path / f"model{way}"))(captured)
    assert [*points_after(twin, X)] == ["a_states"]
    again = ts.build_efficiency_model(twin, "b")
    assert [*points_after(again, X)] == ["b_states"]
    by_hand = again.get_layer("by_hand")
    assert (by_hand.state_count, by_hand.point.passes) == (2 * len(X), None)


@pytest.mark.parametrize("way", [*WAYS, ".keras"])
def test_copies_have_the_options(way, tmp_path):
    tokens, mask = keras.Input((6, 4)), keras.Input((6,), dtype="bool", name="kept")
    hidden = layers.Dense(3, name="dense")(tokens)
    model = keras.Model([tokens, mask], hidden)
    options = {"keep": "counts", "groups": 24, "mask": "kept", "threshold": 0.2}
    captured = ts.build_efficiency_model(model, "dense", **options)
    twin = (WAYS.get(way) or through_file(tmp_path / f"model{way}"))(captured)
    twin.set_weights(captured.get_weights())
    given = np.ones((5, 6, 4), "float32"), np.arange(30).reshape(5, 6) % 3 == 0
    (expected,), (found,) = (points_after(each, *given).values() for each in (captured, twin))
    assert found.state_count == expected.state_count == 10
    assert found.histogram() == expected.histogram()
    assert found.grouped() == expected.grouped()


@pytest.mark.parametrize("way", ["deepcopy", "pickle", ".keras", ".h5"])
def test_copies_have_the_weights(way, tmp_path):
    make_copy = WAYS.get(way) or through_file(tmp_path / f"model{way}")
    captured = ts.build_efficiency_model(compiled(branches()), ATTACH_TO)
    np.testing.assert_array_equal(array(make_copy(captured)(X)), array(captured(X)))


@pytest.mark.long
def test_another_program_needs_only_the_layer_to_load_a_file(tmp_path):
    captured = ts.build_efficiency_model(branches(), ATTACH_TO)
    files = [str(tmp_path / f"model{suffix}") for suffix in (".keras", ".h5")]
    for file in files:
        captured.save(file)
    program = f"""
import keras, tensorstate_gpu
tensorstate_gpu.StateCapture
for file in {files}:
    model = keras.models.load_model(file)
    assert [point.name for point in model.efficiency_layers] == {NAMES}
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]


def test_saving_and_loading(images, tmp_path):
    model = keras.Sequential(
        [
            keras.Input((8, 8, 2)),
            layers.Conv2D(4, 3),
            StateCapture("seen", tmp_path / "run.zarr", threshold=0.1, neuron_axis=-1),
            layers.Flatten(),
        ]
    )
    expected = model.predict(images, verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    capture = loaded.get_layer("seen")
    assert isinstance(capture, StateCapture)
    assert (capture.point.threshold, capture.point.neuron_axis) == (0.1, -1)
    assert capture.point.disk_path is None
    assert capture.state_count == 0
    np.testing.assert_allclose(loaded.predict(images, verbose=0), expected, rtol=1e-6)
    assert capture.state_count == 50 * 36


def test_saving_leaves_the_optimizer(tmp_path):
    """Keras forgets it, in what it compiles from, when it writes HDF5."""
    model = compiled(branches())
    model.save(tmp_path / "model.h5")
    assert ts.build_efficiency_model(model, "a").optimizer is model.optimizer


def test_weights_keep_their_order():
    model = branches()
    captured = ts.build_efficiency_model(model, ATTACH_TO)
    again = ts.build_efficiency_model(captured, "b")
    for other in (captured, again, ts.remove_state_layers(again)):
        assert [weight.path for weight in other.weights] == [w.path for w in model.weights]
        assert [layer.name for layer in other.layers if layer.weights] == [
            *("b", "a", "inner", "one", "other")
        ]
    assert [layer.name for layer in captured.layers][1:4] == ["b", "a", "a_states"]


@pytest.mark.parametrize("suffix", [".weights.h5", ".h5"])
def test_files_of_weights_fit_both_models(suffix, tmp_path):
    model = branches()
    captured = ts.build_efficiency_model(model, ATTACH_TO)
    bare = array(model(X))
    path = tmp_path / f"w{suffix}"
    for writer, reader in ((captured, model), (model, captured)):
        writer.save_weights(path) if suffix == ".weights.h5" else writer.save(path)
        model.set_weights([0 * weight for weight in model.get_weights()])
        reader.load_weights(path)
        np.testing.assert_array_equal(array(reader(X)), bare)


def test_an_optimizer_goes_on_with_each_weight_s_own_moments():
    """JAX hands weights to an optimizer in order."""

    def trained(capture):
        keras.utils.set_random_seed(3)
        model = branches()
        model.compile(keras.optimizers.Adam(0.1), "mse")
        model.fit(X, X[::-1], epochs=3, shuffle=False, verbose=0)
        runner = ts.build_efficiency_model(model, ATTACH_TO) if capture else model
        runner.fit(X, X[::-1], epochs=3, shuffle=False, verbose=0)
        return model.get_weights()

    for one, other in zip(trained(True), trained(False), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


def test_a_report_names_the_user_s_model():
    """Not the model that has taken its place, also after attaching again."""
    model = branches()
    captured = ts.build_efficiency_model(ts.build_efficiency_model(model, "a"), "b")
    captured(X)
    origin = ts.report(captured).origin
    kind = type(model)
    assert origin["class of the model"] == f"{kind.__module__}.{kind.__qualname__}"
    assert origin["name of the model"] == model.name
    assert origin["attach_to"] == "b"


@pytest.mark.filterwarnings("ignore")  # of exporters, about themselves
@pytest.mark.parametrize("in_place", [False, True])
def test_exports_have_no_captures(in_place, tmp_path):
    """An exported program runs elsewhere, where there is nobody to be told of states."""
    model = keras.Sequential([keras.Input((6,)), layers.Dense(5, "relu"), layers.Dense(3)])
    x = np.ones((1, 6), "float32")  # Keras exports programs of torch for one input
    expected = model.predict(x, verbose=0)
    path = str(tmp_path / ("model.pt2" if BACKEND == "torch" else "model"))
    kind = "torch" if BACKEND == "torch" else "tf_saved_model"
    with ts.capture(model, "*") if in_place else nullcontext() as run:
        captured = model if in_place else ts.build_efficiency_model(model, "*", mask=True)
        captured.export(path, format=kind, verbose=False)
        if BACKEND == "torch":
            import torch

            output = torch.export.load(path).module()(torch.from_numpy(x)).detach()
        else:
            import tensorflow

            program = tensorflow.saved_model.load(path)
            output = program.serve(x)
        points = run.values() if in_place else captured.efficiency_layers
        np.testing.assert_allclose(np.asarray(output), expected, atol=1e-6)
        assert [point.state_count for point in points] == [0, 0]
        captured.predict(x, verbose=0)
    assert [point.state_count for point in points] == [1, 1]
