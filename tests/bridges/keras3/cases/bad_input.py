"""What cannot be captured is refused when attaching or compiling, not in the middle of training."""

from types import SimpleNamespace

import keras
import numpy as np
import pytest
from keras import layers
from keras.src.trainers.trainer import model_supports_jit

import tensorstate_gpu as ts
from tensorstate_gpu.bridges.keras3.layers import StateCapture
from tests.bridges.keras3.cases.models import BACKEND, convolutional


def test_models_that_are_not_built():
    sequential = keras.Sequential([layers.Dense(3)])
    with pytest.raises(ValueError, match="model is not built: call it once"):
        ts.build_efficiency_model(sequential, "Dense")

    class Empty(keras.Model):
        pass

    with pytest.raises(ValueError, match="has no layers yet: call it once"):
        ts.build_efficiency_model(Empty(), "Dense")


def test_unknown_layers_are_named_with_those_there_are():
    with pytest.raises(ValueError, match=r"conv_1.*conv"):
        ts.build_efficiency_model(convolutional(), "conv_1")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "during"}, "method must be one of"),
        ({"keep": "all"}, "keep must be one of"),
        ({"threshold": float("nan")}, "threshold must not be NaN"),
        ({"threshold": 1.0, "firing": lambda x: x > 0}, "threshold or firing, not both"),
    ],
)
def test_options(options, message):
    model = convolutional()
    for attach in (ts.build_efficiency_model, in_place):
        with pytest.raises((TypeError, ValueError), match=message):
            attach(model, "conv", **options)
    assert "call" not in model.get_layer("conv").__dict__


def mean(x):
    return keras.ops.mean(x, axis=-1)


def flat(shape):
    return shape[:-1]


class Subclassed(keras.Model):
    """With layers of the shapes of convolutional(), and one that leaves no axis of neurons."""

    def __init__(self):
        super().__init__()
        self.conv = layers.Conv2D(5, 3, name="conv")
        self.flat = layers.Flatten()
        self.dense = layers.Dense(3, name="dense")
        self.mean = layers.Lambda(mean, flat, name="mean")

    def call(self, x):
        return self.mean(self.dense(self.flat(self.conv(x))))


def functional():
    model = convolutional()
    return keras.Model(model.input, layers.Lambda(mean, flat, name="mean")(model.output))


def subclassed():
    model = Subclassed()
    model(np.ones((4, 8, 8, 2), "float32"))
    return model


IMPOSSIBLE = {
    "thresholds": (
        *("conv", "after", {"threshold": [0.1, 0.2, 0.3]}),
        r"conv_states: threshold must be one number or one per neuron \(5\), got 3",
    ),
    "thresholds before": (
        *("conv", "both", {"threshold": [0.1] * 5}),
        r"conv_pre_states: threshold must be one number or one per neuron \(2\), got 5",
    ),
    "no neurons": (
        *("mean", "after", {}),
        r"mean_states: states need an axis of instances and one of neurons, got shape \(None,\)",
    ),
    "no such axis": (
        *("dense", "after", {"neuron_axis": 2}),
        r"dense_states: neuron_axis must be in \[-2, 2\), got 2",
    ),
}


@pytest.mark.parametrize("what", IMPOSSIBLE)
@pytest.mark.parametrize("make", [functional, subclassed])
def test_what_the_shapes_forbid_is_refused_when_attaching(make, what, tmp_path):
    name, method, options, message = IMPOSSIBLE[what]
    model = make()
    for attach in (ts.build_efficiency_model, in_place):
        options |= {"method": method, "storage_path": tmp_path / "run"}
        with pytest.raises((TypeError, ValueError), match=message):
            attach(model, name, **options)
    assert not any("call" in layer.__dict__ for layer in model.layers)
    ts.build_efficiency_model(model, "dense", storage_path=tmp_path / "run")


def test_what_the_shapes_forbid_is_refused_by_a_layer_placed_by_hand():
    inputs = keras.Input((3,))
    with pytest.raises(ValueError, match=r"seen: threshold must be .* per neuron \(3\), got 2"):
        StateCapture("seen", threshold=[0.1, 0.2])(inputs)
    with pytest.raises(TypeError, match="seen: states need an axis"):
        StateCapture("seen")(mean(inputs))
    with pytest.raises(TypeError, match=r"sparse tensor.* cannot be captured"):
        StateCapture("seen").compute_output_spec(keras.KerasTensor((None, 3), sparse=True))


def test_shapes_that_fit_or_are_not_known_are_accepted(images):
    for model in (functional(), subclassed()):
        captured = ts.build_efficiency_model(model, ["conv", "dense"])
        captured(images)
        assert captured.efficiency_layers[1].neurons == 3
    twice = layers.ReLU(name="twice")
    for size in (3, 5, 4):  # only the last one's model is captured
        inputs = keras.Input((size,))
        model = keras.Model(inputs, twice(inputs))
    with ts.capture(model, "twice", threshold=[0.0] * 4) as run:
        model(np.ones((3, 4), "float32"))
    assert run["twice_states"].state_count == 3


def test_strings_that_go_into_a_layer():
    words = keras.Input((1,), dtype="string")
    numbers = layers.StringLookup(vocabulary=["a", "b"], name="lookup")(words)
    model = keras.Model(words, layers.Embedding(3, 4)(numbers))
    for attach in (ts.build_efficiency_model, in_place):
        with pytest.raises(TypeError, match="lookup_pre_states: tensor of string; accepted are"):
            attach(model, "lookup", method="before")


def in_place(model, *arguments, **options):
    with ts.capture(model, *arguments, **options):
        pass


