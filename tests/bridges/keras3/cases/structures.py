"""Models of every shape: which layers are captured, under which names; and what stays untouched."""

import keras
import numpy as np
import pytest
from keras import layers

import tensorstate_gpu as ts
from tensorstate_gpu.bridges.keras3.layers import StateCapture
from tests.bridges.keras3.cases.models import BACKEND, compiled, convolutional, output_of, rows_of


def array(tensor):
    return keras.ops.convert_to_numpy(tensor)


def names(model):
    return [point.name for point in model.efficiency_layers]


def test_names_and_places():
    model = convolutional()
    both = ts.build_efficiency_model(model, ["Conv2D", "dense"], method="both")
    assert names(both) == ["conv_pre_states", "conv_states", "dense_pre_states", "dense_states"]
    before = ts.build_efficiency_model(model, "Dense", method="before")
    assert names(before) == ["dense_pre_states"]
    without = ts.build_efficiency_model(model, "*", exclude=["Dropout", "Flatten", "relu"])
    assert names(without) == ["conv_states", "norm_states", "dense_states"]


def test_the_original_is_untouched(images):
    model = compiled(convolutional())
    layers_before, config = [layer.name for layer in model.layers], model.get_config()
    efficiency_model = ts.build_efficiency_model(model, "*")
    assert efficiency_model is not model
    assert [layer.name for layer in model.layers] == layers_before
    assert model.get_config() == config
    assert not hasattr(model, "efficiency_layers")
    assert efficiency_model.compiled
    for layer in layers_before[1:]:
        assert efficiency_model.get_layer(layer) is model.get_layer(layer)
    model.predict(images, verbose=0)
    assert all(point.state_count == 0 for point in efficiency_model.efficiency_layers)


def test_removal_and_attaching_again(images):
    model = convolutional()
    first = ts.build_efficiency_model(model, "conv")
    second = ts.build_efficiency_model(first, ["conv", "dense"])
    assert names(second) == ["conv_states", "dense_states"]
    assert second.efficiency_layers[0] is first.efficiency_layers[0]
    bare = ts.remove_state_layers(second)
    assert not any(isinstance(layer, StateCapture) for layer in bare.layers)
    assert not hasattr(second, "efficiency_layers")
    np.testing.assert_array_equal(array(bare(images)), array(model(images)))


def test_before_and_after_see_inputs_and_outputs(images):
    model = convolutional()
    efficiency_model = ts.build_efficiency_model(model, "dense", method="both")
    efficiency_model(images)
    before, after = efficiency_model.efficiency_layers
    np.testing.assert_array_equal(before.raw_states, rows_of(model, "flat", images))
    np.testing.assert_array_equal(after.raw_states, rows_of(model, "dense", images))


def test_sequential(images):
    model = keras.Sequential(
        [keras.Input((8, 8, 2)), layers.Conv2D(4, 3, name="a"), layers.Conv2D(5, 3, name="b")],
        name="stack",
    )
    efficiency_model = compiled(ts.build_efficiency_model(model, "Conv2D"))
    efficiency_model.predict(images, verbose=0)
    assert [layer.name for layer in model.layers] == ["a", "b"]
    for name, point in zip("ab", efficiency_model.efficiency_layers, strict=True):
        np.testing.assert_array_equal(point.raw_states, rows_of(model, name, images))


class Sum(layers.Layer):
    def call(self, parts):
        return parts["a"] + parts["b"]


def test_a_sequential_model_of_several_tensors_is_captured_in_place():
    model = keras.Sequential([Sum(), layers.Dense(5, name="d")])
    rng = np.random.default_rng(0)
    x = {name: rng.normal(size=(20, 3)).astype("float32") for name in "ab"}
    expected = ts.compress_states(array(model(x)))
    captured = ts.build_efficiency_model(model, "d")
    assert captured is model
    compiled(captured).predict(x, verbose=0)
    np.testing.assert_array_equal(captured.efficiency_layers[0].raw_states, expected)
    ts.remove_state_layers(captured)
    assert "call" not in model.get_layer("d").__dict__
    with ts.capture(model, "d") as run:
        model(x)
    np.testing.assert_array_equal(run["d_states"].raw_states, expected)


def test_several_inputs_and_outputs_and_a_residual(images):
    one, other = keras.Input((8, 8, 2), name="one"), keras.Input((6,), name="other")
    y = layers.Conv2D(4, 3, padding="same", name="first")(one)
    z = layers.add([y, layers.Conv2D(4, 3, padding="same", name="second")(y)], name="sum")
    pooled = layers.GlobalAveragePooling2D()(z)
    joined = layers.concatenate([pooled, layers.Dense(3, name="side")(other)])
    model = keras.Model({"one": one, "other": other}, [layers.Dense(2, name="x")(joined), pooled])
    data = {"one": images, "other": np.random.default_rng(3).normal(size=(50, 6)).astype("float32")}
    efficiency_model = ts.build_efficiency_model(model, ["first", "second", "sum", "side", "x"])
    bare, found = model(data), efficiency_model(data)
    assert len(found) == 2
    for one, other in zip(bare, found, strict=True):
        np.testing.assert_array_equal(array(one), array(other))
    for point in efficiency_model.efficiency_layers:
        layer = point.name.removesuffix("_states")
        part = keras.Model(model.input, model.get_layer(layer).output)
        expected = ts.compress_states(array(part(data)))
        np.testing.assert_array_equal(point.raw_states, expected)


