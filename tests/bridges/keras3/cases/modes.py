"""Every way in which a captured model can be run."""

import copy
import pickle

import keras
import numpy as np
import pytest
from keras import layers

import tensorstate_gpu as ts
from tensorstate_gpu.bridges.keras3.layers import StateCapture
from tests.bridges.keras3.cases.models import BACKEND, compiled, convolutional, outputs_of, rows_of
from tests.support.samples import thinned

LAYERS = ["conv", "norm", "dense"]


def captured(model, **options):
    return ts.build_efficiency_model(model, LAYERS, **options)


def points(model):
    return {point.name.removesuffix("_states"): point for point in model.efficiency_layers}


def assert_rows(model, captured_model, x, times=1):
    outputs = outputs_of(model, LAYERS, x)
    for name, point in points(captured_model).items():
        rows = np.concatenate(times * [ts.compress_states(outputs[name])])
        np.testing.assert_array_equal(point.raw_states, rows)
        assert point.instance_count == times * len(x)


@pytest.mark.each_process
def test_predict_with_a_last_partial_batch(images):
    model = compiled(convolutional())
    efficiency_model = captured(model)
    for times in (1, 2):
        efficiency_model.predict(images, batch_size=16, verbose=0)
        assert points(efficiency_model)["dense"].instance_count == 50 * times
    assert_rows(model, efficiency_model, images, times)


@pytest.mark.each_process
def test_called_by_hand(images):
    model = convolutional()
    efficiency_model = captured(model)
    efficiency_model(images)
    assert_rows(model, efficiency_model, images)


def test_evaluate(images, targets):
    model = compiled(convolutional())
    efficiency_model = captured(model)
    bare = model.evaluate(images, targets, batch_size=16, verbose=0)
    assert efficiency_model.evaluate(images, targets, batch_size=16, verbose=0) == bare
    assert_rows(model, efficiency_model, images)


@pytest.mark.skipif(BACKEND == "torch", reason="Keras does not offer it there")
@pytest.mark.parametrize("method", thinned(["predict", "evaluate"], ["evaluate"]))
def test_several_steps_per_execution(images, targets, method):
    model = compiled(convolutional())
    efficiency_model = compiled(captured(model), steps_per_execution=3)
    data = (images,) if method == "predict" else (images, targets)
    getattr(efficiency_model, method)(*data, batch_size=8, verbose=0)
    assert_rows(model, efficiency_model, images)


@pytest.mark.each_process
def test_eager_mode(images):
    model = convolutional()
    efficiency_model = compiled(captured(model), run_eagerly=True)
    efficiency_model.predict(images, batch_size=16, verbose=0)
    assert_rows(model, efficiency_model, images)


def trained(make_captured, images, targets):
    keras.utils.set_random_seed(7)
    model = compiled(convolutional())
    model = captured(model) if make_captured else model
    history = model.fit(images, targets, batch_size=16, epochs=3, shuffle=False, verbose=0)
    return model, history.history["loss"], model.get_weights()


@pytest.mark.each_process
def test_fit_trains_as_the_bare_model_does(images, targets):
    _, bare_losses, bare = trained(False, images, targets)
    model, losses, weights = trained(True, images, targets)
    # JAX fuses differently around a callback; op by op there is no difference.
    same = np.testing.assert_allclose if BACKEND == "jax" else np.testing.assert_array_equal
    exact = {"rtol": 2e-5, "atol": 2e-6} if BACKEND == "jax" else {}
    same(losses, bare_losses, **exact)
    for one, other in zip(weights, bare, strict=True):
        same(one, other, **exact)
    for name, point in points(model).items():
        assert point.state_count == 3 * 50 * (36 if name != "dense" else 1)


def test_train_on_batch(images, targets):
    model = captured(compiled(convolutional()))
    for _ in range(3):
        model.train_on_batch(images[:10], targets[:10])
    model.test_on_batch(images[:10], targets[:10])
    model.predict_on_batch(images[:10])
    assert points(model)["dense"].state_count == 50


@pytest.mark.each_process
def test_outputs_are_those_of_the_bare_model(images):
    model = compiled(convolutional())
    bare = model.predict(images, batch_size=16, verbose=0)
    found = captured(model, method="both").predict(images, batch_size=16, verbose=0)
    if BACKEND == "jax":
        np.testing.assert_allclose(found, bare, rtol=2e-5, atol=2e-6)
    else:
        np.testing.assert_array_equal(found, bare)


@pytest.mark.skipif(BACKEND == "torch", reason="Keras runs torch models op by op")
@pytest.mark.parametrize("method", thinned(["predict", "fit"], ["fit"]))
def test_calls_are_traced_and_not_run_for_each_batch(images, targets, method, monkeypatch):
    calls = []
    call = StateCapture.call
    monkeypatch.setattr(
        StateCapture, "call", lambda self, x: calls.append(self.name) or call(self, x)
    )
    model = captured(compiled(convolutional()))
    data = (images,) if method == "predict" else (images, targets)
    getattr(model, method)(*data, batch_size=5, verbose=0)
    assert points(model)["dense"].state_count == 50
    assert 3 <= len(calls) <= 3 * 3  # three layers; some tracing twice