def test_a_path_that_is_taken_leaves_nothing_behind(tmp_path):
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "file").touch()
    with pytest.raises(ValueError, match="taken"):
        ts.build_efficiency_model(convolutional(), "conv", storage_path=tmp_path / "taken")


def test_layers_inside_layers_that_cannot_be_taken_apart(images):
    inputs = keras.Input((5, 4))
    model = keras.Model(inputs, layers.TimeDistributed(layers.Dense(3, name="inner"))(inputs))
    with pytest.raises(ValueError, match=r"inner.*cannot be taken apart; use capture\(\)"):
        ts.build_efficiency_model(model, "*/inner")
    x = np.ones((2, 5, 4), "float32")
    with ts.capture(model, "*/inner") as run:
        model(x)
    assert run.efficiency_layers[0].state_count == 10


@pytest.mark.skipif(BACKEND != "jax", reason="devices of JAX")
def test_a_model_that_is_distributed_keeps_its_weights(images):
    devices = keras.distribution.list_devices()
    keras.distribution.set_distribution(keras.distribution.DataParallel(devices=devices))
    try:
        model = convolutional()
        bare = model.predict(images, verbose=0)
        for attach in (ts.build_efficiency_model, in_place):
            with pytest.raises(ts.errors.NotCapturable, match="over several devices"):
                attach(model, "conv")
        np.testing.assert_array_equal(model.predict(images, verbose=0), bare)
    finally:
        keras.distribution.set_distribution(None)


@pytest.mark.skipif(BACKEND != "tensorflow", reason="others compile a captured model")
class TestXla:
    def test_explicit_compilation_is_refused(self):
        model = ts.build_efficiency_model(convolutional(), "conv")
        with pytest.raises(ValueError, match=r"XLA on TensorFlow, and torch.compile, cannot"):
            model.compile("sgd", "mse", jit_compile=True)

    def test_so_it_is_for_layers_placed_by_hand(self):
        model = keras.Sequential([keras.Input((3,)), layers.Dense(2), StateCapture("seen")])
        with pytest.raises(ValueError, match="XLA on TensorFlow"):
            model.compile("sgd", "mse", jit_compile=True)

    def test_a_model_that_was_compiled_before_goes_without_meanwhile(self, images):
        model = convolutional()
        model.compile("sgd", "mse", jit_compile=True)  # on GPUs Keras makes this of "auto"
        bare = model.predict(images, verbose=0)
        one, other = ts.capture(model, "conv"), ts.capture(model, "dense")
        first, second = one.__enter__(), other.__enter__()
        assert not model.jit_compile
        np.testing.assert_allclose(model.predict(images, verbose=0), bare, atol=1e-5)
        one.__exit__(None, None, None)
        model.predict(images, verbose=0)
        other.__exit__(None, None, None)
        assert model.jit_compile
        np.testing.assert_array_equal(model.predict(images, verbose=0), bare)
        assert first["conv_states"].instance_count == 50
        assert second["dense_states"].instance_count == 100

    def test_so_does_a_copy_of_it(self, images):
        model = convolutional()
        model.compile("sgd", "mse", jit_compile=True)
        captured = ts.build_efficiency_model(model, "conv")
        assert not captured.jit_compile
        captured.predict(images, verbose=0)
        assert captured.efficiency_layers[0].instance_count == 50
        assert model.jit_compile

    def test_a_model_that_is_not_compiled_chooses_for_itself_afterwards(self, images, monkeypatch):
        model = convolutional()
        monkeypatch.setattr(type(model), "_resolve_auto_jit_compile", model_supports_jit)
        with ts.capture(model, "conv"):
            model.predict(images, verbose=0)
            assert not model.jit_compile
        assert model.jit_compile

    def test_by_itself_it_goes_without(self):
        model = ts.build_efficiency_model(convolutional(), "conv")
        model.compile("sgd", "mse", jit_compile="auto")
        assert not model.jit_compile

    def test_functions_of_ones_own(self, images):
        import tensorflow as tf

        model = ts.build_efficiency_model(convolutional(), "conv")
        with pytest.raises(ValueError, match="XLA on TensorFlow"):
            tf.function(model, jit_compile=True)(tf.constant(images))

    def test_replicas(self, monkeypatch):
        import tensorflow as tf

        strategy = SimpleNamespace(num_replicas_in_sync=2)  # there is one device here
        monkeypatch.setattr(tf.distribute, "get_strategy", lambda: strategy)
        with pytest.raises(ValueError, match=r"replicas of a tf.distribute strategy cannot be"):
            StateCapture("seen").call(tf.ones((2, 3)))

    def test_ragged_and_string_tensors(self):
        import tensorflow as tf

        capture = StateCapture("seen")
        for tensor, message in (
            (tf.ragged.constant([[1.0], [2.0, 3.0]]), "RaggedTensor cannot be captured"),
            (tf.constant([["a"], ["b"]]), "tensor of string; accepted are"),
            (tf.sparse.from_dense([[1.0, 0.0]]), "SparseTensor cannot be captured"),
        ):
            with pytest.raises(TypeError, match=message):
                capture.call(tensor)

    def test_tensors_of_unknown_axes(self):
        import tensorflow as tf

        seen = tf.function(StateCapture("seen").call, autograph=False)
        with pytest.raises(TypeError, match="seen: the graph does not know how many axes"):
            seen.get_concrete_function(tf.TensorSpec(None, tf.float32))


def test_tensors_without_neurons():
    with pytest.raises(TypeError, match="an axis of instances and one of neurons"):
        StateCapture("seen")(np.ones(3, "float32"))


def test_firing_functions_cannot_be_saved():
    with pytest.raises(ValueError, match="firing= is a function, which cannot be saved"):
        StateCapture("seen", firing=lambda x: x > 1).get_config()
