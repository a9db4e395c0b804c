"""What was found by trying to break it."""

import contextlib
import gc
import weakref

import keras
import numpy as np
import pytest
from keras import layers

import tensorstate_gpu as ts
from tensorstate_gpu._capturing.intake import Intake
from tests.bridges.keras3.cases.models import BACKEND
from tests.support.samples import thinned

X = np.random.default_rng(0).normal(size=(20, 4)).astype("float32")
Y = np.random.default_rng(1).normal(size=(20, 3)).astype("float32")


def plain():
    inputs = keras.Input((4,))
    hidden = layers.Dense(8, name="h")(inputs)
    return keras.Model(inputs, layers.Dense(3, name="d")(hidden))


def array(tensor):
    return keras.ops.convert_to_numpy(tensor)


class Doubled(keras.Model):
    steps = 0

    def train_step(self, *args, **kwargs):
        type(self).steps += 1
        return super().train_step(*args, **kwargs)

    def call(self, x, training=None, mask=None):
        return 2 * super().call(x)


def test_functional_models_with_a_call_of_their_own_are_captured_in_place():
    inputs = keras.Input((4,))
    model = Doubled(inputs, layers.Dense(3, name="d")(inputs))
    bare = array(model(X))
    captured = ts.build_efficiency_model(model, "d")
    assert captured is model
    np.testing.assert_array_equal(array(captured(X)), bare)
    assert captured.efficiency_layers[0].state_count == 20
    model.compile("sgd", "mse")
    model.fit(X, Y, verbose=0)
    assert Doubled.steps


def test_training_goes_on_with_the_same_optimizer():
    model = plain()
    model.compile(keras.optimizers.Adam(0.1), "mse")
    model.fit(X, Y, epochs=3, verbose=0)
    captured = ts.build_efficiency_model(model, "d")
    captured.fit(X, Y, epochs=2, verbose=0)
    assert captured.optimizer is model.optimizer
    assert int(model.optimizer.iterations) == 5


class OwnMetric(keras.metrics.MeanSquaredError):
    pass


@pytest.mark.parametrize("loss", [lambda y, z: keras.ops.mean((y - z) ** 2)])
def test_losses_and_metrics_that_cannot_be_written_down(loss):
    model = plain()
    model.compile("sgd", loss, metrics=[OwnMetric()])
    captured = ts.build_efficiency_model(model, "d")
    captured.fit(X, Y, verbose=0)
    assert captured.efficiency_layers[0].state_count == 20


def test_outputs_keep_their_names():
    inputs = keras.Input((4,))
    model = keras.Model(
        inputs, [layers.Dense(3, name="a")(inputs), layers.Dense(3, name="b")(inputs)]
    )
    model.compile("sgd", loss={"a": "mse", "b": "mae"})
    captured = ts.build_efficiency_model(model, "*")
    history = captured.fit(X, {"a": Y, "b": Y}, verbose=0).history
    assert {"a_loss", "b_loss"} <= set(history)


def test_sequences_keep_their_features_last():
    keras.config.set_image_data_format("channels_first")
    try:
        inputs = keras.Input((5, 4))
        y = layers.Bidirectional(layers.LSTM(7, return_sequences=True), name="bi")(inputs)
        y = layers.TimeDistributed(layers.Dense(3), name="td")(y)
        y = layers.LayerNormalization(name="ln")(y)
        model = keras.Model(inputs, layers.MultiHeadAttention(2, 4, name="mha")(y, y))
        captured = ts.build_efficiency_model(model, ["bi", "td", "ln", "mha"])
        captured(np.ones((6, 5, 4), "float32"))
        assert [point.neurons for point in captured.efficiency_layers] == [14, 3, 3, 3]

        planes = keras.Input((2, 5, 4))  # as many axes as images have
        y = layers.LayerNormalization(name="norm")(layers.Dense(3, name="dense")(planes))
        captured = ts.build_efficiency_model(keras.Model(planes, y), ["dense", "norm"])
        captured(np.ones((6, 2, 5, 4), "float32"))
        assert [point.neurons for point in captured.efficiency_layers] == [3, 3]
    finally:
        keras.config.set_image_data_format("channels_last")


def test_what_others_traced_brings_nothing_after_the_end():
    inner = keras.Sequential([keras.Input((4,)), layers.Dense(5, name="deep")], name="inner")
    inputs = keras.Input((4,))
    model = keras.Model(inputs, layers.Dense(3)(inner(inputs)))
    with ts.capture(inner, "deep") as run:
        model.predict(X, verbose=0)
    model.predict(X, verbose=0)
    assert run["deep_states"].state_count == 20


@pytest.mark.each_process
@pytest.mark.parametrize("method", thinned(["predict", "fit", "evaluate"], ["fit"]))
def test_an_outer_model_that_was_traced_is_traced_again(method):
    inner = keras.Sequential([keras.Input((4,)), layers.Dense(5, name="deep")], name="inner")
    inputs = keras.Input((4,))
    model = keras.Model(inputs, layers.Dense(3)(inner(inputs)))
    model.compile("sgd", "mse")
    arguments = {"predict": (X,)}.get(method, (X, Y))
    run_once = lambda: getattr(model, method)(*arguments, batch_size=8, verbose=0)  # noqa: E731
    run_once()
    for _ in range(2):
        with ts.capture(inner, "deep") as run:
            run_once()
        run_once()
        assert run["deep_states"].state_count == 20
    with ts.capture(model, "inner/deep") as run:
        run_once()
    assert run["inner/deep_states"].state_count == 20