@pytest.mark.skipif(BACKEND != "jax", reason="only JAX compiles by itself")
def test_the_model_stays_jitted_and_only_packed_rows_leave_it(images, monkeypatch):
    model = captured(compiled(convolutional()))
    assert model.jit_compile
    seen = []
    for point in model.efficiency_layers:
        record = point.intake.record
        monkeypatch.setattr(
            point.intake,
            "record",
            lambda rows, *rest, r=record: seen.append(rows) or r(rows, *rest),
        )
    model.predict(images, batch_size=25, verbose=0)
    assert {rows.dtype.name for rows in seen} == {"uint8"}
    assert {rows.shape for rows in seen} == {(25 * 36, 1), (25, 1)}


@pytest.mark.parametrize(
    "policy", ["mixed_bfloat16", pytest.param("mixed_float16", marks=pytest.mark.each_process)]
)
def test_mixed_precision(images, policy):
    keras.config.set_dtype_policy(policy)
    model = compiled(convolutional())
    efficiency_model = captured(model)
    efficiency_model.predict(images, batch_size=16, verbose=0)
    outputs = outputs_of(model, LAYERS, images)
    for name, point in points(efficiency_model).items():
        numbers = outputs[name].astype("float32")
        np.testing.assert_array_equal(point.raw_states, ts.compress_states(numbers))


@pytest.mark.parametrize("keep", ["states", "counts"])
def test_what_is_kept(images, keep):
    model = convolutional()
    efficiency_model = compiled(captured(model, keep=keep, threshold=0.25))
    efficiency_model.predict(images, batch_size=16, verbose=0)
    outputs = outputs_of(model, LAYERS, images)
    for name, point in points(efficiency_model).items():
        rows = ts.compress_states(outputs[name], threshold=0.25)
        assert point.histogram() == ts.count_states(rows, point.neurons)
    ts.reset_efficiency_model(efficiency_model)
    assert points(efficiency_model)["conv"].state_count == 0
    efficiency_model.predict(images, verbose=0)
    assert points(efficiency_model)["conv"].state_count == 50 * 36


def test_rows_on_disk(images, tmp_path):
    model = convolutional()
    efficiency_model = captured(model, storage_path=tmp_path / "run.zarr")
    compiled(efficiency_model).predict(images, batch_size=16, verbose=0)
    for point in efficiency_model.efficiency_layers:
        point.flush()
    assert_rows(model, efficiency_model, images)
    assert (tmp_path / "run.zarr" / "conv_states" / "zarr.json").exists()


def test_data_of_other_kinds(images):
    model = convolutional()
    efficiency_model = compiled(captured(model))
    batches = [images[:20], images[20:]]

    class Batches(keras.utils.PyDataset):
        def __len__(self):
            return 2

        def __getitem__(self, index):
            return batches[index]

    efficiency_model.predict(Batches(), verbose=0)
    assert_rows(model, efficiency_model, images)


@pytest.mark.each_process
def test_a_loop_of_ones_own(images, targets):
    """Under tf.function, under jax.jit, and by autograd."""
    model = convolutional()
    efficiency_model = captured(model)
    expected = [rows_of(model, "conv", images[:20])]
    step = {"tensorflow": tensorflow_step, "jax": jax_step, "torch": torch_step}[BACKEND]
    step(efficiency_model, images[:20], targets[:20])
    np.testing.assert_array_equal(points(efficiency_model)["conv"].raw_states, expected[0])
    step(efficiency_model, images[:20], targets[:20])
    assert points(efficiency_model)["conv"].state_count == 2 * 20 * 36


def tensorflow_step(model, x, y):
    import tensorflow as tf

    @tf.function
    def step(x, y):
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean((model(x, training=True) - y) ** 2)
        return tape.gradient(loss, model.trainable_variables)

    assert all(g is not None for g in step(tf.constant(x), tf.constant(y)))


def jax_step(model, x, y):
    import jax

    @jax.jit
    def step(trainable, others, x, y):
        def loss(trainable):
            found, _ = model.stateless_call(trainable, others, x, training=True)
            return ((found - y) ** 2).mean()

        return jax.grad(loss)(trainable)

    values = (
        [v.value for v in group]
        for group in (model.trainable_variables, model.non_trainable_variables)
    )
    jax.block_until_ready(step(*values, x, y))


def torch_step(model, x, y):
    import torch

    loss = ((model(torch.from_numpy(x), training=True) - torch.from_numpy(y)) ** 2).mean()
    loss.backward()


def test_copies_of_points_have_what_was_captured(images):
    model = captured(compiled(convolutional()))
    model.predict(images, verbose=0)
    with ts.capture(model, LAYERS) as run:
        model.predict(images, verbose=0)
    for point in (*model.efficiency_layers, *run.efficiency_layers):
        for twin in (copy.deepcopy(point), pickle.loads(pickle.dumps(point))):
            assert twin.state_count == point.state_count > 0
            assert twin.histogram() == point.histogram()


@pytest.mark.skipif(BACKEND == "tensorflow", reason="its CPU kernels know channels_last only")
def test_channels_first():
    inputs = keras.Input((2, 8, 8))
    y = layers.Conv2D(5, 3, name="conv", data_format="channels_first")(inputs)
    model = keras.Model(inputs, layers.BatchNormalization(axis=1, name="norm")(y))
    efficiency_model = compiled(ts.build_efficiency_model(model, ["conv", "norm"]))
    x = np.random.default_rng(0).normal(size=(20, 2, 8, 8)).astype("float32")
    efficiency_model.predict(x, verbose=0)
    for name, point in points(efficiency_model).items():
        assert point.neurons == 5
        np.testing.assert_array_equal(point.raw_states, rows_of(model, name, x, axis=1))