class OnlyKeywords(layers.Layer):
    def call(self, *, query, scale):
        return query * scale


@pytest.mark.parametrize("way", [ts.build_efficiency_model, ts.capture])
def test_layers_that_are_called_by_keywords(way):
    inputs = keras.Input((4,))
    model = keras.Model(inputs, OnlyKeywords(name="scaled")(query=inputs, scale=2.0))
    x = np.random.default_rng(0).normal(size=(10, 4)).astype("float32")
    if way is ts.capture:
        with ts.capture(model, "scaled", method="both") as run:
            model(x)
        points = run.efficiency_layers
    else:
        captured = way(model, "scaled", method="both")
        captured(x)
        points = captured.efficiency_layers
    for point in points:
        np.testing.assert_array_equal(point.raw_states, ts.compress_states(x))


@keras.saving.register_keras_serializable("tests")
class ThreeOutputs(layers.Layer):
    """Returns two outputs and, as the first by name, a loss."""

    def call(self, x):
        return {"wide": -x, "narrow": x[:, :3] - 1, "loss": keras.ops.sum(x)}


@pytest.mark.each_process
@pytest.mark.parametrize("way", ["build", "capture", "by hand", "loaded"])
def test_of_a_dict_the_first_output_by_name_that_has_axes_is_captured(way, tmp_path):
    x = np.random.default_rng(0).normal(size=(50, 4, 5)).astype("float32")
    inputs, outputs = keras.Input((4, 5)), ThreeOutputs(name="three")
    three = outputs(inputs)
    if way == "by hand":
        point = StateCapture("seen")
        keras.Model(inputs, point(three)["wide"]).predict(x, verbose=0)
    elif way == "capture":
        model = keras.Model(inputs, three["wide"])
        with ts.capture(model, "three") as run:
            model.predict(x, verbose=0)
        (point,) = run.efficiency_layers
    else:
        captured = ts.build_efficiency_model(keras.Model(inputs, three["wide"]), "three")
        if way == "loaded":
            captured.save(tmp_path / "model.keras")
            captured = keras.models.load_model(tmp_path / "model.keras")
        captured.predict(x, verbose=0)
        (point,) = captured.efficiency_layers
    np.testing.assert_array_equal(point.raw_states, ts.compress_states(x[:, :3] - 1))


def test_checks_when_attaching_are_those_of_the_output_that_is_captured():
    inputs = keras.Input((4, 5))
    model = keras.Model(inputs, ThreeOutputs(name="three")(inputs)["wide"])
    captured = ts.build_efficiency_model(model, "three", neuron_axis=1, threshold=[0.0] * 3)
    captured(np.ones((2, 4, 5), "float32"))
    assert captured.efficiency_layers[0].neurons == 3
    with pytest.raises(ValueError, match=r"one per neuron \(3\)"):
        ts.build_efficiency_model(model, "three", neuron_axis=1, threshold=[0.0] * 4)


def nested():
    inner_inputs = keras.Input((6, 6, 4))
    inner = keras.Model(inner_inputs, layers.Conv2D(3, 3, name="deep")(inner_inputs), name="inner")
    stack = keras.Sequential([keras.Input((48,)), layers.Dense(7, name="deep")], name="stack")
    inputs = keras.Input((8, 8, 2))
    y = inner(layers.Conv2D(4, 3, name="conv")(inputs))
    return keras.Model(inputs, stack(layers.Flatten()(y))), inner


def test_nested_models(images):
    model, inner = nested()
    efficiency_model = compiled(ts.build_efficiency_model(model, ["*/deep", "inner"]))
    assert names(efficiency_model) == ["inner_states", "inner/deep_states", "stack/deep_states"]
    efficiency_model.predict(images, verbose=0)
    part = keras.Model(model.inputs, model.get_layer("conv").output)
    given = array(part(images))
    expected = ts.compress_states(array(inner(given)))
    for point in efficiency_model.efficiency_layers[:2]:
        np.testing.assert_array_equal(point.raw_states, expected)
    np.testing.assert_array_equal(
        efficiency_model.efficiency_layers[2].raw_states, rows_of(model, "stack", images)
    )
    assert [layer.name for layer in inner.layers][1:] == ["deep"]
    np.testing.assert_array_equal(array(model(images)), array(efficiency_model(images)))