@pytest.mark.skipif(BACKEND == "torch", reason="traces nothing")
def test_functions_that_a_program_has_traced_itself_bring_nothing():
    layer = layers.Dense(5, name="deep")
    model = keras.Sequential([keras.Input((4,)), layer], name="inner")
    if BACKEND == "jax":
        import jax

        traced = jax.jit(model)
    else:
        import tensorflow as tf

        traced = tf.function(model)
    traced(X)
    with ts.capture(model, "deep") as run:
        traced(X)
    with pytest.raises(ValueError, match="traced before captures nothing"):
        run["deep_states"].efficiency()


def test_removal_reaches_nested_models():
    inputs = keras.Input((4,))
    inner = keras.Sequential([keras.Input((4,)), layers.Dense(5, name="deep")], name="inner")
    model = keras.Model(inputs, layers.Dense(3, name="d")(inner(inputs)))
    captured = ts.build_efficiency_model(model, ["d", "*/deep"])
    points = list(captured.efficiency_layers)
    bare = ts.remove_state_layers(captured)
    bare(X)
    assert [point.state_count for point in points] == [0, 0]
    assert [layer.name for layer in bare.get_layer("inner").layers][1:] == ["deep"]


def test_captures_that_end_in_another_order():
    model = plain()
    one, other = ts.capture(model, "d"), ts.capture(model, "d")
    first, _ = one.__enter__(), other.__enter__()
    one.__exit__(None, None, None)
    other.__exit__(None, None, None)
    model(X)
    assert first["d_states"].state_count == 0


class TwoOfOneName(keras.Model):
    def __init__(self):
        super().__init__()
        self.blocks = [layers.Dense(4, name="fc"), layers.Dense(3, name="fc")]

    def call(self, x):
        return self.blocks[1](self.blocks[0](x))


def test_layers_of_one_name():
    model = TwoOfOneName()
    model(X)
    for attach in (ts.build_efficiency_model, lambda *a: ts.capture(*a).__enter__()):
        with pytest.raises(ValueError, match="two of the chosen layers are called 'fc'"):
            attach(model, "fc")
    assert not any("call" in layer.__dict__ for layer in model.blocks)


def test_measuring_at_the_end_of_each_epoch():
    found = []

    class Measure(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            with ts.capture(self.model, "d") as run:
                self.model.predict(X, verbose=0)
            found.append(run["d_states"].state_count)

    model = plain()
    model.compile("sgd", "mse")
    model.fit(X, Y, epochs=3, verbose=0, callbacks=[Measure()])
    assert found == [20, 20, 20]


def test_after_a_capture_models_run_without_it(monkeypatch):
    model = plain()
    with ts.capture(model, "d"):
        model.predict(X, verbose=0)
    recorded = []
    monkeypatch.setattr(Intake, "record", lambda *_: recorded.append(_))
    model.predict(X, verbose=0)
    assert not recorded


@pytest.mark.skipif(BACKEND != "torch", reason="torch.compile")
def test_torch_compile_is_refused():
    with pytest.raises(ValueError, match=r"torch.compile, cannot compile a model with capture"):
        ts.build_efficiency_model(plain(), "d").compile("sgd", "mse", jit_compile=True)


@pytest.mark.skipif(BACKEND != "torch", reason="a device of torch")
def test_devices_without_a_backend(monkeypatch):
    monkeypatch.setattr(
        "tensorstate_gpu.bridges.pytorch.other_devices.has_backend", lambda tensor: False
    )
    monkeypatch.setattr("tensorstate_gpu.bridges.keras3.backends.pack", None)
    model = plain()
    with ts.capture(model, "d") as run:
        output = model.predict(X, verbose=0)
    np.testing.assert_array_equal(run["d_states"].raw_states, ts.compress_states(output))


class Small(keras.Model):
    def __init__(self):
        super().__init__()
        self.d = layers.Dense(3, name="d")

    def call(self, x):
        return self.d(x)


def test_captured_models_can_go():
    model = Small()
    model(X)
    ts.build_efficiency_model(model, "d")
    gone = weakref.ref(model)
    del model
    keras.backend.clear_session()
    gc.collect()
    assert gone() is None


def test_empty_batches():
    captured = ts.build_efficiency_model(plain(), "d")
    captured.compile("sgd", "mse")
    captured.predict_on_batch(X[:0])
    captured.predict_on_batch(X)
    point = captured.efficiency_layers[0]
    assert (point.state_count, point.instance_count) == (20, 20)


# What feeds a capture point, and how it was made: the layer has these of its own, or not at all.
OF_THE_POINT_ONLY = {
    *(
        "answer_to",
        "append",
        "begin_notes",
        "block_notes",
        "declare",
        "axis_of",
        "disk_path",
        "firing",
        "intake",
        "is_optional",
        "keep",
        "takes_batch",
        "discard_broken_pass",
    ),
    *("labels", "neuron_axis"),
    *("new_point_listeners", "note", "note_next_pass", "options", "record", "threshold"),
    *(
        "has_slices",
        "may_be_slice",
        "read_at_once",
        "spread_as",
        "use_spread",
    ),  # of parallel layers
    *("static_labels", "takes_stage_rows"),  # of stages, which only PyTorch has
}


def test_a_layer_offers_all_that_can_be_read_of_its_capture_point():
    public = {name for name in dir(ts.CapturePoint) if not name.startswith("_")}
    layer = ts.StateCapture("seen")
    for name in public - OF_THE_POINT_ONLY:
        with contextlib.suppress(ts.errors.NothingCaptured):  # that it is asked is enough
            getattr(layer, name)