def test_masks_keyword_arguments_and_layers_with_several_outputs():
    words = keras.Input((9,), dtype="int32")
    y = layers.Embedding(20, 8, mask_zero=True, name="words")(words)
    attended = layers.MultiHeadAttention(2, 4, name="attention")(y, value=y, use_causal_mask=True)
    _, hidden, _ = layers.LSTM(6, return_state=True, name="lstm")(attended)
    model = keras.Model(words, layers.Dense(2, name="out")(hidden))
    x = np.random.default_rng(0).integers(0, 20, (30, 9)).astype("int32")
    efficiency_model = ts.build_efficiency_model(
        model, ["words", "attention", "lstm", "out"], method="after"
    )
    np.testing.assert_allclose(array(efficiency_model(x)), array(model(x)), rtol=1e-6, atol=1e-7)
    found = {point.name: point for point in efficiency_model.efficiency_layers}
    assert found["words_states"].state_count == found["attention_states"].state_count == 30 * 9
    assert found["lstm_states"].neurons == 6
    np.testing.assert_array_equal(
        found["words_states"].raw_states, ts.compress_states(output_of(model, "words", x))
    )


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.conv = layers.Conv2D(4, 3, name="conv")
        self.blocks = [layers.Dense(5, name="first"), layers.Dense(6, name="second")]
        self.flat = layers.Flatten()

    def call(self, x, training=False):
        y = self.flat(self.conv(x))
        for block in self.blocks:
            y = block(y)
        return y


@pytest.mark.parametrize("way", ["build", "capture"])
def test_subclassed_models_are_captured_in_place(images, targets, way):
    model = Subclassed()
    model(images[:1])
    compiled(model)
    bare = model.predict(images, batch_size=16, verbose=0)  # traced before we come
    if way == "build":
        assert ts.build_efficiency_model(model, ["Conv2D", "Dense"], method="both") is model
        points = model.efficiency_layers
        np.testing.assert_allclose(model.predict(images, batch_size=16, verbose=0), bare, rtol=1e-5)
        assert ts.remove_state_layers(model) is model
    else:
        with ts.capture(model, ["Conv2D", "Dense"], method="both") as run:
            model.predict(images, batch_size=16, verbose=0)
        points = run.efficiency_layers
    counts = {point.name: point.state_count for point in points}
    assert counts == {
        "conv_pre_states": 50 * 64,
        "conv_states": 50 * 36,
        "first_pre_states": 50,
        "first_states": 50,
        "second_pre_states": 50,
        "second_states": 50,
    }
    expected = ts.compress_states(array(bare))
    assert points[-1].histogram() == ts.count_states(expected, 6)
    model.predict(images, batch_size=16, verbose=0)
    model(images)
    assert {point.name: point.state_count for point in points} == counts
    assert "call" not in model.conv.__dict__


def test_capture_leaves_functional_models_as_they_were(images):
    model = compiled(convolutional())
    with ts.capture(model, "conv") as run:
        model.predict(images, verbose=0)
    with pytest.raises(ZeroDivisionError), ts.capture(model, "conv"):
        raise ZeroDivisionError
    model.predict(images, verbose=0)
    assert run["conv_states"].state_count == 50 * 36
    assert not hasattr(model, "efficiency_layers")
    assert "call" not in model.get_layer("conv").__dict__


# ---- placed by hand ----------------------------------------------------------------------------


def test_a_layer_placed_by_hand(images):
    inputs = keras.Input((8, 8, 2))
    capture = StateCapture("seen", keep="counts", threshold=0.1)
    y = capture(layers.Conv2D(4, 3)(inputs))
    model = compiled(keras.Model(inputs, layers.Flatten()(y)))
    model.predict(images, verbose=0)
    assert capture.state_count == 50 * 36
    assert capture.max_entropy() == 4
    assert 0 < capture.efficiency() <= 1
    assert capture.counts().sum() == 50 * 36
    assert not capture.weights
    capture.reset_states()
    assert capture.state_count == 0
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        capture.nothing  # noqa: B018


@pytest.mark.each_process
def test_own_firing_functions(images):
    model = convolutional()
    bare = model.predict(images, verbose=0)
    options = {"firing": lambda x: abs(x) > 0.5}
    if BACKEND == "jax":
        with pytest.raises(TypeError, match="firing= is not for JAX transformations"):
            ts.build_efficiency_model(model, "conv", **options)
        np.testing.assert_array_equal(model.predict(images, verbose=0), bare)  # it has its weights
        compiled(model, run_eagerly=True)
    efficiency_model = ts.build_efficiency_model(model, "conv", **options)
    efficiency_model.predict(images, verbose=0)
    expected = ts.compress_states(output_of(model, "conv", images), firing=lambda x: abs(x) > 0.5)
    np.testing.assert_array_equal(efficiency_model.efficiency_layers[0].raw_states, expected)
